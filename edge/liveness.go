package edge

import (
	"cmp"
	"log/slog"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/edge/localui"
	"github.com/agogsaas/holdfast/edge/postgres"
	"github.com/agogsaas/holdfast/edge/uplink"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/internal/progress"
	"github.com/agogsaas/holdfast/internal/queue"
	"github.com/agogsaas/holdfast/proto"
)

// tunnelFresh is how old a handshake may be while the tunnel carries something:
// WireGuard makes one every two minutes.
const tunnelFresh = 3 * time.Minute

// tunnelQuiet is how long nothing may come through it while something is under way:
// that is asked for again, and answered, within seconds.
const tunnelQuiet = 20 * time.Second

// counted is what the watcher sees: what PostgreSQL says of the slot, what the
// queue holds, what the tunnel and the region's acknowledgements say. What capture
// and uplink say of how they are is left out on purpose.
type counted struct {
	pg     postgres.Facts
	queue  queue.Stats
	acked  change.Position
	sent   uplink.Sent
	tunnel bool // it works
	tables []proto.TableState
	pace   uint64 // bytes per second that may be sent; 0: no limit
}

// samples are the stages that a box can see.
func (c counted) samples() map[progress.Stage]progress.Sample {
	out := make(map[progress.Stage]progress.Sample)
	tail := change.Position{Epoch: c.queue.Epoch, Seq: c.queue.Last}
	for _, s := range c.pg.Slots {
		if s.Name != uplink.Slot || c.pg.State != pgcluster.Up {
			continue
		}
		// A transaction that comes in many frames moves only what is on disk.
		out[progress.Capture] = progress.Sample{
			Work: uint64(max(0, s.UnconfirmedBytes)),
			Done: progress.Mark{uint64(s.ConfirmedLSN), tail.Epoch, tail.Seq, uint64(c.queue.DiskBytes)},
		}
	}
	if c.tunnel {
		s := progress.Sample{
			Work: uint64(max(0, c.queue.Transactions)),
			Done: progress.Mark{c.acked.Epoch, c.acked.Seq, c.sent.Furthest.Seq, uint64(c.sent.Part)},
		}
		out[progress.Acknowledge] = s
		if !c.acked.Before(c.sent.Position) { // nothing is on its way
			out[progress.Transfer] = s
		}
	}
	var load progress.Sample
	for _, t := range c.tables {
		if t.State == proto.TableLoading {
			load.Work++
		}
		load.Done[0] += t.RowsLoaded
	}
	load.Done[1] = load.Work
	out[progress.Load] = load
	return out
}

// liveness watches the stages and the queue's level.
type liveness struct {
	log *slog.Logger

	mu     sync.Mutex
	watch  progress.Watch
	fill   progress.Fill
	stalls []progress.Stall

	received uint64    // bytes through the tunnel
	came     time.Time // when they last became more
}

// look takes in what is there now; a change is said once.
func (l *liveness) look(now time.Time, c counted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fill.Look(now, c.queue.Bytes)
	if l.watch.Other == nil {
		l.watch.Other = make(map[progress.Stage]time.Duration)
	}
	for _, s := range []progress.Stage{progress.Transfer, progress.Acknowledge} {
		l.watch.Other[s] = cmp.Or(l.watch.After, progress.Default) + progress.Paced(c.pace)
	}
	was := l.stalls
	l.stalls = l.watch.Look(now, c.samples())
	for _, s := range l.stalls {
		if !stalled(was, s.Stage) {
			l.log.Warn("no progress", "part", string(s.Stage), "reason", s.Stage.Text(s.Work), "took", now.Sub(s.Since).Round(time.Second))
		}
	}
	for _, s := range was {
		if !stalled(l.stalls, s.Stage) {
			l.log.Info("there is progress again, or nothing left to do", "part", string(s.Stage), "took", now.Sub(s.Since).Round(time.Second))
		}
	}
}

func stalled(list []progress.Stall, stage progress.Stage) bool {
	for _, s := range list {
		if s.Stage == stage {
			return true
		}
	}
	return false
}

func (l *liveness) now() []progress.Stall {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stalls
}

func (l *liveness) forecast(room int64) (progress.Forecast, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fill.Forecast(room)
}

// count collects what the watcher sees.
func (f *facts) count() counted {
	c := counted{pg: f.pg(), queue: f.queue.Stats(), acked: f.queue.Acked(), sent: f.up.Sent(), tables: f.up.TableStates(), pace: f.up.LinkState().BytesPerSecond}
	if peers, err := f.tun.Stats(); err == nil && len(peers) > 0 {
		now, h := time.Now(), peers[0].LastHandshake
		c.tunnel = f.live.carries(now, peers[0].RxBytes) && !h.IsZero() && now.Sub(h) < tunnelFresh
	}
	return c
}

// carries reports whether something has come through the tunnel lately. A handshake
// says so for minutes after the cable was cut, and a stall would be told as soon
// as it is back.
func (l *liveness) carries(now time.Time, received uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if received != l.received || l.came.IsZero() {
		l.received, l.came = received, now
	}
	return now.Sub(l.came) < tunnelQuiet
}

// room is how many more bytes the queue may take: up to its limit, or what its
// disk has left.
func (f *facts) room() (bytes int64, limited bool) {
	s := f.queue.Stats()
	bytes, limited = s.LimitBytes-s.Bytes, s.LimitBytes > 0
	if free := f.box().DiskFree; free > 0 && (!limited || free < bytes) {
		bytes, limited = free, true
	}
	return bytes, limited
}

func (f *facts) forecast() (progress.Forecast, bool) {
	room, limited := f.room()
	if !limited {
		return progress.Forecast{}, false
	}
	return f.live.forecast(room)
}

// protoStalls are the stalls as the status document has them.
func (f *facts) protoStalls() []proto.Stall {
	var list []proto.Stall
	for _, s := range f.live.now() {
		list = append(list, proto.Stall{Stage: string(s.Stage), Seconds: uint64(max(0, time.Since(s.Since)) / time.Second), Work: s.Work})
	}
	return list
}

// localStalls are the same for the facility's own page.
func (f *facts) localStalls() []localui.Stall {
	var list []localui.Stall
	for _, s := range f.live.now() {
		list = append(list, localui.Stall{Text: s.Stage.Text(s.Work), Since: s.Since})
	}
	return list
}
