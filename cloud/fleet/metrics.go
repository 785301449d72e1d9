package fleet

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/progress"
	"github.com/agogsaas/holdfast/proto"
)

// counters are what Collect reads.
type counters struct {
	mu       sync.Mutex
	messages map[[2]string]uint64
	births   uint64
	leaves   map[string]uint64
	probes   [2]uint64 // failed, answered
	mirrors  [2]uint64 // failed, published
	rows     uint64
	flushes  uint64
	flushSum time.Duration
}

func (c *counters) message(k proto.Kind, result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.messages == nil {
		c.messages = make(map[[2]string]uint64)
	}
	c.messages[[2]string{string(k), result}]++
}

func (c *counters) leave(s proto.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaves == nil {
		c.leaves = make(map[string]uint64)
	}
	c.leaves[s.String()]++
}

func (c *counters) birth()           { c.mu.Lock(); c.births++; c.mu.Unlock() }
func (c *counters) probed(ok bool)   { c.mu.Lock(); c.probes[index(ok)]++; c.mu.Unlock() }
func (c *counters) mirrored(ok bool) { c.mu.Lock(); c.mirrors[index(ok)]++; c.mu.Unlock() }

func (c *counters) flushed(rows int, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rows += uint64(rows)
	c.flushes++
	c.flushSum += took
}

func index(ok bool) int {
	if ok {
		return 1
	}
	return 0
}

var (
	descState    = prometheus.NewDesc("holdfast_fleet_facilities", "Facilities by state.", []string{"state"}, nil)
	descListen   = prometheus.NewDesc("holdfast_fleet_listening", "1 while heartbeats can be heard.", nil, nil)
	descHeldBack = prometheus.NewDesc("holdfast_fleet_held", "1 while nothing is concluded about facilities, because the region itself cannot tell.", nil, nil)
	descCanary   = prometheus.NewDesc("holdfast_fleet_canary_heard_timestamp_seconds", "When the last message that arrived of each of the region's own canaries was sent.", []string{"canary"}, nil)
	descFindings = prometheus.NewDesc("holdfast_fleet_findings", "What is found to be wrong now, by kind and severity; absent when there is none.", []string{"kind", "severity"}, nil)
	descMessages = prometheus.NewDesc("holdfast_fleet_messages_total", "Messages from boxes, by kind and what became of them.", []string{"kind", "result"}, nil)
	descBirths   = prometheus.NewDesc("holdfast_fleet_births_total", "Connections that boxes have made to the broker.", nil, nil)
	descLeaves   = prometheus.NewDesc("holdfast_fleet_leaves_total", "Connections that have ended, by how: will or bye.", []string{"how"}, nil)
	descProbes   = prometheus.NewDesc("holdfast_fleet_probes_total", "Probes of silent facilities through the tunnel.", []string{"result"}, nil)
	descMirrors  = prometheus.NewDesc("holdfast_fleet_mirrors_total", "JSON mirrors published.", []string{"result"}, nil)
	descFlush    = prometheus.NewDesc("holdfast_fleet_flush_duration_seconds", "Time to write what was last heard.", nil, nil)
	descRows     = prometheus.NewDesc("holdfast_fleet_flushed_rows_total", "Facilities written.", nil, nil)

	descStalls = prometheus.NewDesc("holdfast_fleet_stalled", "Facilities with a stage that has work and makes no progress.", []string{"stage"}, nil)

	descNow    = prometheus.NewDesc("holdfast_facility_state", "1 for the state that the facility is in; its other states are absent.", []string{"facility", "state"}, nil)
	descWork   = prometheus.NewDesc("holdfast_facility_maintenance_end_timestamp_seconds", "When the facility's announced work ends; absent when there is none.", []string{"facility"}, nil)
	descUp     = prometheus.NewDesc("holdfast_facility_online", "1 when the facility is online.", []string{"facility"}, nil)
	descHeard  = prometheus.NewDesc("holdfast_facility_heard_timestamp_seconds", "When the facility was last heard.", []string{"facility"}, nil)
	descQueue  = prometheus.NewDesc("holdfast_facility_queue_bytes", "Bytes that wait at the facility.", []string{"facility"}, nil)
	descQueueT = prometheus.NewDesc("holdfast_facility_queue_transactions", "Transactions that wait at the facility.", []string{"facility"}, nil)
	descFull   = prometheus.NewDesc("holdfast_facility_queue_full_timestamp_seconds", "When the facility's queue will be full at the rate at which it fills; absent when that is not to be expected.", []string{"facility"}, nil)
	descStall  = prometheus.NewDesc("holdfast_facility_stalled", "1 while a stage of a facility's way has work and makes no progress; absent otherwise.", []string{"facility", "stage"}, nil)
	descBehind = prometheus.NewDesc("holdfast_router_wal_unrouted_bytes", "WAL of the region's database that is not yet in the log of the way down.", nil, nil)
	descHeld   = prometheus.NewDesc("holdfast_router_wal_retained_bytes", "WAL that the region's database keeps for the way down.", nil, nil)
	descLag    = prometheus.NewDesc("holdfast_facility_lag_seconds", "Commit at the facility to visible in the region.", []string{"facility"}, nil)
)

