package sim

import (
	"cmp"
	"fmt"
	"maps"
	"math"
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
//
// When a box is replaced (replace.go) a book begins anew, from the rows that the region
// has then. Until the new box has them all, and has sent its own, ranges are under
// way in both directions, and a range stands against what the cloud changes
// meanwhile: any of the cloud's changes up to then may be refused. Nor is a range a
// transaction: the cloud may see rows in it whose count has not come yet.

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
	// met is how many of the facility's transactions there were when the cloud's was made.
	met int
	// untold: its row without a key may not have been sent, as its box did not know yet
	// what is synced.
	untold bool
	// early: its box had not been told that it has all rows. Where it lost its slot
	// meanwhile, what it removed unread may come down once more.
	early bool
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
	// base is what the rows were when the box was replaced, for the edge's preference
	// and for the cloud's. Of the transactions before only the numbers are left.
	base map[row][2]string
	// clear is the first of the cloud's transactions that no range of a new box
	// can stand against.
	clear int
}

// unclear is the clear of a book while the new box's ranges are under way.
const unclear = math.MaxInt

// young reports whether a transaction of the facility was made by a box that did
// not have all of its rows yet.
func (b *book) young(t *tx) bool { return t.saw < b.clear }

func (b *book) rows() []row {
	rows := slices.Collect(maps.Keys(b.base))
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
	clouds           bool // have the preference
	base             map[row][2]string
	preferred, other []*tx
}

func (b *book) edges() view  { return view{false, b.base, b.edge, b.cloud} }
func (b *book) clouds() view { return view{true, b.base, b.cloud, b.edge} }

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
	value, i := v.base[r][0], 0
	if v.clouds {
		value = v.base[r][1]
	}
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

// expected returns what the row may be at rest, as check reads it; "" is that there
// is none. It is more than one thing only of a box that took another's place.
func (b *book) expected(r row) []string {
	if r.table != "job" {
		return b.outcomes(r, func(b *book) view { return b.of(r.table) })
	}
	var all []string
	for _, done := range b.outcomes(r, (*book).edges) {
		for _, due := range b.outcomes(r, (*book).clouds) {
			all = append(all, strings.TrimSpace(done+" "+due))
		}
	}
	return all
}

// outcomes are what may become of the row in a view: what the books say, and what they
// say when the last of the cloud's changes are refused that a range may have met.
func (b *book) outcomes(r row, of func(*book) view) []string {
	v := of(b)
	all := []string{v.expected(r)}
	for cut := *b; cut.forget(r); {
		all = append(all, of(&cut).expected(r))
	}
	for n := range b.met(r) {
		cut := b.seenInRanges(n + 1)
		all = append(all, of(&cut).expected(r))
	}
	if v.clouds && slices.ContainsFunc(b.edge, func(t *tx) bool { return t.on(r) != nil && b.young(t) }) {
		// The cloud's last word of before may have been on its way when the new box came.
		all = append(all, b.base[r][1])
	}
	if last := b.lastEdge(r); last != nil && last.untold && last.on(r).value == "" {
		// A new box that did not know yet what is synced made a row and removed it again:
		// what is not there when its table is read does not remove what the region has.
		cut := *b
		cut.edge = slices.DeleteFunc(slices.Clone(b.edge), func(t *tx) bool { return t.untold && t.on(r) != nil })
		all = append(all, cut.outcomes(r, of)...)
	}
	return all
}

// lastEdge is the facility's last transaction on the row, nil if there is none.
func (b *book) lastEdge(r row) *tx {
	for _, t := range slices.Backward(b.edge) {
		if t.on(r) != nil {
			return t
		}
	}
	return nil
}

// met is how many of the facility's transactions there were when the cloud changed the
// row while a new box's ranges were under way.
func (b *book) met(r row) (n int) {
	for _, t := range b.cloud {
		if t.n < b.clear && t.on(r) != nil {
			n = max(n, t.met)
		}
	}
	return n
}

// seenInRanges is the book as it is if the cloud had seen n of the facility's transactions
// while a new box's ranges were under way: a table's rows may be there before the count.
func (b *book) seenInRanges(n int) book {
	cut := *b
	cut.cloud = slices.Clone(b.cloud)
	for i, t := range b.cloud {
		if saw := min(n, t.met); t.n < b.clear && saw > t.saw {
			more := *t
			more.saw = saw
			cut.cloud[i] = &more
		}
	}
	return cut
}

// forget takes the cloud's last change of the row that a range may have met.
func (b *book) forget(r row) bool {
	for i := len(b.cloud) - 1; i >= 0; i-- {
		if t := b.cloud[i]; t.n < b.clear && t.on(r) != nil {
			b.cloud = slices.Delete(slices.Clone(b.cloud), i, i+1)
			return true
		}
	}
	return false
}

// losers returns the refused changes that must be in the audit: of several in a
// row only the last, for it had replaced the ones before.
func (b *book) losers() map[row][]string {
	lost := map[row][]string{}
	for _, r := range b.rows() {
		v := b.of(r.table)
		for i, t := range v.other {
			w := t.on(r)
			if r.table == "job" || w == nil {
				continue
			}
			by := v.refusedBy(t, r)
			if by == nil {
				continue
			}
			cloud := t
			if v.clouds {
				cloud = by
			}
			if cloud.n < b.clear {
				continue // where a range decided it, or a box that is gone had not sent its word
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
