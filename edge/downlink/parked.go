package downlink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/proto"
)

// What the local database refuses of the region's changes is parked by
// internal/apply. Here it is told to the region, and what people in the region
// decide is done.

// heldMost is how many bytes of the queue are kept for parked changes.
const heldMost = 512 << 20

// hold keeps the queue from where on it may still be asked for: what comes down
// next, and what is parked.
func (d *Downlink) hold(seen change.Position) {
	d.mu.Lock()
	d.seen = seen
	from := d.holdLocked()
	d.mu.Unlock()
	d.cfg.Hold(from)
}

func (d *Downlink) holdLocked() change.Position {
	if d.state.Parked > 0 && d.parkedSeen.Before(d.seen) && (d.cfg.Held == nil || d.cfg.Held() < heldMost) {
		return d.parkedSeen
	}
	return d.seen
}

// parked notes that changes were parked just now. What they are decided by is
// not before what was held.
func (d *Downlink) parked(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state.Parked == 0 {
		d.parkedSeen = d.seen
	}
	d.state.Parked += int64(n)
	notify(d.news)
}

// looked takes what was found to wait.
func (d *Downlink) looked(_ string, waiting int64, seen change.Position) {
	d.mu.Lock()
	d.state.Parked, d.parkedSeen = waiting, seen
	if waiting == 0 {
		d.state.ParkedWhy = ""
	}
	held := d.seen != change.Position{}
	from := d.holdLocked()
	d.mu.Unlock()
	if held {
		d.cfg.Hold(from)
	}
	notify(d.news)
}

// askAgain has the region asked for a table: the next word about what is parked says
// that it was asked for.
func (d *Downlink) askAgain(_, _, _ string) bool {
	notify(d.news)
	return true
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// reportEvery is the shortest time between two reports, and reportTimeout how
// long the local database has to answer.
const (
	reportEvery   = time.Second
	reportTimeout = 10 * time.Second
)

// Report tells what is parked, now and whenever that may have changed, until ctx
// is done. What has been told before is not told again.
func (s *Session) Report(ctx context.Context, send func(*proto.Parked) error) error {
	d := s.down
	var told string
	for {
		p, err := d.readParked(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			d.log.Debug("what is parked cannot be told to the region now", "err", err)
			notify(d.news)
		default:
			d.why(p)
			if now := fmt.Sprintf("%+v", *p); now != told {
				if err := send(p); err != nil {
					return err
				}
				told = now
			}
		}
		if err := d.wait(ctx, nil, reportEvery); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.news:
		}
	}
}

// why keeps a reason for the box's own page.
func (d *Downlink) why(p *proto.Parked) {
	text := ""
	for i := range p.Rows { // newest first; what waits behind another says nothing
		if r := &p.Rows[i]; r.State == "waiting" && (text == "" || r.Reason != "behind" && r.Reason != "parent") {
			text = r.Schema + "." + r.Name + ": " + r.Message
		}
	}
	if len(p.PassedOver) > 0 && text == "" {
		text = p.PassedOver[0].Message
	}
	d.set(func(st *State) { st.ParkedWhy = text })
}

const reportSQL = `SELECT id, schema_name, table_name, op, key::text, CASE WHEN bytes <= $2 THEN coalesce(row::text, '') ELSE '' END,
  columns::text, epoch, seq, reason, code, constraint_name, message, remedy, state,
  coalesce(extract(epoch FROM commit_at) * 1000000, 0)::bigint, (extract(epoch FROM parked_at) * 1000000)::bigint, attempts,
  coalesce(extract(epoch FROM tried_at) * 1000000, 0)::bigint, edited_by, ended_by, coalesce(extract(epoch FROM ended_at) * 1000000, 0)::bigint
FROM ((SELECT * FROM holdfast.parked WHERE facility = $1 AND direction = 'down' AND state = 'waiting' ORDER BY id DESC LIMIT $3)
  UNION ALL (SELECT * FROM holdfast.parked WHERE facility = $1 AND direction = 'down' AND state <> 'waiting' ORDER BY ended_at DESC LIMIT $4)) p
ORDER BY state <> 'waiting', id DESC`

// endedMost is how many changes that have ended are told.
const endedMost = 50

