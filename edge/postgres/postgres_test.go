package postgres_test

import (
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/edge/postgres"
	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

func open(t *testing.T, cfg postgres.Config) *postgres.DB {
	t.Helper()
	db, err := postgres.New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if err := db.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

func exec(t *testing.T, dsn, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestFactsTellOfTheManagedDatabase(t *testing.T) {
	t.Parallel()
	db := open(t, postgres.Config{Dir: pgtest.Dir(t), Port: pgtest.Port(t), Profile: "pi4", Database: "plant", WALKeepBytes: 64 << 20})
	exec(t, db.DSN(pgcluster.Capture), "SELECT pg_create_logical_replication_slot('holdfast', 'pgoutput')")
	exec(t, db.DSN(pgcluster.App), "CREATE TABLE public.orders AS SELECT generate_series(1, 50000) AS id")
	f := db.Facts(t.Context())
	if f.State != pgcluster.Up || f.Version == "" || f.DatabaseBytes < 1<<20 || f.DiskFreeBytes == 0 || f.MaxConnections != 60 || f.Connections < 1 {
		t.Errorf("facts %+v", f)
	}
	if f.Slot("holdfast") != "inactive" || f.Slot("other") != "missing" {
		t.Errorf("slots %+v", f.Slots)
	}
	if len(f.Slots) != 1 || f.Slots[0].RetainedBytes < 1<<20 || f.WALRetainedBytes != f.Slots[0].RetainedBytes || f.Slots[0].SafeBytes == nil {
		t.Errorf("slots %+v", f.Slots)
	}
	if err := db.Ready(); err != nil {
		t.Error(err)
	}
}

func TestASlotBeyondTheFuseIsReportedLost(t *testing.T) {
	t.Parallel()
	db := open(t, postgres.Config{Dir: pgtest.Dir(t), Port: pgtest.Port(t), Profile: "pi4", WALKeepBytes: 1 << 20})
	exec(t, db.DSN(pgcluster.Capture), "SELECT pg_create_logical_replication_slot('holdfast', 'pgoutput')")
	super := db.DSN(pgcluster.Superuser)
	exec(t, super, "CREATE TABLE big AS SELECT repeat('x', 100) FROM generate_series(1, 300000)")
	exec(t, super, "SELECT pg_switch_wal()")
	exec(t, super, "CHECKPOINT")
	if f := db.Facts(t.Context()); f.Slot("holdfast") != "lost" {
		t.Errorf("slots %+v", f.Slots)
	}
}

func TestADatabaseThatIsDownIsAFactNotAnError(t *testing.T) {
	t.Parallel()
	db := open(t, postgres.Config{Dir: pgtest.Dir(t), Port: pgtest.Port(t), Profile: "pi4"})
	if f := db.Facts(t.Context()); f.State != pgcluster.Up {
		t.Fatalf("facts %+v", f)
	}
	// The watcher does not run here, so the state lags behind the truth.
	if err := pgcluster.KillAll(t.Context(), db.Status().PID); err != nil {
		t.Fatal(err)
	}
	if f := db.Facts(t.Context()); f.State != pgcluster.Down || f.Reason == "" || f.DiskTotalBytes == 0 {
		t.Errorf("facts %+v", f)
	}
}

func TestAnExistingDatabaseIsUsedAndLeftRunning(t *testing.T) {
	t.Parallel()
	s := pgtest.Cluster(t, pgtest.Options{})
	db := open(t, postgres.Config{Existing: true, DSN: s.ConnString()})
	exec(t, db.DSN(pgcluster.Owner), "CREATE TABLE holdfast.position (seq bigint)")
	if f := db.Facts(t.Context()); f.State != pgcluster.Up || f.Version == "" {
		t.Errorf("facts %+v", f)
	}
	if err := db.Stop(); err != nil {
		t.Fatal(err)
	}
	if s.PID() == 0 {
		t.Error("the existing server was stopped")
	}
}
