package cloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/agogsaas/holdfast/cloud/api"
	"github.com/agogsaas/holdfast/cloud/broker"
	"github.com/agogsaas/holdfast/cloud/dashboard"
	"github.com/agogsaas/holdfast/cloud/fleet"
	"github.com/agogsaas/holdfast/cloud/hub"
	"github.com/agogsaas/holdfast/cloud/ingest"
	"github.com/agogsaas/holdfast/cloud/limits"
	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/cloud/oncall"
	"github.com/agogsaas/holdfast/cloud/parked"
	"github.com/agogsaas/holdfast/cloud/provision"
	"github.com/agogsaas/holdfast/cloud/router"
	"github.com/agogsaas/holdfast/cloud/stream"
	"github.com/agogsaas/holdfast/cloud/verify"
	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/metrics"
	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/internal/progress"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/internal/schema"
	"github.com/agogsaas/holdfast/internal/tunnel"
	"github.com/agogsaas/holdfast/internal/web"
	workspace "github.com/agogsaas/holdfast/internal/workspace/migrations"
	"github.com/agogsaas/holdfast/proto"
)

// lateMost is how long what people change in the region may wait to be read before
// backlogs give way to it: p99 is to be a second until it is where it is going.
const lateMost = 100 * time.Millisecond

// stopWithin bounds each step of stopping.
const stopWithin = 15 * time.Second

// defaultTenant owns a facility that is added without one.
const defaultTenant = "main"

// Deps are what does not come from the configuration.
type Deps struct {
	Version string
	// Log defaults to one as configured, to standard error.
	Log *slog.Logger
}

// Cloud is a region's control plane.
type Cloud struct {
	conf Config
	deps Deps
	log  *slog.Logger
}

// New checks what can be checked without touching anything.
func New(c Config, d Deps) (*Cloud, error) {
	if d.Log == nil {
		log, err := run.NewLog(os.Stderr, c.Log.Level, c.Log.Format)
		if err != nil {
			return nil, err
		}
		d.Log = log
	}
	return &Cloud{conf: c, deps: d, log: d.Log.With("region", c.Region)}, nil
}

