package pgtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/pgcluster"
)

// server is one running PostgreSQL under the run directory of this process.
type server struct {
	run      *runDir
	dir      string // holds data, sockets and log
	data     string
	sockets  string
	logFile  string
	port     int
	portLock *os.File
	settings map[string]string
	env      []string

	mu   sync.Mutex
	done chan struct{} // closed when the postmaster was collected; nil if never started
	cmd  *exec.Cmd
}

// defaults leave room for many slots and senders, and keep a test server's
// footprint small.
func defaults(noFsync bool) map[string]string {
	s := map[string]string{
		"listen_addresses":      "127.0.0.1",
		"wal_level":             "logical",
		"max_wal_senders":       "50",
		"max_replication_slots": "50",
		"max_connections":       "100",
		"shared_buffers":        "64MB",
		"max_wal_size":          "1GB",
		"log_checkpoints":       "off",
		"autovacuum_naptime":    "1min",
		"timezone":              "UTC",
	}
	if noFsync {
		s["fsync"] = "off"
		s["synchronous_commit"] = "off"
		s["full_page_writes"] = "off"
	}
	return s
}

func newServer(o Options) (*server, error) {
	run, err := openRunDir()
	if err != nil {
		return nil, err
	}
	s := &server{run: run, settings: defaults(o.NoFsync), env: o.Env}
	maps.Copy(s.settings, o.Settings)
	if s.dir, err = os.MkdirTemp(run.path, "s"); err != nil {
		return nil, fmt.Errorf("make the server's folder: %w", err)
	}
	s.data = filepath.Join(s.dir, "data")
	s.sockets = filepath.Join(s.dir, "s")
	s.logFile = filepath.Join(s.dir, "log")
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

func (s *server) prepare() error {
	if err := os.Mkdir(s.sockets, 0o755); err != nil {
		return fmt.Errorf("make the socket folder: %w", err)
	}
	if err := s.run.copyTemplate(s.data); err != nil {
		return err
	}
	var err error
	if s.port, s.portLock, err = s.run.takePort(); err != nil {
		return err
	}
	s.settings["port"] = strconv.Itoa(s.port)
	s.settings["unix_socket_directories"] = s.sockets
	if len(s.sockets) > 80 { // a socket's path is limited to 107 bytes
		s.settings["unix_socket_directories"] = ""
	}
	if err := s.configure(); err != nil {
		return err
	}
	if err := os.Chmod(s.dir, 0o755); err != nil {
		return fmt.Errorf("open the server's folder: %w", err)
	}
	return s.run.account.Own(s.dir)
}

// configure writes the settings into postgresql.auto.conf, which has the last
// word over everything but the command line.
func (s *server) configure() error {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(s.settings)) {
		fmt.Fprintf(&b, "%s = '%s'\n", k, strings.ReplaceAll(s.settings[k], "'", "''"))
	}
	path := filepath.Join(s.data, "postgresql.auto.conf")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	return nil
}

func (s *server) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running() {
		return nil
	}
	log, err := os.OpenFile(s.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the server's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(s.run.binaries.Path("postgres"), "-D", s.data)
	cmd.Dir = "/"
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "PGDATA=" + s.data}, s.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = s.run.account.SysProcAttr()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	done := make(chan struct{})
	s.cmd, s.done = cmd, done
	// Collects the postmaster whenever it ends; everything that ends a server
	// waits for done.
	go func() {
		cmd.Wait()
		close(done)
	}()
	return s.awaitReady(ctx)
}

// awaitReady waits until the server answers. It does not ask one that says itself that
// it is not ready: each question would cost it a process.
func (s *server) awaitReady(ctx context.Context) error {
	for {
		err := errNotReady
		if s.saysReady() {
			var conn *pgx.Conn
			if conn, err = pgx.Connect(ctx, s.connString("postgres")); err == nil {
				return conn.Close(ctx)
			}
		}
		select {
		case <-s.done:
			return fmt.Errorf("postgres ended at start:\n%s", readTail(s.logFile, 2048))
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w\n%s", err, readTail(s.logFile, 2048))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

var errNotReady = errors.New("it is still starting")

// saysReady reads the line of postmaster.pid in which the server of now says how far it is.
func (s *server) saysReady() bool {
	raw, err := os.ReadFile(filepath.Join(s.data, "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return lines[0] == strconv.Itoa(s.cmd.Process.Pid) && strings.TrimSpace(lines[len(lines)-1]) == "ready"
}

// running must be called with mu held.
func (s *server) running() bool {
	if s.done == nil {
		return false
	}
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

func (s *server) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running() {
		return 0
	}
	return s.cmd.Process.Pid
}

func (s *server) stop(ctx context.Context) error { return s.end(ctx, syscall.SIGINT) }

func (s *server) end(ctx context.Context, sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running() {
		return nil
	}
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal the postmaster: %w", err)
	}
	return s.awaitEnd(ctx)
}

func (s *server) kill(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running() {
		return nil
	}
	if err := pgcluster.KillAll(ctx, s.cmd.Process.Pid); err != nil {
		return err
	}
	return s.awaitEnd(ctx)
}

func (s *server) awaitEnd(ctx context.Context) error {
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the postmaster to end: %w", context.Cause(ctx))
	}
}

// remove ends the server without ceremony and deletes it.
func (s *server) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := s.end(ctx, syscall.SIGQUIT)
	if s.portLock != nil {
		s.portLock.Close()
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}
