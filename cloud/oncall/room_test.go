package oncall

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/internal/hint"
)

func TestAnAddressIsCheckedWhenItIsEnteredAndSecretsAreNeverShown(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := t.Context()
	id := r.contact("foo", "Ana")
	const hook = "https://hooks.slack.com/services/T000/B000/verysecretpart9Zx7"
	const secret = "signing-secret-0123456789"
	m := r.method(id, "sms 00 1 (213) 555-0100")
	if m.Address != "+12135550100" || m.Problem != "" || m.CheckedAt == nil || !m.CheckedAt.Equal(r.now) {
		t.Errorf("%+v", m)
	}
	if !slices.Equal(r.phone.asked, []string{"+12135550100"}) {
		t.Errorf("the channel was asked for %v", r.phone.asked)
	}
	r.phone.problem = channel.Permanent(errors.New("POST " + hook + " with " + secret + ": 404 no_team"))
	bad, err := r.AddMethod(ctx, id, v1.MethodAdd{Channel: "webhook", Address: hook, Settings: map[string]string{"secret": secret}}, "olga", r.now)
	if err != nil || bad.CheckedAt != nil || !strings.Contains(bad.Problem, "no_team") {
		t.Fatalf("%+v, %v", bad, err)
	}
	c, err := r.Contact(ctx, id)
	if err != nil || len(c.Methods) != 2 || len(c.Methods[1].Settings) != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
	var kept, written string
	if err := r.pool.QueryRow(ctx, `SELECT address, (SELECT string_agg(detail::text, ' ') FROM holdfast.audit) FROM holdfast.contact_method WHERE id = $1`, bad.ID).Scan(&kept, &written); err != nil {
		t.Fatal(err)
	}
	if kept != hook {
		t.Errorf("kept %q", kept)
	}
	for what, text := range map[string]string{
		"the answer": bad.Address + bad.Problem + bad.Settings["secret"], "the contact": c.Methods[1].Address + c.Methods[1].Problem + c.Methods[1].Settings["secret"],
		"the audit log": written,
	} {
		if strings.Contains(text, "verysecret") || strings.Contains(text, secret) {
			t.Errorf("%s shows a secret: %s", what, text)
		}
	}
	if !strings.Contains(bad.Address, "hooks.slack.com") || !strings.HasSuffix(bad.Address, "9Zx7") {
		t.Errorf("nobody could tell %q from another", bad.Address)
	}
	// The channel is right again; and one that is not set up says so.
	r.phone.problem = nil
	if again, err := r.CheckMethod(ctx, bad.ID, r.now.Add(time.Hour)); err != nil || again.Problem != "" || again.CheckedAt == nil {
		t.Errorf("%+v, %v", again, err)
	}
	if m := r.method(id, "mqtt control-room"); !strings.Contains(m.Problem, "not set up") || m.CheckedAt != nil {
		t.Errorf("%+v", m)
	}
	_, err = r.AddMethod(ctx, id, v1.MethodAdd{Channel: "sms", Address: "+1 213 555 0100"}, "olga", r.now)
	wantRefused(t, err, "Ana has this sms address already")
	_, err = r.AddMethod(ctx, id, v1.MethodAdd{Channel: "sms", Address: "555 0100"}, "olga", r.now)
	wantInvalid(t, err, "address", "country's code")
	for _, no := range []struct{ kind, address, key, advice string }{
		{"webhook", "https://example.com/", "Bad Key", "has is secret"},
		{"webhook", "https://example.com/", "card", "has is secret"},
		{"teams", "https://example.com/", "secret", "has is card"},
		{"sms", "+12135550100", "language", "needs no settings"},
	} {
		_, err = r.AddMethod(ctx, id, v1.MethodAdd{Channel: no.kind, Address: no.address, Settings: map[string]string{no.key: "x"}}, "olga", r.now)
		wantInvalid(t, err, "settings", no.advice)
	}
	_, err = r.AddMethod(ctx, id, v1.MethodAdd{Channel: "teams", Address: "https://example.com/", Settings: map[string]string{"card": strings.Repeat("x", 1025)}}, "olga", r.now)
	wantInvalid(t, err, "settings", "1024 bytes")
	if _, err := r.AddMethod(ctx, id+99, v1.MethodAdd{Channel: "sms", Address: "+12135550100"}, "olga", r.now); err == nil {
		t.Error("a contact that is not there has a number")
	}
}

