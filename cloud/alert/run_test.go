package alert

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
)

// running starts an alerter as a region does.
func (r *rig) running(a *Alerter) (stop func()) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	r.flows.Store(true)
	go func() { done <- a.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			r.t.Errorf("Run: %v", err)
		}
		done <- nil
	}
	r.t.Cleanup(stop)
	return stop
}

func TestWhatIsKnownIsHandedOverAndEverybodyHearsOfIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS)}})
	r.running(r.a)
	eventually(t, "somebody leads", r.a.Leading)
	changed := r.a.Changed()
	began := time.Now()
	r.holds(r.offline("la"))
	eventually(t, "it is told", func() bool { return len(r.peer.got(channel.Trigger)) == 1 })
	t.Logf("known to handed over: %s", time.Since(began))
	select {
	case <-changed:
	case <-time.After(patience):
		t.Error("nobody was told of the change")
	}
}

// Two processes run at once, and the one that leads stops for a while, as a
// frozen machine does: the other goes on, and nobody is paged twice when the
// first wakes and does what it was about to do.
func TestTwoProcessesPageOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, "f1", "f2", "f3")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS, channel.Email)}})
	r.c.timing = defaultTiming()
	r.c.timing.poll, r.c.timing.leader, r.c.timing.renew = 20*time.Millisecond, 500*time.Millisecond, 100*time.Millisecond
	var all []*Alerter
	for range 2 {
		r.start()
		r.running(r.a)
		all = append(all, r.a)
	}
	leader := func() *Alerter {
		i := slices.IndexFunc(all, (*Alerter).Leading)
		if i < 0 {
			return nil
		}
		return all[i]
	}
	eventually(t, "somebody leads", func() bool { return leader() != nil })
	told := func(n int) func() bool {
		return func() bool {
			return r.count(`SELECT count(*) FROM holdfast.delivery WHERE event = 'trigger' AND state = 'accepted'`) == n
		}
	}
	r.holds(r.offline("f1"))
	eventually(t, "the first is told", told(2))

	frozen := leader()
	frozen.faults.Commit.Hold()
	r.holds(r.offline("f1"), r.offline("f2"))
	other := all[0]
	if other == frozen {
		other = all[1]
	}
	eventually(t, "the other leads", other.Leading)
	eventually(t, "the second is told", told(4))
	frozen.faults.Commit.Heal()
	eventually(t, "the frozen one knows that it does not lead", func() bool { return !frozen.Leading() })

	r.holds(r.offline("f1"), r.offline("f2"), r.offline("f3"))
	eventually(t, "the third is told", told(6))
	seen := make(map[string]int)
	for _, m := range r.peer.got(channel.Trigger) {
		seen[m.Delivery]++
		if seen[m.Delivery] > 1 || m.Repeat {
			t.Errorf("paged twice: %+v", m)
		}
	}
	if len(seen) != 6 {
		t.Errorf("%d messages, want 6", len(seen))
	}
}

