package pgcluster_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

func TestAnExistingServerIsReachedByPasswordFileAndWatched(t *testing.T) {
	t.Parallel()
	plant := start(t, pgcluster.Config{})
	if err := plant.Provision(t.Context(), "plant"); err != nil {
		t.Fatal(err)
	}
	line, err := os.ReadFile(plant.PassFile(pgcluster.Superuser))
	if err != nil {
		t.Fatal(err)
	}
	password := strings.TrimSpace(strings.Split(string(line), ":")[4])
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := pgcluster.NewServer(pgcluster.ServerConfig{
		DSN:          fmt.Sprintf("postgres://postgres@127.0.0.1:%d/plant?sslmode=disable", plant.Port()),
		PasswordFile: file, Managed: pgcluster.Config{Dir: pgtest.Dir(t)},
	}, silent)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, dsn := range []string{s.DSN(pgcluster.Owner), s.ReplicationDSN(pgcluster.Capture)} {
		if strings.Contains(dsn, password) {
			t.Error("the password shows in the connection string")
		}
		connect(t, dsn)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	if err := plant.Stop(); err != nil {
		t.Fatal(err)
	}
	until(t, "the server is seen to be down", func() bool { return s.Status().State == pgcluster.Down })
	if err := plant.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the server is seen to be up", func() bool { return s.Status().State == pgcluster.Up })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
