package broker_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/cloud/broker"
	"github.com/agogsaas/holdfast/cloud/broker/brokertest"
	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/proto"
)

const scadaPassword = "only-in-this-test"

// scada is what another program connects with.
func scada(b *brokertest.Broker, filter string, in *inbox) mqttclient.Config {
	return mqttclient.Config{
		URL: "tcp://" + b.Local, Username: "scada", ClientID: "scada",
		Password:      func() (string, error) { return scadaPassword, nil },
		Subscriptions: []mqttclient.Subscription{{Filter: filter, QoS: 1, Handle: in.handle}},
	}
}

func brokerWithScada(t *testing.T) *brokertest.Broker {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(scadaPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return brokertest.NewWith(t, []broker.Account{{Name: "scada", PasswordFile: file}}, la, fr)
}

func TestAnIntegrationReadsTheMirrorsAndSaysNothing(t *testing.T) {
	t.Parallel()
	b := brokerWithScada(t)
	var heard, read inbox
	region := start(t, b.Client(mqttclient.Config{Subscriptions: []mqttclient.Subscription{{Filter: "hf/v1/#", QoS: 1, Handle: heard.handle}}}))
	connected(t, region)
	state := proto.MirrorTopic("foo", "la", "state")
	if err := region.Publish(t.Context(), mqttclient.Message{Topic: state, Payload: []byte("online"), QoS: 1, Retain: true}); err != nil {
		t.Fatal(err)
	}

	program := start(t, scada(b, proto.MirrorFilter, &read))
	brokertest.Eventually(t, "what was retained is read", func() bool { return read.has(state + " online") })
	publish(t, region, proto.Topic("foo", "la", proto.KindHeartbeat), "for the region only")
	publish(t, region, state, "offline")
	brokertest.Eventually(t, "what changes is read", func() bool { return read.has(state + " offline") })
	if read.has("for the region only") {
		t.Error("a box's own message was read")
	}

	topics := []string{state, proto.Topic("foo", "scada", proto.KindHeartbeat), "$CONTROL/dynamic-security/v1"}
	for _, k := range append(proto.KindsUp, proto.KindsDown...) {
		topics = append(topics, proto.Topic("foo", "la", k))
	}
	for _, topic := range topics {
		publish(t, program, topic, "forged")
	}
	publish(t, region, state, "the last")
	brokertest.Eventually(t, "the last is read", func() bool { return read.has("the last") && heard.has("the last") })
	if heard.has("forged") || read.has("forged") {
		t.Errorf("what an integration published was delivered: %q", heard.seen)
	}
}

func TestAnIntegrationIsRefusedAllOtherTopics(t *testing.T) {
	t.Parallel()
	b := brokerWithScada(t)
	for _, filter := range []string{
		"#", "+/#", "hf/#", "hf/v1/#", "hf/v1/+/+/hb", "hf/v1/foo/#", "$SYS/#", "$CONTROL/#",
		proto.Topic("foo", "la", proto.KindHeartbeat), proto.Topic("foo", "la", proto.KindCommand),
	} {
		t.Run(strings.ReplaceAll(filter, "/", "."), func(t *testing.T) {
			var in inbox
			c := start(t, scada(b, filter, &in))
			brokertest.Eventually(t, "the subscription is refused", func() bool {
				err := c.State().Err
				return err != nil && strings.Contains(err.Error(), "refused")
			})
		})
	}
}

// TestAnIntegrationCannotThrowABoxOut: a connection takes the place of another
// one with the same client id.
func TestAnIntegrationCannotThrowABoxOut(t *testing.T) {
	t.Parallel()
	b := brokerWithScada(t)
	conf, _ := b.CA.ClientTLS(la.ID())
	box := start(t, device(b, conf, la, mqttclient.Config{}))
	connected(t, box)
	var in inbox
	posing := scada(b, proto.MirrorFilter, &in)
	posing.ClientID = la.ID()
	c := start(t, posing)
	brokertest.Eventually(t, "the connection is refused", func() bool {
		s := c.State()
		return s.Err != nil && s.Err != mqttclient.ErrNotConnected && s.Connections == 0
	})
	if s := box.State(); !s.Connected || s.Connections != 1 {
		t.Errorf("the box lost its connection: %+v", s)
	}
}
