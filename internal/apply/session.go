package apply

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/internal/change"
)

// maxStatements is how many prepared statements one connection keeps. A region
// with a schema per facility would otherwise collect them without end.
const maxStatements = 400

// call is one statement of a pipeline.
type call struct {
	sql  string
	args []arg
	// op is the operation of the batch it belongs to, for errors and counts.
	op *opCall
}

// arg is one parameter: the values of a column as text[], or one value as text.
type arg struct {
	value  []byte
	binary bool
}

func textArg(s string) arg { return arg{value: []byte(s)} }

// session is a connection of the pool with its prepared statements.
type session struct {
	conn  *pgxpool.Conn // nil when the connection is not of the pool
	pg    *pgconn.PgConn
	stmts *statements
}

// statements are the prepared statements of one connection.
type statements struct {
	names map[string]string // by their SQL
	// dirty means that a pipeline failed half way, so that it is not known
	// which of its statements exist.
	dirty bool
}

func openSession(conn *pgxpool.Conn) *session {
	s := newSession(conn.Conn().PgConn())
	s.conn = conn
	return s
}

func newSession(pg *pgconn.PgConn) *session {
	const mark = "github.com/agogsaas/holdfast/internal/apply"
	stmts, ok := pg.CustomData()[mark].(*statements)
	if !ok {
		stmts = &statements{names: map[string]string{}}
		pg.CustomData()[mark] = stmts
	}
	return &session{pg: pg, stmts: stmts}
}

// run sends the calls in one pipeline and returns how many rows each of them
// affected. On an error, failed is the call that PostgreSQL refused, or -1, and
// nothing after it has run.
func (s *session) run(ctx context.Context, calls []call) (counts []int64, failed int, err error) {
	if len(s.stmts.names)+len(calls) > maxStatements && len(s.stmts.names) > 0 {
		if err := s.forget(ctx); err != nil {
			return nil, -1, err
		}
	}
	p := s.pg.StartPipeline(ctx)
	prepares := make([]bool, len(calls))
	for i := range calls {
		c := &calls[i]
		name, ok := s.stmts.names[c.sql]
		if !ok {
			name = "a" + strconv.Itoa(len(s.stmts.names))
			p.SendPrepare(name, c.sql, nil)
			s.stmts.names[c.sql] = name
			prepares[i] = true
		}
		values := make([][]byte, len(c.args))
		formats := make([]int16, len(c.args))
		for j, a := range c.args {
			values[j] = a.value
			if a.binary {
				formats[j] = 1
			}
		}
		p.SendQueryPrepared(name, values, formats, nil)
	}
	err = p.Sync()
	counts = make([]int64, len(calls))
	failed = -1
	for i := range calls {
		if err != nil {
			break
		}
		if prepares[i] {
			if _, err = p.GetResults(); err != nil {
				failed = i
				break
			}
		}
		var res any
		if res, err = p.GetResults(); err != nil {
			failed = i
			break
		}
		rr, ok := res.(*pgconn.ResultReader)
		if !ok {
			err = fmt.Errorf("statement answered with %T", res)
			break
		}
		var tag pgconn.CommandTag
		if tag, err = rr.Close(); err != nil {
			failed = i
			break
		}
		counts[i] = tag.RowsAffected()
	}
	if cerr := p.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		if _, ok := errors.AsType[*pgconn.PgError](err); !ok {
			failed = -1
		}
		s.stmts.dirty = true
	}
	return counts, failed, err
}

// forget drops all prepared statements of the connection.
func (s *session) forget(ctx context.Context) error {
	clear(s.stmts.names)
	s.stmts.dirty = false
	return s.exec(ctx, "DEALLOCATE ALL")
}

// query runs one statement and returns its rows as text.
func (s *session) query(ctx context.Context, sql string, args []arg) ([]change.Row, error) {
	values, formats := make([][]byte, len(args)), make([]int16, len(args))
	for i, a := range args {
		values[i] = a.value
		if a.binary {
			formats[i] = 1
		}
	}
	rr := s.pg.ExecParams(ctx, sql, values, nil, formats, nil)
	var out []change.Row
	for rr.NextRow() {
		row := make(change.Row, len(rr.Values()))
		for i, v := range rr.Values() {
			if v != nil {
				row[i] = append([]byte{}, v...)
			}
		}
		out = append(out, row)
	}
	_, err := rr.Close()
	return out, err
}

// exec runs statements without parameters in one round trip.
func (s *session) exec(ctx context.Context, sql string) error {
	_, err := s.pg.Exec(ctx, sql).ReadAll()
	return err
}

// rollback ends a failed transaction, so that the connection can be used on.
// A connection where that fails is closed by the pool when it is released.
func (s *session) rollback(ctx context.Context) {
	if s.pg.IsClosed() {
		return
	}
	if err := s.exec(ctx, "ROLLBACK"); err != nil {
		return
	}
	if s.stmts.dirty {
		_ = s.forget(ctx) // a connection that cannot is closed, and found so at its next use
	}
}

func (s *session) release() {
	if s.conn != nil {
		s.conn.Release()
	}
}

// close ends a connection that is not of the pool.
func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.pg.Close(ctx) // it is thrown away either way
}

// textArray packs one column of n rows as a binary text[]. A nil value is NULL.
func textArray(n int, at func(i int) []byte) arg {
	a, _ := arrayArg(binaryType{25, encodeText}, n, at)
	return a
}

// arrayArg packs one column of n rows as a binary array of the type. It
// reports false if a value does not fit.
func arrayArg(typ binaryType, n int, at func(i int) []byte) (arg, bool) {
	const header = 20
	size, nulls := header, uint32(0)
	for i := range n {
		v := at(i)
		size += 4 + max(len(v), 8)
		if v == nil {
			nulls = 1
		}
	}
	b := make([]byte, header, size)
	binary.BigEndian.PutUint32(b, 1) // dimensions
	binary.BigEndian.PutUint32(b[4:], nulls)
	binary.BigEndian.PutUint32(b[8:], typ.oid)
	binary.BigEndian.PutUint32(b[12:], uint32(n))
	binary.BigEndian.PutUint32(b[16:], 1) // lower bound
	for i := range n {
		v := at(i)
		if v == nil {
			b = append(b, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		var ok bool
		if b, ok = appendField(b, typ.encode, v); !ok {
			return arg{}, false
		}
	}
	return arg{value: b, binary: true}, true
}

// appendField appends a value with its length in front.
func appendField(b []byte, encode codec, v []byte) ([]byte, bool) {
	at := len(b)
	b, ok := encode(append(b, 0, 0, 0, 0), v)
	if ok {
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	return b, ok
}

// pack packs the columns of rows, the i-th column being at(row, i). It reports
// whether it had to send all of them as text.
func (a arrays) pack(rows []change.Row, at func(row change.Row, i int) []byte) (args []arg, asText bool) {
	args = make([]arg, len(a.columns))
	for i, c := range a.columns {
		column := func(n int) []byte { return at(rows[n], i) }
		if !a.binary(c) {
			args[i] = textArray(len(rows), column)
			continue
		}
		var ok bool
		if args[i], ok = arrayArg(a.shape.to[c].array, len(rows), column); !ok {
			a.asText = true
			return a.pack(rows, at)
		}
	}
	return args, a.asText
}

// packColumns packs whole rows.
func (sh *shape) packColumns(rows []change.Row, columns []int) (args []arg, asText bool) {
	return arrays{sh, columns, false}.pack(rows, func(row change.Row, i int) []byte { return row[columns[i]] })
}
