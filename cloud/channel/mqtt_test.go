package channel_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/broker"
	"github.com/agogsaas/holdfast/cloud/broker/brokertest"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/proto"
)

// reader keeps the last document of each topic.
type reader struct {
	mu   sync.Mutex
	last map[string]string
}

func (r *reader) handle(m mqttclient.Received) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last[m.Topic] = string(m.Payload)
}

func (r *reader) read(topic string) (d channel.Document, raw string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = json.Unmarshal([]byte(r.last[topic]), &d) // it is not there then
	return d, r.last[topic]
}

func connect(t *testing.T, c mqttclient.Config) *mqttclient.Client {
	t.Helper()
	c.Log, c.WaitMin, c.WaitMax = slog.New(slog.DiscardHandler), 20*time.Millisecond, 200*time.Millisecond
	client, err := mqttclient.New(c)
	if err != nil {
		t.Fatal(err)
	}
	s := run.New(slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := s.Stop(10 * time.Second); err != nil {
			t.Error(err)
		}
	})
	s.Go("client", client.Run)
	brokertest.Eventually(t, "the client is connected", func() bool { return client.State().Connected })
	return client
}

func TestNobodyReadsAnOldAlarmAsANewOne(t *testing.T) {
	t.Parallel()
	password := filepath.Join(t.TempDir(), "scada")
	if err := os.WriteFile(password, []byte("scada-password\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := brokertest.NewWith(t, []broker.Account{{Name: "scada", PasswordFile: password}})
	region := connect(t, b.Client(mqttclient.Config{}))
	s := channel.NewMQTT(func(ctx context.Context, topic string, payload []byte) error {
		return region.Publish(ctx, mqttclient.Message{Topic: topic, Payload: payload, QoS: 1, Retain: true})
	}, texts(t))

	mustSend(t, s, message(channel.MQTT, channel.Trigger, "incident"), channel.Accepted)
	disk := message(channel.MQTT, channel.Trigger, "incident")
	disk.Incident.Kind = "disk_filling"
	mustSend(t, s, disk, channel.Accepted)
	blind := message(channel.MQTT, channel.Trigger, "incident")
	blind.Incident.Kind, blind.Incident.Facility, blind.Incident.Tenant = "blind", "", ""
	mustSend(t, s, blind, channel.Accepted)
	mustSend(t, s, message(channel.MQTT, channel.Test, "incident"), channel.Accepted)
	// Of a region's incident a customer hears of one facility first, and of two in the end.
	one := message(channel.MQTT, channel.Trigger, "incident")
	one.Incident.Of = "outage"
	mustSend(t, s, one, channel.Accepted)
	two := message(channel.MQTT, channel.Resolve, "incident")
	two.Incident.Of, two.Incident.Facility, two.Incident.Name = "outage", "", "2 facilities"
	mustSend(t, s, two, channel.Accepted)
	mustSend(t, s, message(channel.MQTT, channel.Resolve, "incident"), channel.Accepted)

	// A program that comes only now reads how it is.
	r := &reader{last: map[string]string{}}
	connect(t, mqttclient.Config{
		URL: "tcp://" + b.Local, ClientID: "scada", Username: "scada", Password: func() (string, error) { return "scada-password", nil },
		Subscriptions: []mqttclient.Subscription{{Filter: proto.MirrorFilter, QoS: 1, Handle: r.handle}},
	})
	for topic, want := range map[string]string{
		"hf/v1/json/foo/la/incident/offline":        "resolved",
		"hf/v1/json/foo/la/incident/disk_filling":   "open",
		"hf/v1/json/_region/us-east/incident/blind": "open",
		"hf/v1/json/_region/us-east/incident/test":  "test",
		"hf/v1/json/foo/_region/incident/outage":    "resolved",
	} {
		brokertest.Eventually(t, topic+" says "+want, func() bool {
			d, _ := r.read(topic)
			return d.Schema == 1 && d.Incident.State == want
		})
		if _, raw := r.read(topic); strings.Contains(raw, "/ack/") {
			t.Errorf("%s: whoever reads it could acknowledge: %s", topic, raw)
		}
	}
}

func TestAMessageWaitsForTheBroker(t *testing.T) {
	t.Parallel()
	s := channel.NewMQTT(func(context.Context, string, []byte) error { return mqttclient.ErrNotConnected }, texts(t))
	_, err := s.Send(soon(t), message(channel.MQTT, channel.Trigger, "incident"))
	wantError(t, err, temporary)
}

func TestATopicHoldsNoWildcards(t *testing.T) {
	t.Parallel()
	s := channel.NewMQTT(func(context.Context, string, []byte) error { t.Error("it was published"); return nil }, texts(t))
	for _, bad := range []string{"", "#", "+", "a/b", "state", "status", "$x"} {
		wantError(t, s.Check(soon(t), bad, nil), permanent)
	}
	if err := s.Check(soon(t), "incident", nil); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*channel.Message){
		func(m *channel.Message) { m.To = "#" }, func(m *channel.Message) { m.To = "state" },
		func(m *channel.Message) { m.Incident.Kind = "../x" }, func(m *channel.Message) { m.Incident.Tenant = "json" },
	} {
		m := message(channel.MQTT, channel.Trigger, "incident")
		change(&m)
		_, err := s.Send(soon(t), m)
		wantError(t, err, permanent)
	}
}

// TestASignedLinkIsNotForAllWhoReadTheBroker is of a message that has both links,
// and of one whose template writes them into its text.
func TestASignedLinkIsNotForAllWhoReadTheBroker(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "plain.tmpl"), []byte(`{{define "resolve"}}{{.AckURL}} {{.OfferURL}} over{{end}}{{define "update"}}{{.AckURL}} {{.OfferURL}} news{{end}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	own, err := channel.NewTexts(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []*channel.Texts{texts(t), own} {
		for _, e := range []channel.Event{channel.Trigger, channel.Update, channel.Resolve} {
			m := message(channel.MQTT, e, "incident")
			m.Incident.AckURL, m.Incident.Offer, m.Incident.OfferURL = "https://holdfast.example.com/ack/one", "Work could go on in the cloud.", "https://holdfast.example.com/ack/two"
			m.Incident.AckedBy = ""
			var retained string
			s := channel.NewMQTT(func(_ context.Context, _ string, payload []byte) error {
				retained = string(payload)
				return nil
			}, x)
			mustSend(t, s, m, channel.Accepted)
			if strings.Contains(retained, "/ack/") || !strings.Contains(retained, "Work could go on") {
				t.Errorf("%s: %s", e, retained)
			}
		}
	}
}
