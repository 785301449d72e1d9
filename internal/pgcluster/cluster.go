package pgcluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agogsaas/holdfast/internal/hint"
)

// State is what a managed server is doing.
type State string

// The states of a server.
const (
	Stopped    State = "stopped"    // not started, or stopped on request
	Starting   State = "starting"   // being made, configured or started
	Recovering State = "recovering" // replaying its WAL after a crash
	Up         State = "up"         // answers queries
	Down       State = "down"       // ended, or does not answer; Reason says more
)

// Status is a server's state and what is known about it.
type Status struct {
	State    State
	Reason   string    // for Down and Recovering: why, in words for people
	Since    time.Time // when the state was entered
	PID      int       // of the postmaster, 0 when it does not run
	Version  string    // of the programs
	Adopted  bool      // it was running already when Holdfast started
	Restarts int       // how often Run had to start it again
}

// Cluster is a managed PostgreSQL cluster. Its methods may be called from
// several goroutines.
type Cluster struct {
	cfg      Config
	log      *slog.Logger
	account  Account
	binaries Binaries

	// starting is held while the server is started or stopped.
	starting sync.Mutex
	proc     *os.Process // our child, nil for an adopted server; under starting

	mu     sync.Mutex
	status Status
}

// New checks the configuration and finds the programs. It starts nothing.
// The error joins everything that is wrong.
func New(cfg Config, log *slog.Logger) (*Cluster, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("configure the local PostgreSQL: %w", err)
	}
	account, err := FindAccount(cfg.User)
	if err != nil {
		return nil, err
	}
	major, err := dataMajor(cfg.dataDir())
	if err != nil {
		return nil, err
	}
	binaries, err := findBinaries(cfg.BinDir, major)
	if err != nil {
		return nil, err
	}
	if major != 0 && major != binaries.Major {
		return nil, wrongMajor(cfg.dataDir(), major, binaries)
	}
	return &Cluster{
		cfg: cfg, account: account, binaries: binaries,
		log:    log.With("part", "postgres"),
		status: Status{State: Stopped, Since: time.Now(), Version: binaries.Version},
	}, nil
}

// Status returns what is known now. It does no work.
func (c *Cluster) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// DataDir returns the data directory, such as for measuring its disk.
func (c *Cluster) DataDir() string { return c.cfg.dataDir() }

// Port returns the TCP port.
func (c *Cluster) Port() int { return c.cfg.Port }

func (c *Cluster) setState(s State, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.State != s {
		c.status.Since = time.Now()
	}
	c.status.State, c.status.Reason = s, reason
}

func (c *Cluster) setPID(pid int, adopted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.PID, c.status.Adopted = pid, adopted
}

// Start makes what is missing, starts the server or adopts the one that runs,
// and returns when it answers queries. Recovery after a crash may take
// minutes; Start waits for it until ctx is done, and leaves the server running
// then.
func (c *Cluster) Start(ctx context.Context) error {
	c.starting.Lock()
	defer c.starting.Unlock()
	if err := c.start(ctx); err != nil {
		c.setState(Down, err.Error())
		return fmt.Errorf("start the local PostgreSQL: %w", err)
	}
	return nil
}

func (c *Cluster) start(ctx context.Context) error {
	c.setState(Starting, "")
	c.reap()
	if err := c.makeFolders(); err != nil {
		return err
	}
	if err := c.makeData(ctx); err != nil {
		return err
	}
	changed, err := c.configure(ctx)
	if err != nil {
		return err
	}
	pid, adopted, err := c.adoptOrLaunch()
	for err == nil {
		c.setPID(pid, adopted)
		if err = c.awaitUp(ctx, pid); err == nil {
			break
		}
		if !adopted || !Gone(pid) {
			return err
		}
		// It died in our arms, killed a moment after the program before us.
		pid, adopted, err = c.adoptOrLaunch()
	}
	if err != nil {
		return err
	}
	if adopted && changed {
		if err := c.reload(ctx); err != nil {
			return err
		}
	}
	c.setState(Up, "")
	c.log.Info("PostgreSQL is up", "pid", pid, "version", c.binaries.Version, "port", c.cfg.Port, "adopted", adopted)
	return nil
}

// awaitUp returns when the server answers, with an error when it ends before.
func (c *Cluster) awaitUp(ctx context.Context, pid int) error {
	for {
		err := c.probe(ctx)
		switch {
		case err == nil:
			return nil
		case isRecovering(err):
			c.setState(Recovering, "PostgreSQL replays its log after it was not shut down cleanly")
		case isCode(err, "28P01"), isCode(err, "28000"):
			return hint.Wrap(err, "The password in %s is not the server's. Put the right one back, or set it in the server with ALTER ROLE.", c.PassFile(Superuser))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for PostgreSQL to answer: %w: %w", context.Cause(ctx), err)
		case <-time.After(20 * time.Millisecond):
		}
		if Gone(pid) {
			how := c.reap()
			c.setPID(0, false)
			return fmt.Errorf("PostgreSQL ended: %s", c.lastWords(how))
		}
	}
}

// probe connects and asks for an answer.
func (c *Cluster) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.DSN(Superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Close(ctx)
	return conn.Ping(ctx)
}

// reload makes an adopted server read its new configuration, and names the
// settings that wait for its next restart.
func (c *Cluster) reload(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.DSN(Superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("connect to reload the settings: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return fmt.Errorf("reload the settings: %w", err)
	}
	rows, err := conn.Query(ctx, "SELECT name FROM pg_settings WHERE pending_restart ORDER BY name")
	if err != nil {
		return fmt.Errorf("read which settings wait for a restart: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read which settings wait for a restart: %w", err)
	}
	if len(names) > 0 {
		c.log.Warn("settings take effect at PostgreSQL's next restart", "settings", strings.Join(names, " "))
	}
	return nil
}

func isCode(err error, code string) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == code
}

// isRecovering: 57P03 is "the database system is starting up", "… is in
// recovery mode" and "… is not yet accepting connections".
func isRecovering(err error) bool { return isCode(err, "57P03") }
