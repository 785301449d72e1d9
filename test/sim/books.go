package sim

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// The books say what must come out. Every transaction notes how many of the
// other side's transactions it had seen: each side counts its own in a row that
// travels with them, and reads the other's count in the same snapshot, under a
// lock that keeps newer ones from coming in before it commits.
//
// One side has the preference: the edge for rows of doc, the cloud for those of
// plan, and in job each for columns of its own. A change of the other side is
// refused if and only if the side with the preference changed the row in a
// transaction that it had not seen and that had not seen it. All others stand,
// each behind what it had seen. So the last of them is the row's value.

// row names a row of a facility.
type row struct {
	table string
	key   int
}

func (r row) String() string { return fmt.Sprint(r.table, " ", r.key) }

// write is one transaction's last word on one row.
type write struct {
	row
	value string // "" is a delete
}

// tx is a transaction of one side of one facility, number n of that side.
type tx struct {
	n      int
	saw    int // of the other side's transactions
	writes []write
	memos  []string // what it did to memo, to be read when a seed fails
}

func (t *tx) on(r row) *write {
	for i := range t.writes {
		if t.writes[i].row == r {
			return &t.writes[i]
		}
	}
	return nil
}

// book is all that happened to one facility's rows.
type book struct {
	edge, cloud []*tx
}

func (b *book) rows() []row {
	var rows []row
	for _, t := range slices.Concat(b.edge, b.cloud) {
		for _, w := range t.writes {
			if !slices.Contains(rows, w.row) {
				rows = append(rows, w.row)
			}
		}
	}
	slices.SortFunc(rows, func(x, y row) int { return cmp.Or(cmp.Compare(x.table, y.table), cmp.Compare(x.key, y.key)) })
	return rows
}

// view is the book as one side's preference has it.
type view struct {
	preferred, other []*tx
}

func (b *book) edges() view  { return view{b.edge, b.cloud} }
func (b *book) clouds() view { return view{b.cloud, b.edge} }

// of is the view that a table's policy takes, where it takes one.
func (b *book) of(table string) view {
	if table == "plan" {
		return b.clouds()
	}
	return b.edges()
}

// refusedBy returns the preferred side's transaction that stands in the way of
// the other side's, nil if none does.
func (v view) refusedBy(t *tx, r row) *tx {
	for _, p := range v.preferred {
		if p.n > t.saw && p.saw < t.n && p.on(r) != nil {
			return p
		}
	}
	return nil
}

// expected returns the row's value at rest, "" if there is no row.
func (v view) expected(r row) string {
	var first, second []*tx
	for _, p := range v.preferred {
		if p.on(r) != nil {
			first = append(first, p)
		}
	}
	for _, t := range v.other {
		if t.on(r) != nil && v.refusedBy(t, r) == nil {
			second = append(second, t)
		}
	}
	// Merge: the other side's change stands behind those that it had seen.
	value, i := "", 0
	for _, t := range second {
		for i < len(first) && first[i].n <= t.saw {
			i++
		}
		value = t.on(r).value
	}
	for ; i < len(first); i++ {
		value = first[i].on(r).value
	}
	return value
}

// expected returns the row as check reads it, "" if there is none.
func (b *book) expected(r row) string {
	if r.table != "job" {
		return b.of(r.table).expected(r)
	}
	return b.edges().expected(r) + " " + b.clouds().expected(r)
}

// losers returns the refused changes that must be in the audit: of several in a
// row only the last, for it had replaced the ones before.
func (b *book) losers() map[row][]string {
	lost := map[row][]string{}
	for _, r := range b.rows() {
		v := b.of(r.table)
		for i, t := range v.other {
			w := t.on(r)
			if r.table == "job" || w == nil || v.refusedBy(t, r) == nil {
				continue
			}
			later := slices.ContainsFunc(v.other[i+1:], func(t *tx) bool { return t.on(r) != nil })
			if !later && w.value != "" {
				lost[r] = append(lost[r], w.value)
			}
		}
	}
	return lost
}

// story tells what happened to one row, for a failure.
func (b *book) story(r row) string {
	var s strings.Builder
	for _, side := range []struct {
		name, other string
		list        []*tx
		view        view
	}{{"edge", "cloud", b.edge, b.clouds()}, {"cloud", "edge", b.cloud, b.edges()}} {
		for _, t := range side.list {
			w := t.on(r)
			if w == nil {
				continue
			}
			fmt.Fprintf(&s, "\n  %s %d (had seen %d): %q", side.name, t.n, t.saw, w.value)
			if p := side.view.refusedBy(t, r); p != nil {
				fmt.Fprintf(&s, ", neither it nor %s %d had seen the other", side.other, p.n)
			}
		}
	}
	return s.String()
}
