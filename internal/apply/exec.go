package apply

import (
	"context"
	"fmt"

	"github.com/agogsaas/holdfast/internal/change"
)

// opCall is what a statement is to do, to check afterwards that it did.
type opCall struct {
	shape *shape
	kind  callKind
	rows  []change.Row
	// full: the rows of an update are whole, so that a missing one can be put.
	full bool
	// columns are set by an update; kept to name the statement in errors.
	columns []int
}

type callKind uint8

const (
	callOther  callKind = iota // any number of rows will do
	callInsert                 // plain insert
	callUpsert                 // each row must be affected, or is another facility's
	callUpdate                 // each row must be affected, or is missing
	callPut                    // rows that an update missed
)

// execution is the applying of one folded batch in one open transaction.
type execution struct {
	facility string
	session  *session
	// careful returns whether rows that should be new may be there already.
	careful func(*target) bool
	staged  map[*set]*staged
	missing map[string]int64 // partial updates without their row, by table

	// lastCall is the statement that failed.
	lastCall *opCall
}

// run applies what is folded. first, if not nil, is sent ahead of everything in
// the same round trip; checkFirst sees its result.
func (x *execution) run(ctx context.Context, f *folded, first []call, checkFirst func(counts []int64) error) error {
	stages := 1
	for _, t := range f.tables {
		stages = max(stages, len(t.ops))
	}
	for i := range stages {
		calls := first
		for _, t := range f.tables {
			if i < len(t.ops) {
				calls = x.opCalls(calls, t.ops[i])
			}
		}
		nFirst := len(first)
		first = nil
		if len(calls) == 0 {
			continue
		}
		counts, err := x.pipeline(ctx, calls)
		if err != nil {
			return err
		}
		if checkFirst != nil && nFirst > 0 {
			if err := checkFirst(counts[:nFirst]); err != nil {
				return err
			}
		}
		if err := x.check(ctx, calls[nFirst:], counts[nFirst:]); err != nil {
			return err
		}
	}
	return nil
}

func (x *execution) pipeline(ctx context.Context, calls []call) ([]int64, error) {
	counts, failed, err := x.session.run(ctx, calls)
	if err != nil && failed >= 0 {
		x.lastCall = calls[failed].op
	}
	return counts, err
}

// check compares how many rows were affected with how many should have been.
func (x *execution) check(ctx context.Context, calls []call, counts []int64) error {
	var again []call
	for i := range calls {
		c, short := calls[i].op, int64(0)
		if c != nil {
			short = int64(len(c.rows)) - counts[i]
		}
		if short == 0 {
			continue
		}
		switch c.kind {
		case callUpsert, callPut:
			x.lastCall = c
			err := fmt.Errorf("%w: %d of %d rows have the key of a row that is not the facility's", ErrForeignRow, short, len(c.rows))
			return &RowError{Table: c.shape.name, Err: err}
		case callUpdate:
			if !c.full {
				x.missing[c.shape.name] += short
				continue
			}
			again = append(again, c.shape.insertCall(conflictSkips, c.rows, callOther))
			again[len(again)-1].op = &opCall{shape: c.shape, kind: callPut, rows: c.rows[:short]}
		}
	}
	if len(again) == 0 {
		return nil
	}
	counts, err := x.pipeline(ctx, again)
	if err != nil {
		return err
	}
	return x.check(ctx, again, counts)
}

func (x *execution) opCalls(calls []call, o *op) []call {
	sh := o.shape
	switch {
	case o.truncate:
		return append(calls, call{sql: sh.truncateSQL(), args: sh.facilityArg(nil, x.facility), op: &opCall{shape: sh}})
	case o.rename != nil:
		return append(calls, sh.renameCall(o.rename, x.facility))
	case o.keyRange != nil:
		return x.rangeCalls(calls, sh, o.keyRange)
	}
	return x.setCalls(calls, sh, o.set)
}

