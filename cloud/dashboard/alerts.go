package dashboard

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/agogsaas/holdfast/cloud/alert"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/oncall"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/web"
)

// Alerts is what is wrong, who was told, and whether they heard (cloud/alert,
// whose errors say what is not there or over). *alert.Alerter is one.
type Alerts interface {
	// List lists incidents, newest first.
	List(ctx context.Context, f alert.Filter) ([]v1.Incident, error)
	Detail(ctx context.Context, id int64) (v1.IncidentDetail, error)
	// AcknowledgeBy takes an incident on for somebody: who is told stops there.
	AcknowledgeBy(ctx context.Context, id int64, by, how, note string) (v1.Incident, error)
	ChannelStates(ctx context.Context) ([]v1.ChannelState, error)
	// Told is how fast the region told of the outages of the last days.
	Told(ctx context.Context, days int) (v1.Told, error)
	// Test has a test message sent by one method; it then goes its way like any other.
	Test(ctx context.Context, method int64, by string) (v1.Delivery, error)
	Delivery(ctx context.Context, id string) (v1.Delivery, error)
}

// OnCall is who is told, and who is it when (cloud/oncall, whose errors say what
// to tell people). *oncall.Room is one.
type OnCall interface {
	// OnCall is who is on call of each schedule at a moment, and until when.
	OnCall(ctx context.Context, at time.Time) ([]v1.OnCall, error)
	ListSchedules(ctx context.Context, tenant string, after int64, limit int, now time.Time) ([]v1.Schedule, error)
	Schedule(ctx context.Context, id int64, now time.Time) (v1.Schedule, error)
	AddSchedule(ctx context.Context, s v1.Schedule, by string, now time.Time) (v1.Schedule, error)
	SetSchedule(ctx context.Context, id int64, s v1.Schedule, by string, now time.Time) (v1.Schedule, error)
	RemoveSchedule(ctx context.Context, id int64, by string, now time.Time) error
	AddOverride(ctx context.Context, schedule int64, o v1.Override, by string, now time.Time) (v1.Schedule, error)
	RemoveOverride(ctx context.Context, schedule, override int64, by string, now time.Time) (v1.Schedule, error)
	ListPolicies(ctx context.Context, tenant string, after int64, limit int) ([]v1.Policy, error)
	Policy(ctx context.Context, id int64) (v1.Policy, error)
	AddPolicy(ctx context.Context, p v1.Policy, by string) (v1.Policy, error)
	SetPolicy(ctx context.Context, id int64, p v1.Policy, by string) (v1.Policy, error)
	RemovePolicy(ctx context.Context, id int64, by string, now time.Time) error
	// Coverage says who is told when a facility goes offline, and where nobody is.
	Coverage(ctx context.Context, only, after string, limit int, now time.Time) ([]v1.Coverage, error)
	// Contacts come with their methods; addresses that are secrets, shortened.
	ListContacts(ctx context.Context, tenant string, after int64, limit int) ([]v1.Contact, error)
	Contact(ctx context.Context, id int64) (v1.Contact, error)
	AddContact(ctx context.Context, c v1.Contact, by string) (v1.Contact, error)
	RemoveContact(ctx context.Context, id int64, by string, now time.Time) error
	AddMethod(ctx context.Context, contact int64, m v1.MethodAdd, by string, now time.Time) (v1.Method, error)
	CheckMethod(ctx context.Context, id int64, now time.Time) (v1.Method, error)
	RemoveMethod(ctx context.Context, id int64, by string, now time.Time) error
	ListMaintenance(ctx context.Context, facility string, all bool, limit int, now time.Time) ([]v1.Maintenance, error)
	AddMaintenance(ctx context.Context, m v1.MaintenanceAdd, by string, now time.Time) (v1.Maintenance, error)
	EndMaintenance(ctx context.Context, id int64, by string, now time.Time) (v1.Maintenance, error)
}

// listMax is how many of a kind a page shows.
const listMax = 1000

// mountAlerts adds the pages. Whoever may look sees them, operators decide.
func (u *UI) mountAlerts(mux *web.Mux) {
	look := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, u.d.Auth.Require(web.Viewer, h)) }
	work := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, u.d.Auth.Require(web.Operator, h)) }
	live := func(pattern string, feed func(*http.Request) (web.Feed, error)) {
		mux.Handle(pattern, u.d.Auth.Require(web.Viewer, u.site.Live(u.d.Stop, feed)))
	}
	look("GET /incidents", u.incidentsPage)
	look("GET /incidents/{id}", u.incidentPage)
	work("POST /incidents/{id}/acknowledge", u.acknowledge)
	live("GET /live/incidents", u.incidentsFeed)
	live("GET /live/incidents/{id}", u.incidentFeed)

	look("GET /oncall", u.oncallPage)
	look("GET /oncall/schedules/{id}", u.schedulePage)
	work("GET /oncall/schedules/new", u.newSchedulePage)
	work("POST /oncall/schedules", u.savePlan(readSchedule, u.storedSchedule))
	work("GET /oncall/schedules/{id}/edit", u.editPlan(u.storedSchedule))
	work("POST /oncall/schedules/{id}/edit", u.savePlan(readSchedule, u.storedSchedule))
	work("POST /oncall/schedules/{id}/remove", u.removePlan(u.storedSchedule, u.d.OnCall.RemoveSchedule, "/oncall"))
	work("POST /oncall/schedules/{id}/overrides", u.addOverride)
	work("POST /oncall/schedules/{id}/overrides/{override}/remove", u.removeOverride)
	look("GET /oncall/policies", u.policiesPage)
	work("GET /oncall/policies/new", u.newPolicyPage)
	work("POST /oncall/policies", u.savePlan(readPolicy, u.storedPolicy))
	work("GET /oncall/policies/{id}/edit", u.editPlan(u.storedPolicy))
	work("POST /oncall/policies/{id}/edit", u.savePlan(readPolicy, u.storedPolicy))
	work("POST /oncall/policies/{id}/remove", u.removePlan(u.storedPolicy, u.d.OnCall.RemovePolicy, "/oncall/policies"))
	look("GET /oncall/contacts", u.contactsPage)
	work("POST /oncall/contacts", u.addContact)
	look("GET /oncall/contacts/{id}", u.contactPage)
	work("POST /oncall/contacts/{id}/remove", u.removeContact)
	work("POST /oncall/contacts/{id}/methods", u.addMethod)
	work("POST /oncall/contacts/{id}/methods/{method}/remove", u.removeMethod)
	work("POST /oncall/contacts/{id}/methods/{method}/check", u.checkMethod)
	work("POST /oncall/contacts/{id}/methods/{method}/test", u.testSend)
	live("GET /live/oncall/contacts/{id}", u.contactFeed)
	look("GET /oncall/channels", u.channelsPage)
	live("GET /live/oncall/channels", u.channelsFeed)
	look("GET /oncall/maintenance", u.maintenancePage)
	work("POST /oncall/maintenance", u.addMaintenance)
	work("POST /oncall/maintenance/{id}/end", u.endMaintenance)
	look("GET /oncall/figures", u.figuresPage)
	if u.d.Texts != nil {
		look("GET /oncall/messages", u.messagesPage)
	}
	live("GET /live/oncall", u.quietFeed)
}

