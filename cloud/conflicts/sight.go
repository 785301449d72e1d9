package conflicts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/apply"
)

// errNotSynced: where the row would be is not known any more.
var errNotSynced = errors.New("the table is no longer synced")

// sight is a conflict's row as the region has it now, beside both versions as
// the region's table would keep them.
type sight struct {
	r           *record
	layout      *apply.Layout
	where       row // what finds the row: its key, and the facility where a column tells
	key         row // what names it in the region's table
	now         row // nil: there is no such row
	edge, cloud row
}

// look reads the row. With lock nobody else changes it until tx ends.
func (r *record) look(ctx context.Context, tx pgx.Tx, lock bool) (*sight, error) {
	if !r.Registered {
		return nil, fmt.Errorf("%w, so where its rows are in the region is not known", errNotSynced)
	}
	t := apply.Table{Schema: r.Schema, Name: r.Table, FacilityColumn: *r.FacilityColumn, TargetSchema: *r.Pattern}
	s := &sight{r: r, where: maps.Clone(r.Key)}
	if t.FacilityColumn != "" {
		id := r.Facility
		s.where[t.FacilityColumn] = &id // never another facility's row
	}
	var err error
	if s.layout, err = apply.ReadLayout(ctx, tx, t.SchemaFor(r.Facility), r.Table); err != nil {
		return nil, err
	}
	s.key = s.layout.Key(s.where, slices.Collect(maps.Keys(r.Key)), t.FacilityColumn)
	if s.now, err = s.layout.ReadRow(ctx, tx, s.where, lock); err != nil {
		return nil, err
	}
	for _, side := range []struct {
		from row
		to   *row
	}{{r.EdgeRow, &s.edge}, {r.CloudRow, &s.cloud}} {
		if side.from == nil {
			continue
		}
		if *side.to, err = s.layout.Normalize(ctx, tx, side.from); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *sight) version(side string) row {
	if side == cloud {
		return s.cloud
	}
	return s.edge
}

// stood returns the value that a column had after the decision. It is not
// known of a column that was added since.
func (s *sight) stood(column string) (v *string, known bool) {
	first, second := s.cloud, s.edge
	if s.r.stoodSide(column) == edge {
		first, second = s.edge, s.cloud
	}
	if v, ok := first[column]; ok {
		return v, true
	}
	v, known = second[column]
	return v, known
}

// stoodRow reports whether there was a row after the decision.
func (s *sight) stoodRow() bool {
	switch s.r.Decision {
	case edge:
		return s.edge != nil
	case cloud:
		return s.cloud != nil
	}
	return s.edge != nil || s.cloud != nil
}

// isChanged reports whether a column has another value than after the decision.
func (s *sight) isChanged(column string) bool {
	if s.now == nil || !s.stoodRow() {
		return false // the whole row is
	}
	v, known := s.stood(column)
	now, there := s.now[column]
	return known && there && !equal(v, now)
}

// changed reports whether the row is another than after the decision.
func (s *sight) changed() bool {
	if (s.now != nil) != s.stoodRow() {
		return true
	}
	return slices.ContainsFunc(s.layout.Columns, func(c apply.LayoutColumn) bool { return s.isChanged(c.Name) })
}

// seen names the row as it is now.
func (s *sight) seen() string {
	b, err := json.Marshal(s.now) // maps are written in the order of their keys
	if err != nil {
		panic(err) // strings only: cannot fail
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

func equal(a, b *string) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
