package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
)

// Limits of one round, which holds the facility's stream up.
const (
	roundMaxRows  = 500
	roundMaxBytes = 8 << 20
	roundMaxTime  = 250 * time.Millisecond
)

// waiting is a parked change without its values.
type waiting struct {
	id              int64
	table           string
	hashes          []keyHash
	provides, waits []keyHash
	attempts        int
	tried           bool
	age             time.Duration // since it was tried
	bytes           int
	reason          Reason
	edited          bool // somebody corrected it
	schema, name    string
	row             *parkedRow // once it is loaded
	target          string     // the target's schema
}

// chain is the changes that follow each other on the same rows, in order.
type chain struct {
	rows []*waiting
	into *chain // what it was joined with
}

// edited reports whether somebody has corrected one of the changes.
func (c *chain) edited() bool {
	return slices.ContainsFunc(c.rows, func(w *waiting) bool { return w.edited })
}

func (c *chain) root() *chain {
	for c.into != nil {
		c = c.into
	}
	return c
}

// Locking the position keeps the stream's own transactions out, and the tag
// tells a capture of this database that the changes came from elsewhere.
const retrySQL = `WITH p AS (SELECT epoch, seq FROM holdfast.position WHERE facility = $1::text FOR UPDATE)
SELECT pg_logical_emit_message(true, '` + OriginPrefix + `', $2::text || ' ' || $1::text || ' ' || epoch || ':' || seq) FROM p`

const waitingSQL = `SELECT id, schema_name, table_name, key_hash, old_key_hash, provides, CASE WHEN edited_by = '' THEN waits_for ELSE '{}' END, attempts, tried_at IS NOT NULL,
  coalesce(extract(epoch FROM clock_timestamp() - tried_at), 0)::float8, bytes, reason, edited_by <> ''
FROM holdfast.parked WHERE facility = $1 AND direction = $2 AND state = 'waiting' ORDER BY id`

// round tries what is due of a facility in one transaction, and reports
// whether another round may do more.
func (r *retrier) round(ctx context.Context, s *session, facility string) (more bool, err error) {
	a := &Applier{cfg: Config{Facility: facility, Direction: r.cfg.Direction, Registry: r.cfg.Registry, Local: r.cfg.Local}, pool: r.pool, log: r.log}
	if due, err := r.anyDue(ctx, s, a); err != nil || !due {
		return false, err
	}
	if err := s.exec(ctx, "BEGIN; SET LOCAL lock_timeout = '500ms'"); err != nil {
		return false, fmt.Errorf("begin: %w", err)
	}
	tag, err := s.conn.Exec(ctx, retrySQL, facility, string(r.cfg.Direction))
	if err != nil {
		return false, fmt.Errorf("lock the position: %w", err)
	}
	if tag.RowsAffected() == 0 {
		s.rollback(ctx)
		return false, nil // a facility that was removed
	}
	patience := "SET LOCAL lock_timeout = '30s'"
	if r.cfg.Direction == Down {
		patience = politeSQL
	}
	if err := s.exec(ctx, patience); err != nil {
		return false, err
	}
	at := time.Now()
	list, err := r.list(ctx, s, a)
	if err != nil {
		return false, err
	}
	o := &outcome{}
	if err := r.try(ctx, s, a, r.due(list, facility, at), list, o); err != nil {
		return false, err
	}
	if err := o.write(ctx, s); err != nil {
		return false, err
	}
	if len(o.x.lacking) > 0 {
		if err := o.x.keepLacking(ctx); err != nil {
			return false, err
		}
	}
	if err := r.pool.Faults.Retry.Do(func() error { return s.exec(ctx, "COMMIT") }); err != nil {
		return false, fmt.Errorf("commit: %w", err)
	}
	if len(o.applied)+len(o.discarded) > 0 {
		r.pool.ended(facility, r.cfg.Direction)
		r.log.Info("parked rows are applied", "facility", facility, "rows", len(o.applied))
	}
	return len(o.applied) > 0 || o.cut, nil // what waited for these may be due now
}

// renew makes all that a facility waits for due, whatever it waited. It holds until
// it was tried, however many rounds that takes and whether one fails.
func (r *retrier) renew(facility string) {
	clear(r.misfits)
	r.renewed[facility] = time.Now()
}

// anyDue looks without a lock whether a round is worth it.
func (r *retrier) anyDue(ctx context.Context, s *session, a *Applier) (bool, error) {
	at := time.Now()
	list, err := r.list(ctx, s, a)
	if err != nil || len(list) == 0 {
		return false, err
	}
	changed, err := r.changed(ctx, s, a.cfg.Facility, list)
	if err != nil {
		return false, err
	}
	if changed {
		r.pool.catalog.forget()
		r.renew(a.cfg.Facility)
	}
	return len(r.due(list, a.cfg.Facility, at)) > 0, nil
}

