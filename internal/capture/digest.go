package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/schema"
)

// A digest takes its place in the stream as a chunk of a load does, and for the
// same reason: see load.go. What the receiver has applied when it meets the
// digest is what was read here, so that both compare the same moment without a
// clock and without waiting for each other.

// Question asks what a table's rows come to.
type Question struct {
	// ID comes back with the answer.
	ID uint64
	// After and UpTo bound the keys, nil not at all; After is not in it, UpTo is.
	After, UpTo change.Row
	// Rows is how many rows to read at most; where there are more, the answer
	// ends earlier. Parts is into how many parts of about as many rows each the
	// answer is divided. Zero is the least that makes sense.
	Rows, Parts int
	// List asks for each row's key and hash.
	List bool
}

// Bounds of what a question may ask, and so of how long the table is locked. An
// answer whose time is up ends with the rows that it has.
const (
	questionRowsMax = 20_000
	questionRows    = 1000
	questionFetch   = 64 // rows at first, then more each time
	questionTime    = 50 * time.Millisecond
)

// DigestTable answers a question in the change stream. The slot must exist, and
// conn must not be in a transaction; its role must own the table.
func DigestTable(ctx context.Context, conn *pgx.Conn, t Table, q Question) error {
	err := placed(ctx, conn, t, func(ctx context.Context, tx pgx.Tx, s *shape) error {
		began := time.Now()
		d, err := s.digest(ctx, tx, q)
		if err != nil {
			return fmt.Errorf("read rows: %w", err)
		}
		d.TookMicros = uint64(time.Since(began).Microseconds())
		message, err := change.EncodeDigest(&s.table, d)
		if err != nil {
			return err
		}
		return emit(ctx, tx, DigestPrefix, message)
	})
	if err != nil {
		return fmt.Errorf("digest %s: %w", t.ID(), err)
	}
	return nil
}

// MendRows sends the rows of some keys again, as they are now: whole where
// there are any, and as deletes where there are none.
func MendRows(ctx context.Context, conn *pgx.Conn, t Table, keys []change.Row) error {
	err := placed(ctx, conn, t, func(ctx context.Context, tx pgx.Tx, s *shape) error {
		m := change.Mending{Table: s.table}
		for _, key := range keys {
			if len(key) != len(s.key) {
				return fmt.Errorf("a key with %d values for %d key columns", len(key), len(s.key))
			}
			row, err := s.row(ctx, tx, key)
			switch {
			case err != nil:
				return fmt.Errorf("read a row: %w", err)
			case row == nil:
				m.Gone = append(m.Gone, key)
			default:
				m.Rows = append(m.Rows, row)
			}
		}
		message, err := change.EncodeMending(&m)
		if err != nil {
			return err
		}
		return emit(ctx, tx, MendPrefix, message)
	})
	if err != nil {
		return fmt.Errorf("send rows of %s again: %w", t.ID(), err)
	}
	return nil
}

func emit(ctx context.Context, tx pgx.Tx, prefix string, message []byte) error {
	if _, err := tx.Exec(ctx, `SELECT pg_catalog.pg_logical_emit_message(true, $1, $2::bytea)`, prefix, message); err != nil {
		return fmt.Errorf("write to the WAL: %w", err)
	}
	return nil
}