// Run builds the rooms in the order in which they depend on each other, keeps
// them running until ctx is done, and stops them newest first. It is long on
// purpose: it is the plan of the house.
func (c *Cloud) Run(ctx context.Context) (err error) {
	log, conf := c.log, c.conf
	s := run.New(log)
	defer func() { err = errors.Join(err, s.Stop(stopWithin)) }()
	if os.Getenv("GOGC") == "" {
		s.Go("garbage", tidy)
	}

	if err := os.MkdirAll(conf.StateDir, 0o755); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}

	// The region's database.
	db, err := pgcluster.NewServer(conf.Postgres.server(), log)
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
		return fmt.Errorf("connect to the region's database: %w", err)
	}
	s.Defer("database connections", pool.Close)
	if err := migrate(ctx, pool, db.DSN(pgcluster.App)); err != nil {
		return err
	}
	store := web.PGStore{Pool: pool}
	if err := web.FirstAccount(ctx, store, conf.HTTP.PasswordFile, conf.StateDir); err != nil {
		return err
	}

	// Who may come in: authority, tunnel hub, broker, enrolment.
	ca, err := provision.LoadCA(filepath.Join(conf.StateDir, "ca"), conf.Region)
	if err != nil {
		return err
	}
	key, err := hub.LoadKey(filepath.Join(conf.StateDir, "wireguard.key"))
	if err != nil {
		return err
	}
	gate, err := hub.New(hub.Config{PrivateKey: key, Port: uint16(conf.WireGuard.Port), MTU: conf.WireGuard.MTU, Log: log.With("part", "hub")})
	if err != nil {
		return err
	}
	s.Close("hub", gate.Close)
	s.Go("hub links", gate.Run)

	var boxes *provision.Provision // the broker asks it for its devices
	var live atomic.Pointer[stream.Server]
	brokerConf, err := conf.MQTT.broker(filepath.Join(conf.StateDir, "mosquitto"), ca, log)
	if err != nil {
		return err
	}
	brokerConf.CRL = func(ctx context.Context) ([]byte, error) { return boxes.CRL(ctx) }
	brokerConf.Devices = func(ctx context.Context) ([]broker.Device, error) { return devices(ctx, boxes) }
	mqtt, err := broker.New(brokerConf)
	if err != nil {
		return err
	}
	boxes, err = provision.New(provision.Config{
		Region: conf.Region, Listen: conf.Enrol.Listen, URL: conf.Enrol.URL, MQTT: []string{conf.MQTT.URL},
		Tunnel: proto.TunnelSettings{
			HubKey: proto.Bytes32(gate.PublicKey()), Endpoint: conf.WireGuard.Endpoint, HubAddress: proto.HubAddress.String(),
			StreamPort: proto.StreamPort, MTU: uint16(conf.WireGuard.MTU), KeepaliveSeconds: uint16(tunnel.DefaultKeepalive / time.Second),
		},
		CA: ca, DB: pool, Log: log.With("part", "provision"),
		Hooks: provision.Hooks{
			Enrolled: func(ctx context.Context, b provision.Box) error {
				return errors.Join(gate.Add(member(b)), mqtt.Allow(ctx, device(b)))
			},
			Revoked: func(ctx context.Context, b provision.Box) error {
				if s := live.Load(); s != nil && b.State == "replaced" {
					s.Fence(ctx, b.Facility)
				}
				return errors.Join(gate.Remove(b.Facility), mqtt.Revoke(ctx, device(b)))
			},
		},
	})
	if err != nil {
		return err
	}
	active, err := boxes.Active(ctx)
	if err != nil {
		return err
	}
	for _, b := range active {
		if err := gate.Add(member(b)); err != nil {
			log.Error("a facility cannot use the tunnel", "facility", b.Facility, "err", err)
		}
	}
	s.Go("broker", mqtt.Run)
	s.Go("enrolment", boxes.Run)

	paces, err := limits.New(ctx, pool, log.With("part", "limits"))
	if err != nil {
		return err
	}

	// Who is told, and how. What is judged comes from the fleet.
	var members *fleet.Fleet
	tell, err := newVoices(conf.Alerts, conf.StateDir, func(ctx context.Context, topic string, payload []byte) error {
		return members.Publish(ctx, topic, payload)
	}, log.With("part", "channel"))
	if err != nil {
		return err
	}
	roster := oncall.New(pool, tell.senders, log.With("part", "on call"))

	// A heartbeat: broker, fleet.
	var streams *stream.Server // the fleet asks it who is connected
	var ways *downs            // and this how far the way down is
	members, err = fleet.New(fleet.Config{
		DB: pool, Maintenance: announced(roster), Client: mqtt.Client, AsBox: mqtt.AsBox(), Probe: gate.Probe, Log: log.With("part", "fleet"),
		Link: func(id string) (fleet.Link, bool) {
			l, ok := gate.Link(id)
			return fleet.Link{Heard: l.Heard, Rx: l.Rx, Tx: l.Tx}, ok
		},
		Streaming: func(id string) bool { return streams.IsConnected(id) },
		Received: func(id string) (fleet.Received, bool) {
			got, ok := streams.Received(id)
			return fleet.Received(got), ok
		},
		Pace: func(id string) uint64 { n, _ := paces.Now(id); return n },
		Down: func(id string) (uint64, progress.Mark, bool) {
			waiting, acked, ok := ways.router.Waiting(id)
			return waiting, progress.Mark{acked.Epoch, acked.Seq}, ok
		},
		Route: func() fleet.Route { return ways.route() },
	})
	if err != nil {
		return err
	}

	// A row: hub, stream, ingest, apply; and what is on both sides, compared.
	var compared *verify.Verifier // ingest and the streams tell it
	in, err := ingest.New(ctx, ingest.Config{
		DB: pool, ApplyConnString: db.DSN(pgcluster.Apply), Log: log.With("part", "ingest"),
		Applied: func(facility string, p apply.Progress) { members.Applied(facility, batch(p)) },
		Stuck:   func(facility string, err error) { streams.Stuck(facility, err) },
		GiveWay: func() bool { return ways.router.Late() > lateMost },
		Verdict: func(facility string, a apply.Verdict) { compared.Verdict(facility, a) },
		CheckRegion: func(ctx context.Context, t proto.SyncedTable) ([]proto.Problem, error) {
			return checkRegion(ctx, pool, t)
		},
		Heal: func(facility, table, reason string) bool {
			asked, err := streams.Heal(facility, reason, table)
			return asked && err == nil
		},
		CheckFacilities: func(ctx context.Context, t proto.SyncedTable) (map[string][]proto.Problem, []string) {
			return streams.Check(ctx, t)
		},
	})
	if err != nil {
		return err
	}
	event := func(ctx context.Context, facility, kind, detail string) {
		if err := in.Event(ctx, facility, kind, detail); err != nil {
			log.Warn("could not keep a stream's event", "facility", facility, "err", err)
		}
	}
	// The same rooms the other way: router, stream.
	ways = &downs{boxes: boxes}
	ways.router, err = router.New(router.Config{
		ConnString: db.DSN(pgcluster.Capture), DB: pool, Dir: filepath.Join(conf.StateDir, "down"), LogMaxBytes: int64(conf.Down.Max),
		Tables: in.Tables, Facilities: ways.facilities, Log: log,
		Mended: func(facility, table, occasion string) bool {
			asked, err := streams.Mend(facility, table, occasion)
			if err != nil {
				log.Warn("a facility could not be asked for a table", "facility", facility, "table", table, "err", err)
			}
			return asked && err == nil
		},
		Whole: func(facility string) (uint32, func(string, change.Position) error) { return streams.Whole(facility) },
		Restored: func(facility string) {
			if err := streams.Restored(facility); err != nil {
				log.Warn("a facility could not be told that it has all of its rows", "facility", facility, "err", err)
			}
		},
	})
	if err != nil {
		return err
	}
	var waiting *parked.Room // needs the streams, which tell it what waits at boxes
	streams = stream.New(stream.Config{
		Listener: gate.Listener(), FacilityOf: gate.BoxOf, Region: conf.Region, Log: log.With("part", "stream"),
		Open: func(ctx context.Context, facility string) (stream.Session, error) {
			if err := ways.router.Announced(ctx); err != nil {
				return nil, err
			}
			if err := ways.router.Join(ctx, facility); err != nil {
				return nil, err
			}
			return in.Open(ctx, facility)
		},
		Down: ways.open, WentBack: ways.wentBack, Restore: ways.restore, Pace: paces.Now,
		Tables: ways.router.Tables, TableStates: in.TableStates, Explain: ingest.Explain,
		Event:      event,
		Unverified: func(facility string, u *proto.Unverified) { compared.Unverified(facility, u) },
		Parked: func(ctx context.Context, facility string, p *proto.Parked) error {
			return waiting.Told(ctx, facility, p, func(ctx context.Context, table string) error {
				err := ways.router.Resync(ctx, facility, table)
				if errors.Is(err, router.ErrNotSent) {
					return nil // it is not synced any more
				}
				return err
			})
		},
	})
	compared = verify.New(verify.Config{
		DB: pool, Ask: streams.Verify, Stream: streams.Stream, Connected: streams.Connected, Event: event,
		Log: log.With("part", "verify"),
	})
	waiting = parked.New(pool, in, streams)
	live.Store(streams)
	alerts, err := newAlerter(ctx, conf, pool, tell, roster, members.Word, log.With("part", "alert"))
	if err != nil {
		return err
	}
	s.Go("fleet", members.Run)
	s.Go("limits", paces.Run)
	s.Go("ingest", in.Run)
	s.Go("router", ways.router.Run)
	s.Go("streams", streams.Run)
	s.Go("comparison", compared.Run)
	s.Go("alerts", alerts.Run)
	s.Go("channels' credentials", tell.keys.Watch)

	// People and programs.
	auth, err := web.NewAuth(web.AuthOptions{Name: conf.Region, Store: store, Log: log.With("part", "web")})
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	s.Defer("live pages", func() { close(stop) })
	pages, err := dashboard.New(dashboard.Deps{
		Region: conf.Region, Auth: auth, Fleet: members, Pool: pool, Parked: waiting, Compare: in.Compare, Stop: stop,
		Alerts: alerts, OnCall: roster, Roster: roster, Support: conf.Alerts.Support, Texts: tell.texts, Word: members.Word,
		Hooks: tell.handler(conf.Alerts, alerts, log.With("part", "channel")), Log: log.With("part", "web"), Version: c.deps.Version,
		API: api.New(api.Deps{
			Log: log.With("part", "api"), DB: pool, Region: conf.Region, Version: c.deps.Version,
			Tenant: defaultTenant, Auth: auth, Boxes: boxes, Tables: in, Fleet: members, Parked: waiting, OnCall: roster, Alerts: alerts,
			Resync: resync{streams, ways.router}, Verify: compared, Limits: paces,
			Waiting: func(facility string) *proto.Problem {
				if err := in.Stuck(facility); err != nil {
					return ingest.Explain(err)
				}
				return nil
			},
		}),
		Metrics: metrics.Handler(c.deps.Version, metrics.DatabaseUp(func() bool { return db.Status().State == pgcluster.Up }),
			gate, mqtt, members, in, ways.router, alerts),
		Ready: ready(pool, members),
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", conf.HTTP.Listen)
	if err != nil {
		return fmt.Errorf("open the dashboard's address: %w", err)
	}
	s.Go("dashboard and API", run.Serve(l, pages, log))
	log.Info("region is up", "url", "http://"+l.Addr().String(), "version", c.deps.Version)
	return s.Wait(ctx, stopWithin)
}

// migrate brings the region's own schema, and the workspace's tables, to this
// build's version. The tables belong to the application's role.
func migrate(ctx context.Context, pool *pgxpool.Pool, appDSN string) error {
	own := stdlib.OpenDBFromPool(pool)
	defer own.Close()
	if err := migrations.Up(ctx, own); err != nil {
		return err
	}
	app, err := pgxpool.New(ctx, appDSN)
	if err != nil {
		return fmt.Errorf("connect to the region's database: %w", err)
	}
	defer app.Close()
	db := stdlib.OpenDBFromPool(app)
	defer db.Close()
	return workspace.Up(ctx, db)
}

func checkRegion(ctx context.Context, pool *pgxpool.Pool, t proto.SyncedTable) ([]proto.Problem, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("reach the region's database: %w", err)
	}
	defer conn.Release()
	problems, _, err := schema.Lint(ctx, conn.Conn(), t, schema.Region)
	return problems, err
}

