package alert

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/internal/fault"
)

// Each step of a message's way fails before it took effect, and after it: nothing
// is lost, and what comes twice has the same key and says so.
func TestAPageIsNeverLost(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		point  func(*Faults) **fault.Point
		arm    func(*fault.Point)
		finder bool
		twice  bool
	}{
		{"lease did not happen", func(f *Faults) **fault.Point { return &f.Lease }, func(p *fault.Point) { p.FailBefore(1) }, false, false},
		{"leased, and gone", func(f *Faults) **fault.Point { return &f.Lease }, func(p *fault.Point) { p.FailAfter(1) }, false, false},
		{"not sent", func(f *Faults) **fault.Point { return &f.Send }, func(p *fault.Point) { p.FailBefore(1) }, false, false},
		{"taken, and the answer is lost", func(f *Faults) **fault.Point { return &f.Send }, func(p *fault.Point) { p.FailAfter(1) }, false, true},
		{"taken, the answer is lost, and the provider knows", func(f *Faults) **fault.Point { return &f.Send }, func(p *fault.Point) { p.FailAfter(1) }, true, false},
		{"not completed", func(f *Faults) **fault.Point { return &f.Complete }, func(p *fault.Point) { p.FailBefore(1) }, false, false},
		{"completed, and not known", func(f *Faults) **fault.Point { return &f.Complete }, func(p *fault.Point) { p.FailAfter(1) }, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "la")
			if tc.finder {
				r.c.Senders[channel.SMS] = finder{httpSender{r.peer.URL, channel.Accepted}}
				r.start()
			}
			r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS)}})
			r.holds(r.offline("la"))
			p := *tc.point(&r.a.faults)
			tc.arm(p)
			defer p.Heal()
			r.look()
			sms := r.a.deliverers[channel.SMS]
			for range 4 {
				var g errgroup.Group
				if _, err := sms.round(t.Context(), &g); err != nil && !errors.Is(err, fault.Err) {
					t.Fatal(err)
				}
				_ = g.Wait()
				r.pass(30 * time.Second)
			}
			got := r.peer.got(channel.Trigger)
			if want := 1 + index(tc.twice); len(got) != want {
				t.Fatalf("the provider has %d messages, want %d", len(got), want)
			}
			if d := r.delivery("anna/sms", channel.Trigger); d.State != "accepted" || d.Provider != "peer" || d.ProviderID != "p-"+d.ID {
				t.Errorf("%+v", d)
			}
			if tc.twice && (got[0].Delivery != got[1].Delivery || got[0].Repeat || !got[1].Repeat) {
				t.Errorf("the repetition is %+v after %+v", got[1], got[0])
			}
		})
	}
}

func TestAProviderThatAsksForPatienceGetsIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS)}})
	r.peer.says(func(_ taken, n int) int {
		if n == 1 {
			return 429 // with Retry-After: 120
		}
		return 200
	})
	r.holds(r.offline("la"))
	r.turn()
	d := r.delivery("anna/sms", channel.Trigger)
	if d.State != "pending" || !strings.Contains(d.HeldReason, "429") || d.NotBefore.Sub(d.CreatedAt) < 2*time.Minute {
		t.Errorf("%+v", d)
	}
	r.pass(110 * time.Second)
	r.deliver()
	r.want("triggers", r.to(channel.Trigger))
	r.pass(12 * time.Second)
	r.deliver()
	got := r.peer.got(channel.Trigger)
	if len(got) != 1 || got[0].Repeat {
		t.Errorf("%+v", got)
	}
}

func TestRetriesComeSlowerAndEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.Webhook)}}, step{After: 24 * time.Hour, Contacts: []int64{r.contact("foo", "ben", channel.SMS)}, Offer: "fallback"})
	r.peer.says(func(m taken, _ int) int {
		if m.To == "anna/webhook" {
			return 503
		}
		return 200
	})
	r.holds(r.offline("la"))
	r.turn()
	last := r.now()
	for n, want := range append(defaultTiming().retries, time.Minute) {
		d := r.delivery("anna/webhook", channel.Trigger)
		if wait := d.NotBefore.Sub(last); d.State != "pending" || d.Attempts != n+1 || wait < want*7/10 || wait > want*13/10 {
			t.Errorf("after attempt %d it waits %s, want about %s: %+v", n+1, wait, want, d)
		}
		r.pass(d.NotBefore.Sub(r.now()))
		last = r.now()
		r.deliver()
	}
	r.pass(time.Hour)
	r.deliver()
	if d := r.delivery("anna/webhook", channel.Trigger); d.State != "expired" || d.DoneAt == nil {
		t.Errorf("%+v", d)
	}
}