func (x *execution) setCalls(calls []call, sh *shape, s *set) []call {
	var gone, puts, born []change.Row
	patches := map[string]*opCall{}
	var order []*opCall
	for i := range s.entries {
		e := &s.entries[i]
		switch e.state {
		case rowGone:
			gone = append(gone, e.key)
		case rowPatch:
			id := fmt.Sprint(e.absent)
			p := patches[id]
			if p == nil {
				p = &opCall{shape: sh, kind: callUpdate, full: len(e.absent) == 0, columns: sh.without(e.absent)}
				patches[id] = p
				order = append(order, p)
			}
			p.rows = append(p.rows, e.row)
		case rowPut:
			if e.fresh && sh.keepsMore {
				gone = append(gone, sh.rowKey(e.row))
			}
			if e.born && !e.fresh {
				born = append(born, e.row)
			} else {
				puts = append(puts, e.row)
			}
		}
	}
	if len(gone) > 0 {
		calls = append(calls, sh.deleteCall(gone, x.facility))
	}
	for _, p := range order {
		calls = append(calls, sh.updateCall(p, x.facility))
	}
	if st := x.staged[s]; st != nil {
		born = nil
		calls = append(calls, st.call(x.careful(sh.target)))
	}
	if x.careful(sh.target) {
		puts, born = append(puts, born...), nil
	}
	if len(born) > 0 {
		calls = append(calls, sh.insertCall(conflictFails, born, callInsert))
	}
	if len(puts) > 0 {
		calls = append(calls, sh.insertCall(conflictUpdates, puts, callUpsert))
	}
	return calls
}

func (x *execution) rangeCalls(calls []call, sh *shape, r *change.KeyRange) []call {
	if len(sh.key) > 0 && sh.class != Event {
		keys := make([]int, len(sh.key))
		copy(keys, sh.key)
		args := columnArgs(r.Rows, keys)
		for _, bound := range []change.Row{r.After, r.UpTo} {
			for _, v := range bound {
				args = append(args, arg{value: v})
			}
		}
		calls = append(calls, call{sql: sh.rangeSQL(r.After != nil, r.UpTo != nil),
			args: sh.facilityArg(args, x.facility), op: &opCall{shape: sh}})
	}
	if len(r.Rows) > 0 {
		calls = append(calls, sh.insertCall(conflictUpdates, r.Rows, callUpsert))
	}
	return calls
}

func (sh *shape) insertCall(oc onConflict, rows []change.Row, kind callKind) call {
	if kind == callUpsert && !sh.guarded() {
		kind = callOther // no other facility's row can be in the way
	}
	return call{sql: sh.insertSQL(oc), args: columnArgs(rows, sh.columns), op: &opCall{shape: sh, kind: kind, rows: rows}}
}

func (sh *shape) deleteCall(keys []change.Row, facility string) call {
	columns := make([]int, len(sh.key))
	for i := range columns {
		columns[i] = i
	}
	return call{sql: sh.deleteSQL(), args: sh.facilityArg(columnArgs(keys, columns), facility), op: &opCall{shape: sh}}
}

func (sh *shape) updateCall(p *opCall, facility string) call {
	args := columnArgs(p.rows, append(append([]int(nil), sh.key...), p.columns...))
	return call{sql: sh.updateSQL(p.columns), args: sh.facilityArg(args, facility), op: p}
}

// renameCall updates one row by its old key, the key columns included.
func (sh *shape) renameCall(c *change.Change, facility string) call {
	row, absent, _ := sh.restoreKey(c)
	var columns []int
	for _, col := range append(append([]int(nil), sh.key...), sh.settable()...) {
		if !contains(absent, col) && !sh.to[col].always {
			columns = append(columns, col)
		}
	}
	args := columnArgs([]change.Row{c.Key}, upTo(len(sh.key)))
	args = append(args, columnArgs([]change.Row{row}, columns)...)
	return call{sql: sh.updateSQL(columns), args: sh.facilityArg(args, facility),
		op: &opCall{shape: sh, kind: callUpdate, rows: []change.Row{row}, full: len(absent) == 0, columns: columns}}
}

func (sh *shape) facilityArg(args []arg, facility string) []arg {
	if sh.facilityColumn < 0 {
		return args
	}
	return append(args, textArg(facility))
}

// without are the columns that an update sets when the given are not known.
func (sh *shape) without(absent []int) []int {
	var columns []int
	for _, c := range sh.settable() {
		if !contains(absent, c) {
			columns = append(columns, c)
		}
	}
	return columns
}

func contains(list []int, v int) bool {
	for _, x := range list {
		if x == v {
			return true
		}
	}
	return false
}

func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}
