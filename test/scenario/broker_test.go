package scenario_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/broker"
	"github.com/agogsaas/holdfast/cloud/broker/brokertest"
	"github.com/agogsaas/holdfast/cloud/fleet"
	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/edge/heartbeat"
	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/proto"
)

var (
	quiet = slog.New(slog.DiscardHandler)
	la    = broker.Device{Tenant: "foo", Facility: "la", Enrolment: 1}
	ffm   = broker.Device{Tenant: "foo", Facility: "frankfurt", Enrolment: 1}
)

// mqttBroker is what a scenario needs of a broker, whichever it is.
type mqttBroker struct {
	region func(mqttclient.Config) mqttclient.Config
	// addr is where boxes connect, host:port; login says as whom.
	scheme, addr string
	login        func(t *testing.T, d broker.Device) login
	restart      func(t *testing.T)
	revoke       func(t *testing.T, d broker.Device)
}

type login struct {
	tls      func() (*tls.Config, error)
	username string
	password func() (string, error)
}

func onEachBroker(t *testing.T, scenario func(t *testing.T, b mqttBroker)) {
	t.Helper()
	t.Run("mosquitto", func(t *testing.T) { t.Parallel(); scenario(t, mosquitto(t)) })
	t.Run("nats", func(t *testing.T) { t.Parallel(); scenario(t, nats(t)) })
}

