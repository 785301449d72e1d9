// Package pgtest gives every test a real PostgreSQL.
//
// New returns a database of its own in a server that all tests of the test
// binary share; Cluster starts a server of its own for tests that kill or
// reconfigure it. Servers end with the test binary, however it ends.
//
// In:  the tests of every package.
// Out: internal/pgcluster, and a PostgreSQL server.
package pgtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"
)

// Superuser is the role that ConnString connects as. It needs no password:
// the servers here trust loopback and hold nothing worth stealing.
const Superuser = "postgres"

// patience is how long any single step of a test server may take.
const patience = 2 * time.Minute

var shared struct {
	sync.Mutex
	server    *server
	count     int // databases made so far, for their names
	templates map[string]bool
}

// DB is one database of a test server.
type DB struct {
	Name   string
	server *server
}

// New returns an empty database of the test's own, in a server shared by the
// whole test binary and started on first use: wal_level=logical, fsync off.
// The database, its replication slots and its connections go when the test
// ends.
func New(t testing.TB) *DB {
	t.Helper()
	return newShared(t, "", nil)
}

// Migrated is New with a schema. Up makes it once in the test binary, and every
// database that is asked for by this name begins as a copy of what it made.
func Migrated(t testing.TB, name string, up func(context.Context, *sql.DB) error) *DB {
	t.Helper()
	return newShared(t, "template_"+name, up)
}

func newShared(t testing.TB, template string, up func(context.Context, *sql.DB) error) *DB {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		s, err := newServer(Options{NoFsync: true, Settings: map[string]string{"max_connections": "300"}})
		if err != nil {
			t.Fatalf("start the shared test server: %v", err)
		}
		shared.server, shared.templates = s, map[string]bool{}
	}
	if template != "" && !shared.templates[template] {
		origin := &DB{Name: template, server: shared.server}
		origin.create(t, "")
		if err := origin.migrate(t.Context(), up); err != nil {
			origin.drop(t)
			t.Fatalf("make %s: %v", template, err)
		}
		shared.templates[template] = true
	}
	shared.count++
	db := &DB{Name: "test_" + strconv.Itoa(shared.count), server: shared.server}
	db.create(t, template)
	t.Cleanup(func() { db.drop(t) })
	return db
}

// migrate leaves no connection behind: a database that has some is not copied.
func (d *DB) migrate(ctx context.Context, up func(context.Context, *sql.DB) error) error {
	conn, err := sql.Open("pgx", d.ConnString())
	if err != nil {
		return err
	}
	return errors.Join(up(ctx, conn), conn.Close())
}

// create makes the database as a copy of the template, or empty without one.
func (d *DB) create(t testing.TB, template string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	statement := "CREATE DATABASE " + pgx.Identifier{d.Name}.Sanitize()
	if template != "" {
		statement += " TEMPLATE " + pgx.Identifier{template}.Sanitize()
	}
	if err := d.server.exec(ctx, statement); err != nil {
		t.Fatalf("create database %s: %v", d.Name, err)
	}
}

// drop removes slots first: one that is left keeps its database and its WAL.
func (d *DB) drop(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.server.connString("postgres"))
	if err != nil {
		t.Errorf("connect to drop database %s: %v", d.Name, err)
		return
	}
	defer conn.Close(ctx)
	if err := dropSlots(ctx, conn, d.Name); err != nil {
		t.Errorf("drop the slots of database %s: %v", d.Name, err)
		return
	}
	if _, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{d.Name}.Sanitize()+" WITH (FORCE)"); err != nil {
		t.Errorf("drop database %s: %v", d.Name, err)
	}
}

func dropSlots(ctx context.Context, conn *pgx.Conn, database string) error {
	for {
		var left int
		err := conn.QueryRow(ctx, `SELECT count(*) FROM pg_replication_slots WHERE database = $1`, database).Scan(&left)
		if err != nil || left == 0 {
			return err
		}
		// Ends the walsenders that hold a slot, waits for each up to 5 s.
		_, err = conn.Exec(ctx, `SELECT pg_terminate_backend(active_pid, 5000)
			FROM pg_replication_slots WHERE database = $1 AND active_pid IS NOT NULL`, database)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name)
			FROM pg_replication_slots WHERE database = $1 AND active_pid IS NULL`, database)
		if err != nil && ctx.Err() != nil {
			return err
		}
	}
}

// ConnString returns a URL for the superuser, over TCP on 127.0.0.1.
func (d *DB) ConnString() string { return d.server.connString(d.Name) }

// ConnStringFor returns a URL for another role of the server.
func (d *DB) ConnStringFor(role string) string {
	return strings.Replace(d.ConnString(), "//"+Superuser+"@", "//"+role+"@", 1)
}

// ReplicationConnString returns a URL that opens a replication connection to
// the database, as START_REPLICATION … LOGICAL needs it.
func (d *DB) ReplicationConnString() string { return d.ConnString() + "&replication=database" }

// Host and Port are where the server listens: 127.0.0.1 and a port that stays
// the same over restarts.
func (d *DB) Host() string { return "127.0.0.1" }

// Port returns the TCP port of the server.
func (d *DB) Port() int { return d.server.port }

// SocketDir returns the folder of the server's unix socket.
func (d *DB) SocketDir() string { return d.server.sockets }

// Conn opens a connection that closes with the test.
func (d *DB) Conn(t testing.TB) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.ConnString())
	if err != nil {
		t.Fatalf("connect to %s: %v", d.Name, err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// Pool opens a pool that closes with the test.
func (d *DB) Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pool, err := pgxpool.New(ctx, d.ConnString())
	if err != nil {
		t.Fatalf("open a pool on %s: %v", d.Name, err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Exec runs statements, several when there are no arguments, and fails the
// test on an error.
func (d *DB) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.ConnString())
	if err != nil {
		t.Fatalf("connect to %s: %v", d.Name, err)
	}
	defer conn.Close(ctx)
	if len(args) == 0 {
		_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
	} else {
		_, err = conn.Exec(ctx, sql, args...)
	}
	if err != nil {
		t.Fatalf("%s: %v", firstLine(sql), err)
	}
}

func firstLine(sql string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(sql), "\n")
	return line
}

func (s *server) connString(database string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", Superuser, s.port, database)
}

func (s *server) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, s.connString("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

// readTail returns the end of a file, for messages about a failed server.
func readTail(path string, n int) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(raw) > n {
		raw = raw[len(raw)-n:]
	}
	return string(raw)
}