// A provider that is busy has said nothing of the address.
func TestWhatCouldNotBeCheckedIsNotCalledWrong(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.contact("foo", "Ana")
	for _, problem := range []error{context.DeadlineExceeded, &channel.RetryError{Err: errors.New("twilio answered 429")}, errors.New("twilio answered 503")} {
		r.phone.problem = problem
		m := r.method(id, "sms +1213555010"+strconv.Itoa(len(r.phone.asked)))
		if m.Problem != "" || m.Unchecked == "" || m.CheckedAt != nil {
			t.Errorf("%v: %+v", problem, m)
		}
		r.phone.problem = channel.Permanent(errors.New("nobody has this number"))
		if m, err := r.CheckMethod(t.Context(), m.ID, r.now); err != nil || m.Problem != "nobody has this number" || m.Unchecked != "" {
			t.Errorf("%+v, %v", m, err)
		}
	}
}

func TestWhoIsNeededCannotBeRemoved(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := t.Context()
	id := r.contact("foo", "Ana", "sms +12135550100")
	ben := r.contact("foo", "Ben", "sms +12135550101")
	turns := r.schedule(v1.Schedule{Tenant: "foo", Name: "nights", Rotations: []v1.Rotation{{Contacts: []int64{id}, FirstDay: "2026-05-31", TurnDays: 7}}})
	plant := r.policy(v1.Policy{Tenant: "foo", Name: "plant", Steps: []v1.PolicyStep{{Contacts: []int64{id}, Schedules: []int64{turns}}}})
	c, err := r.Contact(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	wantRefused(t, r.RemoveContact(ctx, id, "olga", r.now), "policy plant", "schedule nights")
	wantRefused(t, r.RemoveMethod(ctx, c.Methods[0].ID, "olga", r.now), "policy plant", "could not be reached")
	wantRefused(t, r.RemoveSchedule(ctx, turns, "olga", r.now), "policy plant")
	r.method(id, "email ana@example.com")
	if err := r.RemoveMethod(ctx, c.Methods[0].ID, "olga", r.now); err != nil {
		t.Errorf("one of two ways: %v", err)
	}
	if _, err := r.AddOverride(ctx, turns, v1.Override{Contact: ben, StartsAt: r.now, EndsAt: r.now.Add(time.Hour)}, "olga", r.now); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, r.RemoveContact(ctx, ben, "olga", r.now), "schedule nights")
	if err := r.RemoveContact(ctx, ben, "olga", r.now.Add(2*time.Hour)); err != nil {
		t.Errorf("after he stood in: %v", err)
	}
	if err := r.RemovePolicy(ctx, plant, "olga", r.now); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveSchedule(ctx, turns, "olga", r.now); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveContact(ctx, id, "olga", r.now); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Contact(ctx, id); err == nil {
		t.Error("the contact is still there")
	}
	r.contact("foo", "Ana") // the name is free again
}

