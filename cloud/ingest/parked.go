package ingest

import (
	"context"

	"github.com/agogsaas/holdfast/internal/apply"
)

// Blocker returns the row that has a parked change's unique value, nil if
// there is none or it cannot be told.
func (in *Ingest) Blocker(ctx context.Context, id int64) (*apply.Blocker, error) {
	return in.pool.Blocker(ctx, in.tables.registry(), id)
}

// RetryParked has what is parked of a facility tried at once.
func (in *Ingest) RetryParked(facility string) { in.pool.RetryNow(facility) }

// loading reports whether the facility is sending the table (schema.name) as a whole.
func (in *Ingest) loading(ctx context.Context, facility, table string) bool {
	yes, err := in.store.loading(ctx, facility, table)
	if err != nil {
		in.cfg.Log.Debug("it is not known whether a table is being sent", "facility", facility, "table", table, "err", err)
	}
	return yes || err != nil
}
