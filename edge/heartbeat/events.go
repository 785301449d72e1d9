package heartbeat

import (
	"context"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/proto"
)

// eventsMax is how many events wait for a connection. Past that the oldest
// goes: the newest says more about now.
const eventsMax = 256

type outbox struct {
	more chan struct{} // has room for one

	mu   sync.Mutex
	seq  uint64
	list []proto.Event
}

func (o *outbox) init() { o.more = make(chan struct{}, 1) }

// Event tells the region of something that happened. It is kept in memory
// until there is a connection; a restart of the agent loses it.
func (h *Heartbeat) Event(kind string, severity proto.Severity, text string, attrs map[string]string) {
	o := &h.events
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seq++
	o.list = append(o.list, proto.Event{
		Tenant: h.cfg.Tenant, Facility: h.cfg.Facility, BootID: h.boot, Session: h.session, Seq: o.seq,
		MonoMs: uint64(h.machine.uptime() / time.Millisecond), WallMs: time.Now().UnixMilli(), Clock: clock(),
		Kind: kind, Severity: severity, Text: text, Attrs: attrs,
	})
	if len(o.list) > eventsMax {
		o.list = o.list[1:]
	}
	o.wake()
}

func (o *outbox) wake() {
	select {
	case o.more <- struct{}{}:
	default:
	}
}

// sendEvents sends what waits, oldest first. What fails is sent again on the
// next connection.
func (h *Heartbeat) sendEvents(ctx context.Context) {
	o := &h.events
	for {
		o.mu.Lock()
		if len(o.list) == 0 {
			o.mu.Unlock()
			return
		}
		e := o.list[0]
		o.mu.Unlock()
		payload, err := e.Encode()
		if err != nil {
			h.log.Warn("event not written", "kind", e.Kind, "err", err)
		} else if err := h.publish(ctx, mqttclient.Message{Topic: h.topic(proto.KindEvent), Payload: payload, QoS: 1}); err != nil {
			o.wake()
			return
		}
		o.mu.Lock()
		if len(o.list) > 0 && o.list[0].Seq == e.Seq {
			o.list = o.list[1:]
		}
		o.mu.Unlock()
	}
}
