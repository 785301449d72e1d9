// Package postgres is the box's local database: its own managed cluster, or
// one that the plant has already, and the facts about it for the heartbeat.
//
// In:  edge/edge.go, with the section postgres of the configuration.
// Out: internal/pgcluster, which runs the server; capture, apply and the
// workspace connect to it with the connection strings from here.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/pgcluster"
)

// Config is the local database, as the box's configuration has it.
type Config struct {
	Existing     bool   // use the server at DSN instead of a managed one
	DSN          string // existing only
	PasswordFile string // existing only
	Dir          string // the managed cluster's home, and the password files'
	Port         int    // managed only, on 127.0.0.1
	Profile      string // managed only: auto, pi4, nuc, server
	OSUser       string // managed only, when the agent runs as root
	Database     string // whose tables are synced
	// WALKeepBytes is how much WAL may wait for the agent before PostgreSQL
	// gives the slot up to save the disk. 0: a tenth of the disk.
	WALKeepBytes int64
}

// DB is the local database. Its methods may be called from several goroutines.
type DB struct {
	server *pgcluster.Server
	dir    string // of the data; empty in existing mode

	mu     sync.Mutex // held while facts are collected
	conn   *pgx.Conn
	size   int64
	sizeAt time.Time
}

// New checks the configuration. It starts and connects to nothing.
func New(cfg Config, log *slog.Logger) (*DB, error) {
	sc := pgcluster.ServerConfig{
		Database: cfg.Database,
		Managed: pgcluster.Config{
			Dir: cfg.Dir, Port: cfg.Port, Profile: pgcluster.Profile(cfg.Profile), User: cfg.OSUser,
			Settings: map[string]string{},
		},
	}
	if cfg.WALKeepBytes > 0 {
		const mib = 1 << 20
		sc.Managed.Settings["max_slot_wal_keep_size"] = strconv.FormatInt(max(cfg.WALKeepBytes/mib, 1), 10) + "MB"
	}
	if cfg.Existing {
		if cfg.DSN == "" {
			return nil, errors.New("the existing PostgreSQL has no connection string")
		}
		sc.DSN, sc.PasswordFile = cfg.DSN, cfg.PasswordFile
	}
	server, err := pgcluster.NewServer(sc, log)
	if err != nil {
		return nil, err
	}
	d := &DB{server: server}
	if c := server.Managed(); c != nil {
		d.dir = c.DataDir()
	}
	return d, nil
}

// Open brings the database up with its roles and the schema holdfast, and
// returns when it answers.
func (d *DB) Open(ctx context.Context) error { return d.server.Open(ctx) }

// Run keeps the database running until ctx is done.
func (d *DB) Run(ctx context.Context) error { return d.server.Run(ctx) }

// Stop stops a managed database and leaves an existing one alone.
func (d *DB) Stop() error {
	d.mu.Lock()
	d.disconnect()
	d.mu.Unlock()
	return d.server.Stop()
}

// Status returns the server's state. It does no work.
func (d *DB) Status() pgcluster.Status { return d.server.Status() }

// DSN returns the connection string of one of pgcluster's standard roles.
func (d *DB) DSN(role string) string { return d.server.DSN(role) }

// ReplicationDSN returns a connection string for START_REPLICATION.
func (d *DB) ReplicationDSN(role string) string { return d.server.ReplicationDSN(role) }

// Ready returns nil when the database answers, and otherwise why it does not.
func (d *DB) Ready() error {
	if s := d.Status(); s.State != pgcluster.Up {
		return fmt.Errorf("the local PostgreSQL is %s: %s", s.State, s.Reason)
	}
	return nil
}

// disconnect must be called with mu held.
func (d *DB) disconnect() {
	if d.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	d.conn.Close(ctx) // it may be broken already
	d.conn = nil
}
