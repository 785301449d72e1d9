package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/proto"
	"github.com/agogsaas/holdfast/test/peers/pagerduty"
	"github.com/agogsaas/holdfast/test/peers/smtp"
	"github.com/agogsaas/holdfast/test/peers/webhook"
	"github.com/agogsaas/holdfast/test/rig/people"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// town is a region with two facilities and the people who are told of them.
type town struct {
	t      *testing.T
	site   *site.Site
	people *people.People
	la     *site.Edge

	mu       sync.Mutex
	retained map[string]channel.Document // guarded by mu; what a program reads at the broker, by topic
}

func newTown(t *testing.T) *town {
	t.Helper()
	dir, http := folder(t), pgtest.Port(t)
	p, err := people.Start(people.Options{Dir: filepath.Join(dir, "people"), Region: fmt.Sprintf("http://127.0.0.1:%d", http), Page: pgtest.Port(t), Mail: pgtest.Port(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	extra, err := p.Config()
	if err != nil {
		t.Fatal(err)
	}
	password := filepath.Join(dir, "scada.password")
	if err := os.WriteFile(password, []byte("scada-password\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &town{t: t, people: p, site: startSiteWith(t, site.Options{
		Dir: dir, Ports: site.Ports{HTTP: http}, Extra: extra, MQTTLines: []string{"integrations: [{name: scada, password_file: " + password + "}]"},
	})}
	w.subscribe()
	w.la = addEdgeWith(t, w.site, site.EdgeOptions{ID: "la", Name: "Los Angeles", TimeZone: "America/Los_Angeles"})
	addEdgeWith(t, w.site, site.EdgeOptions{ID: "frankfurt", Name: "Frankfurt", TimeZone: "Europe/Berlin"})
	if err := p.SetUp(within(t), w.site.API, "foo"); err != nil {
		t.Fatal(err)
	}
	w.online()
	return w
}

// subscribe reads what the region retains on its broker, as another program does.
func (w *town) subscribe() {
	w.t.Helper()
	w.retained = map[string]channel.Document{}
	c, err := mqttclient.New(mqttclient.Config{
		URL: fmt.Sprintf("tcp://127.0.0.1:%d", w.site.Ports.MQTTPlain), Username: "scada", ClientID: "scada",
		Password: func() (string, error) { return "scada-password", nil }, Log: slog.New(slog.DiscardHandler),
		Subscriptions: []mqttclient.Subscription{{Filter: proto.MirrorFilter, QoS: 1, Handle: func(m mqttclient.Received) {
			var d channel.Document
			if json.Unmarshal(m.Payload, &d) == nil && d.Schema == 1 && d.Incident.ID != 0 {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.retained[m.Topic] = d
			}
		}}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	s := run.New(slog.New(slog.DiscardHandler))
	w.t.Cleanup(func() {
		if err := s.Stop(10 * time.Second); err != nil {
			w.t.Error(err)
		}
	})
	s.Go("program", c.Run)
}

// online waits until both facilities are.
func (w *town) online() {
	w.t.Helper()
	eventually(w.t, func(ctx context.Context) error {
		for _, id := range []string{"la", "frankfurt"} {
			f, err := w.site.API.FacilityStatus(ctx, id)
			if err != nil || f.State != v1.StateOnline {
				return errors.Join(err, fmt.Errorf("%s is %s", id, f.State))
			}
		}
		return nil
	})
}

// drilled waits until the daily drill has gone out, which is not to be taken for anything else.
func (w *town) drilled() {
	w.t.Helper()
	eventually(w.t, func(ctx context.Context) error {
		page, err := w.site.API.Incidents(ctx, v1.IncidentFilter{State: "all", Kind: "drill"}, 1, "")
		if err != nil || len(page.Items) == 0 || page.Items[0].Told == 0 || page.Items[0].Waiting > 0 {
			return errors.Join(err, fmt.Errorf("the daily drill: %+v", page.Items))
		}
		return nil
	})
}

// incidents are all that there were, without the daily drill, which is none.
func (w *town) incidents(ctx context.Context) ([]v1.Incident, error) {
	page, err := w.site.API.Incidents(ctx, v1.IncidentFilter{State: "all"}, 100, "")
	return slices.DeleteFunc(page.Items, func(i v1.Incident) bool { return i.Kind == "drill" }), err
}

// incident waits for la's.
func (w *town) incident() (found v1.Incident) {
	w.t.Helper()
	eventually(w.t, func(ctx context.Context) error {
		all, err := w.incidents(ctx)
		for _, i := range all {
			if i.Kind == "offline" && i.Facility == "la" {
				found = i
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("no incident of la among %v", all))
	})
	return found
}

// page asks the page of phones and chats, as its scripts do.
func (w *town) page(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.people.URL()+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}

// phone is what the page shows of Pat's.
type phone struct {
	Number   string
	Messages []struct {
		Mine bool
		Body string
	}
	Call *struct {
		SID, Status string
		Listens     bool
		Heard       []string
	}
}

func (w *town) phone(ctx context.Context) (phone, error) {
	var all []phone
	err := w.page(ctx, "/twilio/panel/state", &all)
	for _, p := range all {
		if p.Number == people.PatsNumber {
			return p, err
		}
	}
	return phone{}, errors.Join(err, errors.New("Pat has no phone on the page"))
}

// press presses a button of the phone that is in a call.
func (w *town) press(sid, what string, form url.Values) {
	w.t.Helper()
	resp, err := http.PostForm(w.people.URL()+"/twilio/panel/calls/"+sid+"/"+what, form)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		text, _ := io.ReadAll(resp.Body) // for the message
		w.t.Fatalf("%s: %s %s", what, resp.Status, text)
	}
}

// chatIDs are the parts of the page, by the channel that they show.
var chatIDs = map[string]string{"email": "mail", "slack": "slack", "teams": "teams", "pagerduty": "pagerduty", "webhook": "webhook"}

// told says by which channels the page shows, or the broker has, something of la that has the word.
func (w *town) told(ctx context.Context, word string) (map[string]bool, error) {
	got := map[string]bool{}
	p, err := w.phone(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range p.Messages {
		if !m.Mine && strings.Contains(strings.ToLower(m.Body), word) {
			got["sms"] = true
		}
	}
	if p.Call != nil {
		got["voice"] = true
	}
	for channel, id := range chatIDs {
		var entries []struct {
			Title, Note string
			Lines       []string
		}
		if err := w.page(ctx, "/"+id+"/panel/messages.json", &entries); err != nil {
			return nil, err
		}
		for _, e := range entries {
			text := strings.Join(append(e.Lines, e.Title, e.Note), "\n")
			if strings.Contains(text, "Los Angeles") && (channel == "pagerduty" && word == "offline" || strings.Contains(strings.ToLower(text), word)) {
				got[channel] = true
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.retained {
		if text := d.Title + "\n" + d.Text; strings.Contains(text, "Los Angeles") && strings.Contains(strings.ToLower(text), word) {
			got["mqtt"] = true
		}
	}
	return got, nil
}

// everybody waits until all channels have told something with the word, and
// says when each did.
func (w *town) everybody(word string, began time.Time, channels ...string) map[string]time.Duration {
	w.t.Helper()
	at := map[string]time.Duration{}
	eventually(w.t, func(ctx context.Context) error {
		got, err := w.told(ctx, word)
		if err != nil {
			return err
		}
		missing := []string{}
		for _, c := range channels {
			if _, was := at[c]; got[c] && !was {
				at[c] = time.Since(began).Round(10 * time.Millisecond)
			}
			if !got[c] {
				missing = append(missing, c)
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("nothing with %q by %v", word, missing)
		}
		return nil
	})
	return at
}

// toldOfTheEnd lacks the call: the one before is still on the page.
var (
	allChannels  = append([]string{"voice"}, toldOfTheEnd...)
	toldOfTheEnd = []string{"sms", "email", "slack", "teams", "pagerduty", "webhook", "mqtt"}
)

// TestACutCableMakesThePhoneRingAndKeyFourAcknowledges is the demo's promise, by
// the buttons of its page: cut, told on every channel, answered by a key,
// restored, and told so on every channel.
func TestACutCableMakesThePhoneRingAndKeyFourAcknowledges(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	if all, err := w.incidents(t.Context()); err != nil || len(all) > 0 {
		t.Fatalf("before anything happened: %+v, %v", all, err)
	}
	// Whoever sets up twice doubles nothing.
	count := func() (n [3]int) {
		contacts, err1 := w.site.API.Contacts(t.Context(), "")
		schedules, err2 := w.site.API.Schedules(t.Context(), "")
		policies, err3 := w.site.API.Policies(t.Context(), "")
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		for _, c := range contacts {
			n[0] += 1 + len(c.Methods)
		}
		return [3]int{n[0], len(schedules), len(policies)}
	}
	before := count()
	if err := w.people.SetUp(within(t), w.site.API, "foo"); err != nil {
		t.Fatal(err)
	}
	if after := count(); after != before {
		t.Errorf("contacts with methods, schedules, policies: %v, then %v", before, after)
	}

	// Every day a message goes out by each channel to prove that the ways work.
	contacts, err := w.site.API.Contacts(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range contacts {
		ways := []string{}
		for _, m := range c.Methods {
			ways = append(ways, m.Channel)
		}
		if want := slices.Sorted(slices.Values(allChannels)); c.Name == people.Drill && !slices.Equal(slices.Sorted(slices.Values(ways)), want) {
			t.Errorf("the drill goes by %v, want %v", ways, want)
		}
	}
	w.drilled()
	if !slices.ContainsFunc(w.people.Mail.Mails(), func(m smtp.Mail) bool { return m.To == people.DrillsMail }) {
		t.Error("there was no mail of the daily drill")
	}

	began := time.Now()
	w.la.Cut()
	at := w.everybody("offline", began, allChannels...)
	slowest := slices.Max(slices.Collect(maps.Values(at)))
	t.Logf("cut -> all channels: %s %v", slowest, at)
	found := w.incident()

	var p phone
	ringing := func(status string) func(context.Context) error {
		return func(ctx context.Context) (err error) {
			if p, err = w.phone(ctx); err == nil && p.Call.Status != status {
				err = fmt.Errorf("the call is %s, want %s", p.Call.Status, status)
			}
			return err
		}
	}
	eventually(t, ringing("ringing"))
	w.press(p.Call.SID, "answer", nil)
	eventually(t, func(ctx context.Context) error {
		if err := ringing("in-progress")(ctx); err != nil {
			return err
		}
		if !p.Call.Listens {
			return errors.New("nobody waits for a key")
		}
		return nil
	})
	w.press(p.Call.SID, "key", url.Values{"key": {"4"}})
	eventually(t, ringing("completed"))
	eventually(t, func(ctx context.Context) error {
		i, err := w.site.API.Incident(ctx, found.ID)
		if err != nil || i.AckedHow != "voice" || i.AckedBy != people.Pat {
			return errors.Join(err, fmt.Errorf("acknowledged by %q by %q; the call said %q", i.AckedBy, i.AckedHow, p.Call.Heard))
		}
		return nil
	})
	if shown := w.dashboard(fmt.Sprintf("/incidents/%d", found.ID)); !strings.Contains(shown, people.Pat) || !strings.Contains(shown, "voice") {
		t.Errorf("the incident's page does not show who took it on, and how:\n%s", shown)
	}

	began = time.Now()
	w.la.Restore()
	at = w.everybody("resolved", began, toldOfTheEnd...)
	t.Logf("restored -> all channels: %s %v", slices.Max(slices.Collect(maps.Values(at))), at)
	all, err := w.incidents(t.Context())
	if err != nil || len(all) != 1 || all[0].ResolvedAt == nil {
		t.Errorf("after it: %+v, %v", all, err)
	}
	if wrong := errors.Join(append(w.people.Teams.Failed(), w.people.Webhook.Refused()...)...); wrong != nil {
		t.Errorf("the providers could not show what they were sent: %v", wrong)
	}
}

// dashboard reads a page of the region as somebody who has signed in.
func (w *town) dashboard(path string) string {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	client := &http.Client{Jar: jar, Timeout: 20 * time.Second}
	read := func(resp *http.Response, err error) string {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			w.t.Fatalf("%s: %s, %v", resp.Request.URL, resp.Status, err)
		}
		return string(raw)
	}
	read(client.PostForm(w.site.URL()+"/sign-in", url.Values{"name": {"admin"}, "password": {w.site.AdminPassword}}))
	return read(client.Get(w.site.URL() + path))
}

// TestARegionThatDiesAsItTellsTellsEverybodyOnce lets the region die right after
// it has opened an incident, while it tells the first people. Restarts alone are
// nobody's incident.
func TestARegionThatDiesAsItTellsTellsEverybodyOnce(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	again := func() {
		t.Helper()
		if err := w.site.Cloud.Kill9(); err != nil {
			t.Fatal(err)
		}
		if err := w.site.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.drilled()
	w.site.Cloud.Env = []string{"HOLDFAST_FAULT=alert.send=crash:3"} // as kill -9 at that moment
	again()
	w.online()
	if all, err := w.incidents(t.Context()); err != nil || len(all) > 0 {
		t.Fatalf("a restart alone: %+v, %v", all, err)
	}

	w.la.Cut()
	eventually(t, func(context.Context) error {
		if w.site.Cloud.Running() {
			return errors.New("the region has not died")
		}
		return nil
	})
	killed := time.Now()
	w.site.Cloud.Env = nil
	if err := w.site.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	found := w.incident()
	if found.OpenedAt.After(killed) {
		t.Errorf("it was stored at %s, after the region was killed at %s: it was told before", found.OpenedAt, killed)
	}
	t.Logf("killed -> all channels: %v", w.everybody("offline", killed, allChannels...))
	// What was sent before the kill is known after it.
	var detail v1.IncidentDetail
	eventually(t, func(ctx context.Context) (err error) {
		detail, err = w.site.API.Incident(ctx, found.ID)
		if err == nil && detail.Waiting > 0 {
			err = fmt.Errorf("%d messages wait", detail.Waiting)
		}
		return err
	})
	type key struct {
		method int64
		event  string
		step   int
	}
	keys := map[key][]string{}
	for _, d := range detail.Deliveries {
		k := key{*d.Method, d.Event, d.Step}
		if keys[k] = append(keys[k], d.ID); len(keys[k]) > 1 {
			t.Errorf("%s is told twice by %s: %v", d.Name, d.Channel, keys[k])
		}
	}
	mails := map[string]map[string]bool{}
	for _, m := range w.people.Mail.Mails() {
		if mails[m.To] == nil {
			mails[m.To] = map[string]bool{}
		}
		mails[m.To][m.Header.Get("Message-Id")] = true
	}
	for to, ids := range mails {
		if len(ids) != 1 {
			t.Errorf("%s got mail with %d keys", to, len(ids))
		}
	}
	// They heard of the daily drill, too.
	pages := slices.DeleteFunc(w.people.PagerDuty.Alerts(), func(a pagerduty.Alert) bool { return !strings.Contains(a.Summary, "Los Angeles") })
	if len(pages) != 1 || pages[0].Pages != 1 {
		t.Errorf("PagerDuty: %+v", pages)
	}
	got := slices.DeleteFunc(w.people.Webhook.Received(), func(r webhook.Received) bool { return !strings.Contains(string(r.Body), "Los Angeles") })
	if len(got) != 1 {
		t.Errorf("the webhook got %d deliveries", len(got))
	}
	w.la.Restore()
	w.everybody("resolved", time.Now(), toldOfTheEnd...)
	if all, err := w.incidents(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("after it: %+v, %v", all, err)
	}
}