// Each process has a word of its own: one that hears its own broker and no
// facility there would find all of them offline.
func TestWhoHearsDecidesAndNotWhoIsDeaf(t *testing.T) {
	t.Parallel()
	r := newRig(t, "f1", "f2")
	ops := r.contact("", "ops", channel.PagerDuty)
	r.policy(Operations, step{Contacts: []int64{ops}})
	word := map[string]detect.Word{"hears": {}, "deaf": {Deaf: true, Findings: []detect.Finding{r.offline("f1"), r.offline("f2")}}}
	process := func(name string) *Alerter {
		c := r.c
		c.Word = func() detect.Word {
			w := word[name]
			w.At = r.now()
			return w
		}
		a, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		a.lead = leading{wordsAt: make(map[int64]time.Time), strangers: make(map[key]time.Time), trouble: make(map[string]trouble)}
		return a
	}
	hears, deaf := process("hears"), process("deaf")
	looks := func(what string, who *Alerter, leads bool) {
		t.Helper()
		r.pass(2 * time.Second)
		for _, a := range []*Alerter{deaf, hears} {
			if err := a.look(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if who.Leading() != leads {
			t.Errorf("%s: it leads %t, want %t", what, !leads, leads)
		}
	}
	looks("the first", deaf, true)
	looks("one hears, and takes the lead from who does not", hears, true)
	looks("who lost the lead knows it", deaf, false)
	if n := r.count(`SELECT count(*) FROM holdfast.incident WHERE resolved_at IS NULL`); n != 0 {
		t.Errorf("%d incidents are open that are none", n)
	}
	opened := r.count(`SELECT count(*) FROM holdfast.incident`)

	// It is stopped: the deaf one waits whether another that hears comes.
	hears.release(t.Context())
	hears = process("none yet")
	word["none yet"] = detect.Word{Held: true}
	for range 20 {
		looks("the deaf one", deaf, false)
	}
	if n := r.count(`SELECT count(*) FROM holdfast.incident`); n != opened {
		t.Errorf("%d incidents are opened by who is deaf", n-opened)
	}
	word["none yet"] = detect.Word{}
	looks("another that hears", hears, true)
	word["deaf"] = detect.Word{}
	word["none yet"] = detect.Word{Held: true}
	looks("held", hears, true)
	looks("one that can judge takes over", deaf, true)
	looks("and the other knows", hears, false)

	// One that has just started, and hears nobody either, leads as soon as nobody does. It
	// takes the lead from nobody, and gives it to who hears.
	word["fresh"] = detect.Word{Deaf: true, Fresh: true}
	word["deaf"] = detect.Word{}
	fresh := process("fresh")
	leads := func(what string, a *Alerter, leads bool) {
		t.Helper()
		r.pass(2 * time.Second)
		if err := a.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a.Leading() != leads {
			t.Errorf("%s: it leads %t, want %t", what, !leads, leads)
		}
	}
	looks("one that hears", deaf, true)
	leads("a fresh one meanwhile", fresh, false)
	r.pass(fresh.timing.leader)
	leads("a fresh one when nobody leads", fresh, true)
	leads("one that hears comes back", deaf, true)
	leads("a fresh one then", fresh, false)

	// Nobody is fit: that is told by somebody nevertheless.
	word["deaf"] = detect.Word{Held: true, Findings: []detect.Finding{{Kind: detect.Blind, Severity: detect.Critical, Since: r.now(), Summary: "It is us"}}}
	looks("who leads goes on", deaf, true)
	deaf.release(t.Context())
	deaf = process("deaf")
	looks("not yet", deaf, false)
	r.pass(unfitAfter)
	looks("somebody decides all the same", deaf, true)
	if r.incident("").Kind != string(detect.Blind) {
		t.Error("operations are not told")
	}
}

// The machine of the one that leads is gone in the middle of a transaction, and nobody
// tells the database.
func TestADeadPeerDoesNotKeepTheLead(t *testing.T) {
	t.Parallel()
	for name, fence := range map[string]string{"it ends by itself": sqlFence, "it never ends": `SELECT FROM holdfast.alert_leader WHERE holder = $1 FOR SHARE`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.look()
			dead, err := r.pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer dead.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // the server may have ended it
			if _, err := dead.Exec(t.Context(), fence, r.a.id); err != nil {
				t.Fatal(err)
			}
			r.pass(10 * time.Second)
			r.start()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			began, failed := time.Now(), 0
			for !r.a.Leading() && ctx.Err() == nil && (fence == sqlFence || failed == 0) {
				if err := r.a.look(ctx); err != nil {
					failed++
				}
			}
			took := time.Since(began)
			if r.a.Leading() != (fence == sqlFence) || took > patience/2 {
				t.Errorf("after %s the other leads: %t", took, r.a.Leading())
			}
		})
	}
}

// One of two processes is killed, with its lease on the lead and its messages on their way.
func TestTheOtherProcessGoesOnWhenOneIsKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, "f1", "f2")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS)}})
	list := []detect.Finding{r.offline("f1")}
	told := func(n int) func() bool {
		return func() bool {
			return r.count(`SELECT count(*) FROM holdfast.delivery WHERE event = 'trigger' AND state = 'accepted'`) == n
		}
	}
	first := r.spawn("")
	first.holds(t, list)
	eventually(t, "the first is told", told(1))
	second := r.spawn("")
	t.Cleanup(second.kill)
	second.holds(t, append(list, r.offline("f2")))
	first.kill()
	r.buried(first)
	eventually(t, "the second is told", told(2))
	if n := len(r.peer.got(channel.Trigger)); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}

// A thousand facilities of one region at once: operations hear of it once, and
// each customer's contact once of his own facility.
func TestAThousandAtOnceAreToldOnceEach(t *testing.T) {
	t.Parallel()
	storm(t, 1000)
}

// BenchmarkAThousandAtOnce prints how long it takes until all messages are committed.
func BenchmarkAThousandAtOnce(b *testing.B) {
	var all time.Duration
	for range b.N {
		all += storm(b, 1000)
	}
	b.ReportMetric(all.Seconds()/float64(b.N), "s/storm")
}

