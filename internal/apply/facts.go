package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
)

// Fact rows come down into tables that the facility's own applications write at
// the same time. For each table and batch:
//
//  1. the rows that the cloud changed are locked and read, in one statement;
//  2. what was committed here before that is made known to Local;
//  3. Local tells which of the rows were touched by what the cloud had not seen;
//  4. decide.go decides row by row;
//  5. what follows is written, in sets, with the records of the conflicts.
//
// A row that is not there cannot be locked. Whoever makes one meanwhile is met
// by the insert, and whoever made and removed one by asking Local again, when
// what was inserted keeps others out. Then the batch is begun anew.

// settleTimeout bounds for how long rows stay locked while it is not known what
// was done to them.
const settleTimeout = 5 * time.Second

// ErrUnsettled means that it cannot be told now what was changed here. The
// batch is tried again, without holding locks meanwhile.
var ErrUnsettled = errors.New("what was changed here is not known yet")

// errRaced means that a row that was not there is there now.
var errRaced = errors.New("a row was made here meanwhile")

// facts is what an execution needs for fact rows on the way down.
type facts struct {
	local Local
	// registry is Config.Registry.
	registry func() *Registry
	txs      []txRef // of the batch, where its fold is of all of them
	now      time.Time
	// restored and whole are Config.Restored's.
	restored, whole bool
	// source is the transaction whose changes are applied one by one.
	source *source
	// sent are the rows that the open transaction sends back; true for those of
	// which it sends all columns.
	sent map[sentRow]bool
	// noted is what sent was before each of the notes, oldest first.
	noted []sentNote
}

type sentRow struct{ schema, name, key string }

// note notes that a row is sent back, and whether with all columns.
func (f *facts) note(r sentRow, whole bool) {
	if f.sent == nil {
		f.sent = map[sentRow]bool{}
	}
	was, sent := f.sent[r]
	f.noted = append(f.noted, sentNote{r, sent, was})
	f.sent[r] = whole
}

type sentNote struct {
	row         sentRow
	sent, whole bool
}

// forget takes back all notes but the first n.
func (f *facts) forget(n int) {
	for _, was := range slices.Backward(f.noted[n:]) {
		if was.sent {
			f.sent[was.row] = was.whole
		} else {
			delete(f.sent, was.row)
		}
	}
	f.noted = f.noted[:n]
}

// work is one operation on a table: what the cloud did to each of some rows.
type work struct {
	shape   *shape
	policy  Policy
	entries []entry
	keys    []change.Row
	local   []change.Row // nil where there is no row
	touched map[int]Touch
	// moved is set for a row that got another key: entries are its old key and its new.
	moved bool
	// filled: what was not sent of that row was taken from here.
	filled bool
	// ofRange is set for the rows of a key range.
	ofRange bool

	gone, born []change.Row
	bornKeys   []int
	updates    []*opCall
	elsewhere  []change.Row // keys that rows got here, to be sent again
	gonePlaces []int        // of entries of which is sent back that there is no such row
	unheld     int          // of these, found to be
}

// runFacts applies the tables' operations. seen is the least that the cloud had
// seen; with mixed it had seen more in some of them.
func (x *execution) runFacts(ctx context.Context, tables []*tableOps, seen change.Position, mixed bool) error {
	stages, sweeps := 0, false
	for _, t := range tables {
		stages = max(stages, len(t.ops))
		sweeps = sweeps || t.ops[0].set == nil && t.ops[0].rename == nil
	}
	if mixed && (stages > 1 || sweeps) {
		return x.runBySeen(ctx)
	}
	// What Local has to read, a queue of days perhaps, it reads before anything
	// is locked that people wait for.
	if _, err := x.facts.local.Touched(ctx, seen, Keys{}); err != nil {
		return err
	}
	if err := x.keepOut(ctx, tables); err != nil {
		return err
	}
	var inserted []*work
	for i := range stages {
		var list []*work
		for _, t := range tables {
			if i >= len(t.ops) {
				continue
			}
			o := t.ops[i]
			// A range adds rows and corrects them, and removes none: a region that
			// was restored, or that has parked a row, lacks what the facility's
			// people made. Their box sends the table up behind it. It is the box's
			// database that lacks rows where that was put back from a backup.
			if o.truncate || o.keyRange != nil && x.sweeps(o.shape) && !o.keyRange.Partial {
				if err := x.sweep(ctx, o, seen); err != nil {
					return err
				}
			}
			if w := newWork(o); w != nil {
				list = append(list, w)
			}
		}
		for _, w := range list {
			if err := x.lock(ctx, w); err != nil {
				return err
			}
		}
		any, err := x.ask(ctx, list, seen)
		if err != nil {
			return err
		}
		if any && mixed {
			// What was touched before is not touched any more once the cloud had
			// seen it: each transaction is decided by what it had seen itself.
			return x.runBySeen(ctx)
		}
		if err := x.write(ctx, list, seen); err != nil {
			return err
		}
		inserted = append(inserted, list...)
	}
	return x.confirm(ctx, inserted, seen)
}

