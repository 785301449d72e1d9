// Package migrations holds the workspace's tables, in order.
//
// In:  edge and cloud, at start.
// Out: the application tables in schema public.
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

// Up brings the workspace's tables to this build's version. It is safe to run
// again and from several processes at once.
func Up(ctx context.Context, db *sql.DB) error {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(7470001))
	if err != nil {
		return fmt.Errorf("prepare the migrations' lock: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName("holdfast_workspace_version"), goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate the workspace's tables: %w", err)
	}
	return nil
}