func member(b provision.Box) hub.Facility {
	return hub.Facility{ID: b.Facility, Number: b.Number, Enrolment: b.Enrolment, PublicKey: tunnel.PublicKey(b.TunnelKey)}
}

func device(b provision.Box) broker.Device {
	return broker.Device{Tenant: b.Tenant, Facility: b.Facility, Enrolment: b.Enrolment}
}

func devices(ctx context.Context, boxes *provision.Provision) ([]broker.Device, error) {
	active, err := boxes.Active(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]broker.Device, len(active))
	for i, b := range active {
		list[i] = device(b)
	}
	return list, nil
}

func batch(p apply.Progress) fleet.Batch {
	return fleet.Batch{
		Epoch: p.Position.Epoch, Seq: p.Position.Seq, CommitAt: p.Committed,
		Transactions: uint64(p.Txs), Changes: uint64(p.Changes),
	}
}

// ready says what keeps the region from its work, for /readyz.
func ready(pool *pgxpool.Pool, members *fleet.Fleet) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		switch {
		case pool.Ping(ctx) != nil:
			return errors.New("database down")
		case !members.Broker().Connected:
			return errors.New("broker not connected")
		}
		return nil
	}
}

func (p PostgresConfig) server() pgcluster.ServerConfig {
	c := pgcluster.ServerConfig{Database: p.Database, Managed: pgcluster.Config{
		Dir: p.DataDir, Port: p.Port, Profile: pgcluster.Profile(p.Profile), User: p.OSUser,
	}}
	if p.Mode == "existing" {
		c.DSN, c.PasswordFile = p.DSN, p.Password
	}
	return c
}

