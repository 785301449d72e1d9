package fleet

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/progress"
	"github.com/agogsaas/holdfast/proto"
)

const testEpoch = 1 << 32

// watched is a fleet of one facility that is heard, whose tunnel works, and whose
// stream has brought up to transaction 20.
func watched(t *testing.T) (f *Fleet, fac *facility, got *Received) {
	t.Helper()
	_, pool := newTestDB(t, "la")
	f = newTestFleet(t, pool)
	got = &Received{Position: change.Position{Epoch: testEpoch, Seq: 20}, Frames: 5}
	f.cfg.Received = func(string) (Received, bool) { return *got, got.Frames > 0 }
	b := beat("la", proto.SessionEpoch(1, 1), 1)
	b.QueueTransactions = 12
	if err := send(t, f, "la", proto.KindHeartbeat, b); err != nil {
		t.Fatal(err)
	}
	fac = f.facilities["la"]
	fac.verdict.Heartbeat, fac.verdict.Tunnel = true, true
	return f, fac, got
}

func TestRegionSeesWhatStandsStill(t *testing.T) {
	t.Parallel()
	f, fac, got := watched(t)
	f.cfg.Down = func(string) (uint64, progress.Mark, bool) { return 3, progress.Mark{1}, true }
	for _, c := range []struct {
		name string
		move func(c *counted, n int)
		want string
	}{
		{"nothing moves", func(*counted, int) {}, "apply deliver receive"},
		{"the position moves", func(c *counted, n int) { c.Seq += int64(n % 10) }, "deliver"},
		{"all is applied", func(c *counted, _ int) { c.Seq = 20 }, "deliver receive"},
		{"frames of a big transaction come", func(_ *counted, n int) { got.Frames += uint64(n) }, "deliver receive"},
		{"more arrives", func(_ *counted, n int) { got.Position.Seq = 20 + uint64(n) }, "apply deliver"},
		{"no stream", func(*counted, int) { got.Frames = 0 }, "receive"},
		{"the queue there is empty", func(*counted, int) { fac.Beat.QueueTransactions = 0 }, "apply deliver"},
		{"it is not heard", func(*counted, int) { fac.verdict.Heartbeat = false }, "apply deliver"},
		{"its tunnel is down", func(*counted, int) { fac.verdict.Tunnel = false }, "apply deliver"},
		{"tables wait to go down", func(c *counted, _ int) { c.LoadsDown = 2 }, "apply deliver load_down receive"},
		{"rows go down", func(c *counted, n int) { c.LoadsDown, c.RowsSentDown = 2, int64(n) }, "apply deliver receive"},
		{"parked, and tried", func(c *counted, n int) { c.Parked, c.ParkedTried = 2, int64(n) }, "apply deliver receive"},
		{"parked, tried long ago", func(c *counted, n int) { c.Parked, c.ParkedTried = 2, 7 }, "apply deliver parked receive"},
		{"a link paid by the megabyte", func(*counted, int) { fac.Beat.EverySeconds = 60 }, "apply deliver receive"},
		{"another box, and nothing of it yet", func(c *counted, _ int) { got.Position = change.Position{Epoch: 2 << 32} }, "apply deliver receive"},
	} {
		*got = Received{Position: change.Position{Epoch: testEpoch, Seq: 20}, Frames: 5}
		fac.Beat.QueueTransactions, fac.Beat.EverySeconds = 12, 5
		fac.verdict.Heartbeat, fac.verdict.Tunnel = true, true
		fac.watch, fac.stalls = progress.Watch{}, nil
		now := time.Now()
		for n := range 70 { // nearly six minutes
			one := counted{Facility: "la", Epoch: testEpoch, Seq: 8}
			c.move(&one, n)
			f.look(now.Add(time.Duration(n)*5*time.Second), []counted{one, {Facility: "gone"}})
		}
		var stages []string
		for _, s := range fac.stalls {
			stages = append(stages, string(s.Stage))
		}
		if strings.Join(stages, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.name, stages, c.want)
		}
	}
}

