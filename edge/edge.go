package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
	_ "time/tzdata" // a box may have no time zones of its own

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/agogsaas/holdfast/edge/downlink"
	"github.com/agogsaas/holdfast/edge/enrol"
	"github.com/agogsaas/holdfast/edge/heartbeat"
	"github.com/agogsaas/holdfast/edge/localui"
	accounts "github.com/agogsaas/holdfast/edge/localui/migrations"
	"github.com/agogsaas/holdfast/edge/postgres"
	"github.com/agogsaas/holdfast/edge/unseen"
	"github.com/agogsaas/holdfast/edge/uplink"
	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/internal/progress"
	"github.com/agogsaas/holdfast/internal/queue"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/internal/tunnel"
	"github.com/agogsaas/holdfast/internal/web"
	workspace "github.com/agogsaas/holdfast/internal/workspace/migrations"
)

// stopWithin bounds each step of stopping.
const stopWithin = 15 * time.Second

// Deps are what does not come from the configuration.
type Deps struct {
	Version string
	// Log defaults to one as configured, to standard error.
	Log *slog.Logger
}

// Edge is the agent on a facility's box.
type Edge struct {
	conf Config
	deps Deps
	log  *slog.Logger
	id   *enrol.Identity
}

// New reads the box's identity. A box without one must enrol first.
func New(c Config, d Deps) (*Edge, error) {
	if d.Log == nil {
		log, err := run.NewLog(os.Stderr, c.Log.Level, c.Log.Format)
		if err != nil {
			return nil, err
		}
		d.Log = log
	}
	id, err := enrol.Load(c.StateDir)
	if errors.Is(err, enrol.ErrNotEnrolled) {
		return nil, hint.Wrap(err, "Get a token with `holdfastctl facility add NAME`, then: holdfast-edge enrol -c FILE")
	}
	if err != nil {
		return nil, err
	}
	return &Edge{conf: c, deps: d, log: d.Log.With("facility", id.Facility), id: id}, nil
}

// Enrol makes the box a member of its region.
func Enrol(ctx context.Context, c Config, token, version string) (*enrol.Identity, error) {
	if err := os.MkdirAll(c.StateDir, 0o755); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	log, err := run.NewLog(os.Stderr, c.Log.Level, c.Log.Format)
	if err != nil {
		return nil, err
	}
	return enrol.Enroller{StateDir: c.StateDir, Log: log, Agent: version}.Enrol(ctx, token)
}