// hurried is a channel that notes how long it is given.
type hurried struct {
	channel.Sender
	given *atomic.Int64
}

func (s hurried) Send(ctx context.Context, m channel.Message) (channel.Result, error) {
	until, _ := ctx.Deadline()
	s.given.Store(int64(time.Until(until)))
	return s.Sender.Send(ctx, m)
}

// What is cut off is sent again: a receiver that is slow, and in time, would get
// it again and again.
func TestAReceiverHasTheTimeThatItIsPromised(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	given := map[channel.Kind]*atomic.Int64{}
	for _, k := range channels {
		given[k] = new(atomic.Int64)
		r.c.Senders[k] = hurried{r.c.Senders[k], given[k]}
	}
	r.start()
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channels...)}})
	r.holds(r.offline("la"))
	r.turn()
	for k, got := range given {
		want := 10 * time.Second // docs/channels.md
		if k == channel.Email {
			want = 15 * time.Second // a talk of several words
		}
		// Less what a busy machine takes until it is read.
		if d := time.Duration(got.Load()); d < want*7/10 || d > want {
			t.Errorf("%s is given %s, want %s", k, d, want)
		}
	}
	// What is said and stored around it fits into the lease, so that nobody else begins to send it.
	if w := defaultTiming(); w.sendMail >= w.lease || w.find+w.send >= w.lease {
		t.Errorf("%+v", w)
	}
}

func TestTheEndIsNotToldBeforeTheBegin(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.Webhook)}})
	r.holds(r.offline("la"))
	r.look()
	// The trigger is on its way when the facility is back.
	jobs, err := r.a.store.claim(t.Context(), channel.Webhook, "", r.a.moment(), r.a.moment().Add(r.a.timing.lease), 8)
	if err != nil || len(jobs) != 1 {
		t.Fatalf("%d jobs, %v", len(jobs), err)
	}
	r.holds()
	r.turn()
	r.want("resolves", r.to(channel.Resolve))
	// Whoever had it does not come back. It is not sent again, it may have arrived: the end is told.
	r.pass(21 * time.Second)
	r.deliver()
	r.deliver()
	r.want("triggers", r.to(channel.Trigger))
	r.want("resolves", r.to(channel.Resolve), "anna/webhook")
	if d := r.delivery("anna/webhook", channel.Trigger); d.State != "cancelled" {
		t.Errorf("%+v", d)
	}
}

func TestAProviderThatFailsIsLeftAloneAndTriedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	var people []int64
	for i := range 12 {
		people = append(people, r.contact("foo", fmt.Sprintf("p%02d", i), channel.SMS))
	}
	r.policy(Customer, step{Contacts: people})
	r.policy(Operations, step{Contacts: []int64{r.contact("", "ops", channel.Email)}})
	r.peer.says(func(m taken, _ int) int {
		if m.Kind == channel.SMS {
			return 503
		}
		return 200
	})
	r.holds(r.offline("la"))
	r.turn()
	r.deliver() // what is due while it is broken is held
	r.want("the other channels", r.to(channel.Trigger), "ops/email")
	states := map[string]int{}
	for _, d := range r.incident("la").Deliveries {
		if d.Channel == "sms" {
			states[d.State]++
			if d.State == "held" && !strings.HasPrefix(d.HeldReason, "held until ") {
				t.Errorf("%q", d.HeldReason)
			}
		}
	}
	if states["held"] != 4 || states["pending"] != 8 {
		t.Errorf("%v", states)
	}
	all, err := r.a.ChannelStates(t.Context())
	if err != nil || !all[0].Broken || all[0].Problem == "" || all[0].Waiting != 12 || all[2].Broken {
		t.Errorf("%+v, %v", all, err)
	}
	r.pass(15 * time.Second)
	asked := len(r.peer.took)
	r.deliver()
	if n := len(r.peer.took) - asked; n != 1 {
		t.Errorf("%d were sent to see, want 1", n)
	}
	r.peer.says(nil)
	for range 3 {
		r.pass(40 * time.Second)
		r.deliver()
	}
	if n := len(r.to(channel.Trigger)); n != 13 {
		t.Errorf("%d were told in the end, want all 13", n)
	}
	if all, _ = r.a.ChannelStates(t.Context()); all[0].Broken || all[0].Sent24h != 12 {
		t.Errorf("%+v", all[0])
	}
}