// placed runs fn in a transaction of its own while nobody writes to the table,
// so that what it reads and writes to the WAL has one place in commit order. It
// gives way to workers as a load does.
func placed(ctx context.Context, conn *pgx.Conn, t Table, fn func(context.Context, pgx.Tx, *shape) error) error {
	for attempt, wait := 0, lockRetryMin; ; attempt, wait = attempt+1, min(2*wait, lockRetryMax) {
		options := pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}
		err := pgx.BeginTxFunc(ctx, conn, options, func(tx pgx.Tx) error {
			if err := settle(ctx, tx, attempt); err != nil {
				return err
			}
			s, err := shapeOf(ctx, tx, t)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "LOCK TABLE "+t.quoted()+" IN SHARE MODE"); err != nil {
				return fmt.Errorf("lock: %w", err)
			}
			return fn(ctx, tx, s)
		})
		if !busy(err) {
			return err
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// digest reads the rows and makes the answer of them.
func (s *shape) digest(ctx context.Context, tx pgx.Tx, q Question) (*change.DigestRecord, error) {
	if q.Rows <= 0 {
		q.Rows = questionRows
	}
	q.Rows, q.Parts = min(q.Rows, questionRowsMax), min(max(q.Parts, 1), change.MaxDigestParts)
	if q.List {
		q.Parts = 1
	}
	for _, bound := range []change.Row{q.After, q.UpTo} {
		if bound != nil && len(bound) != len(s.key) {
			return nil, fmt.Errorf("a bound with %d values for %d key columns", len(bound), len(s.key))
		}
	}
	if err := s.fix(ctx, tx, q); err != nil {
		return nil, err
	}
	sql, params := s.hashQuery(q)
	formats := make([]int16, len(s.key)+1)
	formats[len(s.key)] = 1 // the hash
	rows, done, err := readFor(ctx, tx, questionTime, sql, params, formats)
	if err != nil {
		return nil, err
	}
	d := &change.DigestRecord{ID: q.ID, After: q.After, Listed: q.List, Parts: make([]change.DigestPart, 1, q.Parts)}
	each := (len(rows) + q.Parts - 1) / q.Parts
	var key change.Row
	for _, row := range rows {
		if p := &d.Parts[len(d.Parts)-1]; p.Count > 0 && p.Count >= uint64(each) {
			p.UpTo = key
			d.Parts = append(d.Parts, change.DigestPart{})
		}
		if len(row[len(s.key)]) != 8 {
			return nil, errors.New("a row's hash has not 8 bytes")
		}
		key = change.Row(row[:len(s.key)])
		hash := binary.BigEndian.Uint64(row[len(s.key)])
		d.Parts[len(d.Parts)-1].Add(hash)
		if q.List {
			d.Keys, d.Hashes = append(d.Keys, key), append(d.Hashes, hash)
		}
	}
	last := &d.Parts[len(d.Parts)-1]
	if last.UpTo = q.UpTo; !done || len(rows) == q.Rows {
		last.UpTo = key // there may be more
	}
	return d, nil
}

// readFor reads a statement's rows for about as long as it may take, at least
// some. done is true when there are no more.
func readFor(ctx context.Context, tx pgx.Tx, limit time.Duration, sql string, params [][]byte, formats []int16) (rows [][][]byte, done bool, err error) {
	pg := tx.Conn().PgConn()
	if err := pg.ExecParams(ctx, "DECLARE holdfast_digest NO SCROLL CURSOR FOR "+sql, params, nil, nil, nil).Read().Err; err != nil {
		return nil, false, err
	}
	began := time.Now()
	for fetch := questionFetch; !done && (len(rows) == 0 || time.Since(began) < limit); fetch *= 2 {
		r := pg.ExecParams(ctx, "FETCH "+strconv.Itoa(fetch)+" FROM holdfast_digest", nil, nil, nil, formats).Read()
		if r.Err != nil {
			return nil, false, r.Err
		}
		rows, done = append(rows, r.Rows...), len(r.Rows) < fetch
	}
	return rows, done, nil
}

// fix makes the first column of the key's index the fixed one if all rows have the
// value in it that the question's bounds have. So it is with the facility's column at
// a box. PostgreSQL goes on behind an upper bound of several columns for as long as
// the first of them is the same, which would be to the table's end, each time that a
// few rows are asked for.
func (s *shape) fix(ctx context.Context, tx pgx.Tx, q Question) error {
	at := slices.Index(s.key, s.lead)
	var value []byte
	for _, bound := range []change.Row{q.After, q.UpTo} {
		switch {
		case bound == nil:
		case value == nil:
			value = bound[at]
		case !bytes.Equal(value, bound[at]):
			return nil
		}
	}
	// Where another column's order is not that of the index either, the rows are sorted
	// all the same, or there is an index with all columns in the order of their bytes.
	if value == nil || len(s.key) == 1 || s.enums[s.lead] ||
		slices.ContainsFunc(s.key, func(k int) bool { return k != s.lead && (s.bytes[k] || s.enums[k]) }) {
		return nil
	}
	// Unnamed, as the column may be of another type the next time.
	r := tx.Conn().PgConn().ExecParams(ctx, s.uniformSQL(), s.uniformParams(value), nil, nil, nil).Read()
	if r.Err != nil {
		return fmt.Errorf("look for other values of %s: %w", s.columns[s.lead], r.Err)
	}
	if len(r.Rows) == 1 {
		s.fixed, s.fixedValue = s.lead, value
	}
	return nil
}

// uniformSQL gives a row if the first column of the key's index has one value only,
// $1, and values of it that are equal are the same. It reads that index on both sides
// of the value, where there is nothing then.
func (s *shape) uniformSQL() string {
	other := func(cmp string) string {
		return fmt.Sprintf("NOT EXISTS (SELECT FROM %s AS t WHERE t.%s %s $1::text::%s)", pgx.Identifier{s.table.Schema, s.table.Name}.Sanitize(), s.columns[s.lead], cmp, s.types[s.lead])
	}
	return "SELECT WHERE " + other("<") + " AND " + other(">") + fmt.Sprintf(` AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
		JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation WHERE a.attrelid = %d AND a.attname = $2::text AND NOT c.collisdeterministic)`, s.oid)
}

func (s *shape) uniformParams(value []byte) [][]byte {
	return [][]byte{value, []byte(s.table.Columns[s.lead].Name)}
}

// hashQuery reads keys and hashes, in the order of the keys, as they are
// compared on the way.
func (s *shape) hashQuery(q Question) (sql string, params [][]byte) {
	columns := make([]schema.HashColumn, len(s.table.Columns))
	for i := range columns {
		columns[i].Name = s.table.Columns[i].Name
	}
	var keys, left, where []string
	for _, k := range s.key {
		keys = append(keys, "t."+s.columns[k])
		if k != s.fixed {
			left = append(left, s.order("t."+s.columns[k], k))
		}
	}
	given := func(value []byte, k int) string {
		params = append(params, value)
		if s.enums[k] { // a label may be gone
			return fmt.Sprintf("$%d::text", len(params))
		}
		return fmt.Sprintf("$%d::text::%s", len(params), s.types[k])
	}
	bound := func(cmp string, key change.Row) {
		var right []string
		for i, k := range s.key {
			if k != s.fixed {
				right = append(right, s.order(given(key[i], k), k))
			}
		}
		where = append(where, "ROW("+strings.Join(left, ", ")+") "+cmp+" ROW("+strings.Join(right, ", ")+")")
	}
	if q.After != nil {
		bound(">", q.After)
	}
	if q.UpTo != nil {
		bound("<=", q.UpTo)
	}
	if s.fixed >= 0 {
		params = append(params, s.fixedValue)
		where = append(where, fmt.Sprintf("t.%s = $%d::text::%s", s.columns[s.fixed], len(params), s.types[s.fixed]))
	}
	sql = "SELECT " + strings.Join(keys, ", ") + ", " + schema.RowHash(columns) + " FROM " +
		pgx.Identifier{s.table.Schema, s.table.Name}.Sanitize() + " AS t"
	if len(where) > 0 {
		sql += " WHERE " + strings.Join(where, " AND ")
	}
	return sql + " ORDER BY " + strings.Join(left, ", ") + " LIMIT " + strconv.Itoa(q.Rows), params
}

// row returns the row of a key, nil where there is none.
func (s *shape) row(ctx context.Context, tx pgx.Tx, key change.Row) (change.Row, error) {
	where := make([]string, len(s.key))
	for i, k := range s.key {
		where[i] = fmt.Sprintf("t.%s OPERATOR(pg_catalog.=) $%d::text::%s", s.columns[k], i+1, s.types[k])
	}
	r := tx.Conn().PgConn().ExecParams(ctx, "SELECT t."+strings.Join(s.columns, ", t.")+" FROM "+
		pgx.Identifier{s.table.Schema, s.table.Name}.Sanitize()+" AS t WHERE "+strings.Join(where, " AND "), key, nil, nil, nil).Read()
	if r.Err != nil || len(r.Rows) == 0 {
		return nil, r.Err
	}
	return change.Row(r.Rows[0]), nil
}

// addDigest puts a digest of the WAL into pending.
func (s *stream) addDigest(content []byte) {
	table, value, err := change.DecodeDigest(content)
	if err != nil {
		// Anyone may emit a message; only DigestTable's mean something.
		s.c.c.Log.Error("a digest in the WAL is left out", "part", "capture", "err", err)
		return
	}
	s.begin()
	s.pending.Add(change.Digest, s.pending.AddTable(*table), nil, change.Row{value}, nil)
}

// addMending puts rows that are sent again into pending.
func (s *stream) addMending(content []byte) {
	m, err := change.DecodeMending(content)
	if err != nil {
		s.c.c.Log.Error("rows in the WAL are left out", "part", "capture", "err", err)
		return
	}
	s.begin()
	pos := s.pending.AddTable(m.Table)
	for _, row := range m.Rows {
		s.pending.Add(change.Update, pos, nil, row, nil)
		if !s.fits() {
			s.pending.Undo()
			s.leaveOut(LeftOut{Table: &m.Table, Key: rowKey(&m.Table, row), Row: row, Reason: TooLarge})
		}
	}
	for _, key := range m.Gone {
		s.pending.Add(change.Delete, pos, key, nil, nil)
	}
}
