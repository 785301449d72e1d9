package stream

import (
	"sync"
	"testing"
)

// The race detector tells when somebody enters while the end is waited for.
func TestNobodyEntersAClosedGate(t *testing.T) {
	for range 200 {
		var g gate
		var came sync.WaitGroup
		for range 4 {
			came.Go(func() {
				if g.enter() {
					g.leave()
				}
			})
		}
		g.close()
		came.Wait()
		if g.enter() {
			t.Fatal("somebody entered a gate that is closed")
		}
	}
}
