package told

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/cloud/alert"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/test/peers/twilio"
)

const (
	account, token = "AC00000000000000000000000000000001", "0123456789abcdef"
	ana, bo        = "+12135550101", "+12135550102"
	patience       = 2 * time.Minute
)

// both tells Ana at once and Bo some time later.
type both struct {
	ana, bo int64
	after   time.Duration
}

func (both) Policies(context.Context, pgx.Tx, alert.Subject) ([]int64, error) { return []int64{1}, nil }

func (b both) Step(ctx context.Context, tx pgx.Tx, policy int64, no int, _ alert.Subject, _ time.Time) (alert.Step, bool, error) {
	if no > 1 {
		return alert.Step{}, false, nil
	}
	who := []int64{b.ana, b.bo}[no]
	st := alert.Step{Policy: policy, No: no, After: time.Duration(no) * b.after, Audience: alert.Customer}
	rows, err := tx.Query(ctx, `SELECT m.contact, m.id, c.name, m.channel, m.address, m.settings FROM holdfast.contact_method m JOIN holdfast.contact c ON c.id = m.contact WHERE c.id = $1 ORDER BY m.id`, who)
	if err != nil {
		return st, false, err
	}
	st.Targets, err = pgx.CollectRows(rows, pgx.RowToStructByPos[alert.Target])
	return st, true, err
}

func (both) Maintenance(context.Context, pgx.Tx, string, time.Time) (time.Time, bool, error) {
	return time.Time{}, false, nil
}

// region is the alerting half of one.
type region struct {
	phones *twilio.Twilio
	alerts *alert.Alerter
	mu     sync.Mutex
	word   detect.Word
}

func (r *region) holds(f ...detect.Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.word = detect.Word{Findings: f}
}

// newRegion is one whose contacts are reached in these ways, Bo a minute after Ana.
func newRegion(t *testing.T, ways ...channel.Kind) *region {
	t.Helper()
	return newRegionIn(t, time.Minute, ways...)
}

func newRegionIn(t *testing.T, after time.Duration, ways ...channel.Kind) *region {
	t.Helper()
	r := &region{}
	db := pgtest.Migrated(t, "region", migrations.Up)
	pool := db.Pool(t)
	db.Exec(t, `INSERT INTO holdfast.facility (id, tenant, name, time_zone) VALUES ('la', 'foo', 'Los Angeles', 'America/Los_Angeles')`)
	contact := func(name, number string) (id int64) {
		must(t, pool.QueryRow(t.Context(), `INSERT INTO holdfast.contact (tenant, name, created_by) VALUES ('foo', $1, 'test') RETURNING id`, name).Scan(&id))
		for _, w := range ways {
			_, err := pool.Exec(t.Context(), `INSERT INTO holdfast.contact_method (contact, channel, address) VALUES ($1, $2, $3)`, id, w, number)
			must(t, err)
		}
		return id
	}
	people := both{contact("Ana Lima", ana), contact("Bo Chen", bo), after}

	var handler http.Handler
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { handler.ServeHTTP(w, q) }))
	t.Cleanup(web.Close)
	r.phones = twilio.New(twilio.Options{AccountSID: account, AuthToken: token, Inbound: web.URL + "/hooks/twilio/sms", SegmentsPerSecond: 100, CallsPerSecond: 100, KeyWait: time.Second})
	t.Cleanup(r.phones.Close)
	api := httptest.NewServer(r.phones.Handler())
	t.Cleanup(api.Close)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "token"), []byte(token), 0o600))
	texts, err := channel.NewTexts("")
	must(t, err)
	links, err := channel.NewLinks(web.URL, filepath.Join(dir, "links.key"))
	must(t, err)
	tw, err := channel.NewTwilio(channel.TwilioConfig{AccountSID: account, AuthToken: filepath.Join(dir, "token"), FromSMS: "+12135550000", FromVoice: "+12135550000", BaseURL: api.URL}, web.URL, texts)
	must(t, err)
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	r.alerts, err = alert.New(alert.Config{
		DB: pool, Roster: people, Senders: tw.Senders(), Region: "us-east", Log: log,
		Word: func() detect.Word {
			r.mu.Lock()
			defer r.mu.Unlock()
			w := r.word
			w.At = time.Now()
			return w
		},
		Links: alert.Links{Ack: links.Ack, Offer: links.Offer},
	})
	must(t, err)
	handler = channel.Handler(channel.HandlerConfig{Inbox: r.alerts, Links: links, Twilio: tw, Log: log})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.alerts.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits until the newest incident is as ok says.
