package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/internal/fault"
	"github.com/agogsaas/holdfast/internal/hint"
)

// PoolConfig configures the connections that the facilities of a region share.
type PoolConfig struct {
	// ConnString is the target database, as a URL or key=value pairs.
	ConnString string
	// MaxConns bounds the connections that apply at the same time; the rest
	// wait. Default 8. A facility holds one only while a batch is applied.
	MaxConns int
	// MaxBig bounds the connections, beside MaxConns, that hold transactions
	// which come in parts. Each is held until its last part has come, however
	// slow the facility's link; further ones wait in turn. Default 16.
	MaxBig int
	// ParkRows and ParkBytes (of values) bound what is kept of one facility's
	// changes that cannot be applied. What comes past them is passed over, and
	// its table sent again when the cause is gone. Default 20,000 and 64 MiB.
	ParkRows  int
	ParkBytes int64
	Log       *slog.Logger
}

// PoolFaults are the steps of a Pool that a test can break.
type PoolFaults struct {
	// Retry is the commit of parked changes that were tried again.
	Retry fault.Point
}

// Pool is the connections to one target database, and what is known of its
// catalog. Its methods may be called from several goroutines.
type Pool struct {
	Faults PoolFaults

	cfg     PoolConfig
	conns   *pgxpool.Pool
	big     *pgxpool.Pool
	connCfg *pgx.ConnConfig
	catalog *catalog
	log     *slog.Logger
	flusher *flusher

	mu    sync.Mutex
	eager map[*target]int // batches for which inserts stay upserts; see inserts.go
	// parksets of the streams that are open, by facility and direction.
	parksets map[parksetKey]*parkset
	ranges   map[tableOf]time.Time // when one last came of a table that is marked
	parked   map[string]int64      // waiting changes by facility, as of the last look
	again    map[string]struct{}   // facilities to look at at once
	kick     chan struct{}         // holds a token when there are any
}

// settings are set on every connection of the pool.
//
//   - session_replication_role: the sender's triggers and foreign keys have
//     already done their work; ordinary ones must not run a second time.
//   - the text formats are those that the values were written in.
//   - the planner must reach rows through the key's index, and never by a plan
//     that was made while the table was still small: such a plan was measured to
//     be 30 times slower. So statements that look rows up are planned each time
//     (call.planned), and the plans of the others are kept.
//   - a commit does not wait for the disk; Durable does.
const settings = `SET session_replication_role = replica;
SET search_path = '';
SET datestyle = 'ISO, YMD'; SET intervalstyle = postgres; SET timezone = 'UTC'; SET lc_monetary = 'C';
SET extra_float_digits = 3; SET bytea_output = hex; SET xmloption = content; SET client_encoding = 'UTF8';
SET standard_conforming_strings = on; SET array_nulls = on;
SET synchronous_commit = off;
SET jit = off; SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
SET plan_cache_mode = auto; SET work_mem = '64MB';
SET statement_timeout = 0; SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '10min'`

// OpenPool connects once, to find out early that the role may apply.
func OpenPool(ctx context.Context, c PoolConfig) (*Pool, error) {
	if c.MaxConns <= 0 {
		c.MaxConns = 8
	}
	if c.MaxBig <= 0 {
		c.MaxBig = 16
	}
	if c.ParkRows <= 0 {
		c.ParkRows = 20_000
	}
	if c.ParkBytes <= 0 {
		c.ParkBytes = 64 << 20
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	cfg, err := pgxpool.ParseConfig(c.ConnString)
	if err != nil {
		return nil, fmt.Errorf("read the connection string: %w", err)
	}
	cfg.MaxConns = int32(c.MaxConns)
	cfg.MinConns = 0
	cfg.ConnConfig.RuntimeParams["application_name"] = "holdfast apply"
	// pgx must not keep prepared statements of its own: DEALLOCATE ALL ends them.
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error { return prepareSession(ctx, conn.PgConn()) }
	conns, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open the pool: %w", err)
	}
	cfg = cfg.Copy()
	cfg.MaxConns = int32(c.MaxBig)
	big, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		conns.Close()
		return nil, fmt.Errorf("open the pool of big transactions: %w", err)
	}
	p := &Pool{
		cfg: c, conns: conns, big: big, connCfg: cfg.ConnConfig, log: c.Log,
		catalog: newCatalog(c.Log), eager: map[*target]int{},
		parksets: map[parksetKey]*parkset{}, ranges: map[tableOf]time.Time{}, parked: map[string]int64{}, again: map[string]struct{}{}, kick: make(chan struct{}, 1),
	}
	p.Faults.Retry.Name = "apply.retry"
	p.flusher = newFlusher(p)
	s, err := p.session(ctx)
	if err != nil {
		p.Close()
		return nil, err
	}
	s.release()
	return p, nil
}

// Close closes the connections. The appliers that use the pool must have ended.
func (p *Pool) Close() {
	p.conns.Close()
	p.big.Close()
}

func (p *Pool) session(ctx context.Context) (*session, error) { return sessionOf(ctx, p.conns) }

// bigSession is for a transaction that stays open while its parts come.
func (p *Pool) bigSession(ctx context.Context) (*session, error) { return sessionOf(ctx, p.big) }

func sessionOf(ctx context.Context, conns *pgxpool.Pool) (*session, error) {
	c, err := conns.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the target database: %w", err)
	}
	return openSession(c), nil
}

// afterLoss reports whether the session's connection is gone. Then the others
// most likely are as well, and are not handed out again.
func (p *Pool) afterLoss(s *session) bool {
	gone := s.pg.IsClosed()
	if gone {
		p.conns.Reset()
		p.big.Reset()
	}
	return gone
}

// dedicated opens a connection outside the pool, with the same settings.
func (p *Pool) dedicated(ctx context.Context) (*session, error) {
	conn, err := pgconn.ConnectConfig(ctx, &p.connCfg.Copy().Config)
	if err != nil {
		return nil, fmt.Errorf("connect to the target database: %w", err)
	}
	if err := prepareSession(ctx, conn); err != nil {
		conn.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	return newSession(conn), nil
}

func prepareSession(ctx context.Context, pg *pgconn.PgConn) error {
	_, err := pg.Exec(ctx, settings).ReadAll()
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "42501" {
		return hint.Wrap(fmt.Errorf("set session_replication_role: %w", err),
			"The role that applies changes must be a superuser, or have been granted it: GRANT SET ON PARAMETER session_replication_role TO the role. PostgreSQL 15 or newer is needed.")
	}
	if err != nil {
		return fmt.Errorf("prepare the connection: %w", err)
	}
	return nil
}