// keepOut holds up whoever reads a table as it is at one place of the WAL (a
// load, a digest): a row lock does not, and what was read between the decision
// and the write would reach the region behind it.
func (x *execution) keepOut(ctx context.Context, tables []*tableOps) error {
	calls := make([]call, len(tables))
	for i, t := range tables {
		calls[i] = call{sql: "LOCK TABLE " + t.shape.target.sql() + " IN ROW EXCLUSIVE MODE"}
	}
	_, err := x.pipeline(ctx, calls)
	return err
}

// runBySeen applies the transactions of the batch in runs that had seen the same.
func (x *execution) runBySeen(ctx context.Context) error {
	txs := x.facts.txs
	for len(txs) > 0 {
		n := 1
		for n < len(txs) && txs[n].src.seen == txs[0].src.seen {
			n++
		}
		f := newFolded(x.facility)
		for i := range txs[:n] {
			f.source = txs[i].src
			f.add(txs[i].tx, txs[i].shapes)
		}
		_, tables := f.split()
		if err := x.runFacts(ctx, tables, txs[0].src.seen, false); err != nil {
			return err
		}
		txs = txs[n:]
	}
	return nil
}

// newWork returns what an operation does to rows that it names.
func newWork(o *op) *work {
	w := &work{shape: o.shape, policy: o.shape.policy}
	switch {
	case o.set != nil:
		w.entries = o.set.entries
	case o.rename != nil:
		row, absent, _ := o.shape.restoreKey(o.rename)
		w.moved = true
		w.entries = []entry{
			{state: rowGone, row: o.rename.Key, src: o.src},
			{state: rowPut, moved: true, row: row, absent: absent, src: o.src},
		}
	case o.keyRange != nil:
		// The range is what the cloud has, and not what it changed: what the edge
		// sends is not in it yet. So the edge's version stands.
		w.policy, w.ofRange = PolicyEdge, true
		w.entries = make([]entry, len(o.keyRange.Rows))
		for i, row := range o.keyRange.Rows {
			w.entries[i] = entry{state: rowPut, row: row, src: o.src}
		}
	}
	if len(w.entries) == 0 {
		return nil
	}
	w.keys = make([]change.Row, len(w.entries))
	for i := range w.entries {
		w.keys[i] = w.entries[i].key(o.shape)
	}
	return w
}

// key returns the values of the row's key.
func (e *entry) key(sh *shape) change.Row {
	if e.state == rowGone {
		return e.row
	}
	return sh.rowKey(e.row)
}

// lock locks the rows that are there and reads them.
func (x *execution) lock(ctx context.Context, w *work) error {
	rows, places, err := x.lockRows(ctx, w.shape, w.keys)
	if err != nil {
		return err
	}
	w.local = make([]change.Row, len(w.entries))
	for i, row := range rows {
		w.local[places[i]] = row
	}
	if w.moved {
		w.entries = slices.Clone(w.entries)
		w.fill()
	}
	return nil
}

