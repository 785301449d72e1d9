package edge

import (
	"context"
	"math"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/agogsaas/holdfast/edge/downlink"
	"github.com/agogsaas/holdfast/edge/heartbeat"
	"github.com/agogsaas/holdfast/edge/localui"
	"github.com/agogsaas/holdfast/edge/postgres"
	"github.com/agogsaas/holdfast/edge/uplink"
	"github.com/agogsaas/holdfast/internal/metrics"
	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/internal/progress"
	"github.com/agogsaas/holdfast/internal/queue"
	"github.com/agogsaas/holdfast/internal/tunnel"
	"github.com/agogsaas/holdfast/proto"
)

// facts turns what the rooms know of themselves into what the heartbeat, the
// pages and the metrics tell. It decides nothing.
type facts struct {
	db      *postgres.DB
	queue   *queue.Queue
	up      *uplink.Uplink
	down    *downlink.Downlink
	tun     *tunnel.Tunnel
	peer    tunnel.PublicKey
	started time.Time
	version string
	dir     string
	live    liveness

	mu       sync.Mutex
	postgres postgres.Facts
}

// run asks the database every few seconds, so that nobody else waits for it.
func (f *facts) run(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		now := f.db.Facts(ctx)
		f.mu.Lock()
		f.postgres = now
		f.mu.Unlock()
		f.live.look(time.Now(), f.count())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (f *facts) pg() postgres.Facts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.postgres
}

func (f *facts) heartbeat() heartbeat.Facts {
	return heartbeat.Facts{
		Queue:  f.protoQueue,
		Tunnel: f.protoTunnel,
		Faults: f.faults,
		Stalls: f.protoStalls,
		Database: func(context.Context) (heartbeat.DatabaseFacts, error) {
			p := f.pg()
			return heartbeat.DatabaseFacts{Version: p.Version, Database: proto.Database{
				State: string(p.State), WALRetainedBytes: uint64(max(p.WALRetainedBytes, 0)),
				Slot: p.Slot(uplink.Slot), SizeBytes: uint64(max(p.DatabaseBytes, 0)),
			}}, nil
		},
		Tables: func(context.Context) ([]proto.TableStatus, error) {
			var list []proto.TableStatus
			for _, t := range f.up.TableStates() {
				s := proto.TableStatus{Name: t.Schema + "." + t.Name, State: t.State}
				if len(t.Problems) > 0 {
					s.Problem = t.Problems[0].Text
				}
				list = append(list, s)
			}
			return list, nil
		},
	}
}

func (f *facts) protoQueue() proto.Queue {
	s, acked := f.queue.Stats(), f.queue.Acked()
	q := proto.Queue{
		Frames: uint64(s.Frames), Transactions: uint64(s.Transactions), Changes: uint64(s.Changes), Bytes: uint64(s.Bytes),
		LimitBytes: uint64(s.LimitBytes), Epoch: s.Epoch, LastSeq: s.Last, AckedEpoch: acked.Epoch, AckedSeq: acked.Seq,
	}
	if !s.OldestCommit.IsZero() {
		q.OldestSeconds = uint64(max(time.Since(s.OldestCommit), 0) / time.Second)
	}
	if full, ok := f.forecast(); ok {
		seconds := uint64(full.In / time.Second)
		q.FullSeconds, q.FillBytesPerSecond = &seconds, uint64(full.PerSecond)
	}
	return q
}

func (f *facts) protoTunnel() proto.Tunnel {
	t := proto.Tunnel{State: "down"}
	if f.up.LinkState().Up {
		t.State = "up"
	}
	peers, err := f.tun.Stats()
	if err != nil || len(peers) == 0 {
		return t
	}
	t.ReceivedBytes, t.SentBytes = peers[0].RxBytes, peers[0].TxBytes
	if h := peers[0].LastHandshake; !h.IsZero() {
		t.HandshakeSeconds = uint64(max(time.Since(h), time.Second) / time.Second)
	}
	return t
}

