package pgcluster_test

import (
	"context"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/pgcluster"
)

func TestTheServerStartsInEveryProfile(t *testing.T) {
	t.Parallel()
	var c *pgcluster.Cluster
	for _, p := range []pgcluster.Profile{pgcluster.Pi4, pgcluster.NUC, pgcluster.Large} {
		cfg := pgcluster.Config{Profile: p, Settings: map[string]string{"huge_pages": "off"}}
		if c != nil { // the same data, as on a box that moves to better hardware
			if err := c.Stop(); err != nil {
				t.Fatal(err)
			}
			cfg.Dir, cfg.Port = strings.TrimSuffix(c.DataDir(), "/data"), c.Port()
		}
		c = start(t, cfg)
	}
	if got := value(t, connect(t, c.DSN("postgres", "postgres")), "SHOW shared_buffers"); got != "4GB" {
		t.Errorf("shared_buffers is %s", got)
	}
}

func TestAWrongSettingIsNamedAndTouchesNoRunningServer(t *testing.T) {
	t.Parallel()
	c := start(t, pgcluster.Config{})
	pid := c.Status().PID
	dir := strings.TrimSuffix(c.DataDir(), "/data")
	wrong := prepare(t, pgcluster.Config{Dir: dir, Port: c.Port(), Settings: map[string]string{"work_memory": "1GB"}})
	err := wrong.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "work_memory") || hint.Of(err) == "" {
		t.Fatalf("err %v, remedy %q", err, hint.Of(err))
	}
	if pgcluster.Gone(pid) {
		t.Fatal("the running server was stopped")
	}
	start(t, pgcluster.Config{Dir: dir, Port: c.Port()}) // put right
}

func TestACrashedBackendIsARecoveryNotARestart(t *testing.T) {
	t.Parallel()
	c := start(t, pgcluster.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	conn := connect(t, c.DSN("postgres", "postgres"))
	backend, err := strconv.Atoi(value(t, conn, "SELECT pg_backend_pid()::text"))
	if err != nil {
		t.Fatal(err)
	}
	pid := c.Status().PID
	if err := syscall.Kill(backend, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the server answers again", func() bool {
		fresh, err := pgx.Connect(ctx, c.DSN("postgres", "postgres"))
		if err != nil {
			return false
		}
		fresh.Close(ctx)
		return pgcluster.Gone(backend)
	})
	if s := c.Status(); s.PID != pid || s.Restarts != 0 {
		t.Errorf("status %+v, want process %d still", s, pid)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestAServerThatWasKilledWithItsProgramIsReplaced(t *testing.T) {
	t.Parallel()
	c := start(t, pgcluster.Config{})
	connect(t, c.DSN("postgres", "postgres")) // a process of its own, which must end first
	// Nobody collects it: its number, which the lock file names, stays taken.
	if err := syscall.Kill(c.Status().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	next := start(t, pgcluster.Config{Dir: strings.TrimSuffix(c.DataDir(), "/data"), Port: c.Port()})
	if s := next.Status(); s.PID == c.Status().PID || s.Adopted {
		t.Fatalf("status %+v", s)
	}
	connect(t, next.DSN("postgres", "postgres"))
}

func TestAPortThatChangesRestartsTheServer(t *testing.T) {
	t.Parallel()
	c := start(t, pgcluster.Config{})
	pid := c.Status().PID
	moved := start(t, pgcluster.Config{Dir: strings.TrimSuffix(c.DataDir(), "/data")})
	if s := moved.Status(); s.PID == pid || s.Adopted {
		t.Fatalf("status %+v", s)
	}
	connect(t, moved.TCPDSN("postgres", "postgres"))
}