func (r *region) until(t *testing.T, what string, ok func(v1.IncidentDetail) bool) v1.IncidentDetail {
	t.Helper()
	over := time.After(patience)
	var d v1.IncidentDetail
	for {
		changed := r.alerts.Changed()
		list, err := r.alerts.List(t.Context(), alert.Filter{Facility: "la"})
		must(t, err)
		if len(list) > 0 {
			d, err = r.alerts.Detail(t.Context(), list[0].ID)
			must(t, err)
			if ok(d) {
				return d
			}
		}
		select {
		case <-changed:
		case <-over:
			t.Fatalf("%s: %+v", what, d)
		}
	}
}

func offline() detect.Finding {
	return detect.Finding{
		Kind: detect.Offline, Facility: "la", Severity: detect.Critical, Since: time.Now().Add(-9 * time.Second),
		Summary: "Los Angeles is offline: neither its heartbeats nor its tunnel work.", Evidence: []string{"No heartbeat for 9 seconds."},
	}
}

func reached(d v1.IncidentDetail) bool {
	return slices.ContainsFunc(d.Deliveries, func(x v1.Delivery) bool { return x.State == "reached" })
}

func TestThePhoneRingsAKeyAcknowledgesAndTheEndComesBySMSOnly(t *testing.T) {
	r := newRegion(t, channel.SMS, channel.Voice)
	r.holds(offline())
	phone := r.phones.Phone(ana)
	phone.ExpectSMS(t, "Los Angeles is offline", "to acknowledge")
	call := phone.ExpectCall(t, "an alert for Ana Lima", "Los Angeles is offline", "I repeat", "Press 4")
	must(t, call.Press("4"))
	call.Expect(t, "Thank you, Ana Lima", "Goodbye")
	d := r.until(t, "it is not acknowledged", func(d v1.IncidentDetail) bool { return d.AckedBy != "" && reached(d) })
	if d.AckedBy != "Ana Lima" || d.AckedHow != "voice" {
		t.Errorf("acknowledged by %s, %s", d.AckedBy, d.AckedHow)
	}
	r.holds()
	phone.ExpectSMS(t, "RESOLVED", "It lasted")
	d = r.until(t, "it is not resolved", func(d v1.IncidentDetail) bool { return d.ResolvedAt != nil })
	if slices.ContainsFunc(d.Deliveries, func(x v1.Delivery) bool { return x.Event == "resolve" && x.Channel == "voice" }) {
		t.Error("the phone rings for good news")
	}
}

func TestWhomOnlyACallReachedIsCalledWhenItIsOver(t *testing.T) {
	r := newRegion(t, channel.SMS, channel.Voice)
	phone := r.phones.Phone(ana)
	phone.Behave(twilio.Silent) // SMS do not arrive
	r.holds(offline())
	r.until(t, "the SMS does not fail", func(d v1.IncidentDetail) bool {
		return slices.ContainsFunc(d.Deliveries, func(x v1.Delivery) bool { return x.Channel == "sms" && x.State == "failed" })
	})
	phone.ExpectCall(t)
	phone.Behave(twilio.PicksUp)
	r.holds()
	phone.ExpectCall(t, "good news", "It lasted")
}

