package fleet

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/proto"
)

// bare is a fleet with one facility and nothing that runs.
func bare(t *testing.T) *Fleet {
	t.Helper()
	client, err := mqttclient.New(mqttclient.Config{URL: "tcp://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	f := &Fleet{
		log: slog.New(slog.DiscardHandler), client: client,
		facilities: map[string]*facility{}, subs: map[*sub]struct{}{}, mirrors: map[string]bool{},
		asks: map[string]struct{}{}, wake: make(chan struct{}, 1), commands: map[proto.CommandID]chan proto.CommandAck{},
		listening: time.Now(), hurry: make(chan struct{}, 1), detector: detect.New(detect.Config{}, time.Now()),
	}
	fac := newFacility("la")
	fac.tenant = "foo"
	f.facilities["la"] = fac
	return f
}

func (f *Fleet) state(id string) State {
	s, _ := f.Summary(id)
	return State(s.State)
}

func TestOldSessionsAreStale(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := bare(t)
		s1, s2, replaced := proto.SessionEpoch(1, 1), proto.SessionEpoch(1, 2), proto.SessionEpoch(2, 1)
		will := func(session, connection uint64) error {
			return send(t, f, "la", proto.KindConn, proto.Conn{Tenant: "foo", Facility: "la", Session: session, Connection: connection, State: proto.ConnWill})
		}
		birth := func(session, connection uint64) error {
			return send(t, f, "la", proto.KindConn, proto.Conn{Tenant: "foo", Facility: "la", Session: session, Connection: connection, State: proto.ConnBirth})
		}
		hb := func(session, seq uint64) error {
			return send(t, f, "la", proto.KindHeartbeat, beat("la", session, seq))
		}
		wait := func(d time.Duration) func() error { return func() error { time.Sleep(d); return nil } }
		for i, step := range []struct {
			what  string
			do    func() error
			stale bool
			left  bool
		}{
			{"first birth", func() error { return birth(s1, 1) }, false, false},
			{"heartbeat", func() error { return hb(s1, 1) }, false, false},
			{"the same heartbeat again", func() error { return hb(s1, 1) }, true, false},
			{"will", func() error { return will(s1, 1) }, false, true},
			{"second connection", func() error { return birth(s1, 2) }, false, false},
			{"will of the first connection", func() error { return will(s1, 1) }, true, false},
			{"next session", func() error { return birth(s2, 1) }, false, false},
			{"will of the session before", func() error { return will(s1, 2) }, true, false},
			{"heartbeat of the session before", func() error { return hb(s1, 9) }, true, false},
			{"heartbeat", func() error { return hb(s2, 1) }, false, false},
			{"the new one falls silent", wait(time.Minute), false, false},
			{"agent restored from a backup", func() error { return hb(s1, 1) }, false, false},
			{"replacement", func() error { return birth(replaced, 1) }, false, false},
			{"it falls silent", wait(time.Hour), false, false},
			{"the old box is still plugged in", func() error { return hb(s2, 99) }, true, false},
			{"its will", func() error { return will(s2, 99) }, true, false},
		} {
			err := step.do()
			if errors.Is(err, errStale) != step.stale || err != nil && !step.stale {
				t.Errorf("step %d, %s: %v, want stale: %v", i, step.what, err, step.stale)
			}
			if left := !f.facilities["la"].Left.IsZero(); left != step.left {
				t.Errorf("step %d, %s: left: %v, want %v", i, step.what, left, step.left)
			}
		}
	})
}

func TestRetainedBirthsAndBeatsProveNothing(t *testing.T) {
	t.Parallel()
	f := bare(t)
	for k, m := range map[proto.Kind]interface{ Encode() ([]byte, error) }{
		proto.KindHeartbeat: beat("la", 1, 1),
		proto.KindConn:      proto.Conn{Tenant: "foo", Facility: "la", Session: 1, State: proto.ConnBirth},
	} {
		raw, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		r := mqttclient.Received{Topic: proto.Topic("foo", "la", k), Payload: raw, Retained: true}
		handle := f.heartbeatLocked
		if k == proto.KindConn {
			handle = f.connLocked
		}
		if err := handle(r, time.Now()); !errors.Is(err, errRetained) {
			t.Errorf("retained %s: %v", k, err)
		}
	}
	if f.facilities["la"].Here {
		t.Error("a retained message counts as heard")
	}
}