// broker says how the broker is run; the boxes' side is filled in by Run.
func (m MQTTConfig) broker(dir string, ca *provision.CA, log *slog.Logger) (broker.Config, error) {
	c := broker.Config{
		Dir: dir, OSUser: m.OSUser, LocalAddr: m.PlainListen, TLSAddr: m.TLSListen,
		ClientCAFile: ca.CertFile(), Log: log.With("part", "broker"),
	}
	if m.Mode == "external" {
		c.External = &broker.External{
			URL: m.External, CAFile: m.CA, CertFile: m.Cert, KeyFile: m.Key, Username: m.User, PasswordFile: m.Password,
		}
		return c, nil
	}
	for _, a := range m.Integrations {
		c.Integrations = append(c.Integrations, broker.Account{Name: a.Name, PasswordFile: a.Password})
	}
	c.Issue, c.TLSName = ca.Client, "localhost"
	if host, _, err := net.SplitHostPort(hostPort(m.URL)); err == nil && !unspecified(host) {
		c.TLSName = host
	}
	hosts := []string{"localhost", "127.0.0.1"}
	for _, hp := range []string{m.TLSListen, hostPort(m.URL)} {
		if host, _, err := net.SplitHostPort(hp); err == nil && !unspecified(host) {
			hosts = append(hosts, host)
		}
	}
	var err error
	c.CertFile, c.KeyFile, err = ca.Server("mqtt", hosts)
	return c, err
}

func hostPort(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}

func unspecified(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsUnspecified()
}