func TestAReplyAcknowledges(t *testing.T) {
	r := newRegion(t, channel.SMS, channel.Voice)
	r.holds(offline())
	phone := r.phones.Phone(ana)
	phone.ExpectSMS(t, "Reply A1 to acknowledge")
	if said, err := r.phones.Phone("+12135550177").Reply("A1"); err != nil || said == "" {
		t.Fatalf("%q, %v", said, err)
	}
	d := r.until(t, "there is none", func(v1.IncidentDetail) bool { return true })
	if d.AckedBy != "" {
		t.Fatalf("a stranger acknowledged: %s", d.AckedBy)
	}
	if _, err := phone.Reply("ack"); err != nil {
		t.Fatal(err)
	}
	d = r.until(t, "it is not acknowledged", func(d v1.IncidentDetail) bool { return d.AckedBy != "" && reached(d) })
	if d.AckedBy != "Ana Lima" || d.AckedHow != "sms" {
		t.Errorf("acknowledged by %s, %s", d.AckedBy, d.AckedHow)
	}
}

func TestWhenOnlyAMailboxAnswersTheNextOneIsToldAtOnce(t *testing.T) {
	r := newRegion(t, channel.Voice)
	r.phones.Phone(ana).Behave(twilio.Mailbox)
	began := time.Now()
	r.holds(offline())
	call := r.phones.Phone(bo).ExpectCall(t, "an alert for Bo Chen", "I repeat", "Press 4")
	if took := time.Since(began); took > 50*time.Second {
		t.Errorf("Bo is called after %s", took)
	}
	must(t, call.Press("4"))
	d := r.until(t, "it is not acknowledged", func(d v1.IncidentDetail) bool { return d.AckedBy != "" })
	if d.AckedBy != "Bo Chen" {
		t.Errorf("acknowledged by %s", d.AckedBy)
	}
}

func TestAMessageOfWhichNothingMoreIsHeardKeepsTheNextOneFromNothing(t *testing.T) {
	r := newRegionIn(t, 5*time.Second, channel.SMS)
	r.phones.Phone(ana).Behave(twilio.NeverReport)
	r.holds(offline())
	phone := r.phones.Phone(bo)
	phone.ExpectSMS(t, "Los Angeles is offline", "to acknowledge")
	if _, err := phone.Reply("ack"); err != nil {
		t.Fatal(err)
	}
	d := r.until(t, "it is not acknowledged", func(d v1.IncidentDetail) bool { return d.AckedBy != "" })
	if d.AckedBy != "Bo Chen" {
		t.Errorf("acknowledged by %s", d.AckedBy)
	}
	for _, x := range d.Deliveries {
		if x.Name == "Ana Lima" && x.Event == "trigger" && (x.AcceptedAt == nil || x.State != "sent") {
			t.Errorf("Ana's message is %s, want it taken and sent, and no more: %+v", x.State, x)
		}
	}
}

func TestWhoRepliedSTOPIsPassedOverAtOnce(t *testing.T) {
	r := newRegion(t, channel.SMS)
	r.holds(offline())
	phone := r.phones.Phone(ana)
	phone.ExpectSMS(t, "Los Angeles is offline")
	if said, err := phone.Reply("STOP"); err != nil || said != "" {
		t.Fatalf("%q, %v", said, err)
	}
	r.holds()
	first := r.until(t, "it is not resolved", func(d v1.IncidentDetail) bool { return d.ResolvedAt != nil })
	began := time.Now()
	r.holds(offline())
	r.phones.Phone(bo).ExpectSMS(t, "Los Angeles is offline", "to acknowledge")
	if took := time.Since(began); took > 50*time.Second {
		t.Errorf("Bo is told after %s", took)
	}
	r.until(t, "Ana's message is not refused", func(d v1.IncidentDetail) bool {
		return d.ID != first.ID && slices.ContainsFunc(d.Deliveries, func(x v1.Delivery) bool {
			return x.Name == "Ana Lima" && x.State == "failed" && strings.Contains(x.Error, "21610")
		})
	})
}
