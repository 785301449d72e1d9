// Package parked shows people the changes that the region's database refused,
// or a facility's, and does what they decide about them: correct, discard, try again.
//
// In:  cloud/api and cloud/dashboard.
// Out: holdfast.parked; cloud/ingest, which has internal/apply try again; cloud/stream, for what waits at boxes;
// cloud/conflicts, for what people call a row.
package parked

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/conflicts"
	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/proto"
)

// Errors that a caller tells apart.
var (
	ErrNotFound = errors.New("there is no such parked change")
	// ErrEnded is for a change that does not wait any more.
	ErrEnded = errors.New("the change does not wait any more")
	// ErrBusy means that the facility's stream could not be held for the edit.
	ErrBusy = errors.New("a big transaction of the facility is being applied")
)

// InvalidError says what is wrong with an edit.
type InvalidError struct{ Column, Text, Remedy string }

func (e *InvalidError) Error() string { return fmt.Sprintf("column %q %s", e.Column, e.Text) }

// Apply is what applies the changes (cloud/ingest).
type Apply interface {
	// Blocker returns the row that has a parked change's unique value, or nil.
	Blocker(ctx context.Context, id int64) (*apply.Blocker, error)
	// RetryParked has what is parked of a facility tried at once.
	RetryParked(facility string)
}

// Room is what people may ask about parked changes.
type Room struct {
	store store
	apply Apply
	boxes Boxes

	outcomeWait time.Duration // a test waits longer

	mu        sync.Mutex
	waiting   int       // as of the last count; guarded by mu
	countedAt time.Time // guarded by mu
	// sent is the occasion on which a facility was sent a table again last, by both.
	sent map[string]int64 // guarded by mu
}

// OpenMax is where counting what waits ends, and openFor how long a count is shown.
const (
	OpenMax = 1000
	openFor = 2 * time.Second
)

// Open is how many changes wait, in the region and at boxes, as of a few seconds
// ago. It counts to OpenMax and no further.
func (r *Room) Open(ctx context.Context) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.countedAt) < openFor {
		return r.waiting, nil
	}
	n, err := r.store.open(ctx, OpenMax)
	if err == nil {
		r.waiting, r.countedAt = n, time.Now()
	}
	return n, err
}

// New returns a Room on the region's database. Without boxes nothing can be
// decided about what waits there.
func New(db *pgxpool.Pool, a Apply, boxes Boxes) *Room {
	return &Room{store: store{db}, apply: a, boxes: boxes, outcomeWait: outcomeWait, sent: map[string]int64{}}
}

// Filter selects parked changes; empty fields select all.
type Filter struct {
	Facility, Schema, Table, Reason, State string
	// Direction is up for what the region refuses, down for what a facility does.
	Direction string
	// Before is the id that the list begins under, zero for the newest.
	Before int64
	Limit  int
}

