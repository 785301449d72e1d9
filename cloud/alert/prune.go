package alert

import (
	"context"
	"fmt"
	"time"
)

const (
	// keptFor is how long what is over is kept, with its messages: a year, and the
	// same weeks of the year before.
	keptFor = 400 * 24 * time.Hour
	// pruneEvery and pruneMax bound how much is removed at once. That is more than
	// ever comes, and little enough to disturb nobody.
	pruneEvery = time.Minute
	pruneMax   = 500

	// Its timeline, escalations, messages, attempts and receipts go with it. A
	// region's incident goes behind its parts.
	sqlPrune = `
DELETE FROM holdfast.incident WHERE id IN (
    SELECT i.id FROM holdfast.incident i
    WHERE i.opened_at < $1 AND i.resolved_at < $1 AND NOT EXISTS (SELECT FROM holdfast.incident p WHERE p.parent = i.id)
    ORDER BY i.opened_at LIMIT $2 FOR UPDATE SKIP LOCKED)`

	sqlPruneTests = `
DELETE FROM holdfast.delivery WHERE id IN (
    SELECT id FROM holdfast.delivery WHERE incident IS NULL AND created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)`

	sqlPruneWork = `
DELETE FROM holdfast.maintenance WHERE id IN (
    SELECT id FROM holdfast.maintenance WHERE ends_at < $1 ORDER BY ends_at LIMIT $2 FOR UPDATE SKIP LOCKED)`
)

// prune removes what has long been over.
func (a *Alerter) prune(ctx context.Context, now time.Time) error {
	for _, sql := range []string{sqlPrune, sqlPruneTests, sqlPruneWork} {
		if _, err := a.db.Exec(ctx, sql, now.Add(-keptFor), pruneMax); err != nil {
			return fmt.Errorf("remove what has long been over: %w", err)
		}
	}
	return nil
}
