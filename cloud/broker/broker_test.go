package broker_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/broker"
	"github.com/agogsaas/holdfast/cloud/broker/brokertest"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/proto"
)

var (
	quiet = slog.New(slog.DiscardHandler)
	la    = broker.Device{Tenant: "foo", Facility: "la", Enrolment: 1}
	fr    = broker.Device{Tenant: "foo", Facility: "frankfurt", Enrolment: 1}
)

// inbox collects what a subscription receives.
type inbox struct {
	mu   sync.Mutex
	seen []string
}

func (i *inbox) handle(m mqttclient.Received) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.seen = append(i.seen, m.Topic+" "+string(m.Payload))
}

func (i *inbox) has(s string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, line := range i.seen {
		if strings.Contains(line, s) {
			return true
		}
	}
	return false
}

func start(t *testing.T, cfg mqttclient.Config) *mqttclient.Client {
	t.Helper()
	cfg.Log, cfg.WaitMin, cfg.WaitMax = quiet, 20*time.Millisecond, 200*time.Millisecond
	c, err := mqttclient.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := run.New(quiet)
	s.Go("client", c.Run)
	t.Cleanup(func() { _ = s.Stop(5 * time.Second) })
	return c
}

func connected(t *testing.T, c *mqttclient.Client) {
	t.Helper()
	brokertest.Eventually(t, "the client is connected", func() bool { return c.State().Connected })
}

func device(b *brokertest.Broker, conf *tls.Config, d broker.Device, more mqttclient.Config) mqttclient.Config {
	more.URL, more.ClientID = b.TLSURL, d.ID()
	more.TLS = func() (*tls.Config, error) { return conf, nil }
	return more
}

func publish(t *testing.T, c *mqttclient.Client, topic, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := c.Publish(ctx, mqttclient.Message{Topic: topic, Payload: []byte(text), QoS: 1}); err != nil {
		t.Fatal(err)
	}
}

func TestBoxSpeaksOnlyForItself(t *testing.T) {
	t.Parallel()
	b := brokertest.New(t, la, fr)
	var heard, down inbox
	region := start(t, b.Client(mqttclient.Config{Subscriptions: []mqttclient.Subscription{{Filter: "hf/v1/#", QoS: 1, Handle: heard.handle}}}))
	connected(t, region)
	conf, _ := b.CA.ClientTLS(la.ID())
	// It may not hear another's commands; Mosquitto says so at once. (This is
	// the other box: it tries again and again, and would take la's place.)
	other, _ := b.CA.ClientTLS(fr.ID())
	nosy := start(t, device(b, other, fr, mqttclient.Config{Subscriptions: []mqttclient.Subscription{
		{Filter: proto.Topic("foo", "la", proto.KindCommand), Handle: down.handle},
	}}))
	brokertest.Eventually(t, "the subscription is refused", func() bool {
		err := nosy.State().Err
		return err != nil && strings.Contains(err.Error(), "refused")
	})

	box := start(t, device(b, conf, la, mqttclient.Config{
		// Certificates count, not what the client calls itself.
		Subscriptions: []mqttclient.Subscription{{Filter: proto.Topic("foo", "la", proto.KindCommand), Handle: down.handle}},
	}))
	connected(t, box)
	publish(t, box, proto.Topic("foo", "frankfurt", proto.KindHeartbeat), "forged")
	publish(t, box, proto.MirrorTopic("foo", "la", "state"), "forged")
	publish(t, box, proto.Topic("foo", "la", proto.KindCommand), "forged")
	for _, k := range proto.KindsUp {
		publish(t, box, proto.Topic("foo", "la", k), "honest "+string(k))
	}
	brokertest.Eventually(t, "the last honest message arrives", func() bool { return heard.has("honest ack") })
	if heard.has("forged") {
		t.Errorf("a forged message was delivered: %q", heard.seen)
	}
	publish(t, region, proto.Topic("foo", "la", proto.KindCommand), "do this")
	brokertest.Eventually(t, "the command arrives", func() bool { return down.has("do this") })
}

