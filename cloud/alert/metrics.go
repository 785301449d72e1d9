package alert

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
)

// counters are what Collect reads: a scrape asks nobody.
type counters struct {
	detect, tell prometheus.Histogram

	mu       sync.Mutex
	outcomes map[[2]string]uint64 // of attempts, by channel
	open     map[string]int       // incidents by kind
	waiting  map[[2]string]int    // messages by channel and state
	beatAt   time.Time
	beats    [2]uint64 // failed, ok
}

func newCounters() *counters {
	seconds := []float64{1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300}
	return &counters{
		detect: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "holdfast_alert_time_to_detect_seconds", Buckets: seconds,
			Help: "From the last thing heard of a facility until it was known to be offline.",
		}),
		tell: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "holdfast_alert_time_to_tell_seconds", Buckets: seconds,
			Help: "From the last thing heard of a facility until a provider had taken the first message; without outages during announced work.",
		}),
		outcomes: make(map[[2]string]uint64),
	}
}

func (c *counters) opened(s subject, since time.Time) {
	if s.Kind == detect.Offline && !since.IsZero() {
		c.detect.Observe(s.OpenedAt.Sub(since).Seconds())
	}
}

func (c *counters) delivered(k channel.Kind, o outcome, j job, first bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.attempt != "" {
		c.outcomes[[2]string{string(k), o.attempt}]++
	}
	if first {
		c.tell.Observe(now.Sub(j.Since).Seconds())
	}
}

func (c *counters) beat(ok bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beats[index(ok)]++
	if ok {
		c.beatAt = now
	}
}

func index(ok bool) int {
	if ok {
		return 1
	}
	return 0
}

const (
	sqlCountOpen = `SELECT kind, count(*)::int FROM holdfast.incident WHERE resolved_at IS NULL GROUP BY kind`
	// What was tried and waits for its next attempt is not due: an address that
	// does not answer is no fault of the region.
	sqlCountWaiting = `
SELECT channel, CASE WHEN state = 'pending' AND not_before > $1 THEN 'later' ELSE state END, count(*)::int
FROM holdfast.delivery WHERE state IN ('pending', 'held', 'leased') GROUP BY 1, 2`
)

// count reads what the metrics say of the tables.
func (a *Alerter) count(ctx context.Context) error {
	open, waiting := make(map[string]int), make(map[[2]string]int)
	var k, state string
	var n int
	rows, err := a.db.Query(ctx, sqlCountOpen)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&k, &n}, func() error { open[k] = n; return nil })
	}
	if err != nil {
		return fmt.Errorf("count incidents: %w", err)
	}
	if rows, err = a.db.Query(ctx, sqlCountWaiting, a.moment()); err == nil {
		_, err = pgx.ForEachRow(rows, []any{&k, &state, &n}, func() error { waiting[[2]string{k, state}] = n; return nil })
	}
	if err != nil {
		return fmt.Errorf("count messages: %w", err)
	}
	a.counts.mu.Lock()
	defer a.counts.mu.Unlock()
	a.counts.open, a.counts.waiting = open, waiting
	return nil
}

var (
	descOpen     = prometheus.NewDesc("holdfast_alert_incidents", "Open incidents by kind.", []string{"kind"}, nil)
	descWaiting  = prometheus.NewDesc("holdfast_alert_deliveries", "Messages that are due (pending), wait for their next attempt (later), are held or are on their way (leased), by channel and state.", []string{"channel", "state"}, nil)
	descAttempts = prometheus.NewDesc("holdfast_alert_attempts_total", "Attempts to hand a message to a provider, by channel and outcome.", []string{"channel", "outcome"}, nil)
	descLeader   = prometheus.NewDesc("holdfast_alert_leader", "1 while this process decides on incidents.", nil, nil)
	descBreaker  = prometheus.NewDesc("holdfast_alert_channel_broken", "1 while a channel's provider fails and messages are held; not for single hosts of webhooks and Teams.", []string{"channel"}, nil)
	descReady    = prometheus.NewDesc("holdfast_alert_channel_ready", "1 when a channel is set up.", []string{"channel"}, nil)
	descProblems = prometheus.NewDesc("holdfast_alert_audit_problems", "What the auditor found wrong with the alerter at its last look.", nil, nil)
	descBeats    = prometheus.NewDesc("holdfast_alert_deadman_fetches_total", "Fetches of the dead man's switch, by result; absent when none is set up.", []string{"result"}, nil)
	descBeatAt   = prometheus.NewDesc("holdfast_alert_deadman_answered_timestamp_seconds", "When the dead man's switch last answered; absent before.", nil, nil)
)

// kinds are there in the metrics whether there is an incident or not, so that an
// alarm has something to compare with.
var kinds = []detect.Kind{
	detect.Offline, detect.TunnelDown, detect.TelemetryDown, detect.Unstable, detect.QueueFilling, detect.DiskFilling, detect.DatabaseDown,
	detect.NoProgress, detect.ClockOff, detect.WatchdogOff, detect.Certificate, detect.ParkedRows, detect.Mismatch, detect.Temperature,
	detect.Blind, detect.Outage, detect.Alerting, detect.Drill,
}

// Describe implements prometheus.Collector.
func (*Alerter) Describe(ch chan<- *prometheus.Desc) {
	none := newCounters()
	none.detect.Describe(ch)
	none.tell.Describe(ch)
	for _, d := range []*prometheus.Desc{
		descOpen, descWaiting, descAttempts, descLeader, descBreaker, descReady, descProblems, descBeats, descBeatAt,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (a *Alerter) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(descLeader, float64(index(a.Leading())))
	a.mu.Lock()
	problems := len(a.report.problems)
	a.mu.Unlock()
	gauge(descProblems, float64(problems))

	c := a.counts
	c.detect.Collect(ch)
	c.tell.Collect(ch)
	c.mu.Lock()
	open, waiting, outcomes := maps.Clone(c.open), maps.Clone(c.waiting), maps.Clone(c.outcomes)
	beats, beatAt := c.beats, c.beatAt
	c.mu.Unlock()
	for _, k := range kinds {
		gauge(descOpen, float64(open[string(k)]), string(k))
	}
	for _, k := range channels {
		d := a.deliverers[k]
		broken, _ := d.broken()
		gauge(descBreaker, float64(index(broken)), string(k))
		gauge(descReady, float64(index(d.sender != nil)), string(k))
		for _, state := range []string{"pending", "later", "held", "leased"} {
			gauge(descWaiting, float64(waiting[[2]string{string(k), state}]), string(k), state)
		}
		for _, how := range []string{"accepted", "retry", "unknown", "failed"} {
			count(descAttempts, outcomes[[2]string{string(k), how}], string(k), how)
		}
	}
	if a.c.DeadMan == "" {
		return
	}
	for i, result := range []string{"failed", "ok"} {
		count(descBeats, beats[i], result)
	}
	if !beatAt.IsZero() {
		gauge(descBeatAt, float64(beatAt.UnixMilli())/1000)
	}
}