func TestWhatCannotBeIsRefusedWithWhatToDo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := t.Context()
	foos := r.contact("foo", "Ana", "sms +12135550100")
	bars := r.contact("bar", "Bea")
	own := r.contact("", "Olga")
	barTurns := r.schedule(v1.Schedule{Tenant: "bar", Name: "bar"})

	contact := func(in v1.Contact) error { _, err := r.AddContact(ctx, in, "olga"); return err }
	wantInvalid(t, contact(v1.Contact{Name: "Cleo", TimeZone: "Mars"}), "time_zone", "Europe/Berlin")
	wantInvalid(t, contact(v1.Contact{Name: "Cleo", Tenant: "baz"}), "tenant", "bar, foo")
	wantInvalid(t, contact(v1.Contact{Name: " "}), "name", "one line")
	wantInvalid(t, contact(v1.Contact{Name: "a\nb"}), "name", "one line")
	wantRefused(t, contact(v1.Contact{Name: "ana", Tenant: "foo"}), "already")
	_, err := r.ChangeContact(ctx, foos, v1.Contact{Tenant: "bar", Name: "Ana"}, "olga")
	wantInvalid(t, err, "tenant", "Add a contact there")
	if c, err := r.ChangeContact(ctx, foos, v1.Contact{Tenant: "foo", Name: "Ana Lopez", TimeZone: losan}, "olga"); err != nil || c.Name != "Ana Lopez" || c.TimeZone != losan || len(c.Methods) != 1 {
		t.Errorf("%+v, %v", c, err)
	}

	plan := func(s v1.Schedule) error { _, err := r.AddSchedule(ctx, s, "olga", r.now); return err }
	good := v1.Rotation{Contacts: []int64{foos}, FirstDay: "2026-06-01", TurnDays: 7}
	with := func(change func(*v1.Rotation)) v1.Schedule {
		rot := good
		change(&rot)
		return v1.Schedule{Tenant: "foo", Name: "x", TimeZone: berli, Rotations: []v1.Rotation{rot}}
	}
	for _, c := range []struct {
		field, advice string
		s             v1.Schedule
	}{
		{"time_zone", "IANA", v1.Schedule{Name: "x", TimeZone: "CEST/Nowhere"}},
		{"rotations[0].contacts", "tenant foo", with(func(r *v1.Rotation) { r.Contacts = []int64{bars} })},
		{"rotations[0].contacts", "contacts list", with(func(r *v1.Rotation) { r.Contacts = []int64{999} })},
		{"rotations[0].contacts", "Name 1 to 50", with(func(r *v1.Rotation) { r.Contacts = nil })},
		{"rotations[0].first_day", "2026-11-30", with(func(r *v1.Rotation) { r.FirstDay = "1.6.2026" })},
		{"rotations[0].turn_days", "7 is a week", with(func(r *v1.Rotation) { r.TurnDays = 0 })},
		{"rotations[0].handover", "09:00", with(func(r *v1.Rotation) { r.Handover = "nine" })},
		{"rotations[0].days", "Mon-Fri", with(func(r *v1.Rotation) { r.Days = "Montag" })},
		{"rotations[0].to", "Give both", with(func(r *v1.Rotation) { r.From = "22:00" })},
		{"rotations[0].from", "22:00", with(func(r *v1.Rotation) { r.From, r.To = "24:00", "06:00" })},
	} {
		wantInvalid(t, plan(c.s), c.field, c.advice)
	}
	if err := plan(with(func(r *v1.Rotation) { r.From, r.To, r.Days = "18:00", "24:00", "Sat,Sun" })); err != nil {
		t.Errorf("until the end of the day: %v", err)
	}
	wantRefused(t, plan(with(func(*v1.Rotation) {})), "already")

	rule := func(p v1.Policy) error { p.Name = "x"; _, err := r.AddPolicy(ctx, p, "olga"); return err }
	steps := []v1.PolicyStep{{Contacts: []int64{foos}}}
	for _, c := range []struct {
		field, advice string
		p             v1.Policy
	}{
		{"steps", "1 to 20", v1.Policy{Tenant: "foo"}},
		{"steps[0].contacts", "Name contacts, or a schedule", v1.Policy{Tenant: "foo", Steps: []v1.PolicyStep{{After: 60}}}},
		{"steps[0].contacts", "tenant foo", v1.Policy{Tenant: "foo", Steps: []v1.PolicyStep{{Contacts: []int64{bars}}}}},
		{"steps[0].contacts", "other tenants' facilities", v1.Policy{Steps: steps}},
		{"steps[0].schedules", "same tenant", v1.Policy{Tenant: "foo", Steps: []v1.PolicyStep{{Schedules: []int64{barTurns}}}}},
		{"steps[0].schedules", "schedules list", v1.Policy{Tenant: "foo", Steps: []v1.PolicyStep{{Schedules: []int64{999}}}}},
		{"steps[0].channels[0]", "pagerduty", v1.Policy{Tenant: "foo", Steps: []v1.PolicyStep{{Contacts: []int64{foos}, Channels: []string{"pigeon"}}}}},
		{"steps[0].offer", "fallback", v1.Policy{Tenant: "foo", Steps: []v1.PolicyStep{{Contacts: []int64{foos}, Offer: "coffee"}}}},
		{"steps[0].after_s", "a week", v1.Policy{Tenant: "foo", Steps: []v1.PolicyStep{{Contacts: []int64{foos}, After: 604801}}}},
		{"kinds[0]", "offline", v1.Policy{Tenant: "foo", Kinds: []string{"flood"}, Steps: steps}},
		{"severity", "critical", v1.Policy{Tenant: "foo", Severity: "fatal", Steps: steps}},
		{"facilities[0]", "tenant foo", v1.Policy{Tenant: "foo", Facilities: []string{"frankfurt"}, Steps: steps}},
		{"facilities[0]", "facility list", v1.Policy{Tenant: "foo", Facilities: []string{"nowhere"}, Steps: steps}},
		{"tenant", "bar, foo", v1.Policy{Tenant: "baz", Steps: steps}},
	} {
		wantInvalid(t, rule(c.p), c.field, c.advice)
	}
	if err := rule(v1.Policy{Tenant: "foo", Steps: []v1.PolicyStep{{Contacts: []int64{foos, own}}}}); err != nil {
		t.Errorf("a tenant's policy with the region's people: %v", err)
	}
	wantRefused(t, rule(v1.Policy{Tenant: "foo", Steps: steps}), "already")
	var audits int
	if err := r.pool.QueryRow(ctx, `SELECT count(*) FROM holdfast.audit`).Scan(&audits); err != nil || audits != 8 {
		t.Errorf("%d changes were written down, %v", audits, err)
	}
}