// Run builds the rooms in the order in which they depend on each other, keeps
// them running until ctx is done, and stops them newest first. It is long on
// purpose: it is the plan of the house.
func (e *Edge) Run(ctx context.Context) (err error) {
	log, conf, id := e.log, e.conf, e.id
	started := time.Now()
	s := run.New(log)
	defer func() { err = errors.Join(err, s.Stop(stopWithin)) }()

	// The local database: the one thing that people cannot work without.
	db, err := postgres.New(conf.Postgres.local(), log.With("part", "postgres"))
	if err != nil {
		return err
	}
	s.Close("postgres", db.Stop)
	if err := db.Open(ctx); err != nil {
		return err
	}
	s.Go("postgres watch", db.Run)
	pool, err := pgxpool.New(ctx, db.DSN(pgcluster.Owner))
	if err != nil {
		return fmt.Errorf("connect to the local database: %w", err)
	}
	s.Defer("database connections", pool.Close)
	if err := migrate(ctx, pool, db.DSN(pgcluster.App)); err != nil {
		return err
	}
	if err := web.FirstAccount(ctx, web.PGStore{Pool: pool}, conf.UI.PasswordFile, conf.StateDir); err != nil {
		return err
	}

	// A row: capture, queue, transfer through the tunnel; and what comes down.
	q, err := queue.Open(queue.Options{Dir: conf.Queue.Dir, MaxBytes: int64(conf.Queue.Max), KeepBytes: conf.Queue.keepBytes(), Log: log.With("part", "queue")})
	if err != nil {
		return err
	}
	s.Close("queue", q.Close)
	q.Hold(change.Position{}) // until the way down says what of it is still asked for
	var up *uplink.Uplink     // the way down asks it what was committed here
	local := unseen.New(q, func(ctx context.Context) error { return up.Settled(ctx) })
	down := downlink.New(downlink.Config{
		Facility: id.Facility, ConnString: db.DSN(pgcluster.Apply), Local: local, Log: log,
		Registry: func() *apply.Registry { return up.Registry() },
		Restored: func() (restored, whole bool) { return up.Restored() },
		Hold:     func(seen change.Position) { q.Hold(seen); local.Seen(seen) },
		Held:     func() int64 { return q.HeldBytes() - q.Stats().Bytes }, DB: pool,
	})
	tun, err := e.openTunnel()
	if err != nil {
		return err
	}
	s.Close("tunnel", tun.Close)
	s.Go("tunnel", tun.Run)
	up, err = uplink.New(uplink.Config{
		Facility: id.Facility, EpochBase: id.EpochBase(), EpochFile: filepath.Join(conf.StateDir, "epoch"),
		DB: pool, CaptureConn: db.DSN(pgcluster.Capture), Queue: q, Down: down, Linger: conf.Uplink.Linger,
		Dial: tun.DialContext, Hub: id.Stream().String(), Agent: e.deps.Version, Boot: bootID(), Log: log,
	})
	if err != nil {
		return err
	}
	s.Go("what the region has not seen", local.Run)
	s.Go("way down", down.Run)
	s.Go("transfer", up.Transfer)
	s.Go("capture", up.Capture)
	s.Go("tables", up.Tables)
	s.Go("room in the queue", up.GiveWay)

	// A heartbeat, on a way of its own.
	keeper := enrol.NewKeeper(conf.StateDir, id, log.With("part", "enrol"))
	s.Go("certificate", keeper.Run)
	f := &facts{db: db, queue: q, up: up, down: down, tun: tun, peer: id.Tunnel.HubKey, started: started, version: e.deps.Version, dir: conf.StateDir}
	f.live.log = log
	if conf.MQTT.Profile == "metered" {
		f.live.watch.After = progress.Metered
	}
	s.Go("facts", f.run)
	hb, err := heartbeat.New(heartbeat.Config{
		Tenant: id.Tenant, Facility: id.Facility, Enrolment: id.Enrolment,
		URL: conf.MQTT.broker(id.MQTT), TLS: func() (*tls.Config, error) { return conf.MQTT.tls(keeper) },
		Username: conf.MQTT.User, Password: conf.MQTT.password(),
		StateDir: conf.StateDir, DataDir: conf.Postgres.DataDir, Metered: conf.MQTT.Profile == "metered",
		IgnoreWatchdog: conf.Watchdog == "ignore", Facts: f.heartbeat(), Log: log.With("part", "heartbeat"),
	})
	if err != nil {
		return err
	}
	s.Go("heartbeat", hb.Run)

	// People.
	stop := make(chan struct{})
	s.Defer("live pages", func() { close(stop) })
	zone, err := time.LoadLocation(conf.UI.TimeZone)
	if err != nil {
		return fmt.Errorf("find the facility's time zone: %w", err)
	}
	ui, err := localui.New(localui.Deps{
		Facility: id.Facility, Place: conf.UI.Place, Zone: zone, Region: id.Region, Pool: pool, Link: f.link, Queue: f.localQueue,
		Database: f.database, Box: func() localui.Box { return f.screen(hb.Status()) }, Stalls: f.localStalls, Stop: stop, Log: log.With("part", "web"), Version: e.deps.Version,
		Metrics: f.metrics(),
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", conf.UI.Listen)
	if err != nil {
		return hint.Wrap(fmt.Errorf("open the facility's web pages: %w", err), "Another program has %s; stop it or change ui.listen.", conf.UI.Listen)
	}
	s.Go("web pages", run.Serve(l, ui, log))
	log.Info("box is up", "url", "http://"+l.Addr().String(), "version", e.deps.Version, "epoch", up.Epoch())
	return s.Wait(ctx, stopWithin)
}

// openTunnel opens this end of the tunnel with the hub as its only peer.
func (e *Edge) openTunnel() (*tunnel.Tunnel, error) {
	t := e.id.Tunnel
	mtu := t.MTU
	if e.conf.Uplink.MTU != DefaultConfig().Uplink.MTU || mtu == 0 {
		mtu = e.conf.Uplink.MTU
	}
	tun, err := tunnel.New(tunnel.Config{
		PrivateKey: e.id.TunnelKey, Addresses: []netip.Prefix{netip.PrefixFrom(t.Address, 128)},
		MTU: mtu, Profile: tunnel.Edge, Log: e.log.With("part", "tunnel"),
	})
	if err != nil {
		return nil, err
	}
	endpoint := t.Endpoint
	if e.conf.Uplink.HubEndpoint != "" {
		endpoint = e.conf.Uplink.HubEndpoint
	}
	err = tun.SetPeer(tunnel.Peer{
		PublicKey: t.HubKey, Endpoint: endpoint,
		AllowedIPs: []netip.Prefix{netip.PrefixFrom(t.HubAddress, 128)}, KeepaliveInterval: t.Keepalive,
	})
	if err != nil {
		return nil, errors.Join(err, tun.Close())
	}
	return tun, nil
}

// migrate brings the box's own schema and the workspace's tables to this
// build's version. The tables belong to the application's role.
func migrate(ctx context.Context, pool *pgxpool.Pool, appDSN string) error {
	own := stdlib.OpenDBFromPool(pool)
	defer own.Close()
	if err := accounts.Up(ctx, own); err != nil {
		return err
	}
	app, err := pgxpool.New(ctx, appDSN)
	if err != nil {
		return fmt.Errorf("connect to the local database: %w", err)
	}
	defer app.Close()
	db := stdlib.OpenDBFromPool(app)
	defer db.Close()
	return workspace.Up(ctx, db)
}

func (p PostgresConfig) local() postgres.Config {
	return postgres.Config{
		Existing: p.Mode == "existing", DSN: p.DSN, PasswordFile: p.Password, Dir: p.DataDir,
		Port: p.Port, Profile: p.Profile, OSUser: p.OSUser, Database: p.Database, WALKeepBytes: int64(p.WALKeep),
	}
}

// keepBytes is Keep as the queue takes it, where 0 stands for its default.
func (q QueueConfig) keepBytes() int64 {
	if q.Keep == 0 {
		return -1
	}
	return int64(q.Keep)
}

// broker is the configured broker, or the first that was told at enrolment.
func (m MQTTConfig) broker(told []string) string {
	if m.URL != "" || len(told) == 0 {
		return m.URL
	}
	return told[0]
}

// tls trusts the region's authority, or the configured one.
func (m MQTTConfig) tls(k *enrol.Keeper) (*tls.Config, error) {
	if m.CA == "" {
		return k.TLS(), nil
	}
	return k.ForeignTLS(m.CA)
}

// password is asked at each connect: a new one needs no restart.
func (m MQTTConfig) password() func() (string, error) {
	if m.Password == "" {
		return nil
	}
	return func() (string, error) {
		b, err := config.ReadSecret(m.Password)
		return string(b), err
	}
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(b[:min(len(b), 36)])
}
