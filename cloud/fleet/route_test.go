package fleet

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/cloud/router"
	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/fault"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/proto"
)

// The log's disk hangs: no error, no answer. Nothing waits for any facility then,
// because nothing gets into the log; the counters tell all the same. So they do
// when nobody reads at all and the slot is gone.
func TestWALThatDoesNotReachTheWayDownIsToldOfEveryFacility(t *testing.T) {
	t.Parallel()
	server := pgtest.Cluster(t, pgtest.Options{})
	pool := server.Pool(t)
	sql := stdlib.OpenDBFromPool(pool)
	defer sql.Close()
	if err := migrations.Up(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	server.Exec(t, `CREATE TABLE price (id int PRIMARY KEY)`)
	server.Exec(t, `INSERT INTO holdfast.facility (id, tenant) VALUES ('la', 'foo'), ('ny', 'foo')`)
	disk := &fault.Point{Name: "router.append"}
	list := proto.Tables{Tables: []proto.SyncedTable{{Schema: "public", Name: "price", Class: "master", RegionSchema: "{schema}"}}}
	r, err := router.New(router.Config{
		ConnString: server.ConnString(), DB: pool, Dir: t.TempDir(), AppendFault: disk,
		Tables: func() (proto.Tables, <-chan struct{}) { return list, nil },
		Facilities: func(context.Context) ([]router.Facility, error) {
			return []router.Facility{{ID: "la", Tenant: "foo"}, {ID: "ny", Tenant: "foo"}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	f := newTestFleet(t, pool)
	f.cfg.StalledAfter = 2 * time.Second
	f.cfg.Route = func() Route {
		s := r.Stats()
		return Route{Slot: s.Slot, LSN: s.LSN, Tail: s.Tail, Frames: s.Opened, Err: s.CaptureErr}
	}
	told := func(id string) string {
		v, ok := f.Summary(id)
		if !ok {
			t.Fatalf("no facility %s", id)
		}
		for _, s := range v.Stalled {
			if s.Stage == "route_down" {
				return s.Text
			}
		}
		return ""
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		deadline, tick := time.After(2*time.Minute), time.NewTicker(100*time.Millisecond)
		defer tick.Stop()
		for !ok() {
			select {
			case <-tick.C:
				if err := f.watchRoute(t.Context()); err != nil {
					t.Fatal(err)
				}
			case <-deadline:
				t.Fatalf("%s: not within two minutes; %q, %+v", what, told("la"), r.Stats())
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	defer disk.Heal()

	until("the way down is open", func() bool { return r.Epoch() > 0 })
	server.Exec(t, `INSERT INTO price VALUES (1)`)
	until("a row is in the log", func() bool { return r.Tail().Seq == 1 })
	disk.Hold()
	server.Exec(t, `INSERT INTO price SELECT generate_series(2, 1000)`)
	until("the stall is told", func() bool { return told("la") != "" && told("ny") != "" })
	if s := r.Stats(); s.CaptureErr != "" {
		t.Errorf("the router finds it itself: %+v; this test is to be about a part that does not", s)
	}
	if w, ok := f.routed(); !ok || w.Behind <= 0 || w.Retained < w.Behind {
		t.Errorf("the slot: %+v, %t", w, ok)
	}
	disk.Heal()
	until("it goes on", func() bool { return r.Tail().Seq == 2 && told("la") == "" && told("ny") == "" })

	disk.Break(nil)
	server.Exec(t, `INSERT INTO price VALUES (0)`)
	until("the reason is told", func() bool { return strings.Contains(told("la"), fault.Err.Error()) })
	reg := prometheus.NewRegistry()
	reg.MustRegister(f, r)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	metrics := map[string]float64{}
	for _, fam := range families {
		for _, m := range fam.GetMetric() {
			metrics[fam.GetName()] += m.GetGauge().GetValue()
		}
	}
	if metrics["holdfast_router_capture_up"] != 0 || metrics["holdfast_router_seq"] != 2 || metrics["holdfast_router_wal_unrouted_bytes"] <= 0 ||
		metrics["holdfast_router_wal_retained_bytes"] <= 0 || metrics["holdfast_fleet_stalled"] != 2 {
		t.Errorf("metrics: %v", metrics)
	}
	disk.Heal()
	until("it goes on", func() bool { return r.Tail().Seq == 3 && told("la") == "" })

	cancel()
	wg.Wait()
	if err := capture.DropSlot(t.Context(), server.Conn(t), router.Slot); err != nil {
		t.Fatal(err)
	}
	server.Exec(t, `INSERT INTO price VALUES (-1)`)
	until("the missing slot is told", func() bool { return told("la") != "" })
}
