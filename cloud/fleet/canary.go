package fleet

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/proto"
)

const (
	// canaryCount is two, so that the trouble of one connection is not taken for
	// the broker's.
	canaryCount = 2
	canaryEvery = time.Second
	// canaryAsBox is the one that comes in as boxes do, if there is such a way. It
	// connects anew each doorEvery: a connection that lives does not tell that the
	// next can be made. It takes less than a deadline until that is known.
	canaryAsBox = 0
	doorEvery   = 5 * time.Second
	// doorSlack is how old what a box said when it came in may be.
	doorSlack = time.Second
	// pulseEvery and pulseTimeout are of the write that shows that the database
	// takes any.
	pulseEvery   = 2 * time.Second
	pulseTimeout = 3 * time.Second
)

// canary is a device of the region's own. It sings each second, over a connection
// of its own, and the fleet hears it over the one that brings the heartbeats: when
// it is not heard, no facility would be.
type canary struct {
	client *mqttclient.Client
	sung   atomic.Int64 // when what was heard last was sent, since began; 0 before the first
	began  time.Time
}

// heard is when the last of its songs that arrived was sent; zero before the
// first. When it arrived says nothing: it may have been stuck for a minute.
func (c *canary) heard() time.Time {
	d := c.sung.Load()
	if d == 0 {
		return time.Time{}
	}
	return c.began.Add(time.Duration(d))
}

// hatch makes the canaries and returns what hears them. Each process has a topic
// of its own, as it wants to hear itself.
func (f *Fleet) hatch() (mqttclient.Subscription, error) {
	nest := rand.Text()[:8]
	began := time.Now()
	for i := range f.canaries {
		c := &f.canaries[i]
		c.began = began
		mc := mqttclient.Config{
			Log: f.log.With("canary", i), WaitMax: 2 * time.Second,
			Connected: func(ctx context.Context, _ uint64) { c.sing(ctx, proto.CanaryTopic(nest, i)) },
		}
		if i == canaryAsBox && f.cfg.AsBox != nil {
			// What there is to know of it is said when the door is shut.
			mc.Stay, mc.Log = doorEvery, slog.New(slog.DiscardHandler)
			mc = f.cfg.AsBox(mc)
		} else {
			mc = f.cfg.Client(mc)
			// An external broker's account has one client id, and a connection takes
			// the place of another with its own.
			mc.ClientID = fmt.Sprintf("%s-canary-%s-%d", proto.RegionClientID, nest, i)
		}
		var err error
		if c.client, err = mqttclient.New(mc); err != nil {
			return mqttclient.Subscription{}, err
		}
	}
	return mqttclient.Subscription{Filter: proto.CanaryFilter(nest), Handle: func(m mqttclient.Received) {
		for i := range f.canaries {
			if m.Topic == proto.CanaryTopic(nest, i) && !m.Retained {
				f.canaries[i].hear(m.Payload)
			}
		}
	}}, nil
}

// sing publishes while the connection lives.
func (c *canary) sing(ctx context.Context, topic string) {
	tick := time.NewTicker(canaryEvery)
	defer tick.Stop()
	for {
		pctx, cancel := context.WithTimeout(ctx, publishTimeout)
		_ = c.client.Publish(pctx, mqttclient.Message{Topic: topic, Payload: song(time.Since(c.began))}) // that it is not heard tells
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (c *canary) hear(payload []byte) {
	if at, err := readSong(payload); err == nil && at <= time.Since(c.began) && int64(at) > c.sung.Load() {
		c.sung.Store(int64(at))
	}
}

// doorLocked is since when nobody gets in as boxes do, and why; zero while somebody
// does. That the canary alone does not is its own trouble.
func (f *Fleet) doorLocked() (since time.Time, why string) {
	if f.cfg.AsBox == nil {
		return time.Time{}, ""
	}
	s := f.canaries[canaryAsBox].client.State()
	if s.Connected || f.entered.After(s.Since.Add(doorSlack)) {
		return time.Time{}, ""
	}
	return s.Since, doorWords(s.Err)
}

// knockLocked says when nobody gets in any more, and when somebody does again.
func (f *Fleet) knockLocked(now time.Time, since time.Time) {
	shut := !since.IsZero() && now.Sub(since) > doorEvery
	switch {
	case shut && !f.shut:
		f.log.Warn("nobody can connect to the broker as boxes do", "err", f.canaries[canaryAsBox].client.State().Err)
	case f.shut && since.IsZero():
		f.log.Info("boxes can connect to the broker again")
	default:
		return
	}
	f.shut = shut
}

// doorWords are why no connection can be made, for people. What an error says
// besides changes from attempt to attempt.
func doorWords(err error) string {
	var (
		invalid x509.CertificateInvalidError
		name    x509.HostnameError
		foreign x509.UnknownAuthorityError
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the broker's certificate has expired. A restart of the region makes a new one"
	case errors.As(err, &name):
		return "the broker's certificate is not for the name by which boxes call it"
	case errors.As(err, &foreign), errors.As(err, &invalid):
		return "the broker's certificate is not one of this region's authority"
	}
	return "its own canary cannot connect over TLS as they do"
}

const songBytes = 8

// song is when it was sent, by a clock that only this process knows.
func song(at time.Duration) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(at))
}

var errSong = errors.New("this is no canary's")

func readSong(payload []byte) (time.Duration, error) {
	if len(payload) != songBytes {
		return 0, errSong
	}
	at := time.Duration(binary.BigEndian.Uint64(payload))
	if at <= 0 {
		return 0, errSong
	}
	return at, nil
}

// pulse writes to the database now and then, to know whether it can be done.
func (f *Fleet) pulse(ctx context.Context) error {
	tick := time.NewTicker(pulseEvery)
	defer tick.Stop()
	for {
		began := time.Now()
		pctx, cancel := context.WithTimeout(ctx, pulseTimeout)
		err := f.store.pulse(pctx, began)
		cancel()
		switch was := f.unwritable.Load(); {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && was != nil:
			f.log.Info("database takes writes again", "took", time.Since(*was).Round(time.Second))
			f.unwritable.Store(nil)
		case err != nil && was == nil:
			f.log.Warn("database takes no writes", "err", err)
			f.unwritable.Store(&began)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
