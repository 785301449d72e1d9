package alert

import (
	"sync"
	"time"
)

const (
	// breakAfter is how many temporary failures in a row open a breaker, when they
	// are of at least breakMethods addresses: one address that fails says nothing of
	// the provider.
	breakAfter   = 5
	breakMethods = 2
	// breakMax is how long it is left alone at most.
	breakMax = 2 * time.Minute
)

// breaker keeps messages back while what they are sent to fails, and lets one
// through from time to time to see.
type breaker struct {
	pause time.Duration // how long at first

	mu      sync.Mutex
	methods map[int64]bool // that have failed in a row
	count   int
	opens   int       // in a row
	last    time.Time // when it failed last
	until   time.Time // open until then; zero: it is closed
	trying  bool      // one is on its way
	why     string
}

// allow returns how many messages may be sent now: as many as there are, one to
// try, or none until a time and why.
func (b *breaker) allow(now time.Time) (n int, until time.Time, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.until.IsZero():
		return slots, time.Time{}, ""
	case now.Before(b.until):
		return 0, b.until, b.why
	case b.trying:
		return 0, time.Time{}, ""
	}
	b.trying = true
	return 1, time.Time{}, ""
}

// untried takes an allowance back: the provider was not asked, or its answer says nothing.
func (b *breaker) untried() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
}

func (b *breaker) worked() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.methods, b.count, b.opens, b.until, b.trying, b.why = nil, 0, 0, time.Time{}, false, ""
}

func (b *breaker) failed(now time.Time, method int64, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.methods == nil {
		b.methods = make(map[int64]bool)
	}
	b.methods[method] = true
	b.count, b.last = b.count+1, now
	tried := b.trying
	b.trying = false
	if !tried && (b.count < breakAfter || len(b.methods) < breakMethods || now.Before(b.until)) {
		return
	}
	b.opens++
	wait := b.pause
	for range b.opens - 1 {
		wait = min(2*wait, breakMax)
	}
	b.until, b.why = now.Add(wait), why
}

// broken says whether the provider fails, and how.
func (b *breaker) broken() (yes bool, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.until.IsZero(), b.why
}

// quiet reports whether there is nothing to remember.
func (b *breaker) quiet(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count == 0 || now.Sub(b.last) > laneKeep
}
