package pgcluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/durable"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/run"
)

// ServerConfig names the PostgreSQL that a program works with: a managed
// cluster, or an existing one when DSN is set.
type ServerConfig struct {
	// Managed is the cluster to make and run. In existing mode only its Dir is
	// used, for the password file.
	Managed Config
	// Database is where the synced tables and Holdfast's own schema are.
	// Default "holdfast"; in existing mode the DSN names it.
	Database string
	// DSN is the connection string of an existing server, of a role that may
	// create publications and slots. Empty: managed.
	DSN string
	// PasswordFile holds the password for DSN, on its first line.
	PasswordFile string
}

// Server is the PostgreSQL that a program works with. It hides who runs it.
//
//	db, err := pgcluster.NewServer(cfg, log)
//	s.Close("postgres", db.Stop)
//	err = db.Open(ctx)                    // up, with roles, database, schema
//	s.Go("postgres watch", db.Run)
type Server struct {
	cfg     ServerConfig
	log     *slog.Logger
	cluster *Cluster // nil in existing mode
	dsn     string   // existing mode: with the password file

	mu     sync.Mutex
	status Status // existing mode
}

// NewServer checks the configuration. It starts and connects to nothing.
func NewServer(cfg ServerConfig, log *slog.Logger) (*Server, error) {
	cfg.Database = cmp.Or(cfg.Database, Database)
	s := &Server{cfg: cfg, log: log.With("part", "postgres"), status: Status{State: Stopped, Since: time.Now()}}
	if cfg.DSN == "" {
		c, err := New(cfg.Managed, log)
		if err != nil {
			return nil, err
		}
		s.cluster = c
		return s, nil
	}
	parsed, err := pgx.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("read the connection string: %w", err),
			"Write it as postgres://role@host:port/database, and the password into a file of its own.")
	}
	s.cfg.Database = parsed.Database
	s.dsn = cfg.DSN
	return s, nil
}

// Managed returns the cluster of managed mode, and nil in existing mode.
func (s *Server) Managed() *Cluster { return s.cluster }

// Database returns the name of the database to work in.
func (s *Server) Database() string { return s.cfg.Database }

// Open brings the server up and makes what Holdfast needs in it. In existing
// mode it returns an *UnsuitableError that lists all that stands against the
// server.
func (s *Server) Open(ctx context.Context) error {
	if s.cluster != nil {
		if err := s.cluster.Start(ctx); err != nil {
			return err
		}
		return s.cluster.Provision(ctx, s.cfg.Database)
	}
	if err := s.usePasswordFile(); err != nil {
		return err
	}
	report, err := Existing{Owner: s.dsn}.Check(ctx)
	if err != nil {
		return err
	}
	for _, w := range report.Warnings {
		s.log.Warn("the PostgreSQL server could be better set up", "problem", w.What, "remedy", w.Remedy)
	}
	conn, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return fmt.Errorf("connect to the existing PostgreSQL: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS holdfast"); err != nil {
		return fmt.Errorf("make the schema holdfast: %w", err)
	}
	s.setStatus(Status{State: Up, Version: report.Version})
	return nil
}

// Run keeps a managed server running, and looks after an existing one, until
// ctx is done. It returns nil then.
func (s *Server) Run(ctx context.Context) error {
	if s.cluster != nil {
		return s.cluster.Run(ctx)
	}
	b := run.Backoff{Min: 500 * time.Millisecond, Max: 10 * time.Second}
	err := run.Loop(ctx, s.log, b, s.look)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// look asks an existing server for an answer until it gives none.
func (s *Server) look(ctx context.Context, up func()) (err error) {
	defer func() {
		if err != nil && ctx.Err() == nil {
			state := Down
			if isRecovering(err) {
				state = Recovering
			}
			s.setStatus(Status{State: state, Reason: err.Error()})
		}
	}()
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	version := conn.PgConn().ParameterStatus("server_version")
	up()
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		s.setStatus(Status{State: Up, Version: version})
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := ping(ctx, conn); err != nil {
			return fmt.Errorf("PostgreSQL does not answer: %w", err)
		}
	}
}

func (s *Server) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return pgx.Connect(ctx, s.dsn)
}

func ping(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return conn.Ping(ctx)
}

func (s *Server) setStatus(st Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Since = s.status.Since
	if st.State != s.status.State {
		st.Since = time.Now()
	}
	st.Version = cmp.Or(st.Version, s.status.Version)
	s.status = st
}

// Stop stops a managed server and leaves an existing one alone.
func (s *Server) Stop() error {
	if s.cluster == nil {
		return nil
	}
	return s.cluster.Stop()
}

// Status returns what is known of the server now. It does no work.
func (s *Server) Status() Status {
	if s.cluster != nil {
		return s.cluster.Status()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// DSN returns the connection string of one of the standard roles for the
// database. In existing mode it is the same for all of them.
func (s *Server) DSN(role string) string {
	if s.cluster != nil {
		return s.cluster.DSN(role, s.cfg.Database)
	}
	return s.dsn
}

// ReplicationDSN returns a connection string for START_REPLICATION.
func (s *Server) ReplicationDSN(role string) string {
	return withParam(s.DSN(role), "replication", "database")
}

// usePasswordFile turns the file with the bare password into one that pgx and
// libpq read by themselves.
func (s *Server) usePasswordFile() error {
	if s.cfg.PasswordFile == "" {
		return nil
	}
	f, err := os.Open(s.cfg.PasswordFile)
	if err != nil {
		return fmt.Errorf("read the password file: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if err != nil {
		return fmt.Errorf("read the password file: %w", err)
	}
	password, _, _ := strings.Cut(string(raw), "\n")
	password = strings.TrimSuffix(password, "\r")
	if password == "" {
		return hint.Wrap(errors.New("the password file is empty"), "Write the password into the first line of %s.", s.cfg.PasswordFile)
	}
	dir, err := filepath.Abs(s.cfg.Managed.secretsDir())
	if err != nil {
		return fmt.Errorf("resolve the folder for passwords: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder for passwords: %w", err)
	}
	path := filepath.Join(dir, "existing.pgpass")
	escaped := strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(password)
	if err := durable.WriteFile(path, []byte("*:*:*:*:"+escaped+"\n"), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	s.dsn = withParam(s.cfg.DSN, "passfile", path)
	return nil
}

// withParam adds a parameter to a connection string of either form.
func withParam(dsn, key, value string) string {
	if !strings.Contains(dsn, "://") {
		return dsn + " " + key + "='" + strings.ReplaceAll(value, "'", `\'`) + "'"
	}
	sep := "?"
	if strings.Contains(dsn, "?") {
		sep = "&"
	}
	return dsn + sep + key + "=" + url.QueryEscape(value)
}