func (d *Downlink) readParked(ctx context.Context) (*proto.Parked, error) {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	p := &proto.Parked{Rows: []proto.ParkedRow{}}
	err := pgx.BeginTxFunc(ctx, d.cfg.DB, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT count(*) FROM holdfast.parked WHERE facility = $1 AND direction = 'down' AND state = 'waiting'`, d.cfg.Facility).Scan(&p.Waiting)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, reportSQL, d.cfg.Facility, proto.ParkedMaxRowBytes, proto.ParkedMaxRows, endedMost)
		if err != nil {
			return err
		}
		if p.Rows, err = pgx.CollectRows(rows, pgx.RowToStructByPos[proto.ParkedRow]); err != nil {
			return err
		}
		rows, err = tx.Query(ctx, `SELECT schema_name, table_name, reason, message, remedy, passed_over, (extract(epoch FROM since) * 1000000)::bigint, false,
			coalesce(extract(epoch FROM asked_at) * 1000000, 0)::bigint
			FROM holdfast.parked_table WHERE facility = $1 AND direction = 'down' AND (reason <> 'row_missing' OR asked_at IS NOT NULL) ORDER BY 1, 2`, d.cfg.Facility)
		if err != nil {
			return err
		}
		p.PassedOver, err = pgx.CollectRows(rows, pgx.RowToStructByPos[proto.ParkedTable])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what is parked: %w", err)
	}
	if d.cfg.Restored != nil {
		if restored, _ := d.cfg.Restored(); restored {
			for i := range p.PassedOver {
				p.PassedOver[i].Asked = 0 // all of them are on their way
			}
		}
	}
	return p, nil
}

// Order does what somebody in the region has decided, or says why not.
func (s *Session) Order(ctx context.Context, o *proto.ParkedOrder) *proto.ParkedDone {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	triedAt, err := s.down.order(ctx, o)
	if err != nil {
		return &proto.ParkedDone{ID: o.ID, Problem: problem(err)}
	}
	s.down.TryAgain()
	notify(s.down.news)
	return &proto.ParkedDone{ID: o.ID, TriedAt: triedAt}
}

// TryAgain has what is parked tried again at once: its cause may be gone.
func (d *Downlink) TryAgain() {
	d.mu.Lock()
	p := d.pool
	d.mu.Unlock()
	if p != nil {
		p.RetryNow(d.cfg.Facility)
	}
}

// WouldFit reports whether a table that was passed over would be taken if all of it came
// while this database waits for the region's rows; false where that cannot be told now.
func (d *Downlink) WouldFit(ctx context.Context, schema, name string) (bool, error) {
	d.mu.Lock()
	p := d.pool
	d.mu.Unlock()
	if p == nil {
		return false, nil
	}
	return p.WouldFit(ctx, d.cfg.Facility, d.cfg.Registry, schema, name)
}

var errEnded = hint.Wrap(errors.New("the change does not wait at the box any more"), "holdfastctl parked list shows what does.")

// order returns when the change that it is about was tried last, in microseconds of Unix
// time; 0 when it never was, or the order is about all.
func (d *Downlink) order(ctx context.Context, o *proto.ParkedOrder) (triedAt int64, err error) {
	sql, args, set := "", []any{o.Row, d.cfg.Facility}, map[string]*string{}
	for _, v := range o.Set {
		set[v.Column] = v.Value
	}
	switch o.Do {
	case proto.ParkedRetry: // which TryAgain does
		sql = `UPDATE holdfast.parked SET state = state WHERE ($1::bigint = 0 OR id = $1) AND facility = $2`
	case proto.ParkedDiscard:
		sql, args = `UPDATE holdfast.parked SET state = 'discarded', ended_by = $3, ended_at = now() WHERE id = $1 AND facility = $2`, append(args, o.By)
	case proto.ParkedEdit:
		if err := d.editable(ctx, o); err != nil {
			return 0, err
		}
		sql, args = `UPDATE holdfast.parked SET row = row || $4::jsonb, edited_by = $3 WHERE id = $1 AND facility = $2`, append(args, o.By, set)
	default:
		return 0, fmt.Errorf("this box does not know how to %s a parked change", o.Do)
	}
	err = pgx.BeginFunc(ctx, d.cfg.DB, func(tx pgx.Tx) error {
		// The stream is held: what is being tried meanwhile is tried as it was or
		// as it will be.
		if _, err := tx.Exec(ctx, `SELECT FROM holdfast.position WHERE facility = $1 FOR UPDATE`, d.cfg.Facility); err != nil {
			return fmt.Errorf("hold the stream: %w", err)
		}
		rows, err := tx.Query(ctx, sql+` AND direction = 'down' AND state = 'waiting' RETURNING coalesce(extract(epoch FROM tried_at) * 1000000, 0)::bigint`, args...)
		if err != nil {
			return fmt.Errorf("%s parked change %d: %w", o.Do, o.Row, err)
		}
		tried, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return fmt.Errorf("%s parked change %d: %w", o.Do, o.Row, err)
		}
		switch {
		case o.Row == 0:
		case len(tried) == 0:
			return errEnded
		default:
			triedAt = tried[0]
		}
		return nil
	})
	return triedAt, err
}

// editable refuses to correct what would differ for good.
func (d *Downlink) editable(ctx context.Context, o *proto.ParkedOrder) error {
	var schema, name string
	var hasRow bool
	var keys []string
	err := d.cfg.DB.QueryRow(ctx, `SELECT schema_name, table_name, row IS NOT NULL,
		ARRAY(SELECT c->>'name' FROM jsonb_array_elements(columns) c WHERE (c->>'key')::boolean) FROM holdfast.parked WHERE id = $1 AND state = 'waiting'`, o.Row).Scan(&schema, &name, &hasRow, &keys)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return errEnded
	case err != nil:
		return fmt.Errorf("read parked change %d: %w", o.Row, err)
	case !hasRow:
		return hint.Wrap(errors.New("the change deletes the row"), "Discard it if the row is to stay.")
	}
	for _, v := range o.Set {
		if column := v.Column; slices.Contains(keys, column) {
			return hint.Wrap(fmt.Errorf("column %q is of the key, which says which row it is", column), "Correct the row in the region, or discard the change.")
		}
	}
	if t, ok := d.cfg.Registry().Table(schema, name); ok && t.Class == "master" {
		return hint.Wrap(fmt.Errorf("%s.%s is master data: a facility cannot have another version of it", schema, name),
			"Correct the row in the region's table; the change arrives by itself, and what waits goes with it.")
	}
	return nil
}
