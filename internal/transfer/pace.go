package transfer

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// pacer spreads frames so that over some seconds no more than a number of bytes
// per second is sent. A frame goes whole: what it has beyond its due is a debt
// that the next one waits for. So the first frame after a lull leaves at once,
// which is what a worker's change is, and nothing else waits, because nobody
// holds the link meanwhile.
type pacer struct {
	mu      sync.Mutex
	limiter *rate.Limiter // nil: no limit
	changed chan struct{} // closed and replaced when the limit changes
}

func newPacer() *pacer { return &pacer{changed: make(chan struct{})} }

// burst is how much may be sent at once after a lull: a fifth of a second's worth.
func burst(bytesPerSecond uint64) int { return int(max(bytesPerSecond/5, 1)) }

// set changes the limit; 0 is none. Whoever waits goes by the new one at once.
// A debt stays, unless the limit goes.
func (p *pacer) set(bytesPerSecond uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case bytesPerSecond == 0:
		p.limiter = nil
	case p.limiter == nil:
		p.limiter = rate.NewLimiter(rate.Limit(bytesPerSecond), burst(bytesPerSecond))
	default:
		p.limiter.SetLimit(rate.Limit(bytesPerSecond))
		p.limiter.SetBurst(burst(bytesPerSecond))
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// wait waits until no debt is left.
func (p *pacer) wait(ctx context.Context) error {
	for {
		p.mu.Lock()
		l, changed := p.limiter, p.changed
		p.mu.Unlock()
		if l == nil {
			return ctx.Err()
		}
		tokens := l.Tokens()
		if tokens >= 1 {
			return ctx.Err()
		}
		t := time.NewTimer(time.Duration((1-tokens)/float64(l.Limit())*float64(time.Second)) + time.Microsecond)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-changed:
			t.Stop()
		case <-t.C:
		}
	}
}

// spend counts bytes that are sent now.
func (p *pacer) spend(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limiter == nil {
		return
	}
	now := time.Now()
	for bytes > 0 { // no more than a burst can be reserved in one
		n := min(bytes, p.limiter.Burst())
		p.limiter.ReserveN(now, n)
		bytes -= n
	}
}
