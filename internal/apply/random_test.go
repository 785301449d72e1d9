package apply

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// world is a sender's database in memory, which makes random transactions.
type world struct {
	rng    *rand.Rand
	tables []*worldTable
	next   int
}

type worldTable struct {
	n     int // position in the frame's tables
	table change.Table
	rows  map[string]change.Row
}

var worldTables = []change.Table{
	table("public", "orders", key("id", "integer"), col("facility_id", "text"), col("place", "integer"), col("big", "text"), col("note", "text")),
	table("public", "lines", key("order_no", "text"), col("facility_id", "text"), key("line", "integer"), col("big", "text"), col("other", "text")),
	table("public", "log", key("id", "integer"), col("facility_id", "text"), col("what", "text")),
}

const worldSQL = `
CREATE TABLE orders (id int PRIMARY KEY, facility_id text NOT NULL, place int UNIQUE, big text, note text);
CREATE TABLE lines (facility_id text, note text DEFAULT 'region', order_no text, line int, other text, big text, PRIMARY KEY (order_no, line, facility_id))
  PARTITION BY HASH (order_no);
CREATE TABLE lines_0 PARTITION OF lines FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE lines_1 PARTITION OF lines FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE log (id int PRIMARY KEY, facility_id text, what text, seen timestamptz DEFAULT now());`

func newWorld(seed uint64) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), next: 1}
	for i, t := range worldTables {
		w.tables = append(w.tables, &worldTable{n: i, table: t, rows: map[string]change.Row{}})
	}
	return w
}

func rowKeyText(t *change.Table, r change.Row) string {
	var parts []string
	for _, k := range t.KeyColumns() {
		parts = append(parts, string(r[k]))
	}
	return strings.Join(parts, "|")
}

