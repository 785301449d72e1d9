package apply

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/schema"
)

// Foreign keys are not enforced where changes are applied: the sender has
// enforced them. So a row whose parent is parked would arrive without it. Here
// the target's catalog says which values refer to which; it is asked only
// while something waits.

// links are a target table's foreign keys, both ways.
type links struct {
	refs []link
	// keys are the lists of its own columns that others refer to.
	keys [][]string
}

// link is a foreign key: the values of columns are those of refColumns in parent.
type link struct {
	parent              string // schema.name
	columns, refColumns []string
}

const linksSQL = `SELECT n.nspname || '.' || c.relname, k.conrelid = $1, k.confrelid = $1,
  ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(n, o) JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.o),
  ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(n, o) JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.o)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND (k.conrelid = $1 OR k.confrelid = $1)`

// linksOf returns the table's foreign keys, or nil if there is no such table.
func (c *catalog) linksOf(ctx context.Context, s *session, at schema.Name) (*links, error) {
	id := at.Schema + "." + at.Name
	c.mu.Lock()
	l := c.links[id]
	c.mu.Unlock()
	if l != nil {
		return l, nil
	}
	t, err := c.target(ctx, s, at, nil)
	if err != nil || t == nil {
		return nil, err
	}
	rows, err := s.conn.Conn().Query(ctx, linksSQL, t.oid)
	if err != nil {
		return nil, fmt.Errorf("read the foreign keys of %s: %w", id, err)
	}
	l = &links{}
	var one link
	var from, to bool
	_, err = pgx.ForEachRow(rows, []any{&one.parent, &from, &to, &one.columns, &one.refColumns}, func() error {
		k := link{one.parent, slices.Clone(one.columns), slices.Clone(one.refColumns)}
		if from {
			l.refs = append(l.refs, k)
		}
		if to && !slices.ContainsFunc(l.keys, func(have []string) bool { return slices.Equal(have, k.refColumns) }) {
			l.keys = append(l.keys, k.refColumns)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the foreign keys of %s: %w", id, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.links) >= maxCatalog {
		clear(c.links)
	}
	c.links[id] = l
	return l, nil
}

// valueHash names a value of the target's columns. It reports false where a
// column is NULL or not sent: then it refers to nothing, or to what it did before.
func valueHash(target string, t *change.Table, c *change.Change, columns, as []string) (keyHash, bool) {
	type pair struct {
		name  string
		value []byte
	}
	pairs := make([]pair, len(columns))
	for i, name := range columns {
		n := slices.IndexFunc(t.Columns, func(col change.Column) bool { return col.Name == name })
		if n < 0 || c.Row[n] == nil || slices.Contains(c.Absent, n) {
			return keyHash{}, false
		}
		pairs[i] = pair{as[i], c.Row[n]}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	words := [][]byte{[]byte("value"), []byte(target)}
	for _, p := range pairs {
		words = append(words, []byte(p.name), p.value)
	}
	return hashOf(words...), true
}

// provides are the values of the change's row that other rows may refer to and
// that the target does not have as long as it is parked.
func (l *links) provides(target string, t *change.Table, c *change.Change) (list []keyHash) {
	if l == nil || c.Row == nil || c.Op == change.Update && c.Key == nil {
		return nil
	}
	for _, columns := range l.keys {
		if h, ok := valueHash(target, t, c, columns, columns); ok {
			list = append(list, h)
		}
	}
	return list
}

// needs are the values that the change's row refers to.
func (l *links) needs(target string, t *change.Table, c *change.Change) (list []keyHash) {
	if l == nil || c.Row == nil {
		return nil
	}
	own := l.provides(target, t, c)
	for _, k := range l.refs {
		if h, ok := valueHash(k.parent, t, c, k.columns, k.refColumns); ok && !slices.Contains(own, h) {
			list = append(list, h)
		}
	}
	return list
}
