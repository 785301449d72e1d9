package capture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/schema"
)

// A table is loaded by key ranges, a chunk at a time. Each chunk is read and
// written into the WAL as a logical message in one transaction, so that it
// takes its place in commit order: the changes before it in the stream are in
// it, the ones after it are not.
//
// For that no transaction may commit a change of the table between the chunk's
// snapshot and its commit: such a row would be in the stream before the range
// that does not know it, and "exactly these rows" would delete it. Neither row
// locks (an insert has no row to lock) nor SERIALIZABLE (which orders by
// dependency, not by commit) prevent it. So the chunk takes a SHARE lock on the
// table, which waits for the writers that are under way and holds new ones up
// for the few milliseconds that a chunk takes; it gives up after lockTimeout,
// and the time between two chunks belongs to the workers.

// Limits of a chunk.
const (
	chunkRows  = 2000
	chunkBytes = 1 << 20
	fetchRows  = 100 // at most, fewer when they are large
	// sortedChunkRows is for keys whose order has no index: each chunk sorts
	// the table.
	sortedChunkRows  = 20_000
	sortedChunkBytes = 8 << 20
)

// Waiting for the lock.
const (
	lockTimeout = 200 * time.Millisecond
	// Every patientEvery-th attempt waits longer than deadlock_timeout (1 s by
	// default), after which PostgreSQL cancels an autovacuum in the way.
	patientEvery  = 15
	patientLock   = 1500 * time.Millisecond
	lockRetryMin  = 50 * time.Millisecond
	lockRetryMax  = 2 * time.Second
	chunkPauseMin = 2 * time.Millisecond
)

// ErrNoKey says that a table has no key, so that its rows cannot be loaded by
// range: only what is written from now on is sent.
var ErrNoKey = errors.New("the table has no key to load it by")

// Progress is called in the transaction of each chunk, before it commits: after
// is the key up to which the table is loaded then, in column order, rows how
// many the chunk had. With after a load can be taken up again.
type Progress func(ctx context.Context, tx pgx.Tx, after change.Row, rows int64) error

// LoadTable sends the rows of a table with keys after after, nil for all, into
// the change stream; the last range is unbounded above. Sending a table that is
// there already changes nothing but what is wrong. The slot must exist, and
// conn must not be in a transaction; its role must own the table.
//
// Keys are compared in column order, text and the labels of enums by their
// bytes (COLLATE "C"), because collations and the order of labels differ
// between machines. A text key whose column has another collation has no index
// for that order, an enum key has none either, and each chunk sorts the table:
// for text an index on (key COLLATE "C") helps.
func LoadTable(ctx context.Context, conn *pgx.Conn, t Table, after change.Row, progress Progress) error {
	return LoadPart(ctx, conn, t, Part{}, after, progress)
}

// Part is those rows of a table that are meant, and for whom. Its ranges say
// what the table's rows of that part are, and nothing of its other rows.
type Part struct {
	// Column is compared with Value; empty means all rows. OrNull adds the rows
	// in which it is NULL.
	Column, Value string
	OrNull        bool
	// To is the facility that the ranges are for; empty means whoever the
	// table's changes are for.
	To string
	// Between is called between two chunks, outside of a transaction; its error
	// ends the load. nil is fine.
	Between func(ctx context.Context) error
}