// lockRows returns the rows with the keys that are there, locked, and the place
// of each one's key.
func (x *execution) lockRows(ctx context.Context, sh *shape, keys []change.Row) (rows []change.Row, places []int, err error) {
	if calls := x.searchFor(nil, sh.schemas); len(calls) > 0 {
		if _, err := x.pipeline(ctx, calls); err != nil {
			return nil, nil, err
		}
	}
	args, asText := arrays{sh, sh.key, false}.pack(keys, func(key change.Row, i int) []byte { return key[i] })
	read, err := x.session.query(ctx, sh.lockSQL(asText), sh.facilityArg(args, x.facility))
	if err != nil {
		return nil, nil, fmt.Errorf("lock rows of %s: %w", sh.target.sql(), err)
	}
	rows, places = make([]change.Row, len(read)), make([]int, len(read))
	for i, r := range read {
		n, ok := parseInt(r[0], 1, int64(len(keys)))
		if !ok {
			return nil, nil, fmt.Errorf("lock rows of %s: place %q of %d", sh.target.sql(), r[0], len(keys))
		}
		row := make(change.Row, len(sh.to))
		for j, c := range sh.columns {
			row[c] = r[j+1]
		}
		rows[i], places[i] = row, int(n)-1
	}
	return rows, places, nil
}

// fill takes what was not sent of a row that got another key from where it was.
func (w *work) fill() {
	e, old := &w.entries[1], w.local[0]
	if old == nil || len(e.absent) == 0 {
		return
	}
	e.row = slices.Clone(e.row)
	for _, c := range e.absent {
		e.row[c] = old[c]
	}
	e.absent, w.filled = nil, true
}

// ask waits until Local knows everything, and asks it. any is true when
// something was touched.
func (x *execution) ask(ctx context.Context, list []*work, seen change.Position) (any bool, err error) {
	if len(list) == 0 {
		return false, nil
	}
	if err := x.settle(ctx); err != nil {
		return false, err
	}
	for _, w := range list {
		if w.touched, err = x.touched(ctx, w.shape, seen, w.keys); err != nil {
			return false, err
		}
		any = any || len(w.touched) > 0
	}
	return any, nil
}

func (x *execution) settle(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	err := x.facts.local.Settled(short)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", ErrUnsettled, err)
	}
	return err
}

func (x *execution) touched(ctx context.Context, sh *shape, seen change.Position, keys []change.Row) (map[int]Touch, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	// Again, behind the locks: from here on nobody changes the rows unread.
	if err := x.unread(sh); err != nil && !x.facts.restored {
		return nil, err
	}
	k := Keys{Schema: sh.target.schema, Table: sh.target.name, Columns: sh.targetKey(), Rows: keys}
	for _, c := range sh.settable() {
		k.Sent = append(k.Sent, sh.to[c].name)
	}
	return x.facts.local.Touched(ctx, seen, k)
}

// unread returns an error while not all that is changed here of the table is
// known to Local.
func (x *execution) unread(sh *shape) error {
	return x.facts.registry().unread(sh.schema, sh.table)
}

// targetKey are the key columns' names here.
func (sh *shape) targetKey() []string {
	names := make([]string, len(sh.key))
	for i, k := range sh.key {
		names[i] = sh.to[k].name
	}
	return names
}

