package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/pgcluster"
)

// nativePeer describes the peer in docs/bench.md.
const nativePeer = "PostgreSQL's own subscription (binary, streaming off, synchronous_commit off, no copy), same edge cluster, " +
	"in another database of the same region cluster, same tables and indexes"

// subscription is native logical replication of some tables of the facility
// into the database native of the region's cluster.
type subscription struct {
	l    *lab
	name string
}

// subscribe makes the publication, the slot and the subscription, which waits
// until it is enabled.
func (l *lab) subscribe(ctx context.Context, tables ...string) (*subscription, error) {
	l.made++
	s := &subscription{l: l, name: fmt.Sprintf("native_%d", l.made)}
	_, err := l.local.Exec(ctx, fmt.Sprintf(`CREATE PUBLICATION %s FOR TABLE %s`, s.name, strings.Join(tables, ", ")))
	if err != nil {
		return nil, fmt.Errorf("make the peer's publication: %w", err)
	}
	password, err := l.edgePassword()
	if err != nil {
		return nil, err
	}
	conninfo := fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s dbname=%s", l.edge.Postgres, pgcluster.Superuser, password, pgcluster.Database)
	_, err = l.native.Exec(ctx, fmt.Sprintf(`CREATE SUBSCRIPTION %[1]s CONNECTION '%[2]s' PUBLICATION %[1]s
		WITH (enabled = false, copy_data = false, binary = true, streaming = off, synchronous_commit = 'off', create_slot = true)`,
		s.name, conninfo))
	if err != nil {
		return nil, fmt.Errorf("make the peer's subscription: %w", err)
	}
	return s, nil
}

// edgePassword is for a server that cannot read our password files.
func (l *lab) edgePassword() (string, error) {
	c, err := pgx.ParseConfig(l.edgeDSN())
	if err != nil {
		return "", fmt.Errorf("read the edge's connection string: %w", err)
	}
	if c.Password == "" || strings.ContainsAny(c.Password, `'\ `) {
		return "", fmt.Errorf("%s has no password that fits in a connection string: %w", pgcluster.Superuser, os.ErrInvalid)
	}
	return c.Password, nil
}

func (s *subscription) enable(ctx context.Context) error {
	_, err := s.l.native.Exec(ctx, `ALTER SUBSCRIPTION `+s.name+` ENABLE`)
	return err
}

// replayed waits until the subscriber has applied what committed up to lsn.
func (s *subscription) replayed(ctx context.Context, lsn string) error {
	return s.l.until(ctx, 20*time.Minute, func(ctx context.Context) (bool, error) {
		var there bool
		err := s.l.local.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_replication WHERE application_name = $1 AND replay_lsn >= $2::pg_lsn)`,
			s.name, lsn).Scan(&there)
		return there, err
	})
}

// retained is how many bytes of WAL its slot holds back.
func (s *subscription) retained(ctx context.Context) (int64, error) { return s.l.retained(ctx, s.name) }

func (l *lab) retained(ctx context.Context, slot string) (n int64, err error) {
	err = l.local.QueryRow(ctx, `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint FROM pg_replication_slots WHERE slot_name = $1`,
		slot).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("read what slot %s retains: %w", slot, err)
	}
	return n, nil
}

// drop ends the subscription with its slot and publication.
func (s *subscription) drop(ctx context.Context) error {
	if _, err := s.l.native.Exec(ctx, `DROP SUBSCRIPTION `+s.name); err != nil {
		return fmt.Errorf("drop the peer's subscription: %w", err)
	}
	_, err := s.l.local.Exec(ctx, `DROP PUBLICATION `+s.name)
	return err
}
