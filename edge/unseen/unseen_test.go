package unseen

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/queue"
)

const epoch1 = 1 << 32

func openQueue(t testing.TB, o queue.Options) *queue.Queue {
	t.Helper()
	o.Dir = t.TempDir()
	q, err := queue.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

func settled(context.Context) error { return nil }

func row(v ...any) change.Row {
	r := make(change.Row, len(v))
	for i, x := range v {
		if x != nil {
			r[i] = []byte(fmt.Sprint(x))
		}
	}
	return r
}

// tables have their columns in another order than the one that is asked for.
var tables = []change.Table{
	{Schema: "public", Name: "orders", Columns: []change.Column{{Name: "id", Type: "integer", Key: true}, {Name: "v", Type: "text"}, {Name: "big", Type: "text"}}},
	{Schema: "public", Name: "lines", Columns: []change.Column{
		{Name: "no", Type: "text", Key: true}, {Name: "v", Type: "text"}, {Name: "big", Type: "text"}, {Name: "line", Type: "integer", Key: true},
	}},
}

func asks(table int, keys ...change.Row) apply.Keys {
	k := apply.Keys{Schema: "public", Table: tables[table].Name, Columns: []string{"id"}, Rows: keys}
	if table == 1 {
		k.Columns = []string{"line", "no"}
	}
	return k
}

// naive is what Touched must return, found out by walking over everything.
type naive struct {
	at      change.Position
	by      string
	op      change.Op
	made    bool
	swept   bool // with all rows of a range
	absent  []string
	matches func(table int, key change.Row) bool // key in column order
}

type writer struct {
	t    testing.TB
	rng  *rand.Rand
	q    *queue.Queue
	pos  change.Position
	log  []naive
	keys int
}

func (w *writer) key(table int) change.Row {
	if table == 0 {
		return row(w.rng.IntN(w.keys))
	}
	return row(fmt.Sprint("n", w.rng.IntN(8)), w.rng.IntN(w.keys/8))
}

func full(table int, key change.Row, big any) change.Row {
	if table == 0 {
		return change.Row{key[0], row("v")[0], row(big)[0]}
	}
	return change.Row{key[0], row("v")[0], row(big)[0], key[1]}
}

func equalKeys(a, b change.Row) bool {
	return slices.EqualFunc(a, b, func(x, y []byte) bool { return string(x) == string(y) })
}

func (w *writer) change() change.Change {
	n := w.rng.IntN(2)
	key := w.key(n)
	it := naive{at: w.pos, matches: func(table int, k change.Row) bool { return table == n && equalKeys(k, key) }}
	c := change.Change{Table: n}
	switch what := w.rng.IntN(100); {
	case what < 30:
		c.Op, c.Row, it.made = change.Insert, full(n, key, "b"), true
	case what < 55:
		c.Op, c.Row, c.Absent, it.absent = change.Update, full(n, key, nil), []int{2}, []string{"big"}
	case what < 70:
		c.Op, c.Row = change.Update, full(n, key, "b")
	case what < 80:
		to := w.key(n)
		if equalKeys(key, to) {
			return w.change()
		}
		c.Op, c.Key, c.Row = change.Update, key, full(n, to, "b")
		w.log = append(w.log, it)
		it = naive{at: w.pos, made: true, matches: func(table int, k change.Row) bool { return table == n && equalKeys(k, to) }}
	case what < 97:
		c.Op, c.Key = change.Delete, key
	case what < 98:
		c.Op = change.Truncate
		it.swept, it.matches = true, func(table int, _ change.Row) bool { return table == n }
	default:
		a, b := w.key(n), w.key(n)
		num := func(r change.Row) int { v, _ := strconv.Atoi(string(r[len(r)-1])); return v }
		less := func(x, y change.Row) bool {
			return n == 1 && string(x[0]) != string(y[0]) && string(x[0]) < string(y[0]) || (n == 0 || string(x[0]) == string(y[0])) && num(x) < num(y)
		}
		if less(b, a) {
			a, b = b, a
		}
		c.Op, c.Range = change.Range, &change.KeyRange{After: a, UpTo: b}
		in := func(k change.Row) bool { return less(a, k) && !less(b, k) }
		listed := in(key)
		if listed {
			c.Range.Rows = []change.Row{full(n, key, "b")}
		}
		w.log = append(w.log, naive{at: w.pos, made: true, matches: func(table int, k change.Row) bool { return table == n && listed && equalKeys(k, key) }})
		it.swept, it.matches = true, func(table int, k change.Row) bool { return table == n && in(k) && !equalKeys(k, key) }
	}
	it.op = c.Op
	w.log = append(w.log, it)
	return c
}

// frames appends some frames; big ones are transactions in parts.
func (w *writer) frames() {
	w.t.Helper()
	var list []change.Sealed
	for range 1 + w.rng.IntN(4) {
		h := change.Header{Kind: change.Changes, Epoch: w.pos.Epoch, First: w.pos.Seq + 1}
		parts, by := 1, ""
		if w.rng.IntN(4) == 0 {
			parts = 3
		}
		b := change.Body{Tables: tables}
		for range 1 + w.rng.IntN(4)/parts {
			w.pos.Seq++
			tx := change.Tx{Seq: w.pos.Seq, CommitMicros: int64(w.pos.Seq)}
			by = ""
			if w.rng.IntN(2) == 0 {
				by = fmt.Sprint("w", w.pos.Seq)
				tx.Changes = append(tx.Changes, change.Change{Op: change.Note, Row: row(change.NoteBy, by)})
			}
			from := len(w.log)
			for range w.rng.IntN(4) {
				tx.Changes = append(tx.Changes, w.change())
			}
			for i := range w.log[from:] {
				w.log[from+i].by = by
			}
			b.Txs = append(b.Txs, tx)
			if parts > 1 {
				break
			}
		}
		h.Last = w.pos.Seq
		for p := range parts {
			h.Part, h.More = uint32(p), p+1 < parts
			if p > 0 {
				b.Txs[0].Changes = []change.Change{w.change()}
			}
			f, err := change.Seal(h, &b)
			if err != nil {
				w.t.Fatal(err)
			}
			list = append(list, f)
		}
	}
	if err := w.q.Append(list...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *writer) want(seen change.Position, table int, key change.Row) (t apply.Touch, ok bool) {
	whole := false
	for _, n := range w.log {
		if !seen.Before(n.at) || !n.matches(table, key) {
			continue
		}
		made := n.made
		if ok {
			made = t.Inserted
		}
		if n.absent == nil {
			whole = true
		}
		if ok && t.Position == n.at && n.by == "" {
			n.by = t.By
		}
		t = apply.Touch{Position: n.at, CommitMicros: int64(n.at.Seq), By: n.by, Inserted: made, Unsure: n.swept}
		ok = true
	}
	if ok && !whole {
		t.Unsent = []string{"big"}
	}
	return t, ok
}

func TestTouchedIsWhatWasChangedAfterSeen(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		w := &writer{
			t: t, rng: rand.New(rand.NewPCG(seed, 5)), keys: 200,
			q: openQueue(t, queue.Options{}), pos: change.Position{Epoch: epoch1},
		}
		x := New(w.q, settled)
		if seed%3 == 0 {
			x.max = 50
		}
		seen := w.pos
		for range 60 {
			w.frames()
			if w.rng.IntN(12) == 0 {
				w.pos = change.Position{Epoch: w.pos.Epoch + 1}
			}
			if w.rng.IntN(3) > 0 {
				continue
			}
			if tail, _, _ := w.q.Tail(); seen.Epoch == tail.Epoch {
				seen.Seq += uint64(w.rng.IntN(int(tail.Seq-seen.Seq) + 2))
			} else if w.rng.IntN(4) == 0 {
				seen = change.Position{Epoch: tail.Epoch, Seq: uint64(w.rng.IntN(int(tail.Seq) + 1))}
			}
			if w.rng.IntN(4) == 0 {
				x.Seen(seen)
			}
			table := w.rng.IntN(2)
			var keys, asked []change.Row
			for range 12 {
				k := w.key(table)
				if slices.ContainsFunc(keys, func(r change.Row) bool { return equalKeys(r, k) }) {
					continue
				}
				keys = append(keys, k)
				asked = append(asked, change.Row{k[len(k)-1], k[0]}[:len(k)])
			}
			got, err := x.Touched(context.Background(), seen, asks(table, asked...))
			if err != nil {
				t.Fatal(err)
			}
			for i, k := range keys {
				want, ok := w.want(seen, table, k)
				have, found := got[i]
				if ok != found || fmt.Sprint(want) != fmt.Sprint(have) {
					t.Fatalf("seed %d, %s of table %d after %s:\n got %+v %v\nwant %+v %v", seed, k, table, seen, have, found, want, ok)
				}
			}
		}
	}
}

func TestAMillionChangesTakeLittleMemory(t *testing.T) {
	q := openQueue(t, queue.Options{})
	const txs, perTx, perFrame = 5000, 200, 50
	seq := uint64(0)
	var b change.Builder
	for range txs / perFrame {
		b.Reset()
		b.AddTable(tables[0])
		for range perFrame {
			seq++
			b.Begin(seq, 1)
			for i := range perTx {
				b.Add(change.Insert, 0, nil, full(0, row(int(seq)*perTx+i), "b"), nil)
			}
		}
		f, err := b.Seal(change.Header{Kind: change.Changes, Epoch: epoch1}, 0, perFrame)
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Append(f); err != nil {
			t.Fatal(err)
		}
	}
	x := New(q, settled)
	ask := func(keys ...change.Row) map[int]apply.Touch {
		got, err := x.Touched(context.Background(), change.Position{Epoch: epoch1}, asks(0, keys...))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	before := heap()
	var none, some []change.Row
	for i := range 1000 {
		none = append(none, row(-1-i))
		some = append(some, row(perTx+i*997))
	}
	if got := ask(none...); len(got) != 0 {
		t.Errorf("%d keys that nobody changed", len(got))
	}
	x.cache = nil
	if grown := heap() - before; grown > 16<<20 {
		t.Errorf("the index takes %d bytes", grown)
	}
	if got := ask(some...); len(got) != len(some) {
		t.Errorf("%d of %d keys", len(got), len(some))
	}
	x.Seen(change.Position{Epoch: epoch1, Seq: seq})
	if len(x.blocks) != 0 {
		t.Errorf("%d blocks of what the region has seen", len(x.blocks))
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Nobody may take a row for untouched because its change cannot be read.
func TestWhatIsDroppedMayHaveTouchedEverything(t *testing.T) {
	t.Parallel()
	w := &writer{
		t: t, rng: rand.New(rand.NewPCG(1, 5)), keys: 200, pos: change.Position{Epoch: epoch1},
		q: openQueue(t, queue.Options{KeepBytes: -1, SegmentBytes: 8 << 10}),
	}
	for range 400 {
		w.frames()
		if err := w.q.Ack(w.pos); err != nil {
			t.Fatal(err)
		}
	}
	if first := w.q.Stats().First; first < 2 {
		t.Fatal("nothing was dropped")
	}
	got, err := New(w.q, settled).Touched(context.Background(), change.Position{Epoch: epoch1, Seq: 1}, asks(0, row(1), row(5000)))
	if err != nil || len(got) != 2 || !got[1].Unsure {
		t.Errorf("%+v %v", slices.Sorted(maps.Keys(got)), err)
	}
}

// The rows of the box before are not in the ranges of one that took its place,
// and are on their way down to it, until it has all of them.
func TestAReplacementsRangeHidesNoRow(t *testing.T) {
	t.Parallel()
	whole := change.Change{Op: change.Note, Row: row(change.NoteWhole, "public.t")}
	for _, c := range []struct {
		enrolment uint64
		notes     []change.Change
		hides     bool
	}{{1, nil, true}, {2, nil, false}, {2, []change.Change{whole}, true}} {
		enrolment, hides := c.enrolment, c.hides
		at := change.Position{Epoch: enrolment << 32, Seq: 1}
		q := openQueue(t, queue.Options{})
		f, err := change.Seal(change.Header{Kind: change.Changes, Epoch: at.Epoch, First: 1, Last: 1}, &change.Body{Tables: tables[:1], Txs: []change.Tx{
			{Seq: 1, Changes: append(c.notes, change.Change{Op: change.Range, Range: &change.KeyRange{Rows: []change.Row{row(7, "v", "big")}}})},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Append(f); err != nil {
			t.Fatal(err)
		}
		got, err := New(q, settled).Touched(t.Context(), change.Position{Epoch: at.Epoch}, asks(0, row(7), row(8)))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := got[0]; !ok {
			t.Errorf("enrolment %d: the row that the range lists is not touched", enrolment)
		}
		if _, ok := got[1]; ok != hides {
			t.Errorf("enrolment %d: a row that the range does not list is touched: %v", enrolment, ok)
		}
	}
}