// allStages are what is counted; a box of a newer build may name others. What is
// said of each facility is said only while it holds: ten series for each of
// thousands would be most of the answer.
var allStages = []progress.Stage{
	progress.Capture, progress.Transfer, progress.Acknowledge, progress.Load,
	progress.Receive, progress.Apply, progress.Parked, progress.LoadDown, progress.Deliver, progress.RouteDown,
}

// results are what may become of a message.
var results = []string{"ok", "stale", "unknown", "foreign", "bad"}

// Describe implements prometheus.Collector.
func (*Fleet) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descState, descListen, descHeldBack, descCanary, descFindings, descMessages, descBirths, descLeaves, descProbes, descMirrors,
		descFlush, descRows, descStalls, descNow, descWork, descUp, descHeard, descQueue, descQueueT, descFull, descStall, descLag, descBehind, descHeld,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (f *Fleet) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	states, stalls := map[string]int{}, map[progress.Stage]int{}
	for _, s := range []State{StateNew, StateOnline, StateDegraded, StateOffline, StateUnknown} {
		states[string(s)] = 0
	}
	for _, s := range f.Snapshot() {
		states[s.State]++
		gauge(descNow, 1, s.ID, s.State)
		if s.MaintenanceUntil != nil {
			gauge(descWork, float64(s.MaintenanceUntil.Unix()), s.ID)
		}
		gauge(descUp, float64(index(s.State == string(StateOnline))), s.ID)
		if s.LastHeardAt != nil {
			gauge(descHeard, float64(s.LastHeardAt.UnixMilli())/1000, s.ID)
		}
		gauge(descQueue, float64(s.Queue.Bytes), s.ID)
		gauge(descQueueT, float64(s.Queue.Transactions), s.ID)
		if s.Queue.FullAt != nil {
			gauge(descFull, float64(s.Queue.FullAt.Unix()), s.ID)
		}
		for _, stage := range allStages {
			if slices.ContainsFunc(s.Stalled, func(x v1.Stall) bool { return x.Stage == string(stage) }) {
				stalls[stage]++
				gauge(descStall, 1, s.ID, string(stage))
			}
		}
		if s.Lag != nil {
			gauge(descLag, float64(*s.Lag)/1000, s.ID)
		}
	}
	for s, n := range states {
		gauge(descState, float64(n), s)
	}
	for _, stage := range allStages {
		gauge(descStalls, float64(stalls[stage]), string(stage))
	}
	if r, ok := f.routed(); ok {
		gauge(descBehind, float64(r.Behind))
		gauge(descHeld, float64(r.Retained))
	}
	gauge(descListen, float64(index(f.client.State().Connected)))
	w := f.Word()
	gauge(descHeldBack, float64(index(w.Held)))
	found := map[[2]string]int{}
	for _, x := range w.Findings {
		found[[2]string{string(x.Kind), string(x.Severity)}]++
	}
	for k, n := range found {
		gauge(descFindings, float64(n), k[0], k[1])
	}
	for i := range f.canaries {
		if at := f.canaries[i].heard(); !at.IsZero() {
			gauge(descCanary, float64(at.UnixMilli())/1000, strconv.Itoa(i))
		}
	}

	c := &f.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, kind := range proto.KindsUp {
		for _, result := range results {
			count(descMessages, c.messages[[2]string{string(kind), result}], string(kind), result)
		}
	}
	for _, how := range []proto.ConnState{proto.ConnWill, proto.ConnBye} {
		count(descLeaves, c.leaves[how.String()], how.String())
	}
	count(descBirths, c.births)
	for i, result := range []string{"failed", "ok"} {
		count(descProbes, c.probes[i], result)
		count(descMirrors, c.mirrors[i], result)
	}
	count(descRows, c.rows)
	ch <- prometheus.MustNewConstSummary(descFlush, c.flushes, c.flushSum.Seconds(), nil)
}