func TestMessagesMustAgreeWithTheirTopic(t *testing.T) {
	t.Parallel()
	f := bare(t)
	for k, m := range map[proto.Kind]interface{ Encode() ([]byte, error) }{
		proto.KindHeartbeat: beat("frankfurt", 1, 1),
		proto.KindStatus:    proto.Status{Tenant: "foo", Facility: "frankfurt"},
		proto.KindConn:      proto.Conn{Tenant: "bar", Facility: "la", State: proto.ConnBirth},
		proto.KindEvent:     proto.Event{Tenant: "foo", Facility: "frankfurt", Seq: 1, Kind: "x"},
	} {
		if err := send(t, f, "la", k, m); !errors.Is(err, errForeign) {
			t.Errorf("%s about another facility: %v", k, err)
		}
	}
	raw, err := beat("la", 1, 1).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{proto.Topic("bar", "la", proto.KindHeartbeat), proto.Topic("foo", "nowhere", proto.KindHeartbeat)} {
		if err := f.heartbeatLocked(mqttclient.Received{Topic: topic, Payload: raw}, time.Now()); !errors.Is(err, errUnknown) {
			t.Errorf("%s: %v", topic, err)
		}
	}
}

func TestSilentFacilityGoesOfflineAndComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := bare(t)
		if err := send(t, f, "la", proto.KindHeartbeat, beat("la", 1, 1)); err != nil {
			t.Fatal(err)
		}
		judge := func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.judgeLocked(f.facilities["la"], time.Now())
		}
		time.Sleep(f.facilities["la"].Rhythm.Deadline())
		judge()
		if got := f.state("la"); got != StateOnline {
			t.Errorf("at the deadline it is %s", got)
		}
		time.Sleep(judgeEvery)
		judge()
		if got := f.state("la"); got != StateOffline {
			t.Errorf("past the deadline it is %s", got)
		}
		if err := send(t, f, "la", proto.KindHeartbeat, beat("la", 1, 2)); err != nil {
			t.Fatal(err)
		}
		if got := f.state("la"); got != StateOnline {
			t.Errorf("heard again, it is %s", got)
		}
	})
}

func TestStatusIsAskedForWhenItsDigestDiffers(t *testing.T) {
	t.Parallel()
	f := bare(t)
	doc := proto.Status{Tenant: "foo", Facility: "la", Session: 1}
	raw, err := doc.Encode()
	if err != nil {
		t.Fatal(err)
	}
	b := beat("la", 1, 1)
	b.StatusDigest = proto.StatusDigest(raw)
	if err := send(t, f, "la", proto.KindHeartbeat, b); err != nil {
		t.Fatal(err)
	}
	if _, asks := f.takeWork(); len(asks) != 1 {
		t.Error("the missing document was not asked for")
	}
	b.Seq++
	if err := send(t, f, "la", proto.KindHeartbeat, b); err != nil {
		t.Fatal(err)
	}
	if _, asks := f.takeWork(); len(asks) != 0 {
		t.Error("it was asked for again at once")
	}
	if err := send(t, f, "la", proto.KindStatus, doc); err != nil {
		t.Fatal(err)
	}
	f.facilities["la"].askedAt = time.Time{}
	b.Seq++
	if err := send(t, f, "la", proto.KindHeartbeat, b); err != nil {
		t.Fatal(err)
	}
	if _, asks := f.takeWork(); len(asks) != 0 {
		t.Error("the document is here, and was asked for")
	}
}

