package schema

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/proto"
)

// Sequence gives a column of new rows its numbers: by the column's default, as
// its identity, or because the column owns it.
type Sequence struct {
	Column              string
	Schema, Name        string
	Increment, Min, Max int64
	// Movable is true when the role that asked may read and set it.
	Movable bool
}

// Quoted is the sequence's name for SQL.
func (s *Sequence) Quoted() string { return pgx.Identifier{s.Schema, s.Name}.Sanitize() }

// Apart reports whether the sequence leaves numbers out, as one does that shares
// them with the other side's.
func (s *Sequence) Apart() bool { return s.Increment != 1 || s.Min > 1 }

// Querier is a connection, a transaction or a pool.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Sequences lists those of the tables with these OIDs.
func Sequences(ctx context.Context, q Querier, tables ...uint32) (map[uint32][]Sequence, error) {
	rows, err := q.Query(ctx, `WITH used AS (
			SELECT e.adrelid AS relation, e.adnum AS attnum, d.refobjid AS oid FROM pg_catalog.pg_attrdef e
			JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = e.oid
				AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
			WHERE e.adrelid = ANY ($1)
			UNION SELECT d.refobjid, d.refobjsubid, d.objid FROM pg_catalog.pg_depend d
			WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = ANY ($1) AND d.refobjsubid > 0
				AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i'))
		SELECT u.relation, a.attname::text, n.nspname::text, s.relname::text, p.seqincrement, p.seqmin, p.seqmax,
			pg_catalog.has_sequence_privilege(s.oid, 'SELECT') AND pg_catalog.has_sequence_privilege(s.oid, 'UPDATE')
		FROM used u
		JOIN pg_catalog.pg_sequence p ON p.seqrelid = u.oid
		JOIN pg_catalog.pg_class s ON s.oid = u.oid
		JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
		JOIN pg_catalog.pg_attribute a ON a.attrelid = u.relation AND a.attnum = u.attnum
		ORDER BY 2, 3, 4`, tables)
	if err != nil {
		return nil, err
	}
	list := map[uint32][]Sequence{}
	var oid uint32
	var s Sequence
	_, err = pgx.ForEachRow(rows, []any{&oid, &s.Column, &s.Schema, &s.Name, &s.Increment, &s.Min, &s.Max, &s.Movable}, func() error {
		list[oid] = append(list[oid], s)
		return nil
	})
	return list, err
}

// SameNumbers says which keys the region's table takes from sequences that give
// out the same numbers as the facility's own: where people or programs add rows
// on both sides, two rows get one key. The rows cross all the same, and so it
// only needs to be known.
func SameNumbers(region *Table, t proto.SyncedTable) []proto.Problem {
	if t.Class != classFact {
		return nil // one side adds the rows
	}
	var list []proto.Problem
	for i := range region.Counted {
		s := &region.Counted[i]
		if s.Apart() {
			continue
		}
		list = append(list, proto.Problem{
			Text: fmt.Sprintf("%s of %s is counted by a sequence on each side: rows that are added at a facility and in the region get the same numbers", s.Column, region.ID()),
			Remedy: fmt.Sprintf("Add rows on one side only, use uuid keys, or let one side count in odd numbers and the other in even ones: "+
				"ALTER SEQUENCE %s INCREMENT BY 2 RESTART WITH <even, above all there are>; and at the facility the same with an odd number.", s.Quoted()),
		})
	}
	return list
}
