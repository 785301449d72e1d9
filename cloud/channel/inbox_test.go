package channel_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
)

// inbox keeps what comes back, as the alerter does: ranks only rise, the same
// event counts once, and who acknowledges must be known.
type inbox struct {
	mu       sync.Mutex
	changed  chan struct{}
	told     map[string]channel.Message // by delivery
	receipts []channel.Receipt
	events   map[string]bool
	acks     []channel.Ack
	broken   bool
}

func newInbox() *inbox {
	return &inbox{changed: make(chan struct{}), told: map[string]channel.Message{}, events: map[string]bool{}}
}

var errBroken = errors.New("the database is away")

func (b *inbox) tell(m channel.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told[m.Delivery] = m
}

func (b *inbox) fail(broken bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken = broken
}

func (b *inbox) Receipt(_ context.Context, r channel.Receipt) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.broken:
		return errBroken
	case r.EventID == "" || r.Provider == "" || r.Delivery == "" && r.ProviderID == "":
		return fmt.Errorf("a receipt of nothing: %+v", r)
	case b.events[r.EventID]:
		return nil
	}
	b.events[r.EventID] = true
	b.receipts = append(b.receipts, r)
	b.change()
	return nil
}

func (b *inbox) Acknowledge(_ context.Context, a channel.Ack) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken {
		return "", errBroken
	}
	if a.From == "+12135550199" {
		return "This number is nobody's.", channel.ErrStranger
	}
	b.acks = append(b.acks, a)
	if m := b.told[a.Delivery]; m.Incident.AckedBy == "Bo Chen" {
		return "Bo Chen has had it since 09:40 UTC.", nil
	}
	for id, m := range b.told {
		if id == a.Delivery || m.Incident.ID == a.Incident && a.Incident != 0 {
			m.Incident.AckedBy = "Ana Lima"
			b.told[id] = m
		}
	}
	b.change()
	return "Thank you, Ana. Incident 17 is yours.", nil
}

func (b *inbox) Incident(_ context.Context, delivery string) (channel.Message, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, ok := b.told[delivery]
	if b.broken || !ok {
		return channel.Message{}, errBroken
	}
	return m, nil
}

func (b *inbox) change() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// wait returns when ok says so, which is called under the lock.
func (b *inbox) wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	over := time.After(2 * time.Minute)
	for {
		b.mu.Lock()
		done, changed := ok(), b.changed
		b.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-over:
			b.mu.Lock()
			defer b.mu.Unlock()
			t.Fatalf("%s: it has %+v and %+v", what, b.receipts, b.acks)
		}
	}
}

// reaches waits until a delivery has a receipt of a state.
func (b *inbox) reaches(t *testing.T, delivery string, s channel.State) channel.Receipt {
	t.Helper()
	var got channel.Receipt
	b.wait(t, "no receipt "+string(s), func() bool {
		i := slices.IndexFunc(b.receipts, func(r channel.Receipt) bool { return r.Delivery == delivery && r.State == s })
		if i >= 0 {
			got = b.receipts[i]
		}
		return i >= 0
	})
	return got
}

func (b *inbox) has(delivery string, s channel.State) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.receipts, func(r channel.Receipt) bool { return r.Delivery == delivery && r.State == s })
}

func (b *inbox) acked() []channel.Ack {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.acks)
}