func TestAChannelSaysThatItsProviderDoesNotLetTheRegionIn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	delete(r.c.Senders, channel.Voice)
	r.c.Problems = map[channel.Kind]string{channel.Voice: "It is not set up."}
	r.c.Wrong = func(k channel.Kind) string {
		if k == channel.Email {
			return "535: user or password wrong"
		}
		return ""
	}
	r.start()
	all, err := r.a.ChannelStates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		want := map[string]string{"voice": "It is not set up.", "email": "535: user or password wrong"}[s.Channel]
		if s.Problem != want || s.Ready != (s.Channel != "voice") {
			t.Errorf("%+v", s)
		}
	}
}

// One address that fails says nothing of the provider.
func TestOneBadAddressHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	b := breaker{pause: time.Second}
	now := time.Now()
	for range 20 {
		b.failed(now, 1, "no answer")
	}
	if n, _, _ := b.allow(now); n != slots {
		t.Error("it is open")
	}
	b.failed(now, 2, "no answer")
	if n, until, why := b.allow(now); n != 0 || until != now.Add(time.Second) || why != "no answer" {
		t.Errorf("%d until %s, because %s", n, until, why)
	}
	now = now.Add(time.Second)
	if n, _, _ := b.allow(now); n != 1 {
		t.Error("none is let through to see")
	}
	if n, _, _ := b.allow(now); n != 0 {
		t.Error("a second is let through")
	}
	b.failed(now, 3, "no")
	if _, until, _ := b.allow(now); until != now.Add(2*time.Second) {
		t.Errorf("it is tried again in %s", until.Sub(now))
	}
	b.worked()
	if n, _, _ := b.allow(now); n != slots {
		t.Error("it stays open")
	}
}

func TestNoPhoneRingsWithoutEndButEachFirstPageDoes(t *testing.T) {
	t.Parallel()
	facilities := []string{"a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8"}
	r := newRig(t, facilities...)
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS)}})
	var list []detect.Finding
	for _, f := range facilities {
		list = append(list, r.offline(f))
	}
	r.holds(list...)
	r.turn()
	if n := len(r.to(channel.Trigger)); n != 8 {
		t.Fatalf("%d first pages, want 8", n)
	}
	id := r.incident("a1").ID
	if _, err := r.a.AcknowledgeBy(t.Context(), id, "omar", "dashboard", ""); err != nil {
		t.Fatal(err)
	}
	r.deliver()
	d := r.delivery("anna/sms", channel.Update)
	if d.State != "held" || !strings.Contains(d.HeldReason, "messages within 15 min") || d.Attempts != 0 {
		t.Errorf("%+v", d)
	}
	r.pass(d.NotBefore.Sub(r.now()))
	r.deliver()
	if d = r.delivery("anna/sms", channel.Update); d.State != "accepted" || d.Attempts != 1 {
		t.Errorf("%+v", d)
	}
}

func TestANumberIsOneWhoeverHasIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS)}}, step{After: 30 * time.Second, Contacts: []int64{r.contact("foo", "bert", channel.SMS)}})
	if _, err := r.pool.Exec(t.Context(), `UPDATE holdfast.contact_method SET address = 'anna/sms'`); err != nil {
		t.Fatal(err)
	}
	r.holds(r.offline("la"))
	r.turn()
	r.pass(30 * time.Second)
	r.turn()
	if n := len(r.to(channel.Trigger)); n != 1 {
		t.Errorf("one phone got %d messages within a minute", n)
	}
	r.pass(time.Minute)
	r.turn()
	if n := len(r.to(channel.Trigger)); n != 2 {
		t.Errorf("it got %d in all, want both", n)
	}
}