func mosquitto(t *testing.T) mqttBroker {
	b := brokertest.New(t, la, ffm)
	var mu sync.Mutex
	logins := map[string]login{}
	serials := map[string]func(){}
	return mqttBroker{
		region: b.Client, scheme: "mqtts://", addr: strings.TrimPrefix(b.TLSURL, "mqtts://"),
		login: func(t *testing.T, d broker.Device) login {
			mu.Lock()
			defer mu.Unlock()
			if l, ok := logins[d.ID()]; ok {
				return l
			}
			conf, serial := b.CA.ClientTLS(d.ID())
			l := login{tls: func() (*tls.Config, error) { return conf, nil }}
			logins[d.ID()], serials[d.ID()] = l, func() { b.CA.Revoke(serial) }
			return l
		},
		restart: func(t *testing.T) { b.Kill(t) },
		revoke: func(t *testing.T, d broker.Device) {
			all, _ := b.Devices.List(t.Context())
			b.Devices.Set(slices.DeleteFunc(all, func(x broker.Device) bool { return x == d })...)
			mu.Lock()
			serials[d.ID()]()
			mu.Unlock()
			if err := b.Revoke(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// region is a fleet with a database of its own.
type region struct {
	*fleet.Fleet
	db   *pgtest.DB
	pool *pgxpool.Pool
	stop func()
	// hub stands in for the tunnels: whether they carry packets.
	tunnel *atomic.Bool
}

func newRegion(t *testing.T, b mqttBroker, db *pgtest.DB) *region {
	t.Helper()
	if db == nil {
		db = pgtest.Migrated(t, "region", migrations.Up)
		for _, d := range []broker.Device{la, ffm} {
			db.Exec(t, `INSERT INTO holdfast.facility (id, tenant, name) VALUES ($1, $2, $3)`, d.Facility, d.Tenant, strings.ToUpper(d.Facility))
		}
	}
	r := &region{db: db, pool: db.Pool(t), tunnel: &atomic.Bool{}}
	r.tunnel.Store(true)
	var err error
	r.Fleet, err = fleet.New(fleet.Config{
		DB: r.pool, Log: quiet,
		Client: func(c mqttclient.Config) mqttclient.Config {
			c = b.region(c)
			c.WaitMin, c.WaitMax = 20*time.Millisecond, 200*time.Millisecond
			return c
		},
		Link: func(string) (fleet.Link, bool) {
			if !r.tunnel.Load() {
				return fleet.Link{}, true
			}
			return fleet.Link{Heard: time.Now()}, true
		},
		Probe: func(ctx context.Context, _ string) (time.Duration, error) {
			if r.tunnel.Load() {
				return time.Millisecond, nil
			}
			return 0, context.DeadlineExceeded
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.stop = part(t, "fleet", r.Run)
	eventually(t, "the region listens", func() bool { return r.Broker().Connected })
	return r
}

// part runs one part until the test ends or stop is called.
func part(t *testing.T, name string, fn func(context.Context) error) (stop func()) {
	t.Helper()
	s := run.New(quiet)
	s.Go(name, fn)
	var once sync.Once
	stop = func() {
		once.Do(func() {
			if err := s.Stop(10 * time.Second); err != nil {
				t.Errorf("stop %s: %v", name, err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

var eventually = brokertest.Eventually

// is waits for a facility's state.
func (r *region) is(t *testing.T, id string, want fleet.State) v1.FacilityStatus {
	t.Helper()
	var got v1.FacilityStatus
	eventually(t, id+" is "+string(want), func() bool {
		got, _ = r.Summary(id)
		return got.State == string(want)
	})
	return got
}

// box is an agent's heartbeat, which speaks through a relay.
type box struct {
	*heartbeat.Heartbeat
	relay *relay
	stop  func()
}

func newBox(t *testing.T, b mqttBroker, d broker.Device, stateDir string) *box {
	t.Helper()
	r := newRelay(t, b.addr)
	l := b.login(t, d)
	h, err := heartbeat.New(heartbeat.Config{
		Tenant: d.Tenant, Facility: d.Facility, Enrolment: d.Enrolment,
		URL: b.scheme + r.addr(), TLS: l.tls, Username: l.username, Password: l.password,
		StateDir: stateDir, DataDir: stateDir, Log: quiet,
		Facts: heartbeat.Facts{
			Queue: func() proto.Queue {
				return proto.Queue{Transactions: 3, Changes: 7, Bytes: 4096, OldestSeconds: 2, LimitBytes: 1 << 33}
			},
			Tunnel: func() proto.Tunnel { return proto.Tunnel{State: "up"} },
			Database: func(context.Context) (heartbeat.DatabaseFacts, error) {
				return heartbeat.DatabaseFacts{Database: proto.Database{State: "up", Slot: "active"}, Version: "15.18"}, nil
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &box{h, r, part(t, "box", h.Run)}
}

func TestBoxIsSeenAndSaysGoodbye(t *testing.T) {
	t.Parallel()
	onEachBroker(t, func(t *testing.T, b mqttBroker) {
		r := newRegion(t, b, nil)
		changes := r.Subscribe(t.Context())
		box := newBox(t, b, la, t.TempDir())
		got := r.is(t, "la", fleet.StateOnline)
		if !got.Heartbeat || !got.Tunnel || got.LastHeardAt == nil {
			t.Errorf("online without evidence: %+v", got)
		}
		if e := <-changes; len(e.Facilities) == 0 {
			t.Error("the dashboard was told of nothing")
		}
		eventually(t, "the status document arrives", func() bool {
			d, _ := r.Facility("la")
			return d.Status != nil && d.Status.Database.State == "up" && d.Queue.Transactions == 3 && d.Status.Versions.Postgres == "15.18"
		})
		eventually(t, "it is in the database", func() bool {
			var boot, state string
			row := r.pool.QueryRow(t.Context(), `SELECT boot_id, status->'database'->>'state' FROM holdfast.facility_seen WHERE facility = 'la'`)
			return row.Scan(&boot, &state) == nil && boot != "" && state == "up"
		})
		r.tunnel.Store(false)
		box.SetGoodbye("moving to another shelf", time.Hour)
		box.stop()
		left := r.is(t, "la", fleet.StateOffline)
		if !strings.Contains(left.Reason, "moving to another shelf") {
			t.Errorf("reason %q does not say why it left", left.Reason)
		}
		// A region that starts again knows what the one before knew, and does
		// not cry before it has listened.
		r.stop()
		again := newRegion(t, b, r.db)
		s, ok := again.Summary("la")
		if !ok || s.LastHeardAt == nil || s.BootID == "" {
			t.Errorf("the new region has forgotten: %+v", s)
		}
		if s.State != string(fleet.StateUnknown) && s.State != string(fleet.StateOffline) {
			t.Errorf("the new region says %s before it has heard anything", s.State)
		}
	})
}

func TestCutCableIsNoticedAndOverWhenItReturns(t *testing.T) {
	t.Parallel()
	onEachBroker(t, func(t *testing.T, b mqttBroker) {
		r := newRegion(t, b, nil)
		box := newBox(t, b, la, t.TempDir())
		r.is(t, "la", fleet.StateOnline)

		box.relay.cut() // the connection dies, its tunnel lives
		r.is(t, "la", fleet.StateDegraded)
		if d, _ := r.Facility("la"); d.Left != "will" {
			t.Errorf("left %q, want the last will", d.Left)
		}
		r.tunnel.Store(false)
		began := time.Now()
		r.is(t, "la", fleet.StateOffline)
		t.Logf("offline %s after the tunnel went too", time.Since(began))
		r.tunnel.Store(true)
		box.relay.mend()
		r.is(t, "la", fleet.StateOnline)
		if d, _ := r.Facility("la"); d.Left != "" {
			t.Errorf("it is back, and yet it left: %q", d.Left)
		}
	})
}

func TestStaleWillIsIgnored(t *testing.T) {
	t.Parallel()
	onEachBroker(t, func(t *testing.T, b mqttBroker) {
		r := newRegion(t, b, nil)
		state := t.TempDir()
		old := newBox(t, b, la, state)
		r.is(t, "la", fleet.StateOnline)
		// The box loses power: its connection stays open at the broker. It comes
		// back with the same name, and the broker publishes the old will.
		old.relay.freeze()
		renewed := newBox(t, b, la, state)
		if renewed.Session() <= old.Session() {
			t.Fatalf("session %d does not follow %d", renewed.Session(), old.Session())
		}
		eventually(t, "the region hears the new session", func() bool {
			d, _ := r.Facility("la")
			return d.Beat.Session == renewed.Session()
		})
		// However late a broker is with it, it changes nothing.
		will, err := proto.Conn{
			Tenant: "foo", Facility: "la", BootID: proto.BootID{1}, Session: old.Session(), Connection: 1,
			State: proto.ConnWill, WallMs: 1,
		}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		// (Sent by the region's own account: the box's would take its place.)
		before := r.messages(t, "conn", "stale")
		late := client(t, b.region(mqttclient.Config{}))
		eventually(t, "the late message is sent", func() bool {
			return late.Publish(t.Context(), mqttclient.Message{Topic: proto.Topic("foo", "la", proto.KindConn), Payload: will, QoS: 1}) == nil
		})
		eventually(t, "the stale will has been seen", func() bool { return r.messages(t, "conn", "stale") > before })
		if d, _ := r.Facility("la"); d.State != string(fleet.StateOnline) || d.Left != "" {
			t.Errorf("a stale will was believed: %s, left %q", d.State, d.Left)
		}
	})
}

func TestBrokerRestartLosesNobody(t *testing.T) {
	t.Parallel()
	onEachBroker(t, func(t *testing.T, b mqttBroker) {
		r := newRegion(t, b, nil)
		box := newBox(t, b, la, t.TempDir())
		r.is(t, "la", fleet.StateOnline)
		b.restart(t)
		eventually(t, "both are back", func() bool {
			return r.Broker().Connected && r.Broker().Connections > 1 && box.Connection().Connections > 1
		})
		before, _ := r.Facility("la")
		eventually(t, "heartbeats flow again", func() bool {
			d, _ := r.Facility("la")
			return d.Beat.Seq > before.Beat.Seq
		})
		r.is(t, "la", fleet.StateOnline)
		// What the broker retained is there again for those who come late.
		var mirror atomic.Pointer[fleet.Mirror]
		client(t, b.region(mqttclient.Config{Subscriptions: []mqttclient.Subscription{{
			Filter: proto.MirrorTopic("foo", "la", "state"), QoS: 1, Handle: func(m mqttclient.Received) {
				var got fleet.Mirror
				if json.Unmarshal(m.Payload, &got) == nil {
					mirror.Store(&got)
				}
			},
		}}}))
		eventually(t, "the mirror says online", func() bool {
			m := mirror.Load()
			return m != nil && m.State == fleet.StateOnline && m.Facility == "la"
		})
	})
}

func TestForgedHeartbeatIsNotBelieved(t *testing.T) {
	t.Parallel()
	onEachBroker(t, func(t *testing.T, b mqttBroker) {
		r := newRegion(t, b, nil)
		beat := func(tenant, facility string, seq uint64) []byte {
			payload, err := proto.Heartbeat{
				Who: proto.WhoDigest(tenant, facility), Session: proto.SessionEpoch(1, 1), Seq: seq, EverySeconds: 5,
			}.Encode()
			if err != nil {
				t.Fatal(err)
			}
			return payload
		}
		// Under another's topic the broker does not deliver it; under its own
		// topic the region sees that it speaks of another.
		forge(t, b, la, proto.Topic("foo", "frankfurt", proto.KindHeartbeat), beat("foo", "frankfurt", 1))
		forge(t, b, la, proto.Topic("foo", "la", proto.KindHeartbeat), beat("foo", "frankfurt", 2))
		forge(t, b, la, proto.Topic("foo", "la", proto.KindHeartbeat), []byte("not CBOR"))
		forge(t, b, la, proto.Topic("foo", "la", proto.KindHeartbeat), beat("foo", "la", 3))
		r.is(t, "la", fleet.StateOnline) // the honest one came last
		if n := r.messages(t, "hb", "foreign"); n != 1 {
			t.Errorf("%v foreign heartbeats were counted, want 1", n)
		}
		if n := r.messages(t, "hb", "bad"); n != 1 {
			t.Errorf("%v bad heartbeats were counted, want 1", n)
		}
		if d, _ := r.Facility("frankfurt"); d.Beat.Seq != 0 || d.Heartbeat {
			t.Errorf("a forged heartbeat was believed: %+v", d.Beat)
		}
	})
}

func TestRevokedBoxIsOut(t *testing.T) {
	t.Parallel()
	onEachBroker(t, func(t *testing.T, b mqttBroker) {
		r := newRegion(t, b, nil)
		out, stays := newBox(t, b, la, t.TempDir()), newBox(t, b, ffm, t.TempDir())
		first := r.is(t, "la", fleet.StateOnline)
		r.is(t, "frankfurt", fleet.StateOnline)
		eventually(t, "a second beat is heard", func() bool { // with the first a region that has just begun to listen gives time
			got, _ := r.Summary("la")
			return got.LastHeardAt.Sub(*first.LastHeardAt) > time.Second
		})
		r.tunnel.Store(false)
		b.revoke(t, la)
		eventually(t, "the box is out and not let in again", func() bool {
			s := out.Connection()
			return !s.Connected && s.Err != nil && !strings.Contains(s.Err.Error(), "connection lost")
		})
		r.is(t, "la", fleet.StateOffline)
		if s := stays.Connection(); !s.Connected || s.Connections != 1 {
			t.Errorf("another box was thrown out too: %+v", s)
		}
	})
}

func TestCommandIsDoneOnceAndAnswered(t *testing.T) {
	t.Parallel()
	onEachBroker(t, func(t *testing.T, b mqttBroker) {
		r := newRegion(t, b, nil)
		newBox(t, b, la, t.TempDir())
		r.is(t, "la", fleet.StateOnline)
		for kind, want := range map[string]proto.AckResult{proto.CommandStatus: proto.AckDone, "make-coffee": proto.AckRefused} {
			a, err := r.Command(t.Context(), "la", kind, nil, 20*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if a.Result != want {
				t.Errorf("%s: %s (%s), want %s", kind, a.Result, a.Text, want)
			}
		}
	})
}

// forge publishes bytes with a box's own login.
func forge(t *testing.T, b mqttBroker, d broker.Device, topic string, payload []byte) {
	t.Helper()
	l := b.login(t, d)
	c, err := mqttclient.New(mqttclient.Config{
		URL: b.scheme + b.addr, ClientID: d.ID(), TLS: l.tls, Username: l.username, Password: l.password, Log: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := part(t, "forger", c.Run)
	defer stop()
	eventually(t, "the forger is connected", func() bool { return c.State().Connected })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	// Whether a refusal is told differs from broker to broker.
	_ = c.Publish(ctx, mqttclient.Message{Topic: topic, Payload: payload, QoS: 1})
}

// client is a connection of the region's account beside the fleet's.
func client(t *testing.T, cfg mqttclient.Config) *mqttclient.Client {
	t.Helper()
	cfg.Log = quiet
	if cfg.ClientID == proto.RegionClientID {
		cfg.ClientID = "onlooker" // not the fleet's own
	}
	c, err := mqttclient.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	part(t, "client", c.Run)
	return c
}
