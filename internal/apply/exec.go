package apply

import (
	"context"
	"fmt"
	"slices"

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
	callNew                    // each row must be affected, or was made here meanwhile
)

// execution is the applying of one folded batch in one open transaction.
type execution struct {
	facility string
	session  *session
	// careful returns whether rows that should be new may be there already.
	careful func(*target) bool
	search  []string     // schemas in the search_path of the transaction
	lacking []lackingRow // rows that partial updates did not find

	// facts is set on the way down.
	facts *facts

	// lastCall is the statement that failed.
	lastCall *opCall
}

// run applies what is folded and prepared. first, if not nil, is sent ahead of everything in
// the same round trip; checkFirst sees its result.
func (x *execution) run(ctx context.Context, f *folded, first []call, checkFirst func(counts []int64) error) error {
	f.prepare()
	tables, facts := f.split()
	if err := x.runSets(ctx, tables, first, checkFirst); err != nil {
		return err
	}
	if len(facts) > 0 {
		if err := x.runFacts(ctx, facts, f.seen, f.mixed); err != nil {
			return err
		}
	}
	return x.countOn(ctx, f)
}

// runSets applies the operations of tables that nobody else writes.
func (x *execution) runSets(ctx context.Context, tables []*tableOps, first []call, checkFirst func(counts []int64) error) error {
	stages := 1
	for _, t := range tables {
		stages = max(stages, len(t.ops))
	}
	for i := range stages {
		calls := first
		var copies []*copyData
		for _, t := range tables {
			if i >= len(t.ops) {
				continue
			}
			calls = x.searchFor(calls, t.ops[i].shape.schemas)
			o := t.ops[i]
			if x.mayCopy(o) {
				// What is there can only be asked behind what comes before.
				if err := x.runCalls(ctx, calls, len(first), checkFirst); err != nil {
					return err
				}
				calls, first = nil, nil
				vacant, err := x.vacant(ctx, o.shape, o.keyRange)
				if err != nil {
					return err
				}
				if vacant {
					copies = append(copies, o.shape.copyRows(o.keyRange.Rows))
					continue
				}
			}
			if o.parts != nil {
				if err := x.runCalls(ctx, calls, len(first), checkFirst); err != nil {
					return err
				}
				calls, first = nil, nil
				if err := x.runSets(ctx, []*tableOps{{shape: o.shape, ops: o.parts}}, nil, nil); err != nil {
					return err
				}
				continue
			}
			if o.set == nil {
				calls = x.opCalls(calls, o)
			} else {
				more, c := o.set.plan.statements(o.shape, x.careful(t.shape.target))
				calls = append(calls, more...)
				if c != nil {
					copies = append(copies, c)
				}
			}
		}
		if err := x.runCalls(ctx, calls, len(first), checkFirst); err != nil {
			return err
		}
		first = nil
		for _, c := range copies {
			x.lastCall = c.op
			if err := x.session.copy(ctx, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// runCalls sends the calls, of which the first are not of the batch's changes.
func (x *execution) runCalls(ctx context.Context, calls []call, first int, checkFirst func(counts []int64) error) error {
	counts, err := x.pipeline(ctx, calls)
	if err != nil {
		return err
	}
	if checkFirst != nil && first > 0 {
		if err := checkFirst(counts[:first]); err != nil {
			return err
		}
	}
	return x.check(ctx, calls[first:], counts[first:])
}

func (x *execution) pipeline(ctx context.Context, calls []call) ([]int64, error) {
	if len(calls) == 0 {
		return nil, nil
	}
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
		case callNew:
			x.lastCall = c
			return fmt.Errorf("%w: %d of %d rows of %s", errRaced, short, len(c.rows), c.shape.name)
		case callUpdate:
			if !c.full {
				if err := x.lacks(ctx, c); err != nil {
					return err
				}
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
	}
	return x.rangeCalls(calls, sh, o.keyRange)
}

// searchFor lets the transaction find the operators of extensions' types.
func (x *execution) searchFor(calls []call, schemas []string) []call {
	known := len(x.search)
	for _, s := range schemas {
		if !slices.Contains(x.search, s) {
			x.search = append(x.search, s)
		}
	}
	if len(x.search) == known {
		return calls
	}
	return append(calls, call{sql: "SET LOCAL search_path = pg_catalog, " + quoteAll(x.search)})
}