func TestSlowReaderGetsTheLatestAndStopsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := bare(t)
		ctx, cancel := context.WithCancel(t.Context())
		changes := f.Subscribe(ctx)
		for seq := range uint64(1000) {
			if err := send(t, f, "la", proto.KindHeartbeat, beat("la", 1, seq+1)); err != nil {
				t.Fatal(err)
			}
		}
		e := <-changes
		if _, ok := e.Facilities["la"]; !ok || len(e.Facilities) != 1 {
			t.Errorf("told of %v", e.Facilities)
		}
		select {
		case e := <-changes:
			t.Errorf("told twice: %v", e)
		default:
		}
		cancel()
		synctest.Wait()
		if _, open := <-changes; open {
			t.Error("the channel is still open")
		}
		if len(f.subs) != 0 {
			t.Error("the reader is still known")
		}
		if err := send(t, f, "la", proto.KindHeartbeat, beat("la", 1, 2000)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestHistoryKeepsAnHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := bare(t)
		for i := range historyKept + 10 {
			f.Applied("la", Batch{Epoch: 1, Seq: uint64(i + 1), Transactions: 2, Changes: 5, CommitAt: time.Now().Add(-20 * time.Millisecond)})
			time.Sleep(sampleEvery)
			f.sample(time.Now())
		}
		d, _ := f.Facility("la")
		if len(d.History) != historyKept {
			t.Fatalf("%d points, want %d", len(d.History), historyKept)
		}
		for i, p := range d.History {
			if i > 0 && p.At-d.History[i-1].At != 5 {
				t.Fatalf("point %d is %d s after the one before", i, p.At-d.History[i-1].At)
			}
			if p.Changes != 5 || p.LagMs != 20 || p.QueueTransactions != 0 || p.State != StateUnknown {
				t.Fatalf("point %d is %+v", i, p)
			}
		}
		if d.Throughput.Changes != 5*(historyKept+10) || d.Throughput.ChangeRate != 1 {
			t.Errorf("throughput %+v, want 1 change a second", d.Throughput)
		}
		if d.Epoch != 1 || d.Seq != historyKept+10 {
			t.Errorf("position %d/%d", d.Epoch, d.Seq)
		}
	})
}

func TestHistoryBeginsWithTheFacilityAndEndsNow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := bare(t)
		for range 700 {
			time.Sleep(sampleEvery)
			f.sample(time.Now())
		}
		fac := newFacility("berlin")
		f.facilities["berlin"] = fac
		began := time.Now()
		for i, state := range append(states[:], "of a later build") {
			fac.verdict.State, fac.Beat.QueueTransactions, fac.Beat.OldestSeconds, fac.BeatAt = state, uint64(i)*1_000_003, 3600, time.Now()
			for range 20 {
				time.Sleep(sampleEvery)
				f.sample(time.Now())
			}
		}
		d, _ := f.Facility("berlin")
		if want := 20 * (len(states) + 1); len(d.History) != want {
			t.Fatalf("%d points, want %d", len(d.History), want)
		}
		for i, p := range d.History {
			at := began.Add(time.Duration(i+1) * sampleEvery)
			no := i / 20
			state, lag := StateUnknown, uint64(0)
			if no < len(states) {
				state = states[no]
			}
			if no > 0 {
				lag = uint64(3_600_000 + (i%20+1)*5000)
			}
			if p.At != at.Unix() || p.State != state || !near(p.QueueTransactions, uint64(no)*1_000_003) || !near(p.LagMs, lag) {
				t.Fatalf("point %d is %+v, want %v, lag %d", i, p, state, lag)
			}
		}
		if d, _ := f.Facility("la"); len(d.History) != historyKept || d.History[historyKept-1].At != time.Now().Unix() || d.History[0].At != time.Now().Add(-(historyKept-1)*sampleEvery).Unix() {
			t.Errorf("the other facility has %d points", len(d.History))
		}
	})
}

// near is as exact as a figure.
func near(got, want uint64) bool {
	return max(got, want)-min(got, want) <= want/2000
}

// TestAHeartbeatCountsFromWhenItCame has one come while something takes long.
func TestAHeartbeatCountsFromWhenItCame(t *testing.T) {
	t.Parallel()
	_, pool := newTestDB(t, "la")
	f := newTestFleet(t, pool)
	raw, err := beat("la", proto.SessionEpoch(1, 1), 1).Encode()
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	before := time.Now()
	f.arrived(proto.KindHeartbeat, mqttclient.Received{Topic: proto.Topic("foo", "la", proto.KindHeartbeat), Payload: raw}, f.heartbeatLocked)
	after := time.Now()
	f.mu.Unlock()
	f.takeIn(<-f.inbox)
	if heard := f.facilities["la"].Heard; heard.Before(before) || heard.After(after) {
		t.Errorf("heard at %s, came between %s and %s", heard, before, after)
	}
}
