package pgcluster_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

var silent = slog.New(slog.DiscardHandler)

func TestEveryConfigurationErrorIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := pgcluster.New(pgcluster.Config{
		Port: 70000, Listen: []string{"0.0.0.0"}, Profile: "toaster",
		Settings: map[string]string{"fsync": "off", "work_mem": "1MB\nfsync = off", "bad name": "x"},
	}, silent)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"directory is not set", "70000", "0.0.0.0", "toaster", "fsync", "line break", "bad name"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("does not mention %q: %v", want, err)
		}
	}
}

func TestDataOfAnotherVersionIsRefusedWithARemedy(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{"9": "pg_upgrade", "99": "cannot go back"} {
		dir := pgtest.Dir(t)
		data := filepath.Join(dir, "data")
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(version+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := pgcluster.New(pgcluster.Config{Dir: dir}, silent)
		if err == nil || !strings.Contains(hint.Of(err), want) {
			t.Errorf("data of %s: %v; remedy %q, want one with %q", version, err, hint.Of(err), want)
		}
	}
}

func TestForeignFilesAreNotOverwritten(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	if err := os.MkdirAll(filepath.Join(dir, "data", "family-photos"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := pgcluster.New(pgcluster.Config{Dir: dir}, silent)
	if err == nil || hint.Of(err) == "" {
		t.Fatalf("err %v, remedy %q", err, hint.Of(err))
	}
}

func TestAnInterruptedFirstStartIsBegunAgain(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	if err := os.MkdirAll(filepath.Join(dir, "data.new", "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	start(t, pgcluster.Config{Dir: dir})
}

func TestAPortInUseIsNamed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := prepare(t, pgcluster.Config{Port: l.Addr().(*net.TCPAddr).Port})
	err = c.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "in use") || hint.Of(err) == "" {
		t.Fatalf("err %v, remedy %q", err, hint.Of(err))
	}
	if s := c.Status(); s.State != pgcluster.Down || s.Reason == "" {
		t.Errorf("status %+v", s)
	}
}

func TestAClosedFolderIsNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root lends the server another user
	}
	t.Parallel()
	parent := filepath.Join(pgtest.Dir(t), "closed")
	if err := os.Mkdir(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	c := prepare(t, pgcluster.Config{Dir: filepath.Join(parent, "pg")})
	err := c.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), parent) || !strings.Contains(hint.Of(err), "chmod o+x") {
		t.Fatalf("err %v, remedy %q", err, hint.Of(err))
	}
}

func TestAnExistingServerIsToldAllItsProblemsAtOnce(t *testing.T) {
	t.Parallel()
	s := pgtest.Cluster(t, pgtest.Options{Settings: map[string]string{
		"wal_level": "replica", "max_wal_senders": "0", "max_replication_slots": "0", "full_page_writes": "off",
	}})
	s.Exec(t, "CREATE ROLE plain LOGIN")
	plain := s.ConnStringFor("plain")
	_, err := pgcluster.Existing{Owner: plain}.Check(t.Context())
	bad, ok := errors.AsType[*pgcluster.UnsuitableError](err)
	if !ok {
		t.Fatalf("err %v", err)
	}
	for _, want := range []string{"wal_level", "replication slots", "WAL senders", "full_page_writes", "may not stream", "session_replication_role", "create a schema"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("does not mention %q:\n%v", want, err)
		}
	}
	for _, p := range bad.Problems {
		if p.Remedy == "" {
			t.Errorf("no remedy for %q", p.What)
		}
	}
	_, err = pgcluster.Existing{Owner: fmt.Sprintf("postgres://nobody@127.0.0.1:%d/none", s.Port())}.Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Cannot connect for owner") {
		t.Errorf("err %v", err)
	}
}

func TestASuitableExistingServerIsAccepted(t *testing.T) {
	t.Parallel()
	s := pgtest.Cluster(t, pgtest.Options{})
	report, err := pgcluster.Existing{Owner: s.ConnString()}.Check(t.Context())
	if err != nil || report.Version == "" || len(report.Warnings) != 1 {
		t.Fatalf("report %+v, %v; want only the warning about max_slot_wal_keep_size", report, err)
	}
}
