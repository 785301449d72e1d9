package pgtest

import (
	"context"
	"testing"
)

// Options shape a server of Cluster.
type Options struct {
	// NoFsync trades crash safety for speed. By default a Cluster is safe.
	NoFsync bool
	// Settings are added to postgresql.conf, over the defaults here.
	Settings map[string]string
	// Env is added to the server's environment: NAME=value.
	Env []string
}

// Server is a PostgreSQL server of the test's own. Its methods of DB work on
// a database "test".
type Server struct {
	*DB
}

// Cluster starts a server for tests that crash, restart or reconfigure it.
// It is stopped and removed when the test ends.
func Cluster(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := newServer(o)
	if err != nil {
		t.Fatalf("start a test server: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of the log of the server on port %d:\n%s", s.port, readTail(s.logFile, 4096))
		}
		if err := s.remove(); err != nil {
			t.Errorf("remove the test server: %v", err)
		}
	})
	return &Server{DB: s.newDB(t, "test")}
}

func (s *server) newDB(t testing.TB, name string) *DB {
	t.Helper()
	db := &DB{Name: name, server: s}
	db.create(t, "")
	return db
}

// Database creates one more database. It goes with the server.
func (s *Server) Database(t testing.TB, name string) *DB {
	t.Helper()
	return s.server.newDB(t, name)
}

// Kill9 ends the postmaster and every backend at once, as a crash of the
// machine's processes would. Start brings the server back through recovery.
func (s *Server) Kill9(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.server.kill(ctx); err != nil {
		t.Fatalf("kill the test server: %v", err)
	}
}

// Stop shuts the server down cleanly (fast mode).
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.server.stop(ctx); err != nil {
		t.Fatalf("stop the test server: %v", err)
	}
}

// Start starts a stopped or killed server on the same port and waits until it
// answers. It does nothing to one that runs.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.server.start(ctx); err != nil {
		t.Fatalf("start the test server: %v", err)
	}
}

// Restart stops the server cleanly, if it runs, and starts it.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop(t)
	s.Start(t)
}

// Configure writes settings that the next start or reload uses.
func (s *Server) Configure(t testing.TB, settings map[string]string) {
	t.Helper()
	for k, v := range settings {
		s.server.settings[k] = v
	}
	if err := s.server.configure(); err != nil {
		t.Fatalf("configure the test server: %v", err)
	}
}

// DataDir returns the server's data directory.
func (s *Server) DataDir() string { return s.server.data }

// LogFile returns the path of the server's log.
func (s *Server) LogFile() string { return s.server.logFile }

// PID returns the process number of the postmaster, 0 when it is down.
func (s *Server) PID() int { return s.server.pid() }