func TestCapsLeaveRoomAgain(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	ago := func(list ...time.Duration) []time.Time {
		var at []time.Time
		for _, d := range list {
			at = append(at, now.Add(-d))
		}
		return at
	}
	sms := limits[channel.SMS]
	for _, tc := range []struct {
		name string
		sent []time.Time
		of   []limit
		want time.Duration
	}{
		{"nothing", nil, sms, 0},
		{"four", ago(4*time.Minute, 3*time.Minute, 2*time.Minute, time.Minute), sms, 0},
		{"five", ago(14*time.Minute, 3*time.Minute, 2*time.Minute, time.Minute, time.Second), sms, time.Minute},
		{"six, the oldest does not count", ago(14*time.Minute, 13*time.Minute, 3*time.Minute, 2*time.Minute, time.Minute, time.Second), sms, 2 * time.Minute},
		{"long ago", ago(5*time.Hour, 4*time.Hour), sms, 0},
		{"a moment ago", ago(20 * time.Second), []limit{gap}, 40 * time.Second},
	} {
		if until, _ := room(tc.sent, tc.of, now); until.Sub(now) != tc.want {
			t.Errorf("%s: there is room in %s, want %s", tc.name, until.Sub(now), tc.want)
		}
	}
}

func TestReceiptsCountOnceAndOnlyRise(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS)}})
	r.holds(r.offline("la"))
	r.turn()
	id := r.incident("la").Deliveries[0].ID
	for i, tc := range []struct {
		receipt channel.Receipt
		want    string
	}{
		{channel.Receipt{Delivery: id, EventID: "1", State: channel.Sent}, "sent"},
		{channel.Receipt{Provider: "peer", ProviderID: "p-" + id, EventID: "2", State: channel.Delivered}, "delivered"},
		{channel.Receipt{Delivery: id, EventID: "2", State: channel.Delivered}, "delivered"},
		{channel.Receipt{Delivery: strings.ToUpper(id), EventID: "3", State: channel.Sent}, "delivered"},
		{channel.Receipt{Delivery: id, EventID: "4", State: channel.Failed}, "delivered"},
		{channel.Receipt{Delivery: id, EventID: "5", State: channel.Reached}, "reached"},
		{channel.Receipt{Delivery: id, EventID: "6", State: channel.Accepted}, "reached"},
	} {
		if err := r.a.Receipt(t.Context(), tc.receipt); err != nil {
			t.Fatal(err)
		}
		if d := r.delivery("anna/sms", channel.Trigger); d.State != tc.want {
			t.Errorf("after receipt %d it is %s, want %s", i+1, d.State, tc.want)
		}
	}
	d := r.delivery("anna/sms", channel.Trigger)
	if len(d.Receipts) != 6 {
		t.Errorf("%d receipts are kept, want 6", len(d.Receipts))
	}
	if n := len(slices.DeleteFunc(timeline(r.incident("la")), func(w string) bool { return w != "receipt" })); n != 6 {
		t.Errorf("%d receipts in the timeline, want 6", n)
	}
	var proved *time.Time
	if err := r.pool.QueryRow(t.Context(), `SELECT proved_at FROM holdfast.contact_method`).Scan(&proved); err != nil || proved == nil {
		t.Errorf("the number is not proved: %v", err)
	}
	for _, bad := range []channel.Receipt{
		{Delivery: "x", State: channel.Sent}, {Provider: "peer", State: channel.Sent}, {Provider: "peer", ProviderID: "other", State: channel.Sent},
	} {
		if err := r.a.Receipt(t.Context(), bad); !errors.Is(err, ErrNotFound) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if err := r.a.Receipt(t.Context(), channel.Receipt{Delivery: id, State: "eaten"}); err == nil {
		t.Error("a state that is none is taken")
	}
}

// A receipt overtakes the provider's own answer.
func TestAReceiptBeforeTheAnswerIsNotUndone(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS)}})
	r.holds(r.offline("la"))
	r.look()
	jobs, err := r.a.store.claim(t.Context(), channel.SMS, "", r.a.moment(), r.a.moment().Add(time.Second), 8)
	if err != nil || len(jobs) != 1 {
		t.Fatalf("%d jobs, %v", len(jobs), err)
	}
	if err := r.a.Receipt(t.Context(), channel.Receipt{Delivery: jobs[0].ID, Provider: "peer", ProviderID: "p", EventID: "1", State: channel.Delivered}); err != nil {
		t.Fatal(err)
	}
	r.pass(time.Minute)
	r.deliver() // the lease has run out: it is not sent again
	r.want("triggers", r.to(channel.Trigger))
	o := outcome{state: "accepted", attempt: "accepted", result: channel.Result{Provider: "peer", ProviderID: "p", State: channel.Accepted}}
	if lost, _, err := r.a.store.complete(t.Context(), jobs[0], o, r.a.moment()); lost || err != nil {
		t.Errorf("%t, %v", lost, err)
	}
	if d := r.delivery("anna/sms", channel.Trigger); d.State != "delivered" || d.ProviderID != "p" {
		t.Errorf("%+v", d)
	}
}

