package apply

import (
	"context"
	"fmt"

	"github.com/agogsaas/holdfast/internal/change"
)

// A range of a table that is loaded for the first time finds none of its rows
// here. It is then added by COPY, which costs a third of looking for rows to
// remove and inserting with an eye on conflicts.
//
// A COPY makes ready for a thousand rows before it takes the first, a fifth of
// what it then does with the rows of one range. So ranges that follow each other
// are joined (fold.go), and taken apart again where something is in their place.

// mayCopy reports whether it is worth asking if a range is vacant.
func (x *execution) mayCopy(o *op) bool {
	return o.keyRange != nil && len(o.shape.key) > 0 && len(o.keyRange.Rows) >= copyMinRows && !x.careful(o.shape.target)
}

// vacant reports whether the facility has no row in the range.
func (x *execution) vacant(ctx context.Context, sh *shape, r *change.KeyRange) (bool, error) {
	l := sh.limits(x.facility, r.After, r.UpTo)
	rows, err := x.session.query(ctx, sh.vacantSQL(l), sh.facilityArg(l.args(sh, nil, r.After, r.UpTo), x.facility))
	if err != nil {
		return false, fmt.Errorf("look for rows of %s: %w", sh.target.sql(), err)
	}
	return len(rows) == 0, nil
}

// vacantSQL takes the bounds' values, then the facility.
func (sh *shape) vacantSQL(l limits) string {
	return sh.cached(fmt.Sprint("vacant ", l), func() string {
		next := 1
		where := l.where(sh, &next)
		return "SELECT 1 FROM " + sh.target.from() + " AS t WHERE true" + where + sh.mine(next) + " LIMIT 1"
	})
}