// storm lets many facilities of a region fall silent at once, each of a customer
// of its own, and returns how long it takes until all messages are committed.
func storm(t testing.TB, facilities int) time.Duration {
	r := newRig(t)
	_, err := r.pool.Exec(t.Context(), `
		WITH f AS (INSERT INTO holdfast.facility (id, tenant, name) SELECT 'f' || n, 't' || n, 'Plant ' || n FROM generate_series(1, $1) n RETURNING id, tenant),
		     c AS (INSERT INTO holdfast.contact (tenant, name, created_by) SELECT tenant, 'anna of ' || id, 'test' FROM f RETURNING id)
		INSERT INTO holdfast.contact_method (contact, channel, address) SELECT id, 'webhook', 'anna' || id FROM c`, facilities)
	if err != nil {
		t.Fatal(err)
	}
	// As the server does by itself some time after such a number of facilities has been added.
	if _, err := r.pool.Exec(t.Context(), `ANALYZE holdfast.facility, holdfast.contact, holdfast.contact_method`); err != nil {
		t.Fatal(err)
	}
	ops := r.contact("", "ops", channel.PagerDuty)
	r.policy(Operations, step{Contacts: []int64{ops}}, step{After: time.Minute, Contacts: []int64{ops}})
	outage := detect.Finding{Kind: detect.Outage, Severity: detect.Critical, Since: r.now(), Summary: "Many facilities at once"}
	list := []detect.Finding{outage}
	for n := 1; n <= facilities; n++ {
		var contact int64
		if err := r.pool.QueryRow(t.Context(), `SELECT id FROM holdfast.contact WHERE tenant = $1`, fmt.Sprintf("t%d", n)).Scan(&contact); err != nil {
			t.Fatal(err)
		}
		p := policy{ID: int64(10 + n), Audience: Customer, Tenant: fmt.Sprintf("t%d", n), Steps: []step{{Contacts: []int64{contact}}, {After: time.Hour, Contacts: []int64{contact}, Offer: "fallback"}}}
		r.roster.policies = append(r.roster.policies, p)
		f := r.offline(fmt.Sprintf("f%d", n))
		f.Of = detect.Outage
		list = append(list, f)
	}
	r.look() // it leads
	r.holds(list...)
	began := time.Now()
	r.look()
	took := time.Since(began)
	if n := r.count(`SELECT count(*) FROM holdfast.delivery WHERE state = 'pending'`); n != facilities+1 {
		t.Errorf("%d messages, want %d", n, facilities+1)
	}
	if n := r.count(`SELECT count(*) FROM holdfast.delivery WHERE audience = 'operations'`); n != 1 {
		t.Errorf("operations are told %d times, want once", n)
	}
	if n := r.count(`SELECT count(DISTINCT method) FROM holdfast.delivery WHERE audience = 'customer'`); n != facilities {
		t.Errorf("%d contacts are told, want %d", n, facilities)
	}
	t.Logf("%d facilities at once: all deliveries committed after %s", facilities, took)
	// A look at a thousand that go on is cheap.
	began = time.Now()
	r.look()
	t.Logf("a look at %d open incidents: %s", facilities+1, time.Since(began))

	// Operations do not wait behind the customers.
	jobs, err := r.a.store.claim(t.Context(), channel.PagerDuty, "", r.a.moment(), r.a.moment().Add(time.Second), 8)
	if err != nil || len(jobs) != 1 {
		t.Errorf("%d jobs, %v", len(jobs), err)
	}
	began = time.Now()
	r.deliver()
	t.Logf("all handed over after %s more", time.Since(began))
	r.holds()
	began = time.Now()
	r.look()
	t.Logf("all resolved after %s", time.Since(began))
	if n := r.count(`SELECT count(*) FROM holdfast.delivery WHERE event = 'resolve'`); n != facilities+1 {
		t.Errorf("%d resolves, want %d", n, facilities+1)
	}
	return took
}

func TestCriticalPagesAndOperationsGoFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t, "f1", "f2", "f3")
	anna, ops := r.contact("foo", "anna", channel.SMS), r.contact("", "ops", channel.SMS)
	r.policy(Customer, step{Contacts: []int64{anna}})
	r.holds(r.offline("f1"))
	r.turn()
	r.holds()
	r.look() // a resolve waits
	if _, err := r.a.Test(t.Context(), r.method("anna", channel.SMS), "omar"); err != nil {
		t.Fatal(err)
	}
	warning := r.offline("f2")
	warning.Severity = detect.Warning
	r.holds(warning)
	r.look()
	r.policy(Operations, step{Contacts: []int64{ops}})
	r.holds(warning, r.offline("f3"))
	r.look()
	jobs, err := r.a.store.claim(t.Context(), channel.SMS, "", r.a.moment(), r.a.moment().Add(time.Second), 8)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, j := range jobs {
		got = append(got, fmt.Sprintf("%s %s %s", j.Severity, j.Event, j.Audience))
	}
	r.want("the order", got, "critical trigger operations", "critical trigger customer", "warning trigger customer", "critical resolve customer", " test customer")
}
