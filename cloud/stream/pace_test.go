package stream

import (
	"sync"
	"testing"

	"github.com/agogsaas/holdfast/proto"
)

// clock stands for the limits of a facility.
type clock struct {
	mu      sync.Mutex
	now     uint64
	changed chan struct{}
}

func (c *clock) Now(string) (uint64, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now, c.changed
}

func (c *clock) set(n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = n
	close(c.changed)
	c.changed = make(chan struct{})
}

func TestABoxIsToldHowFastItMaySend(t *testing.T) {
	t.Parallel()
	c := &clock{now: 100_000, changed: make(chan struct{})}
	link, w := greet(t, serveWith(t, Config{Pace: c.Now}), proto.Hello{Version: 1})
	if w.BytesPerSecond != 100_000 {
		t.Fatalf("%+v", w)
	}
	c.set(100_000) // another facility's changed
	for _, want := range []uint64{250_000, 0, 50_000} {
		c.set(want)
		_, msg, err := link.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := msg.(*proto.Pace); !ok || p.BytesPerSecond != want {
			t.Fatalf("%+v, want %d", msg, want)
		}
	}
}
