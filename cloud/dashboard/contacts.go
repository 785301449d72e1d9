package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/internal/web"
)

const (
	// proofOld is how old the last proof of a way to somebody may be before
	// pages say so.
	proofOld = 7 * 24 * time.Hour
	// settingsMax bounds what a form may set of a method.
	settingsMax      = 20
	settingsMaxBytes = 4000
	addressMaxBytes  = 2048
)

// methodLine is a way to reach somebody, in words.
type methodLine struct {
	v1.Method
	ContactID int64
	CanWork   bool
}

// ChannelWord is what people call the channel.
func (m methodLine) ChannelWord() string { return wordOf(channelWords, m.Channel) }

// Shown is how far the way can be relied on.
func (m methodLine) Shown() web.State {
	switch {
	case m.Problem != "":
		return web.State{Kind: "bad", Word: "Cannot be used"}
	case m.ProvedAt == nil && m.Unchecked != "":
		return web.State{Kind: "warn", Word: "Not checked yet"}
	case takenOnly(m.Channel, m.ProvedAt, m.TakenAt):
		return web.State{Kind: "sent", Word: "Taken, not answered"}
	case m.ProvedAt == nil:
		return web.State{Kind: "warn", Word: "Never proved"}
	case time.Since(*m.ProvedAt) > proofOld:
		return web.State{Kind: "warn", Word: "Proved long ago"}
	}
	return web.State{Kind: "ok", Word: "Proved"}
}

// takenOnly reports that the provider takes what is sent by a channel, and that
// this is all that has been known of it for a week.
func takenOnly(of string, proved, taken *time.Time) bool {
	fresh := func(at *time.Time) bool { return at != nil && time.Since(*at) <= proofOld }
	return !channel.Kind(of).Confirms() && fresh(taken) && !fresh(proved)
}

// contactLine is a contact on the list.
type contactLine struct{ v1.Contact }

// Whose is whose people the contact is one of.
func (c contactLine) Whose() string { return whose(c.Tenant) }

// Ways are the contact's methods.
func (c contactLine) Ways() []methodLine {
	out := make([]methodLine, len(c.Methods))
	for i, m := range c.Methods {
		out[i] = methodLine{Method: m, ContactID: c.ID}
	}
	return out
}

type contactsView struct {
	Sections []section
	Contacts []contactLine
	Tenants  []string
	CanWork  bool
	Wrong    *wrong
	Form     v1.Contact // what was typed
}

func (u *UI) contactsPage(w http.ResponseWriter, r *http.Request) {
	u.showContacts(w, r, http.StatusOK, nil, v1.Contact{})
}

func (u *UI) showContacts(w http.ResponseWriter, r *http.Request, status int, what *wrong, typed v1.Contact) {
	v := contactsView{Sections: u.sections("/oncall/contacts"), CanWork: canWork(r), Wrong: what, Form: typed}
	list, err := u.d.OnCall.ListContacts(r.Context(), "", 0, listMax)
	if err != nil {
		u.site.Error(w, r, http.StatusInternalServerError, err)
		return
	}
	for _, c := range list {
		v.Contacts = append(v.Contacts, contactLine{c})
	}
	v.Tenants = u.tenants(list)
	u.pages.Render(w, r, status, "contacts", web.Page{Title: "Contacts", Active: "/oncall", Live: "/live/oncall", Data: v})
}

func (u *UI) addContact(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		u.site.Error(w, r, http.StatusBadRequest, errBadForm)
		return
	}
	c := v1.Contact{Name: cutText(r.PostFormValue("name"), 200), Tenant: cutText(r.PostFormValue("tenant"), 63), TimeZone: cutText(r.PostFormValue("time_zone"), 60)}
	var err error
	if c.Name == "" {
		err = invalid("name", "the name is missing", "Write what people call them.")
	} else if _, bad := time.LoadLocation(c.TimeZone); bad != nil {
		err = invalid("time_zone", "there is no such time zone", "Write one such as Europe/Berlin or America/Los_Angeles.")
	}
	added := c
	if err == nil {
		added, err = u.d.OnCall.AddContact(r.Context(), c, whoIs(r))
	}
	if err != nil {
		u.refusedAlert(w, r, err, func(status int, what *wrong) { u.showContacts(w, r, status, what, c) })
		return
	}
	http.Redirect(w, r, contactPath(added.ID), http.StatusSeeOther)
}

