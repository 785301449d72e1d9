package apply

import (
	"fmt"
	"slices"

	"github.com/agogsaas/holdfast/internal/change"
)

// copyMinRows is from how many rows on a COPY costs less than an INSERT of
// arrays, which needs no round trip of its own.
const copyMinRows = 100

// plan is a set turned into statements. It is made by gather, beside the
// statements of the batch before.
type plan struct {
	calls []call // deletes and updates
	// puts may meet a row with their key, born should not.
	puts, born         []change.Row
	putsCall, bornCall *call
	bornCopy           *copyData
}

// prepare makes the plans of all sets.
func (f *folded) prepare() {
	tables, _ := f.split() // what is done to fact rows on the way down is decided later
	for _, t := range tables {
		for _, o := range t.ops {
			if o.set != nil && o.set.plan == nil {
				o.set.plan = o.set.makePlan(o.shape, f.facility)
			}
		}
	}
}

func (s *set) makePlan(sh *shape, facility string) *plan {
	p := &plan{}
	sh.lastSize.Store(int32(len(s.entries)))
	var gone []change.Row // keys
	p.born = make([]change.Row, 0, len(s.entries))
	patches := map[string]*opCall{}
	var order []*opCall
	for i := range s.entries {
		e := &s.entries[i]
		switch e.state {
		case rowGone:
			gone = append(gone, e.row)
		case rowPatch:
			id := ""
			if len(e.absent) > 0 {
				id = fmt.Sprint(e.absent)
			}
			c := patches[id]
			if c == nil {
				c = &opCall{shape: sh, kind: callUpdate, full: len(e.absent) == 0, columns: sh.without(e.absent)}
				patches[id] = c
				order = append(order, c)
			}
			c.rows = append(c.rows, e.row)
		case rowPut:
			if e.fresh && sh.keepsMore {
				gone = append(gone, sh.rowKey(e.row))
			}
			if e.born && !e.fresh {
				p.born = append(p.born, e.row)
			} else {
				p.puts = append(p.puts, e.row)
			}
		}
	}
	if len(gone) > 0 {
		sh.sortRows(gone, sh.inKeys())
		p.calls = append(p.calls, sh.deleteCall(gone, facility))
	}
	for _, c := range order {
		sh.sortRows(c.rows, sh.key)
		p.calls = append(p.calls, sh.updateCall(c, facility))
	}
	if len(p.puts) > 0 {
		c := sh.insertCall(conflictUpdates, p.puts, callUpsert)
		p.putsCall = &c
	}
	if len(p.born) >= copyMinRows {
		p.bornCopy = sh.copyRows(p.born)
	} else if len(p.born) > 0 {
		c := sh.insertCall(conflictFails, p.born, callInsert)
		p.bornCall = &c
	}
	return p
}

// statements are the plan's calls, and the COPY that follows them if not nil.
// Where rows that should be new may be there already, none is taken for new.
func (p *plan) statements(sh *shape, careful bool) ([]call, *copyData) {
	calls := p.calls
	if careful && len(p.born) > 0 {
		return append(slices.Clip(calls), sh.insertCall(conflictUpdates, slices.Concat(p.puts, p.born), callUpsert)), nil
	}
	for _, c := range []*call{p.putsCall, p.bornCall} {
		if c != nil {
			calls = append(slices.Clip(calls), *c)
		}
	}
	return calls, p.bornCopy
}

func (x *execution) rangeCalls(calls []call, sh *shape, r *change.KeyRange) []call {
	if len(sh.key) > 0 && sh.class != Event && !r.Partial {
		args, asText := sh.packColumns(r.Rows, sh.key)
		l := sh.limits(x.facility, r.After, r.UpTo)
		args = l.args(sh, args, r.After, r.UpTo)
		calls = append(calls, call{
			sql:  sh.rangeSQL(l, asText),
			args: sh.facilityArg(args, x.facility), op: &opCall{shape: sh},
		})
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
	args, asText := sh.packColumns(rows, sh.columns)
	return call{sql: sh.insertSQL(oc, asText), args: args, op: &opCall{shape: sh, kind: kind, rows: rows}, planned: true}
}

func (sh *shape) deleteCall(keys []change.Row, facility string) call {
	args, asText := arrays{sh, sh.key, false}.pack(keys, func(key change.Row, i int) []byte { return key[i] })
	return call{sql: sh.deleteSQL(asText), args: sh.facilityArg(args, facility), op: &opCall{shape: sh}}
}

func (sh *shape) updateCall(c *opCall, facility string) call {
	args, asText := sh.packColumns(c.rows, slices.Concat(sh.key, c.columns))
	return call{sql: sh.updateSQL(c.columns, asText), args: sh.facilityArg(args, facility), op: c}
}

// renameCall updates one row by its old key, the key columns included.
func (sh *shape) renameCall(c *change.Change, facility string) call {
	row, absent, _ := sh.restoreKey(c)
	columns := slices.DeleteFunc(slices.Concat(sh.key, sh.settable()), func(col int) bool {
		return slices.Contains(absent, col) || sh.to[col].always
	})
	all := slices.Concat(sh.key, columns)
	args, asText := arrays{sh, all, false}.pack([]change.Row{row}, func(row change.Row, i int) []byte {
		if i < len(sh.key) {
			return c.Key[i]
		}
		return row[all[i]]
	})
	return call{
		sql: sh.updateSQL(columns, asText), args: sh.facilityArg(args, facility),
		op: &opCall{shape: sh, kind: callUpdate, rows: []change.Row{row}, full: len(absent) == 0, columns: columns},
	}
}

func (sh *shape) facilityArg(args []arg, facility string) []arg {
	if sh.facilityColumn < 0 {
		return args
	}
	return append(args, textArg(facility))
}

// without are the columns that an update sets when the given are not known.
func (sh *shape) without(absent []int) []int {
	return slices.DeleteFunc(sh.settable(), func(c int) bool { return slices.Contains(absent, c) })
}