func TestAScheduleAndAPolicyAreReplacedAsAWhole(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := t.Context()
	id, ben := r.contact("foo", "Ana"), r.contact("foo", "Ben")
	turns := r.schedule(v1.Schedule{Tenant: "foo", Name: "nights", TimeZone: losan, Rotations: []v1.Rotation{
		{Contacts: []int64{id, ben}, FirstDay: "2026-06-01", TurnDays: 7, Days: "Mon-Fri", From: "22:00", To: "06:00"},
		{Contacts: []int64{ben}, FirstDay: "2026-06-01", TurnDays: 1, Handover: "12:30"},
	}})
	s, err := r.Schedule(ctx, turns, r.now)
	if err != nil || len(s.Rotations) != 2 || s.Rotations[0].From != "22:00" || s.Rotations[0].Handover != "09:00" || s.Rotations[1].Handover != "12:30" || s.Rotations[1].To != "" {
		t.Fatalf("%+v, %v", s, err)
	}
	s.Rotations = s.Rotations[1:]
	if s, err = r.SetSchedule(ctx, turns, s, "olga", r.now); err != nil || len(s.Rotations) != 1 || s.Rotations[0].FirstDay != "2026-06-01" {
		t.Fatalf("%+v, %v", s, err)
	}
	if s, err = r.AddOverride(ctx, turns, v1.Override{Contact: id, StartsAt: r.now, EndsAt: r.now.Add(time.Hour)}, "olga", r.now); err != nil || len(s.Overrides) != 1 || s.Overrides[0].By != "olga" {
		t.Fatalf("%+v, %v", s, err)
	}
	now, err := r.OnCall(ctx, r.now)
	if err != nil || len(now) != 1 || now[0].Who != "Ana" || !now[0].Override || !now[0].Until.Equal(r.now.Add(time.Hour)) {
		t.Errorf("%+v, %v", now, err)
	}
	if s, err = r.RemoveOverride(ctx, turns, s.Overrides[0].ID, "olga", r.now); err != nil || len(s.Overrides) != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	_, err = r.AddOverride(ctx, turns, v1.Override{Contact: id, StartsAt: r.now, EndsAt: r.now}, "olga", r.now)
	wantInvalid(t, err, "ends_at", "after the start")
	if now, err = r.OnCall(ctx, r.now); err != nil || now[0].Who != "" || now[0].Contact != nil || now[0].Until == nil {
		t.Errorf("before its first turn: %+v, %v", now, err) // 05:00 there; the first begins at 12:30
	}

	p := r.policy(v1.Policy{Tenant: "foo", Name: "plant", Kinds: []string{"offline"}, Facilities: []string{"la"}, Steps: []v1.PolicyStep{{Contacts: []int64{id}}, {After: 60, Schedules: []int64{turns}}}})
	doc, err := r.SetPolicy(ctx, p, v1.Policy{Tenant: "foo", Name: "plant", Severity: "critical", Steps: []v1.PolicyStep{{Contacts: []int64{ben}, Channels: []string{"sms"}}}}, "olga")
	if err != nil || len(doc.Steps) != 1 || len(doc.Kinds) != 0 || doc.Severity != "critical" || doc.Steps[0].Contacts[0] != ben {
		t.Errorf("%+v, %v", doc, err)
	}
}

