package fleet

import (
	"fmt"
	"testing"
	"time"
)

// TestNoHeartbeatWaitsForALookAtAll is about a large region: who needs the fleet gets
// it in the middle of a look at thousands.
func TestNoHeartbeatWaitsForALookAtAll(t *testing.T) {
	t.Parallel()
	_, pool := newTestDB(t)
	f := newTestFleet(t, pool)
	const all = 8 * manyAtOnce
	for i := range all {
		fac := newFacility(fmt.Sprintf("f%d", i))
		f.facilities[fac.ID] = fac
	}
	looked := 0 // of the look that goes on; f.mu
	f.cfg.Link = func(string) (Link, bool) {
		looked++
		return Link{}, false
	}
	between := make(chan struct{})
	go func() {
		defer close(between)
		for t.Context().Err() == nil {
			f.mu.Lock()
			n := looked
			f.mu.Unlock()
			if n > 0 && n < all {
				return
			}
		}
	}()
	deadline := time.After(2 * time.Minute)
	for {
		f.judgeAll(time.Now(), func(*facility) bool { return true })
		f.mu.Lock()
		looked = 0
		f.mu.Unlock()
		select {
		case <-between:
			return
		case <-deadline:
			t.Fatal("nobody else had a turn during any look")
		default:
		}
	}
}
