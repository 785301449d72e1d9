// Package migrations holds the tables of the box's own sign-in and API, in order.
//
// In:  edge, at start.
// Out: the local PostgreSQL, schema holdfast.
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

// Up brings the sign-in tables to this build's version. It is safe to run
// again and from several processes at once.
func Up(ctx context.Context, db *sql.DB) error {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(7470002))
	if err != nil {
		return fmt.Errorf("prepare the migrations' lock: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName("holdfast_localui_version"), goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate the sign-in tables: %w", err)
	}
	return nil
}