func contactPath(id int64) string { return fmt.Sprintf("/oncall/contacts/%d", id) }

// contactView is one contact's page.
type contactView struct {
	contactLine
	Sections []section
	Zone     *time.Location
	Methods  []methodLine
	Channels []channelLine
	// Test is the test message that somebody has just sent, and TestOf its method.
	Test    *deliveryLine
	CanWork bool
	Wrong   *wrong
	Form    methodForm
}

// methodForm is what was typed. An address that is a secret does not come back.
type methodForm struct{ Channel, Address, Settings string }

// secretAddress lists the channels whose address is a secret.
func secretAddress(channel string) bool {
	return slices.Contains([]string{"teams", "slack", "pagerduty", "webhook"}, channel)
}

// LocalTime is the time of day where the contact is.
func (v contactView) LocalTime() string { return time.Now().In(v.Zone).Format("Mon 15:04 MST") }

// Live is the page's WebSocket.
func (v contactView) Live() string {
	path := "/live" + contactPath(v.ID)
	if v.Test != nil {
		path += "?test=" + url.QueryEscape(v.Test.ID)
	}
	return path
}

// contactView reads one contact, and a test message by its id.
func (u *UI) contactView(ctx context.Context, id int64, test string, work bool) (contactView, error) {
	c, err := u.d.OnCall.Contact(ctx, id)
	if err != nil {
		return contactView{}, err
	}
	v := contactView{contactLine: contactLine{c}, Sections: u.sections("/oncall/contacts"), Zone: zoneOf(c.TimeZone), CanWork: work}
	for _, m := range c.Methods {
		v.Methods = append(v.Methods, methodLine{m, id, work})
	}
	if v.Channels, err = u.channelLines(ctx); err != nil {
		return contactView{}, err
	}
	if test != "" {
		d, err := u.d.Alerts.Delivery(ctx, test)
		if err == nil && d.Event == "test" && d.Contact != nil && *d.Contact == id {
			v.Test = &deliveryLine{Delivery: d, Zone: u.site.Zone()}
		}
	}
	return v, nil
}

func (u *UI) contactPage(w http.ResponseWriter, r *http.Request) {
	u.showContact(w, r, http.StatusOK, nil)
}

func (u *UI) showContact(w http.ResponseWriter, r *http.Request, status int, what *wrong) {
	v, err := u.contactView(r.Context(), pathID(r, "id"), r.URL.Query().Get("test"), canWork(r))
	if err != nil {
		u.refusedAlert(w, r, err, nil)
		return
	}
	if v.Wrong = what; what != nil {
		v.Form = methodForm{Channel: r.PostFormValue("channel")}
		if !secretAddress(v.Form.Channel) {
			v.Form.Address = cutText(r.PostFormValue("address"), addressMaxBytes)
		}
		v.Form.Settings = withoutSecrets(r.PostFormValue("settings"))
	}
	u.pages.Render(w, r, status, "contact", web.Page{Title: v.Name, Active: "/oncall", Live: v.Live(), Data: v})
}

// contactFeed is the live connection of a contact's page: how far the test
// message is, and what is known of each way.
func (u *UI) contactFeed(r *http.Request) (web.Feed, error) {
	id, test, work := pathID(r, "id"), r.URL.Query().Get("test"), canWork(r)
	return web.Feed{
		Every: time.Second,
		Frame: func(ctx context.Context) (web.Frame, error) {
			v, err := u.contactView(ctx, id, test, work)
			if err != nil {
				return web.Frame{}, err
			}
			f := web.Frame{Parts: u.badgeParts(ctx)}
			html, err := u.pages.Fragment("contact-test", v)
			if err != nil {
				return web.Frame{}, err
			}
			f.Parts = append(f.Parts, web.Part{ID: "contact-test", HTML: html})
			for _, m := range v.Methods {
				if html, err = u.pages.Fragment("method-state", m); err != nil {
					return web.Frame{}, err
				}
				f.Parts = append(f.Parts, web.Part{ID: fmt.Sprintf("m-%d", m.ID), HTML: html})
			}
			return f, nil
		},
	}, nil
}

