package alert

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// lookForWork looks where announced work has begun or ended. What waits when it
// begins is not sent; what is still wrong when it ends is told then. It never resolves.
func (a *Alerter) lookForWork(ctx context.Context, now time.Time, open []subject, u unsure) error {
	var ids []int64
	differs := func(w window, s subject) bool {
		return w.ok != s.Maintenance && (w.ok || !u.has(s))
	}
	// First without a lock: nothing changes most of the time.
	err := pgx.BeginFunc(ctx, a.db, func(tx pgx.Tx) error {
		b := newBatch(now)
		for _, s := range open {
			w, err := a.windowOf(ctx, tx, b, s.Facility)
			if err != nil {
				return err
			}
			if differs(w, s) {
				ids = append(ids, s.ID)
			}
		}
		return nil
	})
	if err != nil || len(ids) == 0 {
		return err
	}
	return a.commit(ctx, now, func(ctx context.Context, tx pgx.Tx, b *batch) error {
		var began []int64
		var ended []subject
		list, err := lock(ctx, tx, ids)
		if err != nil {
			return err
		}
		for _, s := range list {
			w, err := a.windowOf(ctx, tx, b, s.Facility)
			if err != nil {
				return err
			}
			switch {
			case !differs(w, s):
			case w.ok:
				began = append(began, s.ID)
				b.hold(s.ID, w)
			default:
				ended = append(ended, s)
			}
		}
		if err := a.stop(ctx, tx, b, began); err != nil {
			return err
		}
		return a.afterWork(ctx, tx, b, ended)
	})
}

// stop keeps back what waits of incidents that have fallen into announced work.
func (a *Alerter) stop(ctx context.Context, tx pgx.Tx, b *batch, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	if err := write(ctx, tx, "cancel what waits", sqlCancel, ids, b.now, []string{"trigger"}, ""); err != nil {
		return err
	}
	return write(ctx, tx, "end the escalations", sqlEndTimers, ids, "")
}

// afterWork tells what is still wrong when announced work has ended.
func (a *Alerter) afterWork(ctx context.Context, tx pgx.Tx, b *batch, list []subject) error {
	if len(list) == 0 {
		return nil
	}
	ids := make([]int64, len(list))
	for i, s := range list {
		ids[i] = s.ID
	}
	if err := write(ctx, tx, "end the announced work", sqlLoud, ids); err != nil {
		return err
	}
	rounds, err := nextRounds(ctx, tx, ids)
	if err != nil {
		return err
	}
	for _, s := range list {
		b.note(s.ID, "noted", "", "the announced work has ended, and it is still so")
		if s.Acked {
			continue // somebody has it; he is reminded
		}
		if err := a.start(ctx, tx, b, s, rounds[s.ID], b.now, everybody); err != nil {
			return err
		}
	}
	return nil
}

// windowOf returns until when a facility is under announced work.
func (a *Alerter) windowOf(ctx context.Context, tx pgx.Tx, b *batch, facility string) (window, error) {
	if facility == "" {
		return window{}, nil
	}
	if w, ok := b.windows[facility]; ok {
		return w, nil
	}
	until, ok, err := a.c.Roster.Maintenance(ctx, tx, facility, b.now)
	if err != nil {
		return window{}, fmt.Errorf("ask for announced work at %s: %w", facility, err)
	}
	w := window{until, ok}
	b.windows[facility] = w
	return w, nil
}
