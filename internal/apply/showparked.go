package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agogsaas/holdfast/internal/change"
)

// Blocker is the row of the target that a parked change collides with.
type Blocker struct {
	Schema, Table string
	Columns       []string
	Values        []*string // as text; nil is NULL
}

const blockedSQL = `SELECT id, schema_name, table_name, op, key, row, old_key, columns, epoch, seq, NULL::bigint AS micros,
  facility, constraint_name FROM holdfast.parked WHERE id = $1 AND reason = 'unique' AND row IS NOT NULL`

// Blocker returns the row that has the unique value of a parked change, nil if
// there is none or it cannot be told. reg must be the registry of now.
func (p *Pool) Blocker(ctx context.Context, reg *Registry, id int64) (*Blocker, error) {
	s, err := p.session(ctx)
	if err != nil {
		return nil, err
	}
	defer s.release()
	rows, err := s.conn.Conn().Query(ctx, blockedSQL, id)
	if err != nil {
		return nil, fmt.Errorf("read parked change %d: %w", id, err)
	}
	type blocked struct {
		kept
		Facility, Constraint string
	}
	k, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (b blocked, err error) {
		return b, row.Scan(&b.ID, &b.Schema, &b.Table, &b.Op, &b.Key, &b.Row, &b.OldKey, &b.Columns, &b.Epoch, &b.Seq, &b.Micros, &b.Facility, &b.Constraint)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read parked change %d: %w", id, err)
	}
	parked, err := k.restore()
	if err != nil {
		return nil, err
	}
	entry, ok := reg.Table(k.Schema, k.Table)
	if !ok {
		return nil, nil
	}
	t, err := readTarget(ctx, s.conn.Conn(), place{k.Facility, Up}.schema(&entry), k.Table)
	if err != nil || t == nil {
		return nil, err
	}
	b, err := t.blocker(ctx, s, parked, k.Constraint)
	if _, row := causeOf(err, parked.table.ID(), Up); row {
		return nil, nil // a value that does not fit, say
	}
	return b, err
}

const constraintSQL = uniqueIndexHead + ` AND (SELECT relname FROM pg_class WHERE oid = i.indexrelid) = $2`

// blocker looks for the row in the unique index of the name.
func (t *target) blocker(ctx context.Context, s *session, p *parkedRow, name string) (*Blocker, error) {
	rows, err := s.conn.Conn().Query(ctx, constraintSQL, t.oid, name)
	if err != nil {
		return nil, fmt.Errorf("read the index %s: %w", name, err)
	}
	u, err := pgx.CollectExactlyOneRow(rows, scanBlockIndex)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the index %s: %w", name, err)
	}
	sql, args, ok := t.blockerSQL(u, p.table, p.change)
	if !ok {
		return nil, nil
	}
	if err := s.exec(ctx, "BEGIN READ ONLY"); err != nil {
		return nil, err
	}
	defer s.rollback(ctx)
	if len(u.schemas) > 0 {
		if err := s.exec(ctx, "SET LOCAL search_path = pg_catalog, "+quoteAll(u.schemas)); err != nil {
			return nil, err
		}
	}
	found, err := s.conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("look for the row in the way: %w", err)
	}
	b := &Blocker{Schema: t.schema, Table: t.name}
	for _, c := range t.columns {
		b.Columns = append(b.Columns, c.name)
	}
	b.Values, err = pgx.CollectExactlyOneRow(found, func(row pgx.CollectableRow) ([]*string, error) {
		values := make([]*string, len(t.columns))
		into := make([]any, len(values))
		for i := range values {
			into[i] = &values[i]
		}
		return values, row.Scan(into...)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for the row in the way: %w", err)
	}
	return b, nil
}

// blockerSQL finds the row whose values in the index are those of the change's
// row. It reports false when the change does not have all of them.
func (t *target) blockerSQL(u blockIndex, table *change.Table, c *change.Change) (sql string, args []any, ok bool) {
	var sent, all, same []string
	for _, name := range u.columns {
		n := slices.IndexFunc(table.Columns, func(col change.Column) bool { return col.Name == name })
		if n < 0 || slices.Contains(c.Absent, n) {
			return "", nil, false
		}
		var value *string
		if c.Row[n] != nil {
			v := string(c.Row[n])
			value = &v
		}
		args = append(args, value)
		sent = append(sent, t.columns[t.byName[name]].cast(fmt.Sprintf("$%d::text", len(args)))+" AS "+quote(name))
	}
	for _, col := range t.columns {
		all = append(all, "t."+quote(col.name)+"::text")
	}
	equal := "="
	if u.nullsEqual {
		equal = "IS NOT DISTINCT FROM"
	}
	var have, news []string
	for i, v := range u.values {
		have = append(have, fmt.Sprintf("%s AS v%d", v, i))
		news = append(news, fmt.Sprintf("%s AS v%d", v, i))
		same = append(same, fmt.Sprintf("have.v%d %s new.v%d", i, equal, i))
	}
	return fmt.Sprintf(`SELECT %s FROM (SELECT ctid AS at, tableoid AS part, %s FROM %s AS t WHERE (%s)) AS have
 JOIN (SELECT %s FROM (SELECT %s) AS r) AS new ON %s JOIN %s AS t ON t.ctid = have.at AND t.tableoid = have.part LIMIT 1`,
		strings.Join(all, ", "), strings.Join(have, ", "), t.from(), u.condition,
		strings.Join(news, ", "), strings.Join(sent, ", "), strings.Join(same, " AND "), t.from()), args, true
}

// CheckValue returns what the database says of a text that is no value of the
// type; nothing where it is one, or where the database has no such type.
func CheckValue(ctx context.Context, tx pgx.Tx, typ, text string) (problem string, err error) {
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { // behind a savepoint
		var name *string // as PostgreSQL writes it: the facility's word may be anything
		if err := tx.QueryRow(ctx, `SELECT format_type(to_regtype($1), NULL)`, typ).Scan(&name); err != nil || name == nil {
			return err
		}
		_, err := tx.Exec(ctx, "SELECT CAST($1::text AS "+*name+")", text)
		return err
	})
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case ok && len(pg.Code) == 5 && (pg.Code[:2] == "22" || pg.Code[:2] == "23"):
		return pg.Message, nil
	case ok && strings.HasPrefix(pg.Code, "42"):
		return "", nil // no type's name
	}
	return "", err
}
