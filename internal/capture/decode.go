package capture

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/agogsaas/holdfast/internal/change"
)

// The messages of pgoutput's protocol version 1, decoded without copying: what
// is returned is valid as long as the message.

// pgEpochMicros is 2000-01-01 in microseconds since 1970.
const pgEpochMicros = 946684800000000

var errMessage = errors.New("malformed replication message")

// maxColumns is PostgreSQL's own limit.
const maxColumns = 1664

// reader takes a message apart. After the first thing that is not there all
// others are zero; done tells.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b, r.bad = nil, true
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) u8() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if p := r.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if p := r.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (r *reader) cstring() string {
	for i, c := range r.b {
		if c == 0 {
			s := string(r.b[:i])
			r.b = r.b[i+1:]
			return s
		}
	}
	r.b, r.bad = nil, true
	return ""
}

func (r *reader) done(what string) error {
	if r.bad || len(r.b) != 0 {
		return fmt.Errorf("%w: %s", errMessage, what)
	}
	return nil
}

// tuple is a row as pgoutput sends it. Absent values are nil in Row and listed.
type tuple struct {
	row    change.Row
	absent []int
}

// empty is the empty string, which is not NULL.
var empty = []byte{}

// tuple reads a row of n columns into t, using its memory again.
func (r *reader) tuple(t *tuple, n int) {
	t.row, t.absent = t.row[:0], t.absent[:0]
	if int(r.u16()) != n {
		r.b, r.bad = nil, true
		return
	}
	for i := range n {
		switch r.u8() {
		case 't':
			v := r.take(int(r.u32()))
			if v == nil {
				v = empty
			}
			t.row = append(t.row, v)
		case 'n':
			t.row = append(t.row, nil)
		case 'u':
			t.row = append(t.row, nil)
			t.absent = append(t.absent, i)
		default:
			r.b, r.bad = nil, true
			return
		}
	}
}

// relationMessage is a table as the walsender announces it.
type relationMessage struct {
	id           uint32
	schema, name string
	identity     byte
	columns      []relationColumn
}

type relationColumn struct {
	name string
	typ  uint32
	key  bool
}

func (r *reader) relation() (relationMessage, error) {
	m := relationMessage{id: r.u32(), schema: r.cstring(), name: r.cstring(), identity: r.u8()}
	if m.schema == "" {
		m.schema = "pg_catalog"
	}
	n := int(r.u16())
	if n > maxColumns {
		return m, fmt.Errorf("%w: a relation with %d columns", errMessage, n)
	}
	for range n {
		c := relationColumn{key: r.u8()&1 != 0, name: r.cstring(), typ: r.u32()}
		r.u32() // type modifier
		m.columns = append(m.columns, c)
	}
	return m, r.done("relation")
}