func TestLastWillIsHeldToTheSameRules(t *testing.T) {
	t.Parallel()
	b := brokertest.New(t, la, fr)
	var heard inbox
	connected(t, start(t, b.Client(mqttclient.Config{Subscriptions: []mqttclient.Subscription{{Filter: "hf/v1/#", QoS: 1, Handle: heard.handle}}})))
	for _, tc := range []struct {
		d     broker.Device
		topic string
	}{
		{la, proto.Topic("foo", "frankfurt", proto.KindConn)}, // not its own
		{fr, proto.Topic("foo", "frankfurt", proto.KindConn)},
	} {
		conf, _ := b.CA.ClientTLS(tc.d.ID())
		c := start(t, device(b, conf, tc.d, mqttclient.Config{Will: func(uint64) (mqttclient.Message, error) {
			return mqttclient.Message{Topic: tc.topic, Payload: []byte("will of " + tc.d.Facility), QoS: 1}, nil
		}}))
		connected(t, c)
		// A second connection of the same box takes the first one's place.
		again := start(t, device(b, conf, tc.d, mqttclient.Config{}))
		brokertest.Eventually(t, "the first connection is lost", func() bool {
			return c.State().Connections > 1 || !c.State().Connected || again.State().Connections > 1
		})
	}
	brokertest.Eventually(t, "the honest will arrives", func() bool { return heard.has("will of frankfurt") })
	if heard.has("will of la") {
		t.Error("a box published its will under another's topic")
	}
}

func TestRevokedBoxIsOutAtOnceAndStaysOut(t *testing.T) {
	t.Parallel()
	b := brokertest.New(t, la, fr)
	laConf, serial := b.CA.ClientTLS(la.ID())
	frConf, _ := b.CA.ClientTLS(fr.ID())
	box, other := start(t, device(b, laConf, la, mqttclient.Config{})), start(t, device(b, frConf, fr, mqttclient.Config{}))
	connected(t, box)
	connected(t, other)

	b.Devices.Set(fr)
	b.CA.Revoke(serial)
	var began time.Time
	// The region's own connection may be slower to come up than the boxes'.
	brokertest.Eventually(t, "the broker is told", func() bool {
		began = time.Now()
		return b.Revoke(t.Context(), la) == nil
	})
	brokertest.Eventually(t, "the box is out and its certificate refused", func() bool {
		s := box.State()
		return !s.Connected && s.Err != nil && strings.Contains(s.Err.Error(), "revoked")
	})
	t.Logf("out after %s", time.Since(began))
	if s := other.State(); !s.Connected || s.Connections != 1 {
		t.Errorf("another box lost its connection: %+v", s)
	}
	// A replacement has a name of its own and comes in.
	la2 := broker.Device{Tenant: "foo", Facility: "la", Enrolment: 2}
	if err := b.Allow(t.Context(), la2); err != nil {
		t.Fatal(err)
	}
	conf2, _ := b.CA.ClientTLS(la2.ID())
	var cmd inbox
	connected(t, start(t, device(b, conf2, la2, mqttclient.Config{
		Subscriptions: []mqttclient.Subscription{{Filter: proto.Topic("foo", "la", proto.KindCommand), Handle: cmd.handle}},
	})))
}

// TestTheRegionComesInAsABoxDoesAndOnlySings: over the boxes' listener, again and
// again, and nobody's word but its own.
func TestTheRegionComesInAsABoxDoesAndOnlySings(t *testing.T) {
	t.Parallel()
	b := brokertest.New(t, la)
	var heard, stolen inbox
	connected(t, start(t, b.Client(mqttclient.Config{Subscriptions: []mqttclient.Subscription{{Filter: "hf/v1/#", QoS: 1, Handle: heard.handle}}})))
	canary := start(t, b.AsBox()(mqttclient.Config{Stay: 300 * time.Millisecond}))
	try := func(topic, text string) {
		t.Helper()
		brokertest.Eventually(t, "it is said", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return canary.Publish(ctx, mqttclient.Message{Topic: topic, Payload: []byte(text), QoS: 1}) == nil
		})
	}
	try(proto.Topic("foo", "la", proto.KindHeartbeat), "forged")
	try(proto.Topic("foo", "la", proto.KindCommand), "forged")
	try(proto.CanaryTopic("NEST", 0), "song")
	brokertest.Eventually(t, "the song is heard", func() bool { return heard.has("song") })
	if heard.has("forged") {
		t.Errorf("a canary spoke for a box: %q", heard.seen)
	}
	brokertest.Eventually(t, "it has come in a few times", func() bool { return canary.State().Connections > 3 })
	// Its name is none at the listener for passwords, and it hears nothing.
	for what, cfg := range map[string]mqttclient.Config{
		"by name only": {URL: "tcp://" + b.Local, ClientID: "x", Username: proto.RegionClientID + "-canary"},
		"to listen":    b.AsBox()(mqttclient.Config{Subscriptions: []mqttclient.Subscription{{Filter: "hf/v1/#", QoS: 1, Handle: stolen.handle}}}),
	} {
		c := start(t, cfg)
		brokertest.Eventually(t, "it is refused "+what, func() bool {
			s := c.State()
			return s.Err != nil && s.Err != mqttclient.ErrNotConnected && s.Connections == 0
		})
	}
}

