// Package migrations holds the region's own database schema, in order.
//
// In:  cloud, at start.
// Out: the region's PostgreSQL, schema holdfast.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"fmt"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed *.sql
var files embed.FS

// Up brings the region's schema to this build's version. It is safe to run
// again and from several processes at once.
func Up(ctx context.Context, db *sql.DB) error {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(7470003))
	if err != nil {
		return fmt.Errorf("prepare the migrations' lock: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName("holdfast_schema_version"), goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate the region's schema: %w", err)
	}
	return nil
}
