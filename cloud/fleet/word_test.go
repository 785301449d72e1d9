package fleet

import (
	"context"
	"crypto/tls"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/cloud/broker"
	"github.com/agogsaas/holdfast/cloud/broker/brokertest"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/proto"
)

// live is a fleet that runs with a real broker, and facility la, whose box the
// test speaks for.
type live struct {
	*Fleet
	broker *brokertest.Broker
	box    *mqttclient.Client // says what the box says
	up     atomic.Bool        // the box is there
	tunnel atomic.Bool        // and answers
	seq    uint64
	beatAt time.Time
}

func newLive(t *testing.T, pool *pgxpool.Pool) *live {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	device := broker.Device{Tenant: "foo", Facility: "la", Enrolment: 1}
	b := brokertest.New(t, device)
	l := &live{broker: b}
	l.up.Store(true)
	l.tunnel.Store(true)
	f, err := New(Config{
		DB: pool, Log: quiet,
		Client: func(c mqttclient.Config) mqttclient.Config {
			c = b.Client(c)
			c.WaitMin, c.WaitMax = 20*time.Millisecond, 200*time.Millisecond
			return c
		},
		AsBox: b.AsBox(),
		Link:  func(string) (Link, bool) { return Link{}, true },
		Probe: func(ctx context.Context, _ string) (time.Duration, error) {
			if l.up.Load() && l.tunnel.Load() {
				return time.Millisecond, nil
			}
			<-ctx.Done() // as nobody answers
			return 0, ctx.Err()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	l.Fleet = f
	conf, _ := b.CA.ClientTLS(device.ID())
	l.box, err = mqttclient.New(mqttclient.Config{
		URL: b.TLSURL, ClientID: device.ID(), TLS: func() (*tls.Config, error) { return conf, nil }, WaitMax: time.Second, Log: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := run.New(quiet)
	s.Go("fleet", f.Run)
	s.Go("box", l.box.Run)
	t.Cleanup(func() {
		if err := s.Stop(10 * time.Second); err != nil {
			t.Error(err)
		}
	})
	return l
}

// until waits, and beats for the box meanwhile.
func (l *live) until(t *testing.T, what string, ok func(w detect.Word) bool) {
	t.Helper()
	brokertest.Eventually(t, what, func() bool {
		if l.up.Load() && time.Since(l.beatAt) > time.Second {
			l.seq++
			l.beatAt = time.Now()
			l.say(t, proto.KindHeartbeat, beat("la", proto.SessionEpoch(1, 1), l.seq))
		}
		return ok(l.Word())
	})
}

func (l *live) say(t *testing.T, k proto.Kind, m interface{ Encode() ([]byte, error) }) {
	t.Helper()
	payload, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_ = l.box.Publish(ctx, mqttclient.Message{Topic: proto.Topic("foo", "la", k), Payload: payload}) // a frozen broker takes nothing
}

func found(w detect.Word, k detect.Kind) (detect.Finding, bool) {
	i := slices.IndexFunc(w.Findings, func(f detect.Finding) bool { return f.Kind == k })
	if i < 0 {
		return detect.Finding{}, false
	}
	return w.Findings[i], true
}

// TestAFrozenBrokerIsOursAndADeadBoxIsTold: the same silence, and two verdicts.
func TestAFrozenBrokerIsOursAndADeadBoxIsTold(t *testing.T) {
	t.Parallel()
	_, pool := newTestDB(t, "la")
	l := newLive(t, pool)
	if w := l.Word(); !w.Held || w.Why == "" {
		t.Errorf("a region that has only begun judges: %+v", w)
	}
	l.until(t, "the region hears la and its canaries", func(detect.Word) bool {
		s, _ := l.Summary("la")
		return s.State == string(StateOnline) && !l.canaries[0].heard().IsZero() && !l.canaries[1].heard().IsZero()
	})
	s, _ := l.Summary("la")
	if s.State != string(StateOnline) || s.Since == nil || !slices.Equal(s.Missing, []string{"stream"}) {
		t.Errorf("la is shown as %+v", s)
	}

	pid := l.broker.State().PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	l.until(t, "operations are told", func(w detect.Word) bool { _, ok := found(w, detect.Blind); return ok })
	if _, ok := found(l.Word(), detect.Offline); ok {
		t.Error("a frozen broker is told as la's fault")
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	l.until(t, "it judges again", func(w detect.Word) bool { return !w.Held })

	l.up.Store(false)
	began := time.Now()
	l.say(t, proto.KindConn, proto.Conn{Tenant: "foo", Facility: "la", Session: proto.SessionEpoch(1, 1), State: proto.ConnWill})
	l.until(t, "la is offline", func(w detect.Word) bool { _, ok := found(w, detect.Offline); return ok })
	if took := time.Since(began); took > 8*time.Second { // as if it had been silent only
		t.Errorf("a visible death was found after %s", took)
	}
	if s, _ := l.Summary("la"); s.State != string(StateOffline) || len(s.Missing) != 3 || s.Since.After(began) {
		t.Errorf("it is shown as %+v", s)
	}
}

// TestABrokerThatLetsNoBoxInIsOurs: the region's own account still gets in, and the
// boxes find a certificate that they cannot trust.
func TestABrokerThatLetsNoBoxInIsOurs(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, b *brokertest.Broker)
		says  string
	}{
		"its certificate has expired": {func(t *testing.T, b *brokertest.Broker) { b.Certify(t, b.CA, time.Now().Add(-time.Minute)) }, "has expired"},
		"its certificate is another authority's": {func(t *testing.T, b *brokertest.Broker) {
			b.Certify(t, brokertest.NewCA(t), time.Now().Add(time.Hour))
		}, "not one of this region's authority"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, pool := newTestDB(t, "la")
			l := newLive(t, pool)
			l.until(t, "the region hears la and both canaries, and judges", func(w detect.Word) bool {
				s, _ := l.Summary("la")
				return s.State == string(StateOnline) && !w.Held && !l.canaries[0].heard().IsZero() && !l.canaries[1].heard().IsZero()
			})
			// All have to connect again, and a tunnel that is down must not help.
			l.tunnel.Store(false)
			began := time.Now()
			tc.spoil(t, l.broker)
			accused := func(w detect.Word) {
				for _, k := range []detect.Kind{detect.Offline, detect.TelemetryDown, detect.Outage} {
					if f, ok := found(w, k); ok {
						t.Fatalf("after %s: %+v", time.Since(began), f)
					}
				}
			}
			l.until(t, "operations are told", func(w detect.Word) bool {
				accused(w)
				f, ok := found(w, detect.Blind)
				return ok && strings.Contains(f.Summary, tc.says)
			})
			l.until(t, "la would have been told long ago", func(w detect.Word) bool {
				accused(w)
				return time.Since(began) > 18*time.Second
			})
			if !l.client.State().Connected || time.Since(l.canaries[1].heard()) > 5*time.Second {
				t.Error("the region's own account does not get in: this shows nothing")
			}
			if s, _ := l.Summary("la"); s.State != string(StateUnknown) || !strings.Contains(s.Reason, tc.says) {
				t.Errorf("la is %s: %s", s.State, s.Reason)
			}
			l.broker.Certify(t, l.broker.CA, time.Now().Add(time.Hour))
			l.tunnel.Store(true)
			l.until(t, "la is back and nothing was wrong with it", func(w detect.Word) bool {
				accused(w)
				s, _ := l.Summary("la")
				return s.State == string(StateOnline)
			})
		})
	}
}

func TestAnnouncedWorkIsShownAndHidesNothing(t *testing.T) {
	t.Parallel()
	_, pool := newTestDB(t, "la", "frankfurt")
	f := newTestFleet(t, pool)
	until := time.Now().Add(time.Hour)
	f.cfg.Maintenance = func(context.Context) (map[string]time.Time, error) {
		return map[string]time.Time{"la": until, "frankfurt": time.Now().Add(-time.Minute)}, nil
	}
	if err := f.relist(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s, _ := f.Summary("la"); s.MaintenanceUntil == nil || !s.MaintenanceUntil.Equal(until) || s.State != string(StateNew) {
		t.Errorf("la: %+v", s)
	}
	if s, _ := f.Summary("frankfurt"); s.MaintenanceUntil != nil {
		t.Errorf("its work is over: %+v", s)
	}
}

func TestADatabaseThatTakesNoWritesIsNoticed(t *testing.T) {
	t.Parallel()
	db, pool := newTestDB(t)
	f := newTestFleet(t, pool)
	db.Exec(t, `ALTER TABLE holdfast.pulse RENAME TO gone`)
	part := run.New(slog.New(slog.DiscardHandler))
	part.Go("pulse", f.pulse)
	began := time.Now()
	brokertest.Eventually(t, "it is noticed", func() bool { return f.unwritable.Load() != nil })
	if since := *f.unwritable.Load(); since.Before(began.Add(-time.Second)) || since.After(time.Now()) {
		t.Errorf("since %s", since)
	}
	db.Exec(t, `ALTER TABLE holdfast.gone RENAME TO pulse`)
	brokertest.Eventually(t, "it is over", func() bool { return f.unwritable.Load() == nil })
	if err := part.Stop(5 * time.Second); err != nil {
		t.Error(err)
	}
}

func TestWhatAnEarlierProcessFoundIsRemembered(t *testing.T) {
	t.Parallel()
	db, pool := newTestDB(t, "la", "frankfurt")
	since := time.Date(2026, 11, 20, 3, 4, 5, 0, time.UTC)
	db.Exec(t, `INSERT INTO holdfast.incident (kind, severity, summary, since, opened_at) VALUES ('outage', 'critical', 'many', $1, $1)`, since)
	db.Exec(t, `INSERT INTO holdfast.incident (kind, facility, parent, severity, summary, evidence, since, opened_at)
		SELECT 'offline', 'la', id, 'critical', 'la is offline', '{"it was silent"}', $1, $1 FROM holdfast.incident`, since)
	db.Exec(t, `INSERT INTO holdfast.incident (kind, facility, severity, summary, since, opened_at, resolved_at)
		VALUES ('offline', 'frankfurt', 'critical', 'it is over', $1, $1, $1)`, since)
	db.Exec(t, `INSERT INTO holdfast.device (facility, enrolment, identity_key_sha256, identity_key, wireguard_key, certificate_serial, certificate_not_after)
		VALUES ('frankfurt', 1, sha256('k'), 'k', sha256('w'), '1', $1)`, time.Now().Add(48*time.Hour))
	db.Exec(t, `INSERT INTO holdfast.facility_seen (facility, heard_at) VALUES ('la', $1)`, since)
	f := newTestFleet(t, pool)
	if err := f.recall(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f.facilities["frankfurt"].CertificateUntil.Before(time.Now()) {
		t.Error("the certificate's end was not read")
	}
	f.judgeAll(time.Now(), func(*facility) bool { return false })
	w := f.Word()
	off, _ := found(w, detect.Offline)
	if out, _ := found(w, detect.Outage); !out.Since.Equal(since) || out.Facility != "" {
		t.Errorf("outage: %+v", out)
	}
	if off.Facility != "la" || !off.Since.Equal(since) || off.Of != detect.Outage || off.Severity != detect.Critical || !slices.Equal(off.Evidence, []string{"it was silent"}) {
		t.Errorf("offline: %+v", off)
	}
	if !w.Held || !w.HeldOf["la"] || len(w.Findings) != 2 {
		t.Errorf("%+v", w)
	}
}

func TestCanariesBelieveOnlyThemselves(t *testing.T) {
	t.Parallel()
	c := &canary{began: time.Now().Add(-time.Minute)}
	for name, payload := range map[string][]byte{
		"nothing": nil, "short": {1, 2, 3}, "long": append(song(time.Second), 0),
		"from the future": song(time.Hour), "before it hatched": song(-time.Second), "zero": song(0),
	} {
		c.hear(payload)
		if !c.heard().IsZero() {
			t.Fatalf("%s was heard", name)
		}
	}
	c.hear(song(50 * time.Second))
	c.hear(song(20 * time.Second)) // it was stuck on the way
	if got := c.heard().Sub(c.began); got != 50*time.Second {
		t.Errorf("heard last is from %s", got)
	}
}

func FuzzReadSong(f *testing.F) {
	f.Add(song(time.Second))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		at, err := readSong(payload)
		if err == nil && (at <= 0 || string(song(at)) != string(payload)) {
			t.Errorf("%x was read as %s", payload, at)
		}
	})
}
