package fleet

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/broker/brokertest"
	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/proto"
)

// A program that reads the broker does not find the state of a facility that is
// no more, nor its last incidents; not even when their end is told only then.
func TestNothingIsRetainedOfARemovedFacility(t *testing.T) {
	t.Parallel()
	db, pool := newTestDB(t, "la")
	db.Exec(t, `
WITH c AS (INSERT INTO holdfast.contact (name, created_by) VALUES ('scada', 'test') RETURNING id),
     m AS (INSERT INTO holdfast.contact_method (contact, channel, address) SELECT id, 'mqtt', 'incident' FROM c RETURNING id),
     i AS (INSERT INTO holdfast.incident (kind, facility, severity, summary, since, opened_at) VALUES ('offline', 'la', 'critical', '', now(), now()) RETURNING id)
INSERT INTO holdfast.delivery (incident, event, audience, method, channel, state, created_at, not_before, attempts)
SELECT i.id, 'trigger', 'customer', m.id, 'mqtt', 'accepted', now(), now(), 1 FROM i, m`)
	l := newLive(t, pool)

	var mu sync.Mutex
	last, forgotten := map[string]string{}, map[string]int{}
	quiet := slog.New(slog.DiscardHandler)
	reader, err := mqttclient.New(l.cfg.Client(mqttclient.Config{
		Log: quiet, ClientID: "reader",
		Subscriptions: []mqttclient.Subscription{{Filter: proto.MirrorFilter, QoS: 1, Handle: func(m mqttclient.Received) {
			mu.Lock()
			defer mu.Unlock()
			if last[m.Topic] = string(m.Payload); len(m.Payload) == 0 {
				delete(last, m.Topic)
				forgotten[m.Topic]++
			}
		}}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	s := run.New(quiet)
	s.Go("reader", reader.Run)
	t.Cleanup(func() {
		if err := s.Stop(10 * time.Second); err != nil {
			t.Error(err)
		}
	})
	until := func(what string, ok func() bool) {
		t.Helper()
		brokertest.Eventually(t, what, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return ok()
		})
	}
	state, incident := proto.MirrorTopic("foo", "la", "state"), proto.MirrorTopic("foo", "la", "incident/offline")
	publish := func(topic string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := l.Publish(ctx, topic, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	brokertest.Eventually(t, "the reader listens", func() bool { return reader.State().Connected })
	until("the state is there", func() bool { return last[state] != "" })
	publish(incident)
	until("the incident is there", func() bool { return last[incident] != "" })

	db.Exec(t, `UPDATE holdfast.facility SET removed_at = now() WHERE id = 'la'`)
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	until("both are forgotten", func() bool { return last[state] == "" && last[incident] == "" && forgotten[incident] == 1 })
	publish(incident) // its end
	until("and stay so", func() bool { return forgotten[incident] == 2 })
	region := proto.MirrorTopic("_region", "us-east", "incident/blind")
	publish(region)
	until("the region's own are not", func() bool { return last[region] != "" })
}