func (w *world) pick(t *worldTable) change.Row {
	keys := make([]string, 0, len(t.rows))
	for k := range t.rows {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return t.rows[keys[w.rng.IntN(len(keys))]]
}

func (w *world) fresh(t *worldTable) change.Row {
	w.next++
	switch t.n {
	case 0:
		return row(w.rng.IntN(60), "la", w.place(t), fmt.Sprint("big", w.next), w.text())
	case 1:
		return row(fmt.Sprint("o", w.rng.IntN(8)), "la", w.rng.IntN(8), fmt.Sprint("big", w.next), w.text())
	}
	return row(w.next, "la", w.text())
}

// place returns a number that no row has: the column is unique.
func (w *world) place(t *worldTable) int {
	for {
		p := w.rng.IntN(300)
		if !slices.ContainsFunc(mapValues(t.rows), func(r change.Row) bool { return string(r[2]) == fmt.Sprint(p) }) {
			return p
		}
	}
}

func mapValues(m map[string]change.Row) (v []change.Row) {
	for _, r := range m {
		v = append(v, r)
	}
	return v
}

func (w *world) text() any {
	if w.rng.IntN(5) == 0 {
		return nil
	}
	return fmt.Sprint("t", w.rng.IntN(1000))
}

// transaction makes one.
func (w *world) transaction() (changes []change.Change) {
	for range 1 + w.rng.IntN(8) {
		changes = append(changes, w.change()...)
	}
	return changes
}

func (w *world) change() []change.Change {
	t := w.tables[w.rng.IntN(len(w.tables))]
	what := w.rng.IntN(100)
	switch {
	case t.n == 2 && what < 97, len(t.rows) == 0, what < 30:
		r := w.fresh(t)
		if _, ok := t.rows[rowKeyText(&t.table, r)]; ok {
			return nil
		}
		t.rows[rowKeyText(&t.table, r)] = r
		return []change.Change{{Op: change.Insert, Table: t.n, Row: r}}
	case t.n == 2: // pruned at the facility, kept in the region: not in rows any more here would be wrong
		return []change.Change{{Op: change.Delete, Table: t.n, Key: row(w.pick(t)[0])}}
	case what < 60:
		return []change.Change{w.update(t, w.pick(t))}
	case what < 75:
		return w.rename(t)
	case what < 90:
		return []change.Change{w.remove(t, w.pick(t))}
	case what < 95 && t.n == 0 && len(t.rows) > 1:
		return w.swap(t)
	case what < 97:
		return []change.Change{w.span(t)}
	case what < 98:
		clear(t.rows)
		return []change.Change{{Op: change.Truncate, Table: t.n}}
	}
	return nil
}

// big leaves the TOASTed column out of an update, unless it changes.
func (w *world) big(t *worldTable, c *change.Change, old change.Row) {
	if w.rng.IntN(2) == 0 {
		c.Row[3] = []byte(fmt.Sprint("big", w.next))
		return
	}
	c.Row[3] = old[3]
	sent := slices.Clone(c.Row)
	sent[3] = nil
	c.Row, c.Absent = sent, []int{3}
}

func (w *world) update(t *worldTable, old change.Row) change.Change {
	w.next++
	full := slices.Clone(old)
	full[4] = row(w.text())[0]
	c := change.Change{Op: change.Update, Table: t.n, Row: full}
	w.big(t, &c, old)
	w.store(t, c, old)
	return c
}

// store keeps what the change makes of the row.
func (w *world) store(t *worldTable, c change.Change, old change.Row) {
	full := slices.Clone(c.Row)
	for _, a := range c.Absent {
		full[a] = old[a]
	}
	delete(t.rows, rowKeyText(&t.table, old))
	t.rows[rowKeyText(&t.table, full)] = full
}

func (w *world) rename(t *worldTable) []change.Change {
	old := w.pick(t)
	full := slices.Clone(old)
	keys := t.table.KeyColumns()
	for _, k := range keys {
		full[k] = w.fresh(t)[k]
	}
	if _, taken := t.rows[rowKeyText(&t.table, full)]; taken {
		return nil
	}
	c := change.Change{Op: change.Update, Table: t.n, Row: full}
	for _, k := range keys {
		c.Key = append(c.Key, old[k])
	}
	w.big(t, &c, old)
	w.store(t, c, old)
	return []change.Change{c}
}

func (w *world) remove(t *worldTable, old change.Row) change.Change {
	delete(t.rows, rowKeyText(&t.table, old))
	c := change.Change{Op: change.Delete, Table: t.n}
	for _, k := range t.table.KeyColumns() {
		c.Key = append(c.Key, old[k])
	}
	return c
}

// swap exchanges a unique value of two rows, through a third value.
func (w *world) swap(t *worldTable) []change.Change {
	a, b := w.pick(t), w.pick(t)
	if &a[0] == &b[0] {
		return nil
	}
	set := func(r change.Row, v []byte) (change.Row, change.Change) {
		r = slices.Clone(r)
		r[2] = v
		t.rows[string(r[0])] = r
		return r, change.Change{Op: change.Update, Table: t.n, Row: r}
	}
	pa, pb := a[2], b[2]
	a, c1 := set(a, []byte("1000"))
	_, c2 := set(b, pa)
	_, c3 := set(a, pb)
	return []change.Change{c1, c2, c3}
}

// span states a random key range.
func (w *world) span(t *worldTable) change.Change {
	r := &change.KeyRange{}
	bounds := []change.Row{w.pick(t), w.pick(t)}
	slices.SortFunc(bounds, func(a, b change.Row) int { return compareKeys(&t.table, a, b) })
	keyOf := func(row change.Row) (k change.Row) {
		for _, c := range t.table.KeyColumns() {
			k = append(k, row[c])
		}
		return k
	}
	if w.rng.IntN(4) > 0 {
		r.After = keyOf(bounds[0])
	}
	if w.rng.IntN(4) > 0 {
		r.UpTo = keyOf(bounds[1])
	}
	for _, row := range mapValues(t.rows) {
		if (r.After == nil || compareKeys(&t.table, row, bounds[0]) > 0) && (r.UpTo == nil || compareKeys(&t.table, row, bounds[1]) <= 0) {
			r.Rows = append(r.Rows, row)
		}
	}
	return change.Change{Op: change.Range, Table: t.n, Range: r}
}

func compareKeys(t *change.Table, a, b change.Row) int {
	for _, k := range t.KeyColumns() {
		c := strings.Compare(string(a[k]), string(b[k]))
		if t.Columns[k].Type == "integer" {
			var x, y int
			fmt.Sscan(string(a[k]), &x)
			fmt.Sscan(string(b[k]), &y)
			c = x - y
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// print is the world as wantLines reads it.
func (t *worldTable) print() []string {
	var out []string
	for _, r := range t.rows {
		parts := make([]string, len(r))
		for i, v := range r {
			parts[i] = string(v)
		}
		out = append(out, "("+strings.Join(parts, ",")+")")
	}
	slices.Sort(out)
	return out
}

func checkWorld(t *testing.T, db *pgtest.DB, w *world) {
	t.Helper()
	for _, wt := range w.tables {
		var names []string
		for _, c := range wt.table.Columns {
			names = append(names, c.Name)
		}
		got := lines(t, db, fmt.Sprintf(`SELECT %s FROM %s WHERE facility_id = 'la'`, strings.Join(names, ", "), wt.table.Name))
		slices.Sort(got)
		want := wt.print()
		if !slices.Equal(got, want) {
			t.Fatalf("%s:\n got %q\nwant %q", wt.table.Name, got, want)
		}
	}
	wantLines(t, db, "SELECT count(*) FROM lines WHERE facility_id = 'frankfurt'", "(1)")
}

func TestFoldedApplyEqualsTheSender(t *testing.T) {
	t.Parallel()
	base := uint64(time.Now().UnixNano())
	for i := range uint64(6) {
		seed := base + i
		if i < 2 {
			seed = i
		}
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			db.Exec(t, coreSQL+worldSQL+`INSERT INTO lines (facility_id, order_no, line) VALUES ('frankfurt', 'o1', 1)`)
			r := newRegion(t, db.ConnString(), Table{Name: "orders", FacilityColumn: "facility_id"},
				Table{Name: "lines", FacilityColumn: "facility_id"}, Table{Name: "log", Class: Event, FacilityColumn: "facility_id"})
			w := newWorld(seed)
			s, from := r.stream("la"), newSender(t, worldTables...)
			for range 25 {
				for range 1 + w.rng.IntN(6) {
					switch w.rng.IntN(8) {
					case 0: // a big transaction
						parts := 1 + uint32(w.rng.IntN(4))
						for p := range parts {
							s.push(from.part(p, p < parts-1, w.transaction()))
						}
					default:
						var txs [][]change.Change
						for range 1 + w.rng.IntN(12) {
							txs = append(txs, w.transaction())
						}
						s.push(from.frame(txs...))
					}
				}
				s.untilApplied(from.seq)
				checkWorld(t, db, w)
				if len(s.missing) > 0 || len(s.stuck) > 0 {
					t.Fatalf("missing %v, stuck %v", s.missing, s.stuck)
				}
			}
		})
	}
}