func TestATestIsSentAndAnswered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.contact("foo", "anna", channel.Email)
	d, err := r.a.Test(t.Context(), r.method("anna", channel.Email), "omar")
	if err != nil {
		t.Fatal(err)
	}
	r.deliver()
	got := r.peer.got(channel.Test)
	if len(got) != 1 || got[0].Delivery != d.ID || !strings.Contains(got[0].Incident.Summary, "test") {
		t.Fatalf("%+v", got)
	}
	if answer, err := r.a.Acknowledge(t.Context(), channel.Ack{Delivery: d.ID, How: "link"}); err != nil || answer != answerTest {
		t.Errorf("%q, %v", answer, err)
	}
	if d, err = r.a.Delivery(t.Context(), d.ID); err != nil || d.State != "reached" || d.Incident != nil {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := r.a.Test(t.Context(), 1000, "omar"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a test by no method: %v", err)
	}
	m, err := r.a.Incident(t.Context(), d.ID)
	if err != nil || m.To != "anna/email" || m.Incident.Kind != "test" {
		t.Errorf("%+v, %v", m, err)
	}
}

// Who presses the button again and again does not make a phone ring again and again.
func TestTestsAreCappedToo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.contact("foo", "anna", channel.Voice)
	for range 3 {
		if _, err := r.a.Test(t.Context(), r.method("anna", channel.Voice), "omar"); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		r.deliver()
	}
	if n := len(r.to(channel.Test)); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
	if n := r.count(`SELECT count(*) FROM holdfast.delivery WHERE state = 'held' AND held_reason LIKE '%had a message within 1 min'`); n != 2 {
		t.Errorf("%d are held, want 2", n)
	}
}

// A resolved incident's message that was refused for good is not followed by its end: nobody has it.
func TestWhoWasNotToldIsNotToldTheEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.Webhook, channel.Email)}})
	r.peer.says(func(m taken, _ int) int {
		if m.Kind == channel.Webhook {
			return 410
		}
		return 200
	})
	r.holds(r.offline("la"))
	r.turn()
	r.holds()
	r.turn()
	r.want("resolves", r.to(channel.Resolve), "anna/email")
}

// A process that stood still between its claim and its sending comes back when
// another has told that it is over.
func TestNoPageIsSentBehindItsEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.Webhook)}})
	r.holds(r.offline("la"))
	r.look()
	r.a.timing.lease = 100 * time.Millisecond
	r.a.faults.Lease.Hold()
	began := time.Now()
	var under, g errgroup.Group
	g.Go(func() error {
		_, err := r.a.deliverers[channel.Webhook].round(t.Context(), &under)
		return err
	})
	eventually(t, "the lease has run out", func() bool { return time.Since(began) > 3*r.a.timing.lease })
	r.a.faults.Lease.Heal()
	if err := errors.Join(g.Wait(), under.Wait()); err != nil {
		t.Fatal(err)
	}
	r.want("triggers", r.to(channel.Trigger))
}

func TestWhoWasToldLearnsTheEndWhenHisAddressIsRemoved(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.PagerDuty)}})
	r.holds(r.offline("la"))
	r.turn()
	if _, err := r.pool.Exec(t.Context(), `UPDATE holdfast.contact_method SET removed_at = now()`); err != nil {
		t.Fatal(err)
	}
	r.holds()
	r.turn()
	r.want("resolves", r.to(channel.Resolve), "anna/pagerduty")
}

func TestWhatIsToldAnewSaysSoOnceByEachWay(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	anna := r.contact("foo", "anna", channel.PagerDuty)
	r.policy(Customer, step{Contacts: []int64{anna}}, step{After: 10 * time.Minute, Contacts: []int64{anna}})
	r.holds(r.offline("la"))
	r.turn()
	if _, err := r.a.AcknowledgeBy(t.Context(), r.incident("la").ID, "ben", "cli", ""); err != nil {
		t.Fatal(err)
	}
	r.pass(2*time.Hour + time.Second)
	r.turn()
	r.pass(10*time.Minute + time.Second)
	r.turn()
	var again []bool
	for _, m := range r.peer.got(channel.Trigger) {
		again = append(again, m.Again)
	}
	if !slices.Equal(again, []bool{false, true, false}) {
		t.Errorf("%v", again)
	}
}