// LoadPart sends the rows of a part of a table as LoadTable sends all of them.
func LoadPart(ctx context.Context, conn *pgx.Conn, t Table, part Part, after change.Row, progress Progress) error {
	l := &loader{conn: conn, table: t, part: part, after: after, progress: progress}
	if len(after) == 0 {
		l.after = nil
	}
	for attempt, wait := 0, lockRetryMin; ; {
		began := time.Now()
		done, err := l.chunk(ctx, attempt)
		switch {
		case err == nil && done:
			return nil
		case err == nil:
			if part.Between != nil {
				if err := part.Between(ctx); err != nil {
					return err
				}
			}
			attempt, wait = 0, lockRetryMin
			if err := pause(ctx, max(time.Since(began), chunkPauseMin)); err != nil {
				return err
			}
		case busy(err):
			attempt++
			if err := pause(ctx, wait/2+rand.N(wait)); err != nil {
				return err
			}
			wait = min(2*wait, lockRetryMax)
		default:
			return fmt.Errorf("load %s: %w", t.ID(), err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// busy reports whether somebody else was in the way.
func busy(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code {
	case "55P03", "40P01", "40001": // lock not available, deadlock, serialization
		return true
	}
	return false
}

type loader struct {
	conn     *pgx.Conn
	table    Table
	part     Part
	after    change.Row
	progress Progress
}

// chunk sends the next range. done is true after the last one.
func (l *loader) chunk(ctx context.Context, attempt int) (done bool, err error) {
	before := l.after
	// Each statement must see what committed before it, whatever the database's
	// default: the rows are read after the lock was granted.
	options := pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}
	err = pgx.BeginTxFunc(ctx, l.conn, options, func(tx pgx.Tx) error {
		if err := settle(ctx, tx, attempt); err != nil {
			return err
		}
		s, err := shapeOf(ctx, tx, l.table)
		if err != nil {
			return err
		}
		if l.after != nil && len(l.after) != len(s.key) {
			l.after = nil // the key is another one now
		}
		if _, err := tx.Exec(ctx, "LOCK TABLE "+l.table.quoted()+" IN SHARE MODE"); err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		r := change.KeyRange{After: l.after}
		if err := s.limit(l.part, l.after); err != nil {
			return err
		}
		if r.Rows, done, err = s.rows(ctx, tx, l.after); err != nil {
			return fmt.Errorf("read rows: %w", err)
		}
		upTo := l.after
		if n := len(r.Rows); n > 0 {
			upTo = s.keyOf(r.Rows[n-1])
		}
		if !done {
			r.UpTo = upTo
		}
		message, err := change.EncodeRange(&s.table, &r)
		if err != nil {
			return err
		}
		if l.part.To != "" {
			if _, err := tx.Exec(ctx, `SELECT pg_catalog.pg_logical_emit_message(true, $1, $2::text)`, ToPrefix, l.part.To); err != nil {
				return fmt.Errorf("write the addressee to the WAL: %w", err)
			}
		}
		if _, err := tx.Exec(ctx, `SELECT pg_catalog.pg_logical_emit_message(true, $1, $2::bytea)`, RangePrefix, message); err != nil {
			return fmt.Errorf("write the range to the WAL: %w", err)
		}
		if l.progress != nil {
			if err := l.progress(ctx, tx, upTo, int64(len(r.Rows))); err != nil {
				return err
			}
		}
		l.after = upTo
		return nil
	})
	if err != nil {
		l.after = before
	}
	return done, err
}

// settle prepares the transaction: canonical text, a short wait for locks, and
// a commit that does not hold the lock until the disk has it. Progress and
// message are lost together or not at all.
func settle(ctx context.Context, tx pgx.Tx, attempt int) error {
	timeout := lockTimeout
	if attempt%patientEvery == patientEvery-1 {
		timeout = patientLock
	}
	set := map[string]string{
		"lock_timeout":       strconv.FormatInt(timeout.Milliseconds(), 10),
		"synchronous_commit": "off",
		"statement_timeout":  "0",
		"row_security":       "off", // an error rather than rows left out
	}
	for k, v := range textSettings {
		if k != "application_name" && k != "client_encoding" {
			set[k] = v
		}
	}
	var names, values []string
	for k, v := range set {
		names, values = append(names, k), append(values, v)
	}
	_, err := tx.Exec(ctx, `SELECT pg_catalog.set_config(n, v, true) FROM unnest($1::text[], $2::text[]) AS s(n, v)`, names, values)
	return err
}

// shape is what the statements need to know of a table.
type shape struct {
	table   change.Table
	key     []int
	columns []string // quoted
	types   []string
	bytes   []bool // the column's order must be made that of its bytes
	enums   []bool // its order must be made that of its text: labels may stand in another order elsewhere
	inOrder bool   // the primary key's index has the columns in this order
	// only is the condition that all rows meet, "" for none; it ends in a cast
	// to onlyType behind the parameter onlyValue.
	only, onlyValue, onlyType string
	onlyNull                  string
	// fixed is the key column that is the same in all rows, -1 if none. Bounds
	// and order do without it: beside the condition they would keep the index
	// from being entered at the bound.
	fixed int
}

// limit restricts the rows to a part, of which those up to after are sent.
func (s *shape) limit(p Part, after change.Row) error {
	if p.Column == "" {
		return nil
	}
	for i := range s.table.Columns {
		if s.table.Columns[i].Name != p.Column {
			continue
		}
		s.only, s.onlyType, s.onlyValue = "t."+s.columns[i]+" = ", s.types[i], p.Value
		if k := slices.Index(s.key, i); k >= 0 {
			if len(s.key) > 1 && (after == nil || string(after[k]) == p.Value) {
				s.fixed = i
			}
			return nil // a key is never NULL
		}
		if p.OrNull {
			s.onlyNull = " OR t." + s.columns[i] + " IS NULL"
		}
		return nil
	}
	return fmt.Errorf("there is no column %s", p.Column)
}

func shapeOf(ctx context.Context, tx pgx.Tx, t Table) (*shape, error) {
	cat, err := schema.ReadTx(ctx, tx, t.Schema, t.Name)
	if err != nil {
		return nil, err
	}
	s := &shape{table: change.Table{Schema: t.Schema, Name: t.Name}, inOrder: true, fixed: -1}
	foreign, err := foreignOrder(ctx, tx, cat.OID)
	if err != nil {
		return nil, err
	}
	usable := !cat.KeyDeferrable && cat.Identity != "n"
	for _, c := range cat.Columns {
		if c.Generated {
			continue
		}
		key := c.Key && usable
		if key && !c.Ordered() {
			return nil, fmt.Errorf("key column %s of type %s has no order that holds everywhere", c.Name, c.Type)
		}
		if key {
			s.key = append(s.key, len(s.table.Columns))
		}
		s.table.Columns = append(s.table.Columns, change.Column{Name: c.Name, Type: c.Type, Key: key})
		s.columns = append(s.columns, pgx.Identifier{c.Name}.Sanitize())
		s.types = append(s.types, c.Type)
		bytes, enum := slices.Contains(foreign, c.Name), c.Class == "e"
		s.bytes, s.enums = append(s.bytes, bytes), append(s.enums, enum)
	}
	if len(s.key) == 0 || len(s.key) != len(cat.Key) {
		return nil, ErrNoKey
	}
	for i, k := range s.key {
		s.inOrder = s.inOrder && s.table.Columns[k].Name == cat.Key[i]
	}
	return s, nil
}

// foreignOrder names the columns whose order is not that of their bytes.
func foreignOrder(ctx context.Context, tx pgx.Tx, table uint32) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT a.attname::text FROM pg_catalog.pg_attribute a
		JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
		LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation AND c.collprovider <> 'd'
		WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attcollation <> 0
			AND NOT CASE WHEN c.oid IS NULL THEN d.datlocprovider = 'c' AND d.datcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8')
				ELSE c.collprovider = 'c' AND c.collcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8') END`, table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (s *shape) keyOf(row change.Row) change.Row {
	key := make(change.Row, len(s.key))
	for i, k := range s.key {
		key[i] = row[k]
	}
	return key
}

// order is a key column as it is compared.
func (s *shape) order(expr string, k int) string {
	switch {
	case s.enums[k]:
		return expr + `::text COLLATE "C"`
	case s.bytes[k]:
		return expr + ` COLLATE "C"`
	}
	return expr
}

// indexed reports whether the primary key's index has the order of the rows.
func (s *shape) indexed() bool {
	return s.inOrder && !slices.ContainsFunc(s.key, func(k int) bool { return k != s.fixed && (s.bytes[k] || s.enums[k]) })
}

// bound returns the values of a key that query takes, nil for none: those of
// the columns that are not fixed.
func (s *shape) bound(after change.Row) change.Row {
	var row change.Row
	for i, k := range s.key {
		if after == nil {
			return nil
		}
		if k != s.fixed {
			row = append(row, after[i])
		}
	}
	return row
}

// query reads rows after a key, which it takes as parameters.
func (s *shape) query(bounded bool, limit int) string {
	var left, right, order []string
	for _, k := range s.key {
		if k == s.fixed {
			continue
		}
		order = append(order, s.order("t."+s.columns[k], k))
		if !bounded {
			continue
		}
		left = append(left, s.order("t."+s.columns[k], k))
		value := fmt.Sprintf("$%d::text", len(left))
		if !s.enums[k] { // a label may be gone
			value += "::" + s.types[k]
		}
		right = append(right, s.order(value, k))
	}
	q := "SELECT t." + strings.Join(s.columns, ", t.") + " FROM " + pgx.Identifier{s.table.Schema, s.table.Name}.Sanitize() + " AS t"
	var where []string
	if bounded {
		where = append(where, "ROW("+strings.Join(left, ", ")+") > ROW("+strings.Join(right, ", ")+")")
	}
	if s.only != "" {
		where = append(where, fmt.Sprintf("(%s$%d::text::%s%s)", s.only, len(left)+1, s.onlyType, s.onlyNull))
	}
	if len(where) > 0 {
		q += " WHERE " + strings.Join(where, " AND ")
	}
	return q + " ORDER BY " + strings.Join(order, ", ") + " LIMIT " + strconv.Itoa(limit)
}

// rows returns the rows of the next chunk, and whether they are the last.
func (s *shape) rows(ctx context.Context, tx pgx.Tx, after change.Row) (rows []change.Row, done bool, err error) {
	limit, limitBytes := chunkRows, chunkBytes
	if !s.indexed() {
		limit, limitBytes = sortedChunkRows, sortedChunkBytes
	}
	pg := tx.Conn().PgConn()
	params := slices.Clone([][]byte(s.bound(after)))
	if s.only != "" {
		params = append(params, []byte(s.onlyValue))
	}
	if err := pg.ExecParams(ctx, "DECLARE holdfast_chunk NO SCROLL CURSOR FOR "+s.query(after != nil, limit), params, nil, nil, nil).Read().Err; err != nil {
		return nil, false, err
	}
	size := 0
	for fetch := 1; ; {
		r := pg.ExecParams(ctx, "FETCH "+strconv.Itoa(fetch)+" FROM holdfast_chunk", nil, nil, nil, nil).Read()
		if r.Err != nil {
			return nil, false, r.Err
		}
		for _, v := range r.Rows {
			n := 0
			for i := range v {
				n += len(v[i]) + 2
			}
			size += n
			rows = append(rows, change.Row(v))
		}
		switch {
		case len(r.Rows) < fetch:
			return rows, len(rows) < limit, nil
		case size >= limitBytes:
			return rows, false, nil
		}
		// As many as should fit, no more than twice as many as before.
		fetch = max(1, min(2*fetch, fetchRows, (limitBytes-size)/(size/len(rows)+1)))
	}
}