func TestBrokerThatDiesIsStartedAgainWithItsRules(t *testing.T) {
	t.Parallel()
	b := brokertest.New(t, la)
	conf, _ := b.CA.ClientTLS(la.ID())
	var heard inbox
	region := start(t, b.Client(mqttclient.Config{Subscriptions: []mqttclient.Subscription{{Filter: "hf/v1/#", QoS: 1, Handle: heard.handle}}}))
	box := start(t, device(b, conf, la, mqttclient.Config{}))
	connected(t, region)
	connected(t, box)
	if err := syscall.Kill(b.State().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, "all are back", func() bool {
		return b.State().Running && b.State().Starts == 2 && region.State().Connections == 2 && box.State().Connections == 2
	})
	publish(t, box, proto.Topic("foo", "la", proto.KindHeartbeat), "back")
	brokertest.Eventually(t, "messages flow again", func() bool { return heard.has("back") })
}

func TestNobodyComesInWithoutPasswordOrCertificate(t *testing.T) {
	t.Parallel()
	b := brokertest.New(t, la)
	stranger := brokertest.NewCA(t)
	foreign, _ := stranger.ClientTLS(la.ID())
	known, _ := b.CA.ClientTLS("someone-else")
	foreign.RootCAs = known.RootCAs
	for name, cfg := range map[string]mqttclient.Config{
		"anonymous":           {URL: "tcp://" + b.Local, ClientID: "x"},
		"a box by name only":  {URL: "tcp://" + b.Local, ClientID: la.ID(), Username: la.ID()},
		"wrong password":      {URL: "tcp://" + b.Local, ClientID: "x", Username: proto.RegionClientID, Password: func() (string, error) { return "guess", nil }},
		"no certificate":      {URL: b.TLSURL, ClientID: la.ID(), TLS: func() (*tls.Config, error) { return &tls.Config{RootCAs: known.RootCAs}, nil }},
		"foreign certificate": {URL: b.TLSURL, ClientID: la.ID(), TLS: func() (*tls.Config, error) { return foreign, nil }},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, cfg)
			brokertest.Eventually(t, "the connection is refused", func() bool {
				s := c.State()
				return s.Err != nil && s.Err != mqttclient.ErrNotConnected && s.Connections == 0
			})
		})
	}
}

func TestOversizedPacketEndsTheConnection(t *testing.T) {
	t.Parallel()
	b := brokertest.New(t)
	conn, err := net.Dial("tcp", b.Local)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	// A CONNECT that announces 64 MiB, before anyone has signed in.
	packet := append([]byte{0x10, 0x80, 0x80, 0x80, 0x20}, make([]byte, 1<<20)...)
	_ = conn.SetDeadline(time.Now().Add(time.Minute)) // who does not finish a CONNECT is ended after 90 s
	_, writeErr := conn.Write(packet)
	_, readErr := conn.Read(make([]byte, 1))
	if readErr == nil || os.IsTimeout(readErr) {
		t.Errorf("write: %v, read: %v, want the connection to be ended", writeErr, readErr)
	}
}

func TestForeignBrokerAtItsPortIsNotTakenForItsOwn(t *testing.T) {
	t.Parallel()
	first := brokertest.New(t)
	b, err := broker.New(broker.Config{
		Dir: filepath.Join(t.TempDir(), "broker"), LocalAddr: first.Local, Log: quiet,
		Devices: func(context.Context) ([]broker.Device, error) { return nil, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	s := run.New(quiet)
	s.Go("broker", b.Run)
	t.Cleanup(func() { _ = s.Stop(10 * time.Second) })
	brokertest.Eventually(t, "it says what is wrong and what to do", func() bool {
		err := b.State().Err
		return err != nil && strings.Contains(err.Error(), "Address already in use") && strings.Contains(hint.Of(err), first.Local)
	})
	if b.State().Starts != 0 {
		t.Error("it took another broker for its own")
	}
}