func (r *retrier) list(ctx context.Context, s *session, a *Applier) ([]*waiting, error) {
	rows, err := s.conn.Conn().Query(ctx, waitingSQL, a.cfg.Facility, string(a.cfg.Direction))
	if err != nil {
		return nil, fmt.Errorf("list parked rows: %w", err)
	}
	reg := a.cfg.Registry()
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*waiting, error) {
		w := &waiting{}
		var hash, old []byte
		var provides, waits [][]byte
		var age float64
		err := row.Scan(&w.id, &w.schema, &w.name, &hash, &old, &provides, &waits, &w.attempts, &w.tried, &age, &w.bytes, &w.reason, &w.edited)
		w.table, w.age = w.schema+"."+w.name, time.Duration(age*float64(time.Second))
		if w.age < -time.Minute {
			w.age = math.MaxInt64 // the database's clock was put back since, so that it was long ago
		}
		w.hashes = toHashes([][]byte{hash})
		if old != nil {
			w.hashes = append(w.hashes, toHashes([][]byte{old})...)
		}
		w.provides, w.waits = toHashes(provides), toHashes(waits)
		if entry, ok := reg.Table(w.schema, w.name); ok {
			w.target = a.at().schema(&entry)
		}
		return w, err
	})
	if err != nil {
		return nil, fmt.Errorf("list parked rows: %w", err)
	}
	return list, nil
}

// chains puts the changes of the same rows together, by their first.
func chains(list []*waiting) (out []*chain) {
	at := map[keyHash]*chain{}
	for _, w := range list {
		c := &chain{}
		for _, h := range w.hashes {
			if have := at[h]; have != nil && have.root() != c {
				have = have.root()
				if len(c.rows) == 0 {
					c = have
					continue
				}
				c.rows = append(c.rows, have.rows...)
				slices.SortFunc(c.rows, func(a, b *waiting) int { return int(a.id - b.id) })
				have.rows, have.into = nil, c
			}
		}
		c.rows = append(c.rows, w)
		for _, h := range w.hashes {
			at[h] = c
		}
		out = append(out, c)
	}
	seen := map[*chain]bool{}
	return slices.DeleteFunc(out, func(c *chain) bool {
		gone := c.into != nil || seen[c]
		seen[c] = true
		return gone
	})
}

// due are the chains whose turn it is: a change of them was never tried, or
// the first was tried long enough ago, or before the tables changed. at is when the
// list was asked for.
func (r *retrier) due(list []*waiting, facility string, at time.Time) (out []*chain) {
	renewed, ok := r.renewed[facility]
	provides := map[keyHash]int{}
	for _, w := range list {
		for _, h := range w.provides {
			provides[h]++
		}
	}
	for _, c := range chains(list) {
		head := c.rows[0]
		if again, ok := r.misfits[facility+" "+head.table]; ok && time.Now().Before(again) {
			continue
		}
		if blocked(head, provides) {
			continue
		}
		fresh := slices.ContainsFunc(c.rows, func(w *waiting) bool { return !w.tried })
		if ok && head.age > at.Sub(renewed) || fresh || head.age >= retryAfter(r.cfg.Every, head.attempts) {
			out = append(out, c)
		}
	}
	return out
}

// blocked reports whether the change refers to another that waits.
func blocked(w *waiting, provides map[keyHash]int) bool {
	return slices.ContainsFunc(w.waits, func(h keyHash) bool {
		n := provides[h]
		for _, own := range w.provides {
			if own == h {
				n--
			}
		}
		return n > 0
	})
}

// outcome is what a round found out.
type outcome struct {
	x                         *execution
	applied, discarded, tried []int64
	failed                    []failure
	cut                       bool // there was more than fits a round
}

type failure struct {
	id  int64
	why cause
}

