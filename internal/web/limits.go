package web

import (
	"sync"
	"time"
)

// Limits of sign-in attempts. A person who mistypes never meets them; a
// program that guesses gets about six tries a minute from one address.
const (
	triesPerPair    = 5   // per address and account, then one per pairEvery
	triesPerAddress = 30  // per address, then one per addressEvery
	triesPerAccount = 100 // per account from anywhere, then one per accountEvery
	pairEvery       = 10 * time.Second
	addressEvery    = 2 * time.Second
	accountEvery    = time.Second
	bucketsMax      = 10_000 // remembered keys; full ones are forgotten first
)

type bucket struct {
	tokens float64
	at     time.Time
	max    float64
	every  time.Duration
}

func (b *bucket) fill(now time.Time) {
	b.tokens = min(b.max, b.tokens+float64(now.Sub(b.at))/float64(b.every))
	b.at = now
}

type loginLimits struct {
	now func() time.Time

	mu      sync.Mutex
	buckets map[string]*bucket // guarded by mu
}

func newLoginLimits(now func() time.Time) *loginLimits {
	return &loginLimits{now: now, buckets: map[string]*bucket{}}
}

// allow takes one try from each bucket that the attempt falls into, and
// reports whether all had one left.
func (l *loginLimits) allow(from, account string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	ok := true
	for _, b := range []*bucket{
		l.bucket("pair\x00"+from+"\x00"+account, triesPerPair, pairEvery, now),
		l.bucket("addr\x00"+from, triesPerAddress, addressEvery, now),
		l.bucket("acct\x00"+account, triesPerAccount, accountEvery, now),
	} {
		if b.tokens < 1 {
			ok = false
			continue
		}
		b.tokens--
	}
	return ok
}

// succeeded forgives the pair's earlier mistakes.
func (l *loginLimits) succeeded(from, account string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.buckets, "pair\x00"+from+"\x00"+account)
}

func (l *loginLimits) bucket(key string, tries int, every time.Duration, now time.Time) *bucket {
	b, ok := l.buckets[key]
	if !ok {
		if len(l.buckets) >= bucketsMax {
			l.forget(now)
		}
		b = &bucket{tokens: float64(tries), at: now, max: float64(tries), every: every}
		l.buckets[key] = b
	}
	b.fill(now)
	return b
}

// forget drops the buckets that are full again, and if that is not enough,
// any: the memory is bounded before the limit is exact.
func (l *loginLimits) forget(now time.Time) {
	for k, b := range l.buckets {
		if b.fill(now); b.tokens >= b.max {
			delete(l.buckets, k)
		}
	}
	for k := range l.buckets {
		if len(l.buckets) < bucketsMax*9/10 {
			return
		}
		delete(l.buckets, k)
	}
}