func TestWhatSomebodyElseChangedIsNotOverwrittenUnseen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := t.Context()
	id := r.contact("foo", "Ana")
	turns := r.schedule(v1.Schedule{Tenant: "foo", Name: "nights", TimeZone: losan, Rotations: []v1.Rotation{{Contacts: []int64{id}, FirstDay: "2026-06-01", TurnDays: 7}}})
	plant := r.policy(v1.Policy{Tenant: "foo", Name: "plant", Steps: []v1.PolicyStep{{Contacts: []int64{id}}}})
	for what, set := range map[string]func(name string, version int64, by string) (string, v1.Edition, error){
		"contact": func(name string, version int64, by string) (string, v1.Edition, error) {
			c, err := r.Contact(ctx, id)
			if err == nil {
				c.Name, c.Version = name, version
				c, err = r.ChangeContact(ctx, id, c, by)
			}
			return c.Name, c.Edition, err
		},
		"schedule": func(name string, version int64, by string) (string, v1.Edition, error) {
			s, err := r.Schedule(ctx, turns, r.now)
			if err == nil {
				s.Name, s.Version = name, version
				s, err = r.SetSchedule(ctx, turns, s, by, r.now)
			}
			return s.Name, s.Edition, err
		},
		"policy": func(name string, version int64, by string) (string, v1.Edition, error) {
			p, err := r.Policy(ctx, plant)
			if err == nil {
				p.Name, p.Version = name, version
				p, err = r.SetPolicy(ctx, plant, p, by)
			}
			return p.Name, p.Edition, err
		},
	} {
		_, _, err := set("x", 7, "ben")
		wantInvalid(t, err, "version", "Read it")
		name, e, err := set("first", 1, "ana")
		if err != nil || name != "first" || e.Version != 2 || e.ChangedBy != "ana" || e.ChangedAt == nil {
			t.Fatalf("%s: %s %+v, %v", what, name, e, err)
		}
		_, _, err = set("second", 1, "ben")
		stale, ok := errors.AsType[*StaleError](err)
		if !ok || stale.Now.ChangedBy != "ana" || stale.Now.Version != 2 || !strings.Contains(err.Error(), "ana changed the "+what+" first at 20") || hint.Of(err) == "" {
			t.Errorf("%s: %v", what, err)
		}
		if _, _, err = set("first", 1, "ana"); err != nil {
			t.Errorf("%s, what is there already: %v", what, err)
		}
		if name, e, err = set("third", 0, "ben"); err != nil || name != "third" || e.ChangedBy != "ben" {
			t.Errorf("%s, by who does not say what he saw: %s %+v, %v", what, name, e, err)
		}
	}
}

func TestItIsPlainWhereNobodyIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := t.Context()
	id := r.contact("foo", "Ana")
	r.policy(v1.Policy{Tenant: "foo", Name: "plant", Facilities: []string{"la"}, Steps: []v1.PolicyStep{{Contacts: []int64{id}}}})
	list, err := r.Coverage(ctx, "", "", 10, r.now)
	if err != nil || len(list) != 3 {
		t.Fatalf("%+v, %v", list, err)
	}
	frankfurt, la, sf := list[0], list[1], list[2]
	if !strings.Contains(frankfurt.Customer.Problem, "nobody is told") || frankfurt.Customer.Remedy == "" || !strings.Contains(frankfurt.Operations.Problem, "nobody is told") {
		t.Errorf("%+v", frankfurt)
	}
	if !strings.Contains(la.Customer.Problem, "policy plant reaches nobody") || !strings.Contains(sf.Customer.Problem, "no policy") {
		t.Errorf("%+v %+v", la, sf)
	}
	// Nothing can be sent to a channel that is not set up, or to a wrong address.
	r.method(id, "mqtt control-room")
	r.phone.problem = channel.Permanent(errors.New("nobody has this number"))
	r.method(id, "voice +12135550100")
	if list, err = r.Coverage(ctx, "la", "", 10, r.now); err != nil || !strings.Contains(list[0].Customer.Problem, "policy plant reaches nobody") || len(list[0].Customer.People) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	r.phone.problem = errors.New("the provider answered 503")
	r.method(id, "sms +12135550100")
	if list, err = r.Coverage(ctx, "la", "", 10, r.now); err != nil || list[0].Customer.Problem != "" || !slices.Equal(list[0].Customer.People, []string{"Ana"}) {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestAddressesAreKeptInOneForm(t *testing.T) {
	key := strings.Repeat("a1", 16)
	for _, c := range []struct {
		kind     channel.Kind
		in, want string // "" is refused
	}{
		{channel.SMS, " +1 (213) 555-0100 ", "+12135550100"},
		{channel.SMS, "0049 (0)69 1234567", "+49691234567"},
		{channel.Voice, "tel:+49-69-1234567", "+49691234567"},
		{channel.Voice, "069 1234567", ""},
		{channel.SMS, "+0 123 456 789", ""},
		{channel.SMS, "+1234567890123456", ""},
		{channel.SMS, "+12135550100;ext=1", ""},
		{channel.Email, "Ana.Lopez@Example.COM", "Ana.Lopez@example.com"},
		{channel.Email, "Ana <ana@example.com>", ""},
		{channel.Email, "ana@example.com\r\nBcc: x@example.com", ""},
		{channel.Email, "ana", ""},
		{channel.Slack, "https://Hooks.Slack.com/services/T/B/x", "https://hooks.slack.com/services/T/B/x"},
		{channel.Slack, " C0123456789 ", "C0123456789"},
		{channel.Slack, "#alerts", ""},
		{channel.Teams, "C0123456789", ""},
		{channel.Teams, "https://prod.westus.logic.azure.com:443/workflows/1/triggers/manual/paths/invoke?api-version=2016-06-01&sig=AbC", "https://prod.westus.logic.azure.com:443/workflows/1/triggers/manual/paths/invoke?api-version=2016-06-01&sig=AbC"},
		{channel.Webhook, "http://example.com/hook", ""},
		{channel.Webhook, "http://127.0.0.1:4040/hook", "http://127.0.0.1:4040/hook"},
		{channel.Webhook, "https://user:pass@example.com/", ""},
		{channel.Webhook, "https:///nowhere", ""},
		{channel.Webhook, "https://example.com/#x", ""},
		{channel.Webhook, "ftp://example.com/", ""},
		{channel.Webhook, "https://example.com/" + strings.Repeat("x", 2048), ""},
		{channel.PagerDuty, key, key},
		{channel.PagerDuty, key + "0", ""},
		{channel.PagerDuty, strings.Repeat("é", 16), ""},
		{channel.MQTT, "control-room", "control-room"},
		{channel.MQTT, "a/b", ""},
		{channel.MQTT, "#", ""},
		{"pigeon", "x", ""},
	} {
		got, err := Normalise(c.kind, c.in)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s %q: %q, %v; want %q", c.kind, c.in, got, err, c.want)
		}
		if err != nil && secretIs(c.kind) && strings.Contains(err.Error(), c.in) {
			t.Errorf("the error shows the secret: %v", err)
		}
		if again, err := Normalise(c.kind, got); c.want != "" && (err != nil || again != got) {
			t.Errorf("%q becomes %q, %v", got, again, err)
		}
	}
}

func FuzzNormalise(f *testing.F) {
	for _, s := range []string{"+12135550100", "ana@example.com", "https://example.com/x?y=z", "http://[::1]:80/", strings.Repeat("a", 32), "room"} {
		for i := range fuzzed {
			f.Add(i, s)
		}
	}
	f.Fuzz(func(t *testing.T, i int, s string) {
		kind := fuzzed[((i%len(fuzzed))+len(fuzzed))%len(fuzzed)]
		got, err := Normalise(kind, s)
		if err != nil {
			return
		}
		if again, err := Normalise(kind, got); err != nil || again != got {
			t.Fatalf("%s %q becomes %q, then %q, %v", kind, s, got, again, err)
		}
		if strings.ContainsAny(got, "\r\n\x00") {
			t.Fatalf("%s %q becomes %q", kind, s, got)
		}
		if secretIs(kind) && len(got) > 8 && Shown(kind, got) == got {
			t.Fatalf("%s %q is shown", kind, got)
		}
	})
}

var fuzzed = []channel.Kind{channel.SMS, channel.Email, channel.Slack, channel.PagerDuty, channel.MQTT}