// quietFeed is the live connection of pages that only keep the badges true.
func (u *UI) quietFeed(*http.Request) (web.Feed, error) {
	return web.Feed{Frame: func(ctx context.Context) (web.Frame, error) {
		return web.Frame{Parts: u.badgeParts(ctx)}, nil
	}}, nil
}

// section is one page of what is about telling people.
type section struct {
	Path, Word string
	On         bool
}

// sections are the pages beside each other, with the one that is shown.
func (u *UI) sections(on string) []section {
	list := []section{
		{Path: "/oncall", Word: "On call"},
		{Path: "/oncall/policies", Word: "Policies"},
		{Path: "/oncall/contacts", Word: "Contacts"},
		{Path: "/oncall/channels", Word: "Channels"},
		{Path: "/oncall/maintenance", Word: "Maintenance"},
		{Path: "/oncall/figures", Word: "Figures"},
	}
	if u.d.Texts != nil {
		list = append(list, section{Path: "/oncall/messages", Word: "Messages"})
	}
	for i := range list {
		list[i].On = list[i].Path == on
	}
	return list
}

// wrong is what somebody wrote wrongly, or asked for in vain, as a page shows it.
type wrong struct{ Field, Text, Remedy string }

// In is what to do about one field, "" for nothing; what is wrong with it is
// said above the form.
func (w *wrong) In(field string) string {
	if w == nil || w.Field != field {
		return ""
	}
	return cmp.Or(w.Remedy, w.Text+".")
}

// Of is In for a field that is a list, and for what is in it.
func (w *wrong) Of(list string) string {
	if w == nil || !strings.HasPrefix(w.Field, list+"[") {
		return w.In(list)
	}
	return w.In(w.Field)
}

// invalid is a field that cannot be as it was written.
func invalid(field, text, remedy string) error {
	return hint.Wrap(&oncall.InvalidError{Field: field, Text: text}, remedy)
}

// wrongOf is an error's text for the person at the form; nil when it is no
// word to that person.
func wrongOf(err error) (status int, w *wrong) {
	bad, isBad := errors.AsType[*oncall.InvalidError](err)
	refused, isRefused := errors.AsType[*oncall.RefusedError](err)
	taken, isTaken := errors.AsType[*alert.TakenError](err)
	switch {
	case isBad:
		return http.StatusUnprocessableEntity, &wrong{bad.Field, upper(strings.TrimSuffix(bad.Text, ".")), hint.Of(err)}
	case isRefused:
		return http.StatusConflict, &wrong{"", upper(strings.TrimSuffix(refused.Text, ".")), hint.Of(err)}
	case errors.Is(err, alert.ErrOver):
		return http.StatusConflict, &wrong{"", upper(alert.ErrOver.Error()), "Nothing is left to do."}
	case isTaken:
		return http.StatusConflict, &wrong{"", upper(taken.Error()), "Below is how it is now."}
	}
	return http.StatusInternalServerError, nil
}

// notFound reports that what was asked for is not there.
func notFound(err error) bool {
	_, gone := errors.AsType[*oncall.NotFoundError](err)
	return gone || errors.Is(err, alert.ErrNotFound) || errors.Is(err, errGone)
}

// refusedAlert answers a form that was refused: the page again where that
// helps, else an error page. again may be nil.
func (u *UI) refusedAlert(w http.ResponseWriter, r *http.Request, err error, again func(status int, what *wrong)) {
	if notFound(err) {
		u.site.Error(w, r, http.StatusNotFound, errGone)
		return
	}
	if status, what := wrongOf(err); what != nil && again != nil {
		again(status, what)
		return
	}
	u.site.Error(w, r, http.StatusInternalServerError, err)
}

var errGone = hint.Wrap(errors.New("there is no such thing here"), "It may have been removed in the meantime. Look for it in the list.")

// pathID is a number of the path; what is none is 0, which nothing has.
func pathID(r *http.Request, name string) int64 {
	id, err := strconv.ParseInt(r.PathValue(name), 10, 64)
	if err != nil || id < 0 {
		return 0
	}
	return id
}

func canWork(r *http.Request) bool {
	id, _ := web.From(r.Context())
	return id.Can(web.Operator)
}
