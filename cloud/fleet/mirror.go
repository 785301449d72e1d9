package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"golang.org/x/time/rate"

	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/proto"
)

const (
	mirrorsPerSecond = 500 // over all facilities
	mirrorAgain      = time.Second
	publishTimeout   = 5 * time.Second
)

// Mirror is a facility's state as JSON for integrations, retained at
// hf/v1/json/{tenant}/{facility}/state. It is published when it changes. The
// status document is at …/status, as proto.Status has it.
type Mirror struct {
	Schema    int               `json:"schema"` // 1
	Tenant    string            `json:"tenant"`
	Facility  string            `json:"facility"`
	State     State             `json:"state"`
	Degraded  detect.Part       `json:"degraded,omitempty"` // which part does not work
	Reason    string            `json:"reason,omitempty"`
	Since     time.Time         `json:"since"`
	Heartbeat bool              `json:"heartbeat"`
	Tunnel    bool              `json:"tunnel"`
	Stream    bool              `json:"stream"`
	Health    string            `json:"health"`
	Faults    []proto.FaultCode `json:"faults,omitempty"`
}

// publishing sends the mirrors and the requests for status documents. Each is
// written when its turn comes, so what has changed twice is sent once.
func (f *Fleet) publishing(ctx context.Context) error {
	limit := rate.NewLimiter(mirrorsPerSecond, mirrorsPerSecond)
	sent := make(map[string]sentMirror)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.wake:
		}
		for f.client.State().Connected {
			mirrors, asks := f.takeWork()
			if len(mirrors) == 0 && len(asks) == 0 {
				break
			}
			for _, id := range asks {
				if err := limit.Wait(ctx); err != nil {
					return err
				}
				f.ask(ctx, id)
			}
			for id, status := range mirrors {
				if err := limit.Wait(ctx); err != nil {
					return err
				}
				if err := f.mirror(ctx, id, status, sent); err != nil {
					f.putBack(id, status)
				}
			}
			// What changes again meanwhile waits for the next round.
			timer := time.NewTimer(mirrorAgain)
			select {
			case <-ctx.Done():
				timer.Stop()
				return ctx.Err()
			case <-timer.C:
			}
		}
	}
}

func (f *Fleet) takeWork() (mirrors map[string]bool, asks []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	mirrors, f.mirrors = f.mirrors, make(map[string]bool)
	for id := range f.asks {
		asks = append(asks, id)
	}
	clear(f.asks)
	return mirrors, asks
}

func (f *Fleet) putBack(id string, status bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mirrors[id] = f.mirrors[id] || status
}

// sentMirror is what was last published of a facility.
type sentMirror struct{ tenant, state string }

// unretain makes the broker forget the mirrors of a facility that was removed.
func (f *Fleet) unretain(ctx context.Context, id string, sent map[string]sentMirror) error {
	last, ok := sent[id]
	if !ok {
		return nil
	}
	incidents, err := f.store.mirrored(ctx, id)
	if err != nil {
		return err
	}
	for _, what := range append(incidents, "state", "status") {
		if err := f.retain(ctx, proto.MirrorTopic(last.tenant, id, what), nil); err != nil {
			return err
		}
	}
	delete(sent, id)
	return nil
}

// mirror publishes one facility's mirrors. Status also means that the broker
// may have lost the state's.
func (f *Fleet) mirror(ctx context.Context, id string, status bool, sent map[string]sentMirror) error {
	f.mu.Lock()
	fac := f.facilities[id]
	if fac == nil {
		f.mu.Unlock()
		return f.unretain(ctx, id, sent)
	}
	tenant, doc := fac.tenant, fac.Status
	m := Mirror{
		Schema: 1, Tenant: tenant, Facility: id, State: fac.verdict.State, Degraded: fac.verdict.Degraded, Reason: fac.verdict.Reason, Since: fac.verdict.Since.Round(0),
		Heartbeat: fac.verdict.Heartbeat, Tunnel: fac.verdict.Tunnel, Stream: fac.Streaming,
		Health: fac.Beat.Health.String(), Faults: fac.Beat.Faults,
	}
	f.mu.Unlock()
	state, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if string(state) != sent[id].state || status {
		if err := f.retain(ctx, proto.MirrorTopic(tenant, id, "state"), state); err != nil {
			return err
		}
		sent[id] = sentMirror{tenant, string(state)}
	}
	if !status || doc == nil {
		return nil
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return f.retain(ctx, proto.MirrorTopic(tenant, id, "status"), raw)
}

// Publish retains a document for other people's programs on the broker, and
// returns once the broker has it. Of a facility that was removed nothing is
// retained any more: what was at the topic is forgotten.
func (f *Fleet) Publish(ctx context.Context, topic string, payload []byte) error {
	if tenant, id, ok := proto.MirrorOf(topic); ok {
		f.mu.Lock()
		fac := f.facilities[id]
		f.mu.Unlock()
		if fac == nil || fac.tenant != tenant {
			payload = nil
		}
	}
	return f.client.Publish(ctx, mqttclient.Message{Topic: topic, Payload: payload, QoS: 1, Retain: true})
}

func (f *Fleet) retain(ctx context.Context, topic string, payload []byte) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	err := f.Publish(ctx, topic, payload)
	f.counts.mirrored(err == nil)
	if err != nil && !errors.Is(err, mqttclient.ErrNotConnected) {
		f.log.Debug("mirror not published", "err", err)
	}
	return err
}
