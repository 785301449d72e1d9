package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
)

// An update does not send the large values that it left alone, so it needs the
// row. Where that is not there, what the update said would be lost without a
// word: perhaps the row is still on its way (its table is being loaded, the
// sender takes back a delete that crossed the update), perhaps it never comes.
// So the keys of such rows are written down with the transaction that missed
// them, and looked at a while later. If one is still not there, its table is
// asked for like one of which changes were passed over, and shown like one.

// ReasonRowMissing is why a table is passed over; a change is never parked for it.
const ReasonRowMissing Reason = "row_missing"

const (
	// lackPatience is how long a row may be on its way, and how long a load of
	// its table may pause.
	lackPatience = 30 * time.Second
	// lackAgain is the least time between two requests for one table for this
	// reason; it doubles each time, up to lackAgainMax: rows that never stay
	// must not have the table sent for ever.
	lackAgain    = 10 * time.Minute
	lackAgainMax = 24 * time.Hour
	// lackKeysMax is how many keys are kept of a table. When there are more, it is asked for.
	lackKeysMax = 1000
)

// lackingRow is a row that a change of some of its columns did not find.
type lackingRow struct {
	shape *shape
	key   change.Row
}

// lacks notes which rows of an update of some columns are not there.
func (x *execution) lacks(ctx context.Context, c *opCall) error {
	keys := make([]change.Row, len(c.rows))
	for i, row := range c.rows {
		for _, k := range c.shape.key {
			keys[i] = append(keys[i], row[k])
		}
	}
	_, places, err := x.lockRows(ctx, c.shape, keys)
	if err != nil {
		return err
	}
	there := make([]bool, len(keys))
	for _, i := range places {
		there[i] = true
	}
	for i, key := range keys {
		if !there[i] {
			x.lacking = append(x.lacking, lackingRow{c.shape, key})
		}
	}
	return nil
}

func countLacking(rows []lackingRow) map[string]int64 {
	n := map[string]int64{}
	for _, l := range rows {
		n[l.shape.name]++
	}
	return n
}

const lackSQL = `INSERT INTO holdfast.parked_table AS t (facility, direction, schema_name, table_name, reason, message, remedy, passed_over, columns, keys)
VALUES ($1::text, $2::text, $3::text, $4::text, '` + string(ReasonRowMissing) + `', $5::text, $6::text, $7::bigint, '[]', $8::jsonb)
ON CONFLICT (facility, direction, schema_name, table_name) DO UPDATE SET passed_over = t.passed_over + EXCLUDED.passed_over,
  keys = CASE WHEN jsonb_array_length(t.keys) > $9::bigint THEN t.keys
    ELSE (SELECT jsonb_agg(DISTINCT k) FROM jsonb_array_elements(t.keys || EXCLUDED.keys) AS k) END`

// keepLacking writes down, in the open transaction, which rows were not found.
func (x *execution) keepLacking(ctx context.Context) error {
	type of struct {
		keys []map[string]any
		n    int64
	}
	byTable := map[*shape]*of{}
	var order []*shape
	for _, l := range x.lacking {
		o := byTable[l.shape]
		if o == nil {
			o = &of{}
			byTable[l.shape], order = o, append(order, l.shape)
		}
		if o.n++; len(o.keys) <= lackKeysMax {
			o.keys = append(o.keys, x.keepLackingKey(l))
		}
	}
	here := x.direction().here()
	var calls []call
	for _, sh := range order {
		o := byTable[sh]
		calls = append(calls, call{sql: lackSQL, args: []arg{
			textArg(x.facility), textArg(string(x.direction())), textArg(sh.schema), textArg(sh.table),
			textArg("an update of some columns found no row " + here.in),
			textArg("Nothing: the table is asked for again by itself. If this comes again, look for who removes its rows " + here.in + "."),
			number(o.n),
			{value: toJSON(o.keys)},
			number(int64(lackKeysMax)),
		}})
	}
	_, err := x.pipeline(ctx, calls)
	return err
}

// keepLacking does it for a stream. Without Config.Park nobody would look.
func (a *Applier) keepLacking(ctx context.Context, x *execution) error {
	if a.parked == nil || len(x.lacking) == 0 {
		return nil
	}
	a.parked.stale.Store(true) // the marks are read again
	return x.keepLacking(ctx)
}

// keepLackingKey is what finds the row in the target.
func (x *execution) keepLackingKey(l lackingRow) map[string]any {
	key := map[string]any{}
	for i, k := range l.shape.key {
		key[l.shape.to[k].name] = keepValue(l.key[i])
	}
	if x.direction() == Up && l.shape.facilityColumn >= 0 {
		key[l.shape.to[l.shape.facilityColumn].name] = x.facility
	}
	return key
}

// lackingTable is a table of which rows were not found.
type lackingTable struct {
	Schema, Name string
	Keys         []byte // JSON
	Changes      int64
}

