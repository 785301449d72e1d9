package sim

import (
	"fmt"
	"slices"
	"strings"
)

// The books say what must come out. Every transaction notes how many of the
// other side's transactions it had seen: each side counts its own in a row that
// travels with them, and reads the other's count in the same snapshot, under a
// lock that keeps newer ones from coming in before it commits.
//
// A cloud change D of a row is refused if and only if the edge changed the row
// in a transaction that D had not seen and that had not seen D. All others
// stand, each behind what it had seen. So the last of them is the row's value.

// write is one transaction's last word on one row.
type write struct {
	key   int
	value string // "" is a delete
}

// tx is a transaction of one side of one facility, number n of that side.
type tx struct {
	n      int
	saw    int // of the other side's transactions
	writes []write
	memos  []string // what it did to memo, to be read when a seed fails
}

func (t *tx) on(key int) *write {
	for i := range t.writes {
		if t.writes[i].key == key {
			return &t.writes[i]
		}
	}
	return nil
}

// book is all that happened to one facility's rows.
type book struct {
	edge, cloud []*tx
}

func (b *book) keys() []int {
	var keys []int
	for _, t := range slices.Concat(b.edge, b.cloud) {
		for _, w := range t.writes {
			if !slices.Contains(keys, w.key) {
				keys = append(keys, w.key)
			}
		}
	}
	slices.Sort(keys)
	return keys
}

// refusedBy returns the edge's transaction that stands in the way of the
// cloud's, nil if none does.
func (b *book) refusedBy(d *tx, key int) *tx {
	for _, e := range b.edge {
		if e.n > d.saw && e.saw < d.n && e.on(key) != nil {
			return e
		}
	}
	return nil
}

// expected returns the row's value at rest, "" if there is no row.
func (b *book) expected(key int) string {
	var edge, cloud []*tx
	for _, e := range b.edge {
		if e.on(key) != nil {
			edge = append(edge, e)
		}
	}
	for _, d := range b.cloud {
		if d.on(key) != nil && b.refusedBy(d, key) == nil {
			cloud = append(cloud, d)
		}
	}
	// Merge: a cloud change stands behind the edge's that it had seen.
	value, i := "", 0
	for _, d := range cloud {
		for i < len(edge) && edge[i].n <= d.saw {
			i++
		}
		value = d.on(key).value
	}
	for ; i < len(edge); i++ {
		value = edge[i].on(key).value
	}
	return value
}

// losers returns the refused changes that must be in the audit: of several of
// the cloud in a row only the last, for it had replaced the ones before.
func (b *book) losers() map[int][]string {
	lost := map[int][]string{}
	for _, key := range b.keys() {
		for i, d := range b.cloud {
			w := d.on(key)
			if w == nil || b.refusedBy(d, key) == nil {
				continue
			}
			later := slices.ContainsFunc(b.cloud[i+1:], func(t *tx) bool { return t.on(key) != nil })
			if !later && w.value != "" {
				lost[key] = append(lost[key], w.value)
			}
		}
	}
	return lost
}

// story tells what happened to one row, for a failure.
func (b *book) story(key int) string {
	var s strings.Builder
	tell := func(side string, list []*tx) {
		for _, t := range list {
			if w := t.on(key); w != nil {
				fmt.Fprintf(&s, "\n  %s %d (had seen %d): %q", side, t.n, t.saw, w.value)
				if side == "cloud" {
					if e := b.refusedBy(t, key); e != nil {
						fmt.Fprintf(&s, " refused by edge %d", e.n)
					}
				}
			}
		}
	}
	tell("edge", b.edge)
	tell("cloud", b.cloud)
	return s.String()
}