func (u *UI) removeContact(w http.ResponseWriter, r *http.Request) {
	id := pathID(r, "id")
	var err error
	if r.PostFormValue("sure") == "" {
		err = invalid("", "nothing was removed", "Tick that you are sure, and press Remove again.")
	} else {
		err = u.d.OnCall.RemoveContact(r.Context(), id, whoIs(r), time.Now())
	}
	if err != nil {
		u.refusedAlert(w, r, err, func(status int, what *wrong) { u.showContact(w, r, status, what) })
		return
	}
	http.Redirect(w, r, "/oncall/contacts", http.StatusSeeOther)
}

// addMethod adds a way to reach somebody. What the channel finds wrong with its
// address is shown with it.
func (u *UI) addMethod(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		u.site.Error(w, r, http.StatusBadRequest, errBadForm)
		return
	}
	id := pathID(r, "id")
	m := v1.MethodAdd{Channel: r.PostFormValue("channel"), Address: cutText(r.PostFormValue("address"), addressMaxBytes)}
	settings, err := readSettings(r.PostFormValue("settings"))
	m.Settings = settings
	switch {
	case err != nil:
	case wordOf(channelWords, m.Channel) == m.Channel:
		err = invalid("channel", "no channel was chosen", "Choose how they are told.")
	case m.Address == "":
		err = invalid("address", "the address is missing", "Write where messages go.")
	default:
		_, err = u.d.OnCall.AddMethod(r.Context(), id, m, whoIs(r), time.Now())
	}
	if err != nil {
		u.refusedAlert(w, r, err, func(status int, what *wrong) { u.showContact(w, r, status, what) })
		return
	}
	http.Redirect(w, r, contactPath(id), http.StatusSeeOther)
}

// withoutSecrets leaves out the lines that a form must not show again.
func withoutSecrets(settings string) string {
	var out strings.Builder
	for line := range strings.Lines(cutText(settings, settingsMaxBytes)) {
		if name, _, ok := strings.Cut(line, "="); ok && !strings.Contains(strings.ToLower(name), "secret") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// readSettings reads one "name = value" per line.
func readSettings(text string) (map[string]string, error) {
	var out map[string]string
	for line := range strings.Lines(text) {
		line = cutText(line, addressMaxBytes)
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || name == "" || len(name) > 63 || len(out) >= settingsMax {
			return nil, invalid("settings", "the settings could not be read", "Write one a line, such as: card = bare")
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = value
	}
	return out, nil
}

// ownMethod is a method of the path, if it is one of the path's contact.
func (u *UI) ownMethod(r *http.Request) (contact, method int64, err error) {
	contact, method = pathID(r, "id"), pathID(r, "method")
	c, err := u.d.OnCall.Contact(r.Context(), contact)
	if err == nil && !slices.ContainsFunc(c.Methods, func(m v1.Method) bool { return m.ID == method }) {
		err = errGone
	}
	return contact, method, err
}

func (u *UI) removeMethod(w http.ResponseWriter, r *http.Request) {
	id, method, err := u.ownMethod(r)
	if err == nil {
		err = u.d.OnCall.RemoveMethod(r.Context(), method, whoIs(r), time.Now())
	}
	if err != nil {
		u.refusedAlert(w, r, err, func(status int, what *wrong) { u.showContact(w, r, status, what) })
		return
	}
	http.Redirect(w, r, contactPath(id), http.StatusSeeOther)
}

// checkMethod has the channel look at an address again.
func (u *UI) checkMethod(w http.ResponseWriter, r *http.Request) {
	id, method, err := u.ownMethod(r)
	if err == nil {
		_, err = u.d.OnCall.CheckMethod(r.Context(), method, time.Now())
	}
	if err != nil {
		u.refusedAlert(w, r, err, func(status int, what *wrong) { u.showContact(w, r, status, what) })
		return
	}
	http.Redirect(w, r, contactPath(id), http.StatusSeeOther)
}

// testSend sends a test message; the page then shows how far it is.
func (u *UI) testSend(w http.ResponseWriter, r *http.Request) {
	id, method, err := u.ownMethod(r)
	var sent v1.Delivery
	if err == nil {
		sent, err = u.d.Alerts.Test(r.Context(), method, whoIs(r))
	}
	if err != nil {
		u.refusedAlert(w, r, err, func(status int, what *wrong) { u.showContact(w, r, status, what) })
		return
	}
	http.Redirect(w, r, contactPath(id)+"?test="+url.QueryEscape(sent.ID)+"#contact-test", http.StatusSeeOther)
}
