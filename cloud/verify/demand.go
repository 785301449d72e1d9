package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

// A pass that somebody waits for goes on in the next stream where one ends, but not
// without end.
const (
	backWithin = time.Minute
	brokenMost = 5 // streams, without a table done
)

// Errors of Start.
var (
	// ErrNotConnected: the facility has no stream.
	ErrNotConnected = hint.Wrap(errors.New("the facility is not connected"), "Its rows are compared when its stream is back; see holdfastctl sync status.")
	// ErrRunning: somebody asked for a pass that has not ended.
	ErrRunning = hint.Wrap(errors.New("a pass over this facility's tables is under way"), "Wait until it has ended.")
	// ErrNoTable: no such table is synced.
	ErrNoTable = hint.Wrap(errors.New("no such table is synced both ways or up"), "holdfastctl tables list shows the synced tables.")
)

// Start begins a pass that somebody asked for.
func (v *Verifier) Start(ctx context.Context, facility string, in v1.VerifyRequest, by string) (v1.VerifyRun, error) {
	tables, err := v.store.tables(ctx, facility, in.Schema, in.Table)
	if err != nil {
		return v1.VerifyRun{}, err
	}
	if len(tables) == 0 && in.Table != "" {
		return v1.VerifyRun{}, ErrNoTable
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	w := v.walkers[facility]
	if w == nil {
		return v1.VerifyRun{}, ErrNotConnected
	}
	if r := v.runs[facility]; r != nil && r.State == v1.VerifyRunning {
		return v1.VerifyRun{}, ErrRunning
	}
	r := &v1.VerifyRun{
		Facility: facility, State: v1.VerifyRunning, Repair: in.Repair, DryRun: in.DryRun,
		StartedAt: time.Now(), StartedBy: by, Tables: tables,
	}
	v.runs[facility] = r
	w.poke()
	return clone(r), nil
}

// Latest returns the newest pass that somebody asked for.
func (v *Verifier) Latest(facility string) (v1.VerifyRun, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.runs[facility]
	if r == nil {
		return v1.VerifyRun{}, false
	}
	return clone(r), true
}

func clone(r *v1.VerifyRun) v1.VerifyRun {
	c := *r
	c.Tables = slices.Clone(r.Tables)
	return c
}

// wanted reports whether a pass waits to be made.
func (v *Verifier) wanted(facility string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.runs[facility]
	return r != nil && r.State == v1.VerifyRunning
}

// fail ends a run that cannot go on; mu is held.
func (v *Verifier) fail(facility string, why error) {
	r := v.runs[facility]
	if r == nil || r.State != v1.VerifyRunning {
		return
	}
	now := time.Now()
	r.State, r.EndedAt, r.Problem = v1.VerifyFailed, &now, why.Error()
	for i := range r.Tables {
		if r.Tables[i].State == v1.VerifyRunning {
			r.Tables[i].State = v1.VerifyWaiting
		}
	}
}

// onDemand makes the pass that somebody asked for.
func (w *walker) onDemand(ctx context.Context) {
	w.v.mu.Lock()
	r := w.v.runs[w.facility]
	r.Problem = ""
	request := clone(r)
	w.v.mu.Unlock()
	for i := range request.Tables {
		if request.Tables[i].State != v1.VerifyWaiting {
			continue
		}
		set := func(f func(t *v1.VerifyTable)) {
			w.v.mu.Lock()
			defer w.v.mu.Unlock()
			f(&r.Tables[i])
		}
		err := w.demandTable(ctx, request, request.Tables[i], set)
		if ctx.Err() != nil {
			return // leave says so
		}
		if w.broken++; errors.Is(err, errGone) && w.broken < brokenMost {
			set(func(t *v1.VerifyTable) {
				*t = v1.VerifyTable{Schema: t.Schema, Table: t.Table, State: v1.VerifyWaiting}
				r.Problem = errGone.Error() + "; the comparison goes on when it is connected again"
			})
			return
		}
		w.broken = 0
		if err != nil {
			w.v.mu.Lock()
			defer w.v.mu.Unlock()
			w.v.fail(w.facility, err)
			return
		}
	}
	w.v.mu.Lock()
	defer w.v.mu.Unlock()
	now := time.Now()
	r.State, r.EndedAt = v1.VerifyDone, &now
}

// demandTable compares one table, and repairs it if that was asked for.
func (w *walker) demandTable(ctx context.Context, r v1.VerifyRun, t v1.VerifyTable, set func(func(t *v1.VerifyTable))) error {
	set(func(t *v1.VerifyTable) { t.State = v1.VerifyRunning })
	last := new(pass)
	walk := &walk{walker: w, schema: t.Schema, table: t.Table, now: true}
	walk.progress = func(p *pass) {
		last = p
		set(func(t *v1.VerifyTable) {
			t.RowsDone, t.Differing, t.More = p.rows, p.count, p.more
			if p.began {
				t.Position = p.at.String()
			}
		})
	}
	if err := walk.pass(ctx); err != nil {
		return err
	}
	if p := last.problem; p != nil {
		set(func(t *v1.VerifyTable) { t.State, t.Problem, t.Remedy = v1.VerifyFailed, p.Text, p.Remedy })
		return nil
	}
	parked, err := w.v.store.parked(ctx, w.facility, t.Schema, t.Table)
	if err != nil {
		return err
	}
	rows := walk.shown(last, parked)
	for i := range rows {
		if r.Repair {
			rows[i].Action = action(rows[i].Kind)
		}
	}
	state := v1.VerifyEqual
	if last.count > 0 {
		state = v1.VerifyDiffers
	}
	mended := int64(0)
	if r.Repair && !r.DryRun && last.count > 0 {
		if mended, err = walk.mend(ctx, last, parked); err != nil {
			return errors.New("repair " + walk.id() + ": " + err.Error()) // not to go on: what was repaired by then would not be told
		}
		if mended == last.count && !last.more {
			state = v1.VerifyRepaired
		}
	}
	set(func(t *v1.VerifyTable) { t.State, t.Rows, t.Repaired = state, rows, mended })
	return nil
}

// action says what a repair does about a row.
func action(kind string) string {
	switch kind {
	case "extra":
		return "deleted in the region"
	case "parked":
		return "none: it waits until the cause of its refusal is gone; see the parked rows"
	}
	return "written in the region as the facility has it"
}

// mend repairs what a pass has found, and returns how many rows are equal now.
func (w *walk) mend(ctx context.Context, p *pass, parked map[string]bool) (int64, error) {
	found := slices.DeleteFunc(slices.Clone(p.found), func(f finding) bool { return parked[flat(w.named(f.Key))] })
	left, err := w.repair(ctx, found)
	if err != nil {
		return 0, err
	}
	n := int64(len(found) - len(left))
	if err := w.v.store.repaired(ctx, w.facility, w.schema, w.table, p, n); err != nil {
		return n, err
	}
	w.v.Event(ctx, w.facility, "repaired", fmt.Sprintf("%s: %d of %d rows that differed are as the facility has them", w.id(), n, p.count))
	return n, nil
}
