package parked

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/proto"
)

// What waits at the boxes is kept here as they tell it, to be shown beside what
// waits in the region. What is decided about it is done at the box, and only
// then written down here.

// Boxes passes decisions on (cloud/stream).
type Boxes interface {
	OrderParked(ctx context.Context, facility string, o *proto.ParkedOrder) (*proto.ParkedDone, error)
}

// RefusedError says why a box did not do what was decided.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return e.Err.Error() }
func (e *RefusedError) Unwrap() error { return e.Err }

var errNoBoxes = hint.Wrap(errors.New("the boxes cannot be reached now"), "Try again in a moment.")

func (r *Room) order(ctx context.Context, facility string, o proto.ParkedOrder) (*proto.ParkedDone, error) {
	if r.boxes == nil {
		return nil, &RefusedError{errNoBoxes}
	}
	done, err := r.boxes.OrderParked(ctx, facility, &o)
	if err != nil {
		return nil, &RefusedError{err}
	}
	return done, nil
}

// Told keeps what a box says is parked there, and has the tables sent to it again that it
// asks for: first, so that what was asked for is not forgotten when that fails.
func (r *Room) Told(ctx context.Context, facility string, p *proto.Parked, resync func(ctx context.Context, table string) error) error {
	before, err := r.store.asked(ctx, facility)
	if err != nil {
		return err
	}
	for i := range p.PassedOver {
		t := &p.PassedOver[i]
		id := t.Schema + "." + t.Name
		if !t.Again && (t.Asked == 0 || t.Asked == before[id] || r.hasSent(facility, id, t.Asked, false)) {
			continue
		}
		if err := resync(ctx, id); err != nil {
			return fmt.Errorf("send %s to %s again: %w", id, facility, err)
		}
		r.hasSent(facility, id, t.Asked, true)
	}
	return r.store.told(ctx, facility, p)
}

// hasSent reports whether a table was sent again on that occasion, or notes that it was:
// what cannot be kept is tried again, and must not begin the load anew each time.
func (r *Room) hasSent(facility, table string, asked int64, note bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := facility + " " + table
	if note {
		r.sent[at] = asked
	}
	return r.sent[at] == asked
}

// asked is when a facility asked last for tables that are passed over there, as its box
// tells it.
func (s store) asked(ctx context.Context, facility string) (map[string]int64, error) {
	rows, err := s.db.Query(ctx, `SELECT schema_name || '.' || table_name, (extract(epoch FROM asked_at) * 1000000)::bigint
		FROM holdfast.parked_table WHERE facility = $1 AND direction = 'down' AND asked_at IS NOT NULL`, facility)
	if err != nil {
		return nil, fmt.Errorf("read what %s asked for: %w", facility, err)
	}
	all, id, at := map[string]int64{}, "", int64(0)
	if _, err := pgx.ForEachRow(rows, []any{&id, &at}, func() error { all[id] = at; return nil }); err != nil {
		return nil, fmt.Errorf("read what %s asked for: %w", facility, err)
	}
	return all, nil
}

const (
	// A number that means another change belongs to a box that was replaced.
	otherBoxSQL = `DELETE FROM holdfast.parked WHERE facility = $1 AND direction = 'down' AND box_id = $2 AND (epoch, seq, schema_name, table_name, parked_at)
  IS DISTINCT FROM ($3::bigint, $4::bigint, $5::text, $6::text, 'epoch'::timestamptz + $7::bigint * interval '1 microsecond')`
	toldSQL = `INSERT INTO holdfast.parked AS p (facility, direction, box_id, epoch, seq, schema_name, table_name, key, key_hash, op, row, columns, bytes,
  commit_at, reason, code, constraint_name, message, remedy, parked_at, attempts, tried_at, edited_by, state, ended_by, ended_at)
VALUES ($1, 'down', $2, $3, $4, $5, $6, $8::jsonb, decode(md5($5 || '.' || $6 || ' ' || $8::jsonb::text), 'hex'), $9, nullif($10, '')::jsonb, $11::jsonb, octet_length($10),
  'epoch'::timestamptz + nullif($12::bigint, 0) * interval '1 microsecond', $13, $14, $15, $16, $17, 'epoch'::timestamptz + $7::bigint * interval '1 microsecond', $18,
  'epoch'::timestamptz + nullif($19::bigint, 0) * interval '1 microsecond', $20, $21, $22, 'epoch'::timestamptz + nullif($23::bigint, 0) * interval '1 microsecond')
ON CONFLICT (facility, box_id) WHERE direction = 'down' DO UPDATE SET op = EXCLUDED.op, key = EXCLUDED.key, key_hash = EXCLUDED.key_hash, row = EXCLUDED.row, reason = EXCLUDED.reason, code = EXCLUDED.code,
  constraint_name = EXCLUDED.constraint_name, message = EXCLUDED.message, remedy = EXCLUDED.remedy, attempts = EXCLUDED.attempts, tried_at = EXCLUDED.tried_at,
  edited_by = EXCLUDED.edited_by, state = EXCLUDED.state, ended_by = EXCLUDED.ended_by, ended_at = EXCLUDED.ended_at`
	// What waited and is not told any more has ended, unless it is beyond the list.
	untoldSQL = `UPDATE holdfast.parked SET state = 'replaced', ended_at = now() WHERE facility = $1 AND direction = 'down' AND state = 'waiting'
  AND NOT box_id = ANY ($2::bigint[]) AND box_id >= $3::bigint`
)

