package capture

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/schema"
)

// shape is what the statements need to know of a table.
type shape struct {
	oid     uint32
	table   change.Table
	key     []int
	columns []string // quoted
	types   []string
	bytes   []bool // the column's order must be made that of its bytes
	enums   []bool // its order must be made that of its text: labels may stand in another order elsewhere
	inOrder bool   // the primary key's index has the columns in this order
	lead    int    // the first column of the index of the key
	// only is the condition that all rows meet, "" for none; it ends in a cast
	// to onlyType behind the parameter onlyValue.
	only, onlyValue, onlyType string
	onlyNull                  string
	// fixed is the key column that is the same in all rows, -1 if none. Bounds
	// and order do without it: beside the condition they would keep the index
	// from being entered at the bound.
	fixed      int
	fixedValue []byte // of a digest; a load's is onlyValue
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
	cat, err := schema.ReadRows(ctx, tx, t.Schema, t.Name)
	if err != nil {
		return nil, err
	}
	s := &shape{table: change.Table{Schema: t.Schema, Name: t.Name}, inOrder: true, fixed: -1, oid: cat.OID}
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
		if s.table.Columns[k].Name == cat.Key[0] {
			s.lead = k
		}
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

// keyInto returns a copy of a row's key, in key's memory.
func (s *shape) keyInto(key, row change.Row) change.Row {
	if key == nil {
		key = make(change.Row, len(s.key))
		for i := range key {
			key[i] = []byte{} // it stays other than nil, which is NULL
		}
	}
	for i, k := range s.key {
		key[i] = append(key[i][:0], row[k]...)
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

// rows reads the rows of the next chunk into w, limit at most and about rowBytes
// each if that is not 0, and returns the key of the last one, and whether it is the
// table's last.
func (s *shape) rows(ctx context.Context, tx pgx.Tx, after change.Row, w *change.RangeWriter, rowBytes, limit int) (last change.Row, done bool, err error) {
	w.Reset()
	limitBytes := chunkBytes
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
	fetch := 1
	if rowBytes > 0 {
		fetch = max(1, min(firstFetch, limitBytes/rowBytes))
	}
	for {
		fetched := 0
		r := pg.ExecParams(ctx, "FETCH "+strconv.Itoa(fetch)+" FROM holdfast_chunk", nil, nil, nil, nil)
		for r.NextRow() {
			if fetched++; w.Bytes() >= limitBytes {
				continue // larger than was to be expected: it is the next chunk's
			}
			row := r.Values()
			w.Add(row)
			last = s.keyInto(last, row)
		}
		if _, err := r.Close(); err != nil {
			return nil, false, err
		}
		switch {
		case w.Bytes() >= limitBytes:
			return last, false, nil
		case fetched < fetch:
			return last, w.Rows() < limit, nil
		}
		// As many as should fit, no more than a few times as many as before.
		fetch = max(1, min(fetchGrows*fetch, fetchMost, (limitBytes-w.Bytes())/(w.Bytes()/w.Rows()+1)))
	}
}

// stampSQL changes when anything in the catalog does that a shape is made of.
const stampSQL = `SELECT c.oid || ' ' || c.xmin || ' ' ||
	(SELECT pg_catalog.string_agg(a.ctid || ' ' || a.xmin || ' ' || y.xmin, ' ' ORDER BY a.attnum)
		FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_type y ON y.oid = a.atttypid WHERE a.attrelid = c.oid AND a.attnum > 0) || ' ' ||
	coalesce((SELECT pg_catalog.string_agg(i.ctid || ' ' || i.xmin, ' ' ORDER BY i.indexrelid) FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid), '')
	FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1)`

// shapeNow returns what the table looks like, which is read unless the catalog is
// as it was: that takes as long as half of a chunk.
func (l *loader) shapeNow(ctx context.Context, tx pgx.Tx, stamp string) (*shape, error) {
	if l.shape == nil || stamp == "" || stamp != l.stamp {
		s, err := shapeOf(ctx, tx, l.table)
		if err != nil {
			return nil, err
		}
		l.shape, l.stamp = s, stamp
	}
	s := *l.shape // limit changes it
	return &s, nil
}
