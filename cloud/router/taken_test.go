package router

import (
	"context"
	"testing"
	"time"
)

// TestOfTwoProcessesOneReadsAndTheOtherTakesOver: both run on one database. The second
// one waits, and does not take the slot away; when the first is gone it goes on.
func TestOfTwoProcessesOneReadsAndTheOtherTakesOver(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start(t)
	epoch := g.r.Epoch()
	c := g.c
	c.Dir = t.TempDir()
	second, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- second.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })

	la := g.box("la", "foo")
	la.attach(t)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	n := 0
	for enough := time.After(3 * takenAfter); enough != nil; n++ {
		g.mark(t, n)
		la.until(t, n)
		select {
		case <-tick.C:
		case <-enough:
			enough = nil
		}
	}
	if g.r.Epoch() != epoch || second.Epoch() != 0 || second.Stats().CaptureErr != "" {
		t.Fatalf("the first went from epoch %d to %d, the second is in %d: %+v", epoch, g.r.Epoch(), second.Epoch(), second.Stats())
	}
	g.stop(t)
	wait, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	if err := second.waitOpen(wait); err != nil || second.Epoch() <= epoch {
		t.Errorf("after the first had ended the second is in epoch %d: %v", second.Epoch(), err)
	}
}