func (o *outcome) write(ctx context.Context, s *session) error {
	b := &pgx.Batch{}
	if len(o.applied) > 0 {
		b.Queue(`UPDATE holdfast.parked SET state = 'applied', ended_at = now(), tried_at = now(), attempts = attempts + 1 WHERE id = ANY ($1::bigint[])`, o.applied)
	}
	if len(o.discarded) > 0 {
		b.Queue(`UPDATE holdfast.parked SET state = 'discarded', ended_at = now(), ended_by = 'holdfast: the table is not synced any more' WHERE id = ANY ($1::bigint[])`, o.discarded)
	}
	if len(o.tried) > 0 {
		b.Queue(`UPDATE holdfast.parked SET tried_at = now() WHERE id = ANY ($1::bigint[])`, o.tried)
	}
	for _, f := range o.failed {
		b.Queue(`UPDATE holdfast.parked SET attempts = attempts + 1, tried_at = now(), reason = $2, code = $3, constraint_name = $4, message = $5, remedy = $6 WHERE id = $1`,
			f.id, string(f.why.reason), f.why.code, f.why.constraint, clean(f.why.message), clean(f.why.remedy))
	}
	if b.Len() == 0 {
		return nil
	}
	if err := s.conn.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("write down what was tried: %w", err)
	}
	return nil
}

const printsSQL = `SELECT u.s || '.' || u.t, coalesce((SELECT md5(concat_ws(' ', c.oid, c.relacl::text,
   (SELECT string_agg(concat_ws(' ', a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.atthasdef, a.attisdropped, a.attidentity, a.attgenerated), ',' ORDER BY a.attnum)
      FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0),
   (SELECT string_agg(concat_ws(' ', k.oid, k.convalidated, pg_get_constraintdef(k.oid)), ',' ORDER BY k.oid) FROM pg_constraint k WHERE k.conrelid = c.oid),
   (SELECT string_agg(concat_ws(' ', i.indexrelid, i.indisvalid, i.indisunique), ',' ORDER BY i.indexrelid) FROM pg_index i WHERE i.indrelid = c.oid)))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = u.s AND c.relname = u.t), '')
FROM unnest($1::text[], $2::text[]) AS u(s, t)`

// changed reports whether a table of which something waits is not what it was.
func (r *retrier) changed(ctx context.Context, s *session, facility string, list []*waiting) (bool, error) {
	var schemas, names []string
	seen := map[string]bool{}
	for _, w := range list {
		if id := w.target + "." + w.name; !seen[id] {
			seen[id] = true
			schemas, names = append(schemas, w.target), append(names, w.name)
		}
	}
	rows, err := s.conn.Conn().Query(ctx, printsSQL, schemas, names)
	if err != nil {
		return false, fmt.Errorf("look at the tables: %w", err)
	}
	changed := false
	var id, print string
	_, err = pgx.ForEachRow(rows, []any{&id, &print}, func() error {
		at := facility + " " + id
		old, known := r.prints[at]
		changed = changed || !known || old != print
		r.prints[at] = print
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("look at the tables: %w", err)
	}
	return changed, nil
}

// fitsAgain reports whether the target can take the table that was passed over.
func (p *Pool) fitsAgain(ctx context.Context, s *session, c Config, m *passedTable) (bool, error) {
	var columns []keptColumn
	if err := json.Unmarshal(m.Columns, &columns); err != nil {
		return false, fmt.Errorf("columns of %s.%s: %w", m.Schema, m.Name, err)
	}
	t := &change.Table{Schema: m.Schema, Name: m.Name}
	for _, c := range columns {
		t.Columns = append(t.Columns, change.Column{Name: c.Name, Type: c.Type, Key: c.Key})
	}
	a := &Applier{cfg: c, pool: p, log: p.log}
	_, err := a.shape(ctx, s, c.Registry(), t)
	if errors.Is(err, ErrTable) {
		return false, nil
	}
	return err == nil, err
}

const markSQL = `SELECT schema_name, table_name, columns FROM holdfast.parked_table
WHERE facility = $1 AND direction = 'down' AND schema_name = $2 AND table_name = $3 AND reason <> '` + string(ReasonRowMissing) + `'`

// WouldFit reports whether a table that was passed over on the way down would be taken
// if all of it came to a database that was put back: whether what was changed here of
// it is known does not matter then.
func (p *Pool) WouldFit(ctx context.Context, facility string, registry func() *Registry, schema, name string) (bool, error) {
	s, err := p.session(ctx)
	if err != nil {
		return false, err
	}
	defer s.release()
	rows, err := s.conn.Conn().Query(ctx, markSQL, facility, schema, name)
	if err != nil {
		return false, fmt.Errorf("read whether %s.%s is passed over: %w", schema, name, err)
	}
	m, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[passedTable])
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil // it has come
	}
	if err != nil {
		return false, fmt.Errorf("read whether %s.%s is passed over: %w", schema, name, err)
	}
	p.catalog.forget()
	put := func() (restored, whole bool) { return true, false }
	return p.fitsAgain(ctx, s, Config{Facility: facility, Direction: Down, Registry: registry, Restored: put}, &m)
}
