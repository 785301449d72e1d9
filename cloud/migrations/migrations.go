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
)

//go:embed *.sql
var files embed.FS

// Up brings the region's schema to this build's version. It is safe to run
// from several processes at once: each migration is one transaction and the
// version table is locked meanwhile.
func Up(ctx context.Context, db *sql.DB) error {
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName("holdfast_schema_version"))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate the region's schema: %w", err)
	}
	return nil
}