func (s store) told(ctx context.Context, facility string, p *proto.Parked) error {
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		ids, least := []int64{}, int64(0)
		waiting := uint64(0)
		for i := range p.Rows[:min(len(p.Rows), 2*proto.ParkedMaxRows)] {
			r := &p.Rows[i]
			b.Queue(otherBoxSQL, facility, r.ID, int64(r.Epoch), int64(r.Seq), r.Schema, r.Name, r.ParkedAt)
			b.Queue(toldSQL, facility, r.ID, int64(r.Epoch), int64(r.Seq), r.Schema, r.Name, r.ParkedAt, r.Key, r.Op, r.Row, r.Columns,
				r.CommitAt, r.Reason, r.Code, r.Constraint, cut(r.Message), cut(r.Remedy), int64(r.Attempts), r.TriedAt, r.EditedBy, r.State, r.EndedBy, r.EndedAt)
			ids = append(ids, r.ID)
			if r.State == "waiting" {
				waiting++
				least = r.ID // newest first
			}
		}
		if waiting == p.Waiting {
			least = 0 // all are listed
		}
		b.Queue(untoldSQL, facility, ids, least)
		b.Queue(`INSERT INTO holdfast.parked_at_box (facility, waiting) VALUES ($1, $2)
			ON CONFLICT (facility) DO UPDATE SET waiting = EXCLUDED.waiting, told_at = now()`, facility, int64(p.Waiting))
		b.Queue(`DELETE FROM holdfast.parked_table WHERE facility = $1 AND direction = 'down'`, facility)
		for i := range p.PassedOver {
			t := &p.PassedOver[i]
			b.Queue(`INSERT INTO holdfast.parked_table (facility, direction, schema_name, table_name, reason, message, remedy, since, passed_over, columns, asked_at)
				VALUES ($1, 'down', $2, $3, $4, $5, $6, 'epoch'::timestamptz + $7::bigint * interval '1 microsecond', $8, '[]', 'epoch'::timestamptz + nullif($9::bigint, 0) * interval '1 microsecond')
				ON CONFLICT DO NOTHING`, facility, t.Schema, t.Name, t.Reason, cut(t.Message), cut(t.Remedy), t.Since, int64(t.Changes), t.Asked)
		}
		return tx.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return fmt.Errorf("keep what is parked at %s: %w", facility, err)
	}
	return nil
}

// cut bounds words that came from a box.
func cut(s string) string { return strings.ToValidUTF8(s[:min(len(s), 4000)], "") }

// decide is change for what waits at a box: fn says how it will be written down
// here, and the box is told before that counts.
func (s store) decide(ctx context.Context, id int64, by, what string, tell func(r record) error, fn func(tx pgx.Tx, r record) (map[string]any, error)) (record, error) {
	return s.inTx(ctx, id, by, what, `SELECT FROM holdfast.parked WHERE id = $1 FOR UPDATE`, func(tx pgx.Tx, r record) (map[string]any, error) {
		detail, err := fn(tx, r)
		if err != nil {
			return nil, err
		}
		return detail, tell(r)
	})
}
