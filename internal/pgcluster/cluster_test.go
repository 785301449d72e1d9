package pgcluster_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// start makes and starts a cluster that stops with the test.
func start(t *testing.T, cfg pgcluster.Config) *pgcluster.Cluster {
	t.Helper()
	c := prepare(t, cfg)
	if err := c.Start(t.Context()); err != nil {
		t.Fatalf("%v (%s)", err, hint.Of(err))
	}
	return c
}

func prepare(t *testing.T, cfg pgcluster.Config) *pgcluster.Cluster {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = pgtest.Dir(t)
	}
	if cfg.Port == 0 {
		cfg.Port = pgtest.Port(t)
	}
	if cfg.Profile == "" {
		cfg.Profile = pgcluster.Pi4
	}
	c, err := pgcluster.New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatalf("%v (%s)", err, hint.Of(err))
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return c
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatalf("connect to %s: %v", dsn, err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func run(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func value(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	var v string
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// until waits for a condition.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within two minutes: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestANewClusterIsSafeAndReadyForCapture(t *testing.T) {
	t.Parallel()
	c := start(t, pgcluster.Config{Settings: map[string]string{"log_statement": "ddl"}})
	conn := connect(t, c.DSN(pgcluster.Superuser, "postgres"))
	for setting, want := range map[string]string{
		"data_checksums": "on", "fsync": "on", "full_page_writes": "on", "wal_level": "logical",
		"password_encryption": "scram-sha-256", "listen_addresses": "127.0.0.1", "server_encoding": "UTF8",
		"log_statement": "ddl", "max_wal_size": "256MB", "logging_collector": "on",
	} {
		if got := value(t, conn, "SELECT current_setting('"+setting+"')"); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	if got := value(t, conn, "SELECT current_setting('max_slot_wal_keep_size')"); got == "-1" {
		t.Error("a forgotten slot could fill the disk")
	}
	if s := c.Status(); s.State != pgcluster.Up || s.PID == 0 || s.Adopted {
		t.Errorf("status %+v", s)
	}
	// Without the password, or with another, nobody comes in, not even over the socket.
	for _, dsn := range []string{c.DSN("postgres", "postgres"), c.TCPDSN("postgres", "postgres")} {
		bare := strings.Replace(dsn, "passfile=", "passfile=/nowhere", 1)
		if _, err := pgx.Connect(t.Context(), bare); err == nil {
			t.Errorf("connected without a password: %s", bare)
		}
		_, err := pgx.Connect(t.Context(), bare+"&password=wrong")
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "28P01" {
			t.Errorf("with a wrong password: %v, want that the server refuses it", err)
		}
	}
}

func TestEachRoleMayDoItsWorkAndNoMore(t *testing.T) {
	t.Parallel()
	c := start(t, pgcluster.Config{})
	for range 2 { // the second time changes nothing
		if err := c.Provision(t.Context(), pgcluster.Database); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(c.PassFile(pgcluster.Apply))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("password file: %v, %v", info, err)
	}
	app := connect(t, c.TCPDSN(pgcluster.App, pgcluster.Database))
	run(t, app, "CREATE TABLE public.orders (id int PRIMARY KEY); INSERT INTO public.orders VALUES (1)")
	run(t, app, "CREATE SCHEMA films; CREATE TABLE films.rental (id serial PRIMARY KEY)")
	owner := connect(t, c.DSN(pgcluster.Owner, pgcluster.Database))
	run(t, owner, "CREATE PUBLICATION holdfast FOR TABLE public.orders")
	run(t, owner, "CREATE TABLE holdfast.position (seq bigint)")
	apply := connect(t, c.DSN(pgcluster.Apply, pgcluster.Database))
	run(t, apply, "SET session_replication_role = replica; INSERT INTO public.orders VALUES (2)")
	run(t, apply, "SELECT nextval('films.rental_id_seq'), last_value FROM films.rental_id_seq")
	run(t, apply, "INSERT INTO holdfast.position VALUES (1); CREATE UNLOGGED TABLE holdfast.staging (id int)")
	capture := connect(t, c.ReplicationDSN(pgcluster.Capture, pgcluster.Database))
	if _, err := capture.PgConn().Exec(t.Context(), "CREATE_REPLICATION_SLOT s LOGICAL pgoutput").ReadAll(); err != nil {
		t.Fatal(err)
	}
	reader := connect(t, c.DSN(pgcluster.Capture, pgcluster.Database))
	if n := value(t, reader, "SELECT count(*)::text FROM public.orders"); n != "2" {
		t.Fatalf("capture reads %s rows, want 2", n)
	}
	run(t, reader, "SELECT pg_logical_emit_message(true, 'holdfast', 'x')")
	if _, err := reader.Exec(t.Context(), "INSERT INTO public.orders VALUES (3)"); err == nil {
		t.Error("the capture role may write")
	}
	monitor := connect(t, c.DSN(pgcluster.Monitor, pgcluster.Database))
	if n := value(t, monitor, "SELECT count(*)::text FROM pg_replication_slots"); n != "1" {
		t.Errorf("monitor sees %s slots", n)
	}
	if _, err := monitor.Exec(t.Context(), "SELECT * FROM public.orders"); err == nil {
		t.Error("the monitor role reads the business's rows")
	}
	// A password that was changed in the file is set in the server.
	if err := os.WriteFile(c.PassFile(pgcluster.App), []byte("*:*:*:holdfast_app:changed\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Provision(t.Context(), pgcluster.Database); err != nil {
		t.Fatal(err)
	}
	connect(t, c.DSN(pgcluster.App, pgcluster.Database))
}

func TestACrashedServerIsStartedAgainWithItsRows(t *testing.T) {
	t.Parallel()
	c := start(t, pgcluster.Config{})
	run(t, connect(t, c.DSN("postgres", "postgres")), "CREATE TABLE kept AS SELECT generate_series(1, 1000)")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	for range 2 {
		pid := c.Status().PID
		if err := pgcluster.KillAll(t.Context(), pid); err != nil {
			t.Fatal(err)
		}
		until(t, "the server is up again", func() bool {
			s := c.Status()
			return s.State == pgcluster.Up && s.PID != pid
		})
	}
	// The first crash may come before Run looks for the first time.
	if n := c.Status().Restarts; n < 1 || n > 2 {
		t.Errorf("%d restarts are counted", n)
	}
	if n := value(t, connect(t, c.DSN("postgres", "postgres")), "SELECT count(*)::text FROM kept"); n != "1000" {
		t.Fatalf("%s rows after the crashes, want 1000", n)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatalf("Run: %v", err)
	}
	if c.Status().State != pgcluster.Up {
		t.Fatal("the server ended with Run")
	}
}

// TestTheServerOutlivesAKilledAgent starts a cluster in a second process,
// kills that, and finds the server still serving and adopted.
func TestTheServerOutlivesAKilledAgent(t *testing.T) {
	if dir := os.Getenv("PGCLUSTER_AGENT_DIR"); dir != "" {
		port, _ := strconv.Atoi(os.Getenv("PGCLUSTER_AGENT_PORT"))
		c, err := pgcluster.New(pgcluster.Config{Dir: dir, Port: port}, slog.New(slog.DiscardHandler))
		if err == nil {
			err = c.Start(context.Background())
		}
		fmt.Printf("started %d %v\n", c.Status().PID, err)
		<-t.Context().Done() // until killed
	}
	t.Parallel()
	dir, port := pgtest.Dir(t), pgtest.Port(t)
	agent := exec.Command(os.Args[0], "-test.run=^TestTheServerOutlivesAKilledAgent$")
	agent.Env = append(os.Environ(), "PGCLUSTER_AGENT_DIR="+dir, "PGCLUSTER_AGENT_PORT="+strconv.Itoa(port))
	out, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		fmt.Sscanf(lines.Text(), "started %d <nil>", &pid)
	}
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	agent.Wait() // killed: the error is expected
	if pid == 0 {
		t.Fatal("the agent did not start the server")
	}
	c := start(t, pgcluster.Config{Dir: dir, Port: port, Settings: map[string]string{"work_mem": "3MB"}})
	if s := c.Status(); !s.Adopted || s.PID != pid {
		t.Fatalf("status %+v, want process %d adopted", s, pid)
	}
	if got := value(t, connect(t, c.DSN("postgres", "postgres")), "SHOW work_mem"); got != "3MB" {
		t.Errorf("work_mem is %s: the adopted server did not read its new settings", got)
	}
}

func TestAStalePIDFileDoesNotStopTheStart(t *testing.T) {
	t.Parallel()
	c := start(t, pgcluster.Config{})
	pidFile := filepath.Join(c.DataDir(), "postmaster.pid")
	old, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := pgcluster.KillAll(t.Context(), c.Status().PID); err != nil {
		t.Fatal(err)
	}
	// After a reboot the number belongs to another program: here, to this one.
	_, rest, _ := strings.Cut(string(old), "\n")
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(os.Getpid())+"\n"+rest), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestASecondStartAndStopChangeNothing(t *testing.T) {
	t.Parallel()
	c := start(t, pgcluster.Config{})
	pid := c.Status().PID
	if err := c.Start(t.Context()); err != nil || c.Status().PID != pid {
		t.Fatalf("second start: %v, process %d then %d", err, pid, c.Status().PID)
	}
	for range 2 {
		if err := c.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if !pgcluster.Gone(pid) || c.Status().State != pgcluster.Stopped {
		t.Fatalf("after Stop: %+v", c.Status())
	}
}