// nearFull is the share of its limit at which the queue is worth a word.
const nearFull = 0.8

func (f *facts) faults() []proto.FaultCode {
	var list []proto.FaultCode
	p, s, c := f.pg(), f.queue.Stats(), f.up.CaptureState()
	if p.State != pgcluster.Up && p.State != "" {
		list = append(list, proto.FaultDatabaseDown)
	}
	if slot := p.Slot(uplink.Slot); p.State == pgcluster.Up && (slot == "lost" || slot == "missing") {
		list = append(list, proto.FaultSlotMissing)
	}
	if !c.Running && c.Error != "" {
		list = append(list, proto.FaultCaptureStalled)
	}
	if d := f.down.State(); d.Running && d.Problem != nil || d.Parked > 0 {
		list = append(list, proto.FaultParked)
	}
	switch used := float64(s.Bytes) / float64(max(s.LimitBytes, 1)); {
	case used >= 1:
		list = append(list, proto.FaultQueueFull)
	case used >= nearFull:
		list = append(list, proto.FaultQueueNearFull)
	}
	if len(f.live.now()) > 0 {
		list = append(list, proto.FaultStalled)
	}
	if f.up.LeftOut() > 0 {
		list = append(list, proto.FaultLeftOut)
	}
	return list
}

func (f *facts) link() localui.Link {
	l := f.up.LinkState()
	out := localui.Link{Enrolled: true, Up: l.Up, Since: l.Since, LastSent: l.AckedAt, Problem: l.Error}
	if l.Up {
		out.Problem = ""
	}
	out.Replaced = l.Replaced
	if l.Problem != nil {
		out.Refused = true
		out.Problem = l.Problem.String()
	}
	d := f.down.State()
	out.Received, out.Parked, out.ParkedWhy = d.AppliedAt, d.Parked, d.ParkedWhy
	if d.Problem != nil && d.Running {
		out.Stuck = d.Problem.String()
	}
	return out
}

func (f *facts) localQueue() localui.Queue {
	s := f.queue.Stats()
	var left []string
	for _, p := range f.up.LeftOutProblems() {
		left = append(left, p.String())
	}
	q := localui.Queue{LeftOut: left, Changes: s.Changes, Bytes: s.Bytes, MaxBytes: s.LimitBytes, Oldest: s.OldestCommit}
	if c := f.up.CaptureState(); !c.Running && c.Error != "" && time.Since(c.Since) > 10*time.Second {
		q.Problem = c.Error
	}
	if full, ok := f.forecast(); ok {
		q.FullIn = max(full.In, time.Second)
	}
	return q
}

func (f *facts) database() localui.Database {
	s, p := f.db.Status(), f.pg()
	return localui.Database{Up: s.State == pgcluster.Up, Since: s.Since, Version: p.Version, Bytes: p.DatabaseBytes, Problem: s.Reason}
}

func (f *facts) box() localui.Box {
	b := localui.Box{Version: f.version, Started: f.started}
	var st syscall.Statfs_t
	if err := syscall.Statfs(f.dir, &st); err == nil {
		b.DiskFree, b.DiskTotal = int64(st.Bavail)*int64(st.Bsize), int64(st.Blocks)*int64(st.Bsize)
	}
	return b
}

// screen is the box as its own pages show it, with what it tells of its machine.
func (f *facts) screen(s proto.Status) localui.Box {
	b := f.box()
	b.Model = s.Versions.Hardware
	if s.MilliCelsius != nil {
		b.TempC = float64(*s.MilliCelsius) / 1000
	}
	if s.Watchdog != nil {
		b.Watchdog = s.Watchdog.String()
	}
	return b
}

