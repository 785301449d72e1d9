package edge

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/edge/postgres"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/internal/web"
)

// Access opens what says who may use this box's pages and API, beside the agent
// that runs, for a user that may read its secrets. Close ends it.
func Access(ctx context.Context, c Config) (store web.PGStore, closeAll func(), err error) {
	db, err := postgres.New(c.Postgres.local(), slog.New(slog.DiscardHandler))
	if err != nil {
		return store, nil, err
	}
	pc, err := pgxpool.ParseConfig(db.DSN(pgcluster.Owner))
	if err != nil {
		return store, nil, fmt.Errorf("read the connection string: %w", err)
	}
	if c.Postgres.Mode == "existing" && c.Postgres.Password != "" {
		raw, err := os.ReadFile(c.Postgres.Password) // as the agent reads it
		if err != nil {
			return store, nil, fmt.Errorf("read the password file: %w", err)
		}
		password, _, _ := strings.Cut(string(raw), "\n")
		pc.ConnConfig.Password = strings.TrimSuffix(password, "\r")
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return store, nil, fmt.Errorf("connect to the local database: %w", err)
	}
	store = web.PGStore{Pool: pool}
	if _, err := store.Tokens(ctx); err != nil {
		pool.Close()
		return store, nil, hint.Wrap(err, "The agent must run on this box, and this command as the user that runs it.")
	}
	return store, pool.Close, nil
}
