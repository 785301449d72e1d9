package pgtest_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	a, b := pgtest.New(t), pgtest.New(t)
	if a.Name == b.Name || a.Port() != b.Port() {
		t.Fatalf("want two databases in one server, got %s and %s", a.ConnString(), b.ConnString())
	}
	a.Exec(t, "CREATE TABLE mine (id int)")
	var n int
	err := b.Conn(t).QueryRow(t.Context(), "SELECT count(*) FROM pg_class WHERE relname = 'mine'").Scan(&n)
	if err != nil || n != 0 {
		t.Fatalf("a table of one database shows in the other: %d, %v", n, err)
	}
}

func TestASchemaIsMadeOnceAndEachTestHasItsOwnCopy(t *testing.T) {
	made := 0
	up := func(ctx context.Context, db *sql.DB) error {
		made++
		_, err := db.ExecContext(ctx, "CREATE TABLE kept (id int GENERATED ALWAYS AS IDENTITY); INSERT INTO kept DEFAULT VALUES")
		return err
	}
	a := pgtest.Migrated(t, "kept", up)
	a.Exec(t, "INSERT INTO kept DEFAULT VALUES")
	b := pgtest.Migrated(t, "kept", up)
	for db, want := range map[*pgtest.DB]int{a: 2, b: 1} {
		var n int
		if err := db.Conn(t).QueryRow(t.Context(), "SELECT count(*) FROM kept").Scan(&n); err != nil || n != want {
			t.Errorf("%s has %d rows, want %d, %v", db.Name, n, want, err)
		}
	}
	if made != 1 {
		t.Errorf("the schema was made %d times", made)
	}
}

func TestLogicalSlotsWorkAndGoWithTheDatabase(t *testing.T) {
	t.Run("uses a slot", func(t *testing.T) {
		db := pgtest.New(t)
		db.Exec(t, "SELECT pg_create_logical_replication_slot('left_behind', 'pgoutput')")
	})
	db := pgtest.New(t)
	var n int
	err := db.Conn(t).QueryRow(t.Context(), "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'left_behind'").Scan(&n)
	if err != nil || n != 0 {
		t.Fatalf("the slot is still there: %d, %v", n, err)
	}
}

func TestCommittedRowsSurviveKill9(t *testing.T) {
	s := pgtest.Cluster(t, pgtest.Options{})
	s.Exec(t, "CREATE TABLE kept (id int); INSERT INTO kept SELECT generate_series(1, 1000)")
	conn := s.Conn(t)
	port := s.Port()
	s.Kill9(t)
	if err := conn.Ping(t.Context()); err == nil {
		t.Fatal("a connection works although the server was killed")
	}
	s.Start(t)
	var n int
	if err := s.Pool(t).QueryRow(t.Context(), "SELECT count(*) FROM kept").Scan(&n); err != nil || n != 1000 {
		t.Fatalf("rows after the crash: %d, %v", n, err)
	}
	s.Restart(t)
	if s.Port() != port {
		t.Fatalf("port moved from %d to %d", port, s.Port())
	}
	var fsync string
	if err := s.Conn(t).QueryRow(t.Context(), "SHOW fsync").Scan(&fsync); err != nil || fsync != "on" {
		t.Fatalf("fsync is %q, %v; a Cluster must be safe", fsync, err)
	}
}

// TestNothingIsLeftBehind runs a second copy of this test binary, kills it
// without warning, and expects its server and folder to go.
func TestNothingIsLeftBehind(t *testing.T) {
	if os.Getenv("PGTEST_VICTIM") != "" {
		s := pgtest.Cluster(t, pgtest.Options{NoFsync: true})
		fmt.Printf("victim %d %s\n", s.PID(), s.DataDir())
		<-t.Context().Done() // until killed
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNothingIsLeftBehind$")
	cmd.Env = append(os.Environ(), "PGTEST_VICTIM=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var dir string
	for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "victim ") {
			fmt.Sscanf(lines.Text(), "victim %d %s", &pid, &dir)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // killed: the error is expected
	if pid == 0 {
		t.Fatal("the victim did not start its server")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		_, err := os.Stat(dir)
		if pgcluster.Gone(pid) && os.IsNotExist(err) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("after the test binary was killed: process %d gone: %v, folder gone: %v", pid, pgcluster.Gone(pid), os.IsNotExist(err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