// metrics serves what a plant's own monitoring may want, by Prometheus's
// naming rules.
func (f *facts) metrics() http.Handler {
	var all []prometheus.Collector
	gauge := func(name, help string, value func() float64) {
		all = append(all, metrics.Gauge(name, help, value, nil))
	}
	is := func(name, help string, value func() bool) {
		gauge(name, help, func() float64 { return metrics.Bool(value()) })
	}
	count := func(name, help string, value func() float64) { all = append(all, metrics.Counter(name, help, value)) }

	is("holdfast_link_up", "1 while the stream to the region is up.", func() bool { return f.up.LinkState().Up })
	is("holdfast_link_stuck", "1 while the region says that it cannot apply the changes.", func() bool { return f.up.LinkState().Problem != nil })
	count("holdfast_tunnel_received_bytes_total", "Bytes from the region through the tunnel, on the network.", func() float64 { return float64(f.protoTunnel().ReceivedBytes) })
	count("holdfast_tunnel_sent_bytes_total", "Bytes to the region through the tunnel, on the network.", func() float64 { return float64(f.protoTunnel().SentBytes) })

	is("holdfast_capture_up", "1 while changes are read from the WAL.", func() bool { return f.up.CaptureState().Running })
	gauge("holdfast_wal_retained_bytes", "WAL that a replication slot holds back.", func() float64 { return float64(f.pg().WALRetainedBytes) })
	gauge("holdfast_queue_changes", "Row changes that wait to be acknowledged.", func() float64 { return float64(f.queue.Stats().Changes) })
	gauge("holdfast_queue_bytes", "Bytes of frames that wait to be acknowledged.", func() float64 { return float64(f.queue.Stats().Bytes) })
	gauge("holdfast_queue_limit_bytes", "Bytes that may wait.", func() float64 { return float64(f.queue.Stats().LimitBytes) })
	gauge("holdfast_queue_disk_bytes", "Size of the queue's files.", func() float64 { return float64(f.queue.Stats().DiskBytes) })
	gauge("holdfast_queue_oldest_age_seconds", "Age of the oldest change that waits; 0 when none does.", func() float64 {
		if o := f.queue.Stats().OldestCommit; !o.IsZero() {
			return max(time.Since(o), 0).Seconds()
		}
		return 0
	})
	gauge("holdfast_queue_full_seconds", "Time until the queue is full at the rate at which it fills; +Inf when that is not to be expected.", func() float64 {
		if full, ok := f.forecast(); ok {
			return full.In.Seconds()
		}
		return math.Inf(1)
	})
	gauge("holdfast_left_out_rows", "Rows, and tables without a key, whose changes cannot be sent and were left out since the table was last sent.", func() float64 { return float64(f.up.LeftOut()) })

	is("holdfast_down_up", "1 while changes from the region are applied.", func() bool { return f.down.State().Running })
	is("holdfast_down_stuck", "1 while a change from the region cannot be applied.", func() bool { return f.down.State().Problem != nil })
	gauge("holdfast_down_parked_changes", "Changes from the region that the local database refuses, and what waits behind them.", func() float64 { return float64(f.down.State().Parked) })
	gauge("holdfast_down_seq", "Last of the region's transactions that is on this box's disk.", func() float64 { return float64(f.down.State().Position.Seq) })

	for _, stage := range []progress.Stage{progress.Capture, progress.Transfer, progress.Acknowledge, progress.Load} {
		all = append(all, metrics.Gauge("holdfast_stalled", "1 while a stage has work and makes no progress.",
			func() float64 { return metrics.Bool(stalled(f.live.now(), stage)) }, prometheus.Labels{"stage": string(stage)}))
	}
	gauge("holdfast_disk_free_bytes", "Free space on the disk of the state directory.", func() float64 { return float64(f.box().DiskFree) })
	gauge("holdfast_disk_size_bytes", "Size of the disk of the state directory.", func() float64 { return float64(f.box().DiskTotal) })
	all = append(all, metrics.DatabaseUp(func() bool { return f.db.Ready() == nil }))
	return metrics.Handler(f.version, all...)
}