// A time that is ahead is of before the database's clock was put back, and long ago.
const (
	lackingSQL = `SELECT schema_name, table_name, keys, passed_over FROM holdfast.parked_table
WHERE facility = $1 AND direction = $2 AND reason = '` + string(ReasonRowMissing) + `' AND now() - since NOT BETWEEN interval '-1 minute' AND $3::float8 * interval '1 second'
  AND (asked_at IS NULL OR now() - asked_at NOT BETWEEN interval '-1 minute' AND $4::float8 * interval '1 second')`
	foundSQL = liftSQL + ` AND reason = '` + string(ReasonRowMissing) + `'`
)

// askedFor is when a table was asked for, and from when on it may be again.
type askedFor struct {
	next time.Time
	wait time.Duration
}

// lacking looks at the rows that were not found, and has the tables sent again
// whose rows have not come meanwhile.
func (r *retrier) lacking(ctx context.Context, s *session, facility string) error {
	conn := s.conn.Conn()
	rows, err := conn.Query(ctx, lackingSQL, facility, string(r.cfg.Direction), r.cfg.Patience.Seconds(), healAgain.Seconds())
	if err != nil {
		return fmt.Errorf("look for rows of %s: %w", facility, err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[lackingTable])
	if err != nil {
		return fmt.Errorf("look for rows of %s: %w", facility, err)
	}
	for i := range tables {
		t := &tables[i]
		id := t.Schema + "." + t.Name
		at := facility + " " + id
		before := r.askedFor[at]
		// First: a load that ends while the rows are looked for has brought them.
		comes := time.Now().Before(before.next) || r.cfg.Loading(ctx, facility, id) || r.pool.comes(facility, r.cfg.Direction, id, r.cfg.Patience)
		lacks, err := r.stillLacks(ctx, conn, facility, t)
		if err != nil {
			return fmt.Errorf("look for rows of %s of %s: %w", id, facility, err)
		}
		if !lacks {
			if _, err := conn.Exec(ctx, foundSQL, facility, string(r.cfg.Direction), t.Schema, t.Name); err != nil {
				return fmt.Errorf("note that rows of %s have come: %w", id, err)
			}
			r.pool.ended(facility, r.cfg.Direction)
			continue
		}
		if comes {
			continue
		}
		asked, err := r.askFor(ctx, conn, facility, t.Schema, t.Name, "an update of some columns found no row "+r.cfg.Direction.here().in)
		if err != nil {
			return err
		}
		if !asked {
			continue
		}
		wait := min(max(2*before.wait, lackAgain), lackAgainMax)
		r.askedFor[at] = askedFor{time.Now().Add(wait), wait}
		detail := fmt.Sprintf("%d updates of some columns of %s found no row %s; the table is asked for again", t.Changes, id, r.cfg.Direction.here().in)
		if _, err := conn.Exec(ctx, eventSQL, facility, string(ReasonRowMissing), "0", "0", detail); err != nil {
			return fmt.Errorf("keep an event of %s: %w", facility, err)
		}
	}
	return nil
}

// stillLacks reports whether a row that was not found is still not there.
func (r *retrier) stillLacks(ctx context.Context, conn *pgx.Conn, facility string, t *lackingTable) (lacks bool, err error) {
	entry, ok := r.cfg.Registry().Table(t.Schema, t.Name)
	if !ok {
		return false, nil // it is not synced any more
	}
	var keys []map[string]json.RawMessage
	if err := json.Unmarshal(t.Keys, &keys); err != nil {
		return false, fmt.Errorf("the keys: %w", err)
	}
	if len(keys) > lackKeysMax {
		return true, nil
	}
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		schema := place{facility, r.cfg.Direction}.schema(&entry)
		l, err := ReadLayout(ctx, tx, schema, t.Name)
		if err != nil {
			return err
		}
		for _, key := range keys {
			image := Image{}
			for name, raw := range key {
				v, err := keptValue(raw)
				if err != nil {
					return err
				}
				image[name] = textOf(v)
			}
			row, err := l.ReadRow(ctx, tx, image, false)
			if err != nil || row == nil {
				lacks = true
				return err
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, ErrNoTable), errors.Is(err, ErrImage): // its own remedies are told elsewhere
		return true, nil
	case err != nil && refused(err) && !gone(ctx):
		return true, nil
	}
	return lacks, err
}

// came notes that rows of a table came by a range.
func (p *Pool) came(facility string, d Direction, table string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ranges[tableOf{facility, d, table}] = time.Now()
}

// comes reports whether ranges of the table have come within that time.
func (p *Pool) comes(facility string, d Direction, table string, within time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := tableOf{facility, d, table}
	last, ok := p.ranges[at]
	if ok && time.Since(last) > within {
		delete(p.ranges, at)
		return false
	}
	return ok
}

type tableOf struct {
	facility  string
	direction Direction
	table     string
}
