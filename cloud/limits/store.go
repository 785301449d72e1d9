package limits

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// row is one facility with a limit.
type row struct {
	Facility, TimeZone string
	KBps               int
	Windows            []string
}

func (k *Keeper) rows(ctx context.Context) ([]row, error) {
	rows, err := k.db.Query(ctx, `
		SELECT f.id, f.time_zone, l.kbps, l.windows
		  FROM holdfast.facility_limit l JOIN holdfast.facility f ON f.id = l.facility`)
	if err != nil {
		return nil, fmt.Errorf("read the limits: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		return nil, fmt.Errorf("read the limits: %w", err)
	}
	return list, nil
}

// Write stores a facility's limit in a transaction, or removes it; Reload makes
// it count.
func Write(ctx context.Context, tx pgx.Tx, facility string, l Limit, by string) error {
	if l.KBps == 0 && len(l.Windows) == 0 {
		if _, err := tx.Exec(ctx, `DELETE FROM holdfast.facility_limit WHERE facility = $1`, facility); err != nil {
			return fmt.Errorf("remove the limit of %s: %w", facility, err)
		}
		return nil
	}
	windows := make([]string, len(l.Windows))
	for i, w := range l.Windows {
		windows[i] = w.String()
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO holdfast.facility_limit (facility, kbps, windows, set_by) VALUES ($1, $2, $3, $4)
		    ON CONFLICT (facility) DO UPDATE SET kbps = excluded.kbps, windows = excluded.windows, set_by = excluded.set_by, set_at = now()`,
		facility, l.KBps, windows, by)
	if err != nil {
		return fmt.Errorf("write the limit of %s: %w", facility, err)
	}
	return nil
}
