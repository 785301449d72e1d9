package dashboard_test

import (
	"cmp"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

var (
	inputOf  = regexp.MustCompile(`<input [^>]*name="([^"]+)"[^>]*>`)
	valueOf  = regexp.MustCompile(` value="([^"]*)"`)
	areaOf   = regexp.MustCompile(`(?s)<textarea [^>]*name="([^"]+)"[^>]*>(.*?)</textarea>`)
	selectOf = regexp.MustCompile(`(?s)<select [^>]*name="([^"]+)"[^>]*>(.*?)</select>`)
	chosenOf = regexp.MustCompile(`<option(?: value="([^"]*)")? selected>([^<]*)<`)
)

// formOf reads what a browser would send of the page's form that goes to a path.
func formOf(t *testing.T, page, action string) url.Values {
	t.Helper()
	_, page, ok := strings.Cut(page, `action="`+action+`"`)
	if !ok {
		t.Fatalf("there is no form to %s:\n%s", action, page)
	}
	page, _, _ = strings.Cut(page, "</form>")
	form := url.Values{}
	for _, m := range inputOf.FindAllStringSubmatch(page, -1) {
		if strings.Contains(m[0], `type="checkbox"`) && !strings.Contains(m[0], " checked") {
			continue
		}
		value := ""
		if v := valueOf.FindStringSubmatch(m[0]); v != nil {
			value = html.UnescapeString(v[1])
		}
		form.Add(m[1], value)
	}
	for _, m := range areaOf.FindAllStringSubmatch(page, -1) {
		form.Add(m[1], html.UnescapeString(m[2]))
	}
	for _, m := range selectOf.FindAllStringSubmatch(page, -1) {
		value := ""
		if v := chosenOf.FindStringSubmatch(m[2]); v != nil {
			value = html.UnescapeString(cmp.Or(v[1], v[2]))
		}
		form.Add(m[1], value)
	}
	return form
}

// with is a form with some fields of it set.
func with(form url.Values, set ...string) url.Values {
	out := maps.Clone(form)
	for i := 0; i+1 < len(set); i += 2 {
		out[set[i]] = []string{set[i+1]}
	}
	return out
}

func (d *alertDesk) schedule(id int64) v1.Schedule {
	d.t.Helper()
	s, err := d.room.Schedule(d.t.Context(), id, time.Now())
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

func TestAScheduleIsMadeChangedAndRemoved(t *testing.T) {
	t.Parallel()
	d := newAlertDesk(t)
	maria, bo := fmt.Sprint(d.ids.Maria), fmt.Sprint(d.ids.Bo)
	d.lacks(d.wants(d.viewer, "/oncall"), "New schedule")
	d.wants(d.operator, "/oncall", `href="/oncall/schedules/new"`)
	for _, path := range []string{"/oncall/schedules/new", fmt.Sprintf("/oncall/schedules/%d/edit", d.ids.Plant)} {
		if code, _ := d.ask(d.viewer, path, nil); code != http.StatusForbidden {
			t.Errorf("a viewer's %s: %d", path, code)
		}
	}
	form := formOf(t, d.wants(d.operator, "/oncall/schedules/new", "Rotation 1", "Maria Lopez (foo)", "Olga Brandt (the region"), "/oncall/schedules")
	form = with(form, "name", "Nights & days", "tenant", "foo", "time_zone", "America/Los_Angeles", "first_day-0", "2026-11-30", "turn_days-0", "1", "days-0", "Mon-Fri", "from-0", "22:00", "to-0", "06:00")
	form["contacts-0"] = []string{bo, "", maria}
	for _, who := range []struct {
		token  string
		header []string
	}{{d.viewer, nil}, {d.operator, []string{"Sec-Fetch-Site", "cross-site"}}} {
		if code, _ := d.ask(who.token, "/oncall/schedules", form, who.header...); code != http.StatusForbidden {
			t.Errorf("%v: %d", who.header, code)
		}
	}
	// A button that only changes the form stores nothing, and nothing is lost.
	more := d.posts(http.StatusOK, "/oncall/schedules", with(form, "do", "more"), "Rotation 2", "Nights &amp; days")
	two := formOf(t, more, "/oncall/schedules")
	two["contacts-1"] = []string{maria}
	if got := two["contacts-0"]; !slices.Equal(got, []string{bo, maria, "", ""}) {
		t.Errorf("they take turns as %q", got)
	}
	if len(d.schedules()) != 1 {
		t.Fatal("something was stored")
	}
	// What is wrong is said as the API says it, beside its field, and all that was typed is there.
	for _, c := range []struct{ field, value, want string }{
		{"name", "", "cannot be a name"},
		{"time_zone", "Mars/Base", "There is no time zone"},
		{"first_day-1", "tomorrow", "&#34;tomorrow&#34; is no day"},
		{"turn_days-1", "seven", "&#34;seven&#34; is no number of days"},
		{"turn_days-1", "0", "A turn cannot have 0 days"},
		{"handover-1", "25:00", "25:00"},
		{"days-1", "Xday", "Xday"},
		{"from-1", "08:00", "Only one of from and to is given"},
		{"contacts-1", "", "0 contacts cannot take turns"},
		{"contacts-1", "999", "There is no contact 999"},
		{"tenant", "", "belongs to tenant foo"},
	} {
		page := d.posts(http.StatusUnprocessableEntity, "/oncall/schedules", with(two, c.field, c.value), c.want, `role="alert"`)
		again := formOf(t, page, "/oncall/schedules")
		if want := with(two, c.field, c.value); !sameForm(again, want) {
			t.Errorf("%s: of %v came back %v", c.field, want, again)
		}
		if c.field != "name" && !strings.Contains(page, `aria-invalid="true"`) {
			t.Errorf("%s: no field is marked:\n%s", c.field, page)
		}
	}
	d.posts(http.StatusConflict, "/oncall/schedules", with(two, "name", "Plant"), "There is a schedule &#34;Plant&#34; already")

	d.posts(http.StatusOK, "/oncall/schedules", two, "Nights &amp; days", "Bo Chen", "America/Los_Angeles", "Change")
	all := d.schedules()
	s := all[len(all)-1]
	want := []v1.Rotation{
		{Contacts: []int64{d.ids.Bo, d.ids.Maria}, FirstDay: "2026-11-30", Handover: "09:00", TurnDays: 1, Days: "Mon-Fri", From: "22:00", To: "06:00"},
		{Contacts: []int64{d.ids.Maria}, FirstDay: time.Now().Format(time.DateOnly), Handover: "09:00", TurnDays: 7},
	}
	if s.Name != "Nights & days" || s.Tenant != "foo" || !reflect.DeepEqual(s.Rotations, want) {
		t.Errorf("stored is %+v", s)
	}
	// It comes back as it is; one rotation is taken out, and the name changed.
	path := fmt.Sprintf("/oncall/schedules/%d", s.ID)
	edit := formOf(t, d.wants(d.operator, path+"/edit", "Rotation 2", "Remove the schedule"), path+"/edit")
	d.posts(http.StatusOK, path+"/edit", edit)
	if got := d.schedule(s.ID); !reflect.DeepEqual(got.Rotations, s.Rotations) || got.Name != s.Name || got.TimeZone != s.TimeZone {
		t.Errorf("saved as it is, it is %+v, not %+v", got, s)
	}
	edit = formOf(t, d.wants(d.operator, path+"/edit"), path+"/edit")
	less := formOf(t, d.posts(http.StatusOK, path+"/edit", with(edit, "do", "drop-0", "name", "Days")), path+"/edit")
	d.posts(http.StatusOK, path+"/edit", less, "<h1>Days</h1>")
	if got := d.schedule(s.ID); got.Name != "Days" || len(got.Rotations) != 1 || !reflect.DeepEqual(got.Rotations[0], want[1]) {
		t.Errorf("changed is %+v", got)
	}
	d.posts(http.StatusNotFound, "/oncall/schedules/999/edit", edit)
	// The region's own take turns for the tenant's; what a policy needs stays.
	plant := fmt.Sprintf("/oncall/schedules/%d", d.ids.Plant)
	d.posts(http.StatusUnprocessableEntity, plant+"/remove", url.Values{}, "Tick that you are sure")
	d.posts(http.StatusConflict, plant+"/remove", url.Values{"sure": {"1"}}, "is needed by", "Take it out there first")
	d.posts(http.StatusOK, path+"/remove", url.Values{"sure": {"1"}}, "On call")
	d.posts(http.StatusNotFound, path+"/remove", url.Values{"sure": {"1"}})
	if n := len(d.schedules()); n != 1 {
		t.Errorf("%d schedules", n)
	}
}

func (d *alertDesk) schedules() []v1.Schedule {
	d.t.Helper()
	list, err := d.room.ListSchedules(d.t.Context(), "", 0, 100, time.Now())
	if err != nil {
		d.t.Fatal(err)
	}
	return list
}

// sameForm compares forms without their empty rows, and without which button was pressed.
func sameForm(a, b url.Values) bool {
	clean := func(v url.Values) url.Values {
		out := url.Values{}
		for k, list := range v {
			list = slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" })
			if len(list) > 0 && k != "do" {
				out[k] = list
			}
		}
		return out
	}
	return reflect.DeepEqual(clean(a), clean(b))
}

func (d *alertDesk) policies() []v1.Policy {
	d.t.Helper()
	list, err := d.room.ListPolicies(d.t.Context(), "", 0, 100)
	if err != nil {
		d.t.Fatal(err)
	}
	return list
}

func TestAPolicyIsMadeChangedAndRemoved(t *testing.T) {
	t.Parallel()
	d := newAlertDesk(t)
	before := len(d.policies())
	maria, bo, plant := fmt.Sprintf("c%d", d.ids.Maria), fmt.Sprintf("c%d", d.ids.Bo), fmt.Sprintf("s%d", d.ids.Plant)
	d.lacks(d.wants(d.viewer, "/oncall/policies"), "New policy", "/edit")
	d.wants(d.operator, "/oncall/policies", `href="/oncall/policies/new"`, fmt.Sprintf("/oncall/policies/%d/edit", d.ids.Policy))
	if code, _ := d.ask(d.viewer, "/oncall/policies/new", nil); code != http.StatusForbidden {
		t.Errorf("a viewer's form: %d", code)
	}
	form := formOf(t, d.wants(d.operator, "/oncall/policies/new", "Step 1", "Whoever is on call of", "Plant (foo)"), "/oncall/policies")
	if form.Get("severity") != "warning" || form.Get("after-0") != "0" {
		t.Errorf("a new one begins as %v", form)
	}
	form = with(form, "name", "Line <b>3</b>", "tenant", "foo", "facilities", "la,  frankfurt\nshanghai")
	form["kinds"], form["who-0"], form["channels-0"] = []string{"offline", "unstable"}, []string{plant, "", maria}, []string{"sms", "voice"}
	form = formOf(t, d.posts(http.StatusOK, "/oncall/policies", with(form, "do", "more"), "Step 2"), "/oncall/policies")
	if form.Get("after-1") != "10" {
		t.Errorf("the next step comes after %q minutes", form.Get("after-1"))
	}
	form = with(form, "who-1", bo, "offer-1", "1", "after-1", "1,5")
	if len(d.policies()) != before {
		t.Fatal("something was stored")
	}
	for _, who := range []struct {
		token  string
		header []string
	}{{d.viewer, nil}, {d.operator, []string{"Sec-Fetch-Site", "cross-site"}}} {
		if code, _ := d.ask(who.token, "/oncall/policies", form, who.header...); code != http.StatusForbidden {
			t.Errorf("%v: %d", who.header, code)
		}
	}
	for _, c := range []struct{ field, value, want string }{
		{"name", "", "cannot be a name"},
		{"facilities", "la mars", "There is no facility &#34;mars&#34;"},
		{"kinds", "boredom", "There is no kind of incident &#34;boredom&#34;"},
		{"severity", "dire", "There is no severity"},
		{"after-1", "soon", "&#34;soon&#34; is no number of minutes"},
		{"after-1", "99999", "seconds cannot be waited"},
		{"after-0", "NaN", "is no number of minutes"},
		{"who-1", "", "The step tells nobody"},
		{"who-1", "c999", "There is no contact 999"},
		{"who-1", "s999", "There is no schedule 999"},
		{"channels-0", "pigeon", "There is no channel &#34;pigeon&#34;"},
		{"tenant", "", "belongs to tenant foo"},
	} {
		sent := with(form, c.field, c.value)
		page := d.posts(http.StatusUnprocessableEntity, "/oncall/policies", sent, c.want, `role="alert"`)
		again := formOf(t, page, "/oncall/policies")
		if c.field == "severity" || c.field == "channels-0" { // no choice of the form: it is not there to be chosen again
			again.Del(c.field)
			sent.Del(c.field)
		}
		if !sameForm(again, sent) {
			t.Errorf("%s: of %v came back %v", c.field, sent, again)
		}
	}
	d.posts(http.StatusConflict, "/oncall/policies", with(form, "name", "standard"), "There is a policy &#34;standard&#34; already")
	// Steps are told of by the order in which they are taken, and shown in it.
	page := d.posts(http.StatusUnprocessableEntity, "/oncall/policies", with(form, "after-0", "30", "who-0", ""), "The step tells nobody")
	if again := formOf(t, page, "/oncall/policies"); again.Get("after-0") != "1,5" || again.Get("after-1") != "30" {
		t.Errorf("the steps are %q, %q", again.Get("after-0"), again.Get("after-1"))
	}

	d.posts(http.StatusOK, "/oncall/policies", form, "Line &lt;b&gt;3&lt;/b&gt;", "la, frankfurt, shanghai", "Offline, Comes and goes", "by SMS, Phone call", "After 1 min", "offer of cloud fallback")
	all := d.policies()
	p := all[len(all)-1]
	want := []v1.PolicyStep{
		{Contacts: []int64{d.ids.Maria}, Schedules: []int64{d.ids.Plant}, Channels: []string{"sms", "voice"}},
		{After: 90, Contacts: []int64{d.ids.Bo}, Offer: "fallback"},
	}
	if len(all) != before+1 || p.Tenant != "foo" || p.Severity != "warning" || !slices.Equal(p.Facilities, []string{"la", "frankfurt", "shanghai"}) || !sameSteps(p.Steps, want) {
		t.Errorf("stored is %+v", p)
	}
	path := fmt.Sprintf("/oncall/policies/%d", p.ID)
	edit := formOf(t, d.wants(d.operator, path+"/edit", "Step 2", "Remove the policy"), path+"/edit")
	d.posts(http.StatusOK, path+"/edit", edit)
	got := d.policies()[before]
	got.Edition = p.Edition
	if !reflect.DeepEqual(got, p) {
		t.Errorf("saved as it is, it is %+v, not %+v", got, p)
	}
	edit = formOf(t, d.wants(d.operator, path+"/edit"), path+"/edit")
	less := formOf(t, d.posts(http.StatusOK, path+"/edit", with(edit, "do", "drop-0", "severity", "critical")), path+"/edit")
	d.posts(http.StatusOK, path+"/edit", less, "critical only")
	if got := d.policies()[before]; got.Severity != "critical" || !sameSteps(got.Steps, want[1:]) {
		t.Errorf("changed is %+v", got)
	}
	none := formOf(t, d.posts(http.StatusOK, path+"/edit", with(less, "do", "drop-0"), "There is no step"), path+"/edit")
	d.posts(http.StatusUnprocessableEntity, path+"/edit", none, "A policy cannot have 0 steps")
	d.posts(http.StatusUnprocessableEntity, path+"/remove", url.Values{}, "Tick that you are sure")
	d.lacks(d.posts(http.StatusOK, path+"/remove", url.Values{"sure": {"1"}}, "Policies"), "Line &lt;b&gt;3")
	d.posts(http.StatusNotFound, path+"/remove", url.Values{"sure": {"1"}})
	d.posts(http.StatusNotFound, path+"/edit", edit)
}

// What two people enter at once is not lost without a word.
func TestWhoDidNotSeeTheLastChangeIsToldOfIt(t *testing.T) {
	t.Parallel()
	d := newAlertDesk(t)
	const by = "operator has changed the"
	maria := fmt.Sprint(d.ids.Maria)
	for _, c := range []struct {
		path, what  string
		mine, their []string
		is          func() (name, own string)
	}{
		{fmt.Sprintf("/oncall/schedules/%d", d.ids.Plant), "schedule", []string{"name", "Mine", "time_zone", "UTC"}, []string{"name", "Theirs", "contacts-0", maria}, func() (string, string) {
			s := d.schedule(d.ids.Plant)
			return s.Name, s.TimeZone
		}},
		{fmt.Sprintf("/oncall/policies/%d", d.ids.Policy), "policy", []string{"name", "Mine", "severity", "info"}, []string{"name", "Theirs"}, func() (string, string) {
			p, err := d.room.Policy(t.Context(), d.ids.Policy)
			if err != nil {
				t.Fatal(err)
			}
			return p.Name, p.Severity
		}},
	} {
		edit := c.path + "/edit"
		mine := with(formOf(t, d.wants(d.operator, edit), edit), c.mine...)
		// A button that only changes the form has not seen more than it did.
		mine = formOf(t, d.posts(http.StatusOK, edit, with(mine, "do", "rows")), edit)
		theirs := with(formOf(t, d.wants(d.operator, edit), edit), c.their...)
		d.posts(http.StatusOK, edit, theirs)
		d.posts(http.StatusOK, edit, theirs) // pressed twice
		page := d.posts(http.StatusConflict, edit, mine, by+" "+c.what+" since you opened it, at ", "nothing is saved yet", `role="alert"`, "How the "+c.what+" is now")
		if name, _ := c.is(); name != "Theirs" {
			t.Errorf("the %s is %s", c.what, name)
		}
		again := formOf(t, page, edit)
		if !sameForm(with(again, "version", mine.Get("version")), mine) {
			t.Errorf("of %v came back %v", mine, again)
		}
		// Who has been told and saves again means it.
		d.posts(http.StatusOK, edit, again)
		if name, own := c.is(); name != "Mine" || own != c.mine[3] {
			t.Errorf("the %s is %s, %s", c.what, name, own)
		}
	}
}

// sameSteps compares steps; no list and an empty one are the same.
func sameSteps(a, b []v1.PolicyStep) bool {
	return slices.EqualFunc(a, b, func(x, y v1.PolicyStep) bool {
		return x.After == y.After && x.Offer == y.Offer && slices.Equal(x.Contacts, y.Contacts) && slices.Equal(x.Schedules, y.Schedules) && slices.Equal(x.Channels, y.Channels)
	})
}
