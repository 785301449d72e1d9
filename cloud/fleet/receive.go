package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/proto"
)

// Why a message is left aside.
var (
	errStale    = errors.New("it is older than what was heard before")
	errForeign  = errors.New("the message is about another facility than its topic")
	errUnknown  = errors.New("there is no such facility")
	errRetained = errors.New("it was retained by the broker")
)

const (
	askEvery = 15 * time.Second
	// inboxMost is how many messages may wait to be taken in: two seconds of a large
	// region. The broker keeps the others.
	inboxMost = 4096
)

// handler takes in a message that came at that time. The caller holds f.mu.
type handler func(m mqttclient.Received, at time.Time) error

type arrival struct {
	kind   proto.Kind
	handle handler
	m      mqttclient.Received
	at     time.Time
}

// arrived notes when a message came. What it says may wait a moment: while all
// facilities are looked at, for instance.
func (f *Fleet) arrived(k proto.Kind, m mqttclient.Received, handle handler) {
	select {
	case f.inbox <- arrival{k, handle, m, time.Now()}:
	case <-f.ending:
	}
}

// receiving takes in what has arrived until ctx is done.
func (f *Fleet) receiving(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case a := <-f.inbox:
			f.takeIn(a)
		}
	}
}

// takeIn takes in a message, and what has come after it: who waits for the lock for
// each of thousands waits for long.
func (f *Fleet) takeIn(a arrival) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range manyAtOnce {
		f.received(a.kind, a.m, a.handle(a.m, a.at))
		select {
		case a = <-f.inbox:
		default:
			return
		}
	}
}

// received counts a message and what became of it.
func (f *Fleet) received(k proto.Kind, m mqttclient.Received, err error) {
	result := "ok"
	switch {
	case err == nil:
	case errors.Is(err, errStale), errors.Is(err, errRetained):
		result = "stale"
	case errors.Is(err, errUnknown):
		result = "unknown"
	case errors.Is(err, errForeign):
		result = "foreign"
		f.log.Warn("message refused", "topic", m.Topic, "err", err)
	default:
		result = "bad"
		f.log.Warn("message refused", "topic", m.Topic, "err", err)
	}
	f.counts.message(k, result)
}

// of finds the facility that a topic names. The caller holds f.mu.
func (f *Fleet) ofLocked(m mqttclient.Received) (*facility, error) {
	tenant, id, _, err := proto.ParseTopic(m.Topic)
	if err != nil {
		return nil, err
	}
	fac := f.facilities[id]
	if fac == nil || fac.tenant != tenant {
		return nil, errUnknown
	}
	return fac, nil
}

func (fac *facility) is(tenant, id string) error {
	if fac.tenant != tenant || fac.ID != id {
		return errForeign
	}
	return nil
}

func (f *Fleet) heartbeatLocked(m mqttclient.Received, now time.Time) error {
	if m.Retained {
		return errRetained // nobody retains heartbeats: an old one would look alive
	}
	h, err := proto.DecodeHeartbeat(m.Payload)
	if err != nil {
		return err
	}
	fac, err := f.ofLocked(m)
	if err != nil {
		return err
	}
	if h.Who != proto.WhoDigest(fac.tenant, fac.ID) {
		return errForeign
	}
	if fac.stale(h.Session, now) || h.Session == fac.Beat.Session && h.Seq <= fac.Beat.Seq {
		return errStale
	}
	fac.heard(now, h.Session)
	fac.Beat, fac.BeatAt, fac.boot = h, now, h.BootID.String()
	fac.Beats++
	fac.Rhythm.Beat(now, h.Session, h.Seq, time.Duration(h.EverySeconds)*time.Second)
	if h.StatusDigest != (proto.Digest{}) && h.StatusDigest != fac.statusDigest {
		f.askLocked(fac, now)
	}
	f.judgeLocked(fac, now)
	for s := range f.subs {
		s.tell(fac.ID)
	}
	return nil
}

// askLocked asks a box for its status document, not too often.
func (f *Fleet) askLocked(fac *facility, now time.Time) {
	if now.Sub(fac.askedAt) < askEvery {
		return
	}
	fac.askedAt = now
	f.asks[fac.ID] = struct{}{}
	f.wakeUp()
}

func (f *Fleet) statusLocked(m mqttclient.Received, now time.Time) error {
	s, err := proto.DecodeStatus(m.Payload)
	if err != nil {
		return err
	}
	fac, err := f.ofLocked(m)
	if err != nil {
		return err
	}
	if err := fac.is(s.Tenant, s.Facility); err != nil {
		return err
	}
	if fac.stale(s.Session, now) || fac.Status != nil && fac.Status.Session == s.Session && s.MonoMs < fac.Status.MonoMs {
		return errStale
	}
	fac.Status, fac.StatusAt, fac.statusDigest = &s, now, proto.StatusDigest(m.Payload)
	fac.statusNew, fac.dirty = true, true
	f.changedLocked(fac, true)
	return nil
}

func (f *Fleet) connLocked(m mqttclient.Received, now time.Time) error {
	c, err := proto.DecodeConn(m.Payload)
	if err != nil {
		return err
	}
	fac, err := f.ofLocked(m)
	if err != nil {
		return err
	}
	if err := fac.is(c.Tenant, c.Facility); err != nil {
		return err
	}
	// A will was written when its connection began: if a newer one has begun
	// since, the box is there.
	if c.State != proto.ConnBirth && c.Session < fac.session || fac.stale(c.Session, now) ||
		c.Session == fac.session && c.Connection < fac.connection {
		return errStale
	}
	switch c.State {
	case proto.ConnBirth:
		if m.Retained {
			return errRetained // it may be long gone
		}
		f.entered = now
		fac.heard(now, c.Session)
		fac.connection, fac.boot = c.Connection, c.BootID.String()
		f.counts.birth()
	default:
		if fac.Left.IsZero() {
			fac.Left = now
		}
		fac.leftState, fac.LeftWords = c.State, c.Reason
		fac.Bye, fac.Back = c.State == proto.ConnBye, time.Duration(c.BackSeconds)*time.Second
		f.counts.leave(c.State)
		f.hurryUp() // whoever left is asked at once
	}
	f.judgeLocked(fac, now)
	return nil
}

func (f *Fleet) eventLocked(m mqttclient.Received, _ time.Time) error {
	e, err := proto.DecodeEvent(m.Payload)
	if err != nil {
		return err
	}
	fac, err := f.ofLocked(m)
	if err != nil {
		return err
	}
	if err := fac.is(e.Tenant, e.Facility); err != nil {
		return err
	}
	for _, old := range fac.events {
		if old.Session == e.Session && old.Seq == e.Seq {
			return errStale // sent twice
		}
	}
	fac.events = append(fac.events, e)
	if len(fac.events) > eventsKept {
		fac.events = append([]proto.Event(nil), fac.events[1:]...)
	}
	for s := range f.subs {
		s.tell(fac.ID)
	}
	return nil
}

func (f *Fleet) ackLocked(m mqttclient.Received, _ time.Time) error {
	a, err := proto.DecodeCommandAck(m.Payload)
	if err != nil {
		return err
	}
	fac, err := f.ofLocked(m)
	if err != nil {
		return err
	}
	if err := fac.is(a.Tenant, a.Facility); err != nil {
		return err
	}
	ch, ok := f.commands[a.ID]
	if !ok {
		return fmt.Errorf("%w: nobody waits for this answer", errStale)
	}
	select {
	case ch <- a:
	default: // answered twice
	}
	return nil
}
