package fleet

import (
	"context"
	"log/slog"
	"slices"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/progress"
	"github.com/agogsaas/holdfast/internal/run"
)

// stallEvery is how often the watcher looks.
const stallEvery = 6 * time.Second

// slowPace is the time between two heartbeats from which a link counts as one
// that is paid by the megabyte: things take longer there.
const slowPace = 30 * time.Second

// parkedPatience is how long parked changes may go without an attempt.
const parkedPatience = 5 * time.Minute

// Received is what a connected stream has brought: counters that move before
// anything is applied.
type Received struct {
	Position change.Position // last transaction, whole or in part
	Frames   uint64
}

// counted is what the region's database says of a facility's stream: the
// watcher asks it, not the rooms that do the work.
type counted struct {
	Facility                string
	Epoch, Seq              int64 // position
	Parked, ParkedTried     int64 // changes, and the last attempt at one of them
	LoadsDown, RowsSentDown int64
	ParkedAtBox, Differing  int64 // changes that the box refused, rows that differ
}

// samples are the stages that a region can see of a facility. The caller holds f.mu.
func (f *Fleet) samplesLocked(fac *facility, c counted) map[progress.Stage]progress.Sample {
	out := make(map[progress.Stage]progress.Sample)
	at := change.Position{Epoch: uint64(c.Epoch), Seq: uint64(c.Seq)}
	var got Received
	streaming := false
	if f.cfg.Received != nil {
		got, streaming = f.cfg.Received(fac.ID)
	}
	done := progress.Mark{at.Epoch, at.Seq}
	if streaming {
		apply := progress.Sample{Done: done}
		apply.Done[2] = got.Frames // a transaction that comes in many frames is applied as they come
		if at.Before(got.Position) {
			apply.Work = 1
			if at.Epoch == got.Position.Epoch {
				apply.Work = got.Position.Seq - at.Seq
			}
		}
		out[progress.Apply] = apply
		out[progress.Parked] = progress.Sample{Work: uint64(c.Parked), Done: progress.Mark{uint64(c.Parked), uint64(c.ParkedTried)}}
		out[progress.LoadDown] = progress.Sample{Work: uint64(c.LoadsDown), Done: progress.Mark{uint64(c.LoadsDown), uint64(c.RowsSentDown)}}
	}
	if fac.verdict.Heartbeat && fac.verdict.Tunnel {
		receive := progress.Sample{Work: fac.Beat.QueueTransactions, Done: done}
		receive.Done[2], receive.Done[3] = got.Position.Epoch, got.Position.Seq
		out[progress.Receive] = receive
	}
	if f.cfg.Down != nil {
		if waiting, mark, ok := f.cfg.Down(fac.ID); ok && streaming {
			out[progress.Deliver] = progress.Sample{Work: waiting, Done: mark}
		}
	}
	return out
}

// watching looks at all facilities' counters until ctx is done.
func (f *Fleet) watching(ctx context.Context) error {
	tick := time.NewTicker(stallEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		// While the database is away nothing is known, and nothing is said.
		err := run.Retry(ctx, f.log, run.Backoff{Min: time.Second, Max: 15 * time.Second}, func(ctx context.Context) error {
			list, err := f.store.counted(ctx)
			if err != nil {
				return err
			}
			if err := f.watchRoute(ctx); err != nil {
				return err
			}
			f.look(time.Now(), list)
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// look takes in the counters of a moment. A stall is said once when it begins
// and once when it ends.
func (f *Fleet) look(now time.Time, list []counted) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, c := range list {
		f.pauseLocked(i)
		fac := f.facilities[c.Facility]
		if fac == nil {
			continue
		}
		fac.watch.After = f.cfg.StalledAfter
		if time.Duration(fac.Beat.EverySeconds)*time.Second >= slowPace {
			fac.watch.After = max(fac.watch.After, progress.Metered)
		}
		if fac.watch.Other == nil {
			fac.watch.Other = map[progress.Stage]time.Duration{progress.Parked: max(f.cfg.StalledAfter, parkedPatience)}
		}
		if f.cfg.Pace != nil {
			patience := fac.watch.After + progress.Paced(f.cfg.Pace(fac.ID))
			fac.watch.Other[progress.Receive], fac.watch.Other[progress.Deliver] = patience, patience
		}
		was := fac.stalls
		fac.stalls = fac.watch.Look(now, f.samplesLocked(fac, c))
		logStalls(f.log.With("facility", fac.ID), now, was, fac.stalls)
		fac.Stalls = nil
		for _, s := range fac.ownStalls() {
			fac.Stalls = append(fac.Stalls, s.Text+".")
		}
		parked := c.Parked + c.ParkedAtBox
		if len(was) != len(fac.stalls) || parked != fac.Parked || c.Differing != fac.Differing {
			fac.Parked, fac.Differing = parked, c.Differing
			f.changedLocked(fac, false)
		}
	}
}

func logStalls(log *slog.Logger, now time.Time, was, is []progress.Stall) {
	for _, s := range is {
		if !stalled(was, s.Stage) {
			log.Warn("no progress", "part", string(s.Stage), "reason", s.Stage.Text(s.Work), "took", now.Sub(s.Since).Round(time.Second))
		}
	}
	for _, s := range was {
		if !stalled(is, s.Stage) {
			log.Info("there is progress again, or nothing left to do", "part", string(s.Stage), "took", now.Sub(s.Since).Round(time.Second))
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

func stallSeen(s progress.Stall) v1.Stall {
	return v1.Stall{Side: "region", Stage: string(s.Stage), Since: s.Since.Round(0), Work: int64(s.Work), Text: s.Stage.Text(s.Work)}
}

// stalled is what stands still of a facility's way: what the region sees, and
// what the box has told as long as it is heard.
func (fac *facility) stalled() []v1.Stall {
	return append(slices.Clone(fac.shared), fac.ownStalls()...)
}

// ownStalls leaves out what stands still for all facilities.
func (fac *facility) ownStalls() (list []v1.Stall) {
	for _, s := range fac.stalls {
		list = append(list, stallSeen(s))
	}
	if fac.Status == nil || !fac.verdict.Heartbeat {
		return list
	}
	for _, s := range fac.Status.Stalls {
		const century = 100 * 365 * 24 * 3600
		since := fac.StatusAt.Add(-time.Duration(min(s.Seconds, century)) * time.Second)
		list = append(list, v1.Stall{Side: "facility", Stage: s.Stage, Since: since.Round(0), Work: int64(s.Work), Text: progress.Stage(s.Stage).Text(s.Work)})
	}
	return list
}