func TestWhatWaitsForAPersonIsTold(t *testing.T) {
	t.Parallel()
	f, fac, _ := watched(t)
	db := f.store.db
	for _, sql := range []string{
		`INSERT INTO holdfast.synced_table (schema_name, table_name, class, facility_column, added_by) VALUES ('public', 't', 'fact', 'facility_id', 'me')`,
		`INSERT INTO holdfast.parked_at_box (facility, waiting, told_at) VALUES ('la', 2, now())`,
		`INSERT INTO holdfast.verified (facility, schema_name, table_name, differing, repaired) VALUES ('la', 'public', 't', 5, 1)`,
	} {
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	list, err := f.store.counted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.look(time.Now(), list)
	if v := fac.view(time.Now()); v.Parked != 2 || v.Differing != 4 {
		t.Errorf("parked %d, differing %d; want 2 and 4", v.Parked, v.Differing)
	}
}

func TestMeteredLinksHaveMoreTime(t *testing.T) {
	t.Parallel()
	f, fac, _ := watched(t)
	fac.Beat.EverySeconds = 60
	now := time.Now()
	for n := range 40 { // three minutes
		f.look(now.Add(time.Duration(n)*5*time.Second), []counted{{Facility: "la", Epoch: testEpoch, Seq: 8}})
	}
	if len(fac.stalls) > 0 {
		t.Errorf("got %+v", fac.stalls)
	}
}

func TestStallsAndForecastAreToldToAll(t *testing.T) {
	t.Parallel()
	f, _, _ := watched(t)
	list, err := f.store.counted(t.Context())
	if err != nil || len(list) != 1 || list[0].Facility != "la" {
		t.Fatalf("counted: %+v, %v", list, err)
	}
	now := time.Now()
	for n := range 14 {
		f.look(now.Add(time.Duration(n)*5*time.Second), list)
	}
	full := uint64(111_600)
	if err := send(t, f, "la", proto.KindStatus, proto.Status{
		Tenant: "foo", Facility: "la", Session: proto.SessionEpoch(1, 1), MonoMs: 1,
		Stalls: []proto.Stall{{Stage: "capture", Seconds: 90, Work: 7}, {Stage: "of a newer build", Seconds: 60, Work: 1}},
		Queue:  proto.Queue{LimitBytes: 8 << 30, FullSeconds: &full, FillBytesPerSecond: 48_000},
	}); err != nil {
		t.Fatal(err)
	}
	v, ok := f.Summary("la")
	if !ok || len(v.Stalled) != 4 {
		t.Fatalf("got %+v", v.Stalled)
	}
	var words []string
	for _, s := range v.Stalled {
		words = append(words, fmt.Sprintf("%s sees %s", s.Side, s.Stage))
		if s.Text == "" || s.Work == 0 || time.Since(s.Since) < 10*time.Second && s.Side == "facility" {
			t.Errorf("%+v", s)
		}
	}
	if got := strings.Join(words, ", "); got != "region sees apply, region sees receive, facility sees capture, facility sees of a newer build" {
		t.Error(got)
	}
	if at := v.Queue.FullAt; at == nil || time.Until(*at).Round(time.Hour) != 31*time.Hour || v.Queue.FillRate != 48_000 || v.Queue.LimitBytes != 8<<30 {
		t.Errorf("forecast: %+v", v.Queue)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(f)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	stalled := map[string]float64{}
	for _, fam := range families {
		if fam.GetName() != "holdfast_facility_stalled" {
			continue
		}
		for _, m := range fam.GetMetric() {
			stalled[m.GetLabel()[1].GetValue()] = m.GetGauge().GetValue()
		}
	}
	if len(stalled) != 3 || stalled["apply"] != 1 || stalled["capture"] != 1 || stalled["receive"] != 1 {
		t.Errorf("metrics: %v", stalled)
	}
}