// List returns parked changes, newest first.
func (r *Room) List(ctx context.Context, f Filter) ([]v1.Parked, error) {
	rows, err := r.store.list(ctx, f)
	if err != nil {
		return nil, err
	}
	out := make([]v1.Parked, len(rows))
	for i := range rows {
		if out[i], err = rows[i].parked(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Waiting is how many changes of a facility wait, and which tables are passed over.
func (r *Room) Waiting(ctx context.Context, facility string) (int64, []v1.PassedOver, error) {
	return r.store.waiting(ctx, facility)
}

// AtBox is how many of the region's changes wait at the facility's box, as it
// said last.
func (r *Room) AtBox(ctx context.Context, facility string) (int64, error) {
	return r.store.atBox(ctx, facility)
}

// changer returns how a change is decided about: in the region's database, or at
// the box where it waits.
func (r *Room) changer(ctx context.Context, id int64, by string, o proto.ParkedOrder) (changer, error) {
	row, err := r.store.one(ctx, id)
	if err != nil {
		return nil, err
	}
	if row.Direction == "up" || row.BoxID == nil {
		return func(what string, fn func(tx pgx.Tx, r record) (map[string]any, error)) (record, error) {
			return r.store.change(ctx, id, by, what, fn)
		}, nil
	}
	o.Row, o.By = *row.BoxID, by
	var done *proto.ParkedDone
	tell := func(row record) (err error) {
		done, err = r.order(ctx, row.Facility, o)
		return err
	}
	return func(what string, fn func(tx pgx.Tx, r record) (map[string]any, error)) (record, error) {
		before, err := r.store.decide(ctx, id, by, what, tell, fn)
		if done != nil && done.TriedAt != 0 {
			before.boxTriedAt = time.UnixMicro(done.TriedAt)
		}
		return before, err
	}, nil
}

// again has what is parked in the region of a facility tried at once, after row was changed.
func (r *Room) again(row record) {
	r.mu.Lock()
	r.countedAt = time.Time{}
	r.mu.Unlock()
	if row.Direction == "up" {
		r.apply.RetryParked(row.Facility)
	}
}

// Show returns one change with the row that is in its way.
func (r *Room) Show(ctx context.Context, id int64) (v1.ParkedRow, error) {
	row, err := r.store.one(ctx, id)
	if err != nil {
		return v1.ParkedRow{}, err
	}
	var block *apply.Blocker
	if row.Direction == "up" && row.State == "waiting" && row.Reason == string(apply.ReasonUnique) {
		if block, err = r.apply.Blocker(ctx, id); err != nil {
			return v1.ParkedRow{}, fmt.Errorf("look for the row in the way: %w", err)
		}
	}
	return row.beside(block)
}

// Edit gives columns of a waiting change other values, has it tried at once, and says what came of it.
func (r *Room) Edit(ctx context.Context, id int64, set map[string]*string, by string) (v1.ParkedRow, error) {
	o := proto.ParkedOrder{Do: proto.ParkedEdit}
	for name, v := range set {
		o.Set = append(o.Set, proto.ParkedValue{Column: name, Value: v})
	}
	change, err := r.changer(ctx, id, by, o)
	if err != nil {
		return v1.ParkedRow{}, err
	}
	row, err := r.store.edit(ctx, id, set, by, change)
	if err != nil {
		return v1.ParkedRow{}, err
	}
	return r.outcome(ctx, row)
}

// Discard ends a waiting change without applying it. What waits behind it is
// next, and what refers to it does not wait for it any more.
func (r *Room) Discard(ctx context.Context, id int64, by string) error {
	change, err := r.changer(ctx, id, by, proto.ParkedOrder{Do: proto.ParkedDiscard})
	if err != nil {
		return err
	}
	row, err := r.store.discard(ctx, id, by, change)
	if err == nil {
		r.again(row)
	}
	return err
}

// Retry has a waiting change, and with it what waits of its facility, tried at once, and
// says what came of it.
func (r *Room) Retry(ctx context.Context, id int64, by string) (v1.ParkedRow, error) {
	change, err := r.changer(ctx, id, by, proto.ParkedOrder{Do: proto.ParkedRetry})
	if err != nil {
		return v1.ParkedRow{}, err
	}
	row, err := r.store.retry(change)
	if err != nil {
		return v1.ParkedRow{}, err
	}
	return r.outcome(ctx, row)
}

// outcomeWait is how long whoever decides waits for what comes of it, and
// outcomeEvery how often that is looked for.
const (
	outcomeWait  = 5 * time.Second
	outcomeEvery = 50 * time.Millisecond
)

// outcome has the change tried and says what came of it. before is the change as
// it was until then.
func (r *Room) outcome(ctx context.Context, before record) (v1.ParkedRow, error) {
	r.again(before)
	tick, enough := time.NewTicker(outcomeEvery), time.NewTimer(r.outcomeWait)
	defer tick.Stop()
	defer enough.Stop()
	for late := false; ; {
		now, err := r.store.one(ctx, before.ID)
		if err != nil {
			return v1.ParkedRow{}, err
		}
		outcome := ""
		switch {
		case now.State == "applied":
			outcome = v1.ParkedApplied
		case now.State != "waiting":
			outcome = v1.ParkedEnded
		case before.triedSince(now):
			outcome = v1.ParkedRefused
		case late || now.WaitsFor != nil && before.EditedBy == now.EditedBy:
			outcome = v1.ParkedWaits
		}
		if outcome != "" {
			row, err := r.Show(ctx, before.ID)
			row.Outcome = outcome
			return row, err
		}
		select {
		case <-ctx.Done():
			return v1.ParkedRow{}, ctx.Err()
		case <-enough.C:
			late = true
		case <-tick.C:
		}
	}
}

// RetryAll has everything that waits of a facility tried at once, or of all
// when none is named. It returns how many changes wait.
func (r *Room) RetryAll(ctx context.Context, facility, by string) (int64, error) {
	counts, err := r.store.retryAll(ctx, facility, by)
	if err != nil {
		return 0, err
	}
	var n int64
	for f, k := range counts {
		n += k
		r.apply.RetryParked(f)
	}
	atBoxes, err := r.store.boxesWithParked(ctx, facility)
	if err != nil {
		return n, err
	}
	for f, k := range atBoxes {
		_, err := r.order(ctx, f, proto.ParkedOrder{Do: proto.ParkedRetry, By: by})
		switch {
		case err == nil:
			n += k
		case facility != "":
			return n, err
		}
	}
	return n, nil
}

// parked is the row for people.
func (r *record) parked() (v1.Parked, error) {
	p := v1.Parked{
		ID: r.ID, Direction: r.Direction, Facility: r.Facility, Schema: r.Schema, Table: r.Table, Op: r.Op, Reason: r.Reason, Code: r.Code,
		Constraint: r.Constraint, Message: r.Message, Remedy: r.Remedy, State: r.State, Epoch: uint64(r.Epoch), Seq: uint64(r.Seq),
		CommitAt: r.CommitAt, ParkedAt: r.ParkedAt, Attempts: r.Attempts, TriedAt: r.TriedAt,
		EditedBy: r.EditedBy, EndedBy: r.EndedBy, EndedAt: r.EndedAt,
	}
	var err error
	if p.Key, err = values(r.Key); err != nil {
		return p, fmt.Errorf("key of parked change %d: %w", r.ID, err)
	}
	row := map[string]*string{}
	if r.Row != nil {
		if row, err = values(r.Row); err != nil {
			return p, fmt.Errorf("row of parked change %d: %w", r.ID, err)
		}
	}
	p.Label = conflicts.Label(p.Key, row)
	return p, nil
}

// column is one of the sender's columns as apply keeps them.
type column struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Key  bool   `json:"key"`
}

// beside puts the change and the row in its way side by side.
func (r *record) beside(block *apply.Blocker) (v1.ParkedRow, error) {
	p, err := r.parked()
	if err != nil {
		return v1.ParkedRow{}, err
	}
	out := v1.ParkedRow{Parked: p, Behind: r.Behind, Dependants: r.Dependants, Columns: []v1.ParkedColumn{}}
	if r.WaitsFor != nil {
		out.WaitsFor = *r.WaitsFor
	}
	row := map[string]*string{}
	if r.Row != nil {
		if row, err = values(r.Row); err != nil {
			return out, fmt.Errorf("row of parked change %d: %w", r.ID, err)
		}
	} else {
		maps.Copy(row, p.Key)
	}
	var columns []column
	if err := json.Unmarshal(r.Columns, &columns); err != nil {
		return out, fmt.Errorf("columns of parked change %d: %w", r.ID, err)
	}
	for _, c := range columns {
		one := v1.ParkedColumn{Name: c.Name, Type: c.Type, Key: c.Key}
		one.Value, one.Sent = row[c.Name], has(row, c.Name)
		out.Columns = append(out.Columns, one)
	}
	if block == nil {
		return out, nil
	}
	out.Blocking = block.Schema + "." + block.Table
	for i, name := range block.Columns {
		at := slices.IndexFunc(out.Columns, func(c v1.ParkedColumn) bool { return c.Name == name })
		if at < 0 {
			out.Columns = append(out.Columns, v1.ParkedColumn{Name: name, Blocking: block.Values[i]})
			continue
		}
		c := &out.Columns[at]
		c.Blocking = block.Values[i]
		c.Differs = c.Sent && !equal(c.Value, c.Blocking)
	}
	return out, nil
}

func has(row map[string]*string, name string) bool {
	_, ok := row[name]
	return ok
}

func equal(a, b *string) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }

// values reads {column: value} as apply keeps it. Bytes that are no text are
// shown as \x….
func values(raw []byte) (map[string]*string, error) {
	var kept map[string]json.RawMessage
	if err := json.Unmarshal(raw, &kept); err != nil {
		return nil, err
	}
	out := make(map[string]*string, len(kept))
	for name, v := range kept {
		var s *string
		if err := json.Unmarshal(v, &s); err == nil {
			out[name] = s
			continue
		}
		var h struct{ Hex string }
		if err := json.Unmarshal(v, &h); err != nil {
			return nil, err
		}
		if _, err := hex.DecodeString(h.Hex); err != nil {
			return nil, err
		}
		text := `\x` + h.Hex
		out[name] = &text
	}
	return out, nil
}