// write decides and writes.
func (x *execution) write(ctx context.Context, list []*work, seen change.Position) error {
	var calls []call
	var copies []*copyData
	var conflicts []conflict
	for _, w := range list {
		calls = x.searchFor(calls, w.shape.schemas)
		untold := x.facts.restored && (w.ofRange && !x.facts.whole || x.unread(w.shape) != nil)
		for i := range w.entries {
			var t *Touch
			if touch, ok := w.touched[i]; ok {
				t = x.sentWhole(w, i, &touch)
			}
			policy := w.policy
			echo, corrected := w.entries[i].src.echo(), w.entries[i].src.corrected()
			// What was sent back makes way for what the cloud's people changed, and that is
			// sent back. What this facility had made of the row before does not count as that.
			again := false
			if t != nil && t.SentBack && !w.ofRange && (!echo || corrected) {
				if again = !follow(w.shape, &w.entries[i], w.local[i]).lacking; again {
					t = nil
				} else {
					t.Unsure = true
				}
			}
			if echo {
				policy = PolicyEdge
			}
			v := decide(w.shape, &w.entries[i], w.local[i], t, policy)
			switch {
			case corrected && t == nil:
				policy = policyCorrected
				v.ofCorrection()
			case corrected: // a conflict as any other
				policy = w.policy
			case echo:
				v.ofEcho(t)
			}
			w.add(i, &v)
			if t != nil {
				w.elsewhere = append(w.elsewhere, t.Moved...)
			}
			if _, sent := x.facts.sent[w.sentRow(i)]; w.filled && i == 0 && (t != nil || sent || again) {
				// The cloud took it from the row as it was there.
				w.elsewhere = append(w.elsewhere, w.keys[1])
			}
			if v.lacking {
				x.lacking = append(x.lacking, lackingRow{w.shape, w.keys[i]})
			}
			by := t
			if policy == policyCorrected {
				by = &Touch{Position: w.entries[i].src.seen}
			} else if t == nil && untold {
				by = v.ofPutBack(x.facts.now)
			}
			if v.kind != "" {
				conflicts = append(conflicts, conflict{w.shape, &v, policy, w.keys[i], &w.entries[i], w.local[i], by, echo && !corrected})
			}
			if x.sentBack(w, i, t, &v, again); v.assert != nil {
				if v.assert.Op == change.Delete && w.local[i] == nil {
					w.gonePlaces = append(w.gonePlaces, i)
				}
				c, err := assertCall(w.shape, v.assert)
				if err != nil {
					return err
				}
				calls = append(calls, c)
			}
		}
		more, c := w.statements(x.facility, x.careful(w.shape.target))
		calls = append(calls, more...)
		if c != nil {
			copies = append(copies, c)
		}
	}
	if len(conflicts) > 0 {
		c, err := conflictCall(conflicts, x.facility, x.facts.now)
		if err != nil {
			return err
		}
		calls = append(calls, c)
	}
	counts, err := x.pipeline(ctx, calls)
	if err != nil {
		return err
	}
	if err := x.check(ctx, calls, counts); err != nil {
		return err
	}
	for _, c := range copies {
		x.lastCall = c.op
		if err := x.session.copy(ctx, c); err != nil {
			return err
		}
	}
	if err := x.hold(ctx, list); err != nil {
		return err
	}
	return x.assertMoved(ctx, list, seen)
}

// maxUpdates is how many statements the updates of one operation may take
// before they set whole rows.
const maxUpdates = 8

// add notes what is to be done to the i-th row.
func (w *work) add(i int, v *verdict) {
	switch v.do {
	case doDelete:
		w.gone = append(w.gone, w.keys[i])
	case doInsert:
		w.born, w.bornKeys = append(w.born, v.row), append(w.bornKeys, i)
	case doUpdate:
		columns := v.columns
		if len(w.updates) >= maxUpdates {
			columns = w.shape.settable()
		}
		for _, c := range w.updates {
			if slices.Equal(c.columns, columns) {
				c.rows = append(c.rows, v.row)
				return
			}
		}
		w.updates = append(w.updates, &opCall{shape: w.shape, columns: columns, rows: []change.Row{v.row}})
	}
}

func (w *work) statements(facility string, careful bool) (calls []call, c *copyData) {
	sh := w.shape
	if len(w.gone) > 0 {
		calls = append(calls, sh.deleteCall(w.gone, facility))
	}
	for _, u := range w.updates {
		calls = append(calls, sh.updateCall(u, facility))
	}
	switch {
	case len(w.born) == 0:
	case len(w.born) >= copyMinRows && !careful:
		c = sh.copyRows(slices.Clone(w.born)) // which sorts them
	default:
		c := sh.insertCall(conflictSkips, w.born, callNew)
		calls = append(calls, c)
	}
	return calls, c
}

// confirm asks about the rows that were inserted once more: now nobody else can
// make them, and whoever did has committed.
func (x *execution) confirm(ctx context.Context, list []*work, seen change.Position) error {
	list = slices.DeleteFunc(list, func(w *work) bool { return len(w.bornKeys) == 0 })
	if len(list) == 0 {
		return nil
	}
	if err := x.settle(ctx); err != nil {
		return err
	}
	for _, w := range list {
		keys := make([]change.Row, len(w.bornKeys))
		for i, n := range w.bornKeys {
			keys[i] = w.keys[n]
		}
		touched, err := x.touched(ctx, w.shape, seen, keys)
		if err != nil {
			return err
		}
		for i, t := range touched {
			if known, ok := w.touched[w.bornKeys[i]]; !ok || known.Position.Before(t.Position) {
				return fmt.Errorf("%w: %s", errRaced, w.shape.name)
			}
		}
	}
	return nil
}
