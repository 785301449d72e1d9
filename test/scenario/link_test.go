package scenario

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/test/rig/relay"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// TestRowsArriveOverEveryKindOfBadLink lets people work while the link is bad
// in one way after the other.
func TestRowsArriveOverEveryKindOfBadLink(t *testing.T) {
	t.Parallel()
	seed, _ := seeded(t)
	s := startSite(t)
	la := addEdge(t, s, "la")
	addFloor(t, s, la)
	edge, region := edgeDB(t, la), regionDB(t, s)
	var done atomic.Int64
	crew := floorCrew(la, 3, seed, &done)
	equal := func(what string) {
		t.Helper()
		began := time.Now()
		sameFloor(t, crew, edge, region)
		t.Logf("%s: equal after %s", what, time.Since(began).Round(10*time.Millisecond))
	}
	work(t, crew, 20)
	equal("healthy")

	for _, f := range []struct {
		name   string
		faults relay.Faults
	}{
		{"2 % loss", relay.Faults{Loss: 0.02}},
		{"20 % loss", relay.Faults{Loss: 0.2}},
		{"delay and jitter", relay.Faults{Delay: 150 * time.Millisecond, Jitter: 100 * time.Millisecond, Reorder: 0.05}},
		{"narrow", relay.Faults{BytesPerSecond: 32 << 10}},
	} {
		spoil(t, f.faults, la)
		work(t, crew, 40)
		equal(f.name)
	}
	spoil(t, relay.Faults{}, la)

	for _, d := range []struct {
		name      string
		direction relay.Direction
	}{{"only up is cut", relay.Up}, {"only down is cut", relay.Down}} {
		la.Tunnel.Cut(d.direction)
		la.MQTT.Cut(d.direction)
		work(t, crew, 20)
		// Long enough that both sides have given the connection up.
		eventually(t, func(ctx context.Context) error { return wantLink(ctx, la, false) })
		work(t, crew, 20)
		la.Restore()
		equal(d.name)
	}

	// Heartbeats are lost and the stream goes on.
	la.MQTT.Cut()
	work(t, crew, 40)
	equal("MQTT is cut")
	eventually(t, func(ctx context.Context) error { return wantState(ctx, s, "la", "degraded") })
	la.MQTT.Restore()

	// The tunnel is lost and heartbeats go on.
	la.Tunnel.Cut()
	work(t, crew, 40)
	eventually(t, func(ctx context.Context) error {
		f, err := s.API.FacilityStatus(ctx, "la")
		if err == nil && (f.Stream || !f.Heartbeat) {
			err = fmt.Errorf("stream %t, heartbeat %t, want only the latter", f.Stream, f.Heartbeat)
		}
		return err
	})
	la.Tunnel.Restore()
	equal("the tunnel was cut")
	eventually(t, func(ctx context.Context) error { return wantState(ctx, s, "la", "online") })

	// A black hole under traffic: nobody is told anything.
	la.Cut()
	hole := time.Now()
	for time.Since(hole) < 32*time.Second {
		work(t, crew, 10)
	}
	la.Restore()
	back := time.Now()
	eventually(t, func(ctx context.Context) error { return wantLink(ctx, la, true) })
	t.Logf("the link is up %s after a black hole of %s", time.Since(back).Round(10*time.Millisecond), time.Since(hole).Round(time.Second))
	equal("a black hole")
}

func spoil(t *testing.T, f relay.Faults, e *site.Edge) {
	t.Helper()
	for _, r := range []*relay.Relay{e.Tunnel, e.MQTT} {
		if err := r.SetFaults(f); err != nil {
			t.Fatal(err)
		}
	}
}

// wantLink asks the box whether its stream is up.
func wantLink(ctx context.Context, e *site.Edge, up bool) error {
	v, err := metric(ctx, e.URL(), "holdfast_link_up")
	if err != nil {
		return err
	}
	if (v == 1) != up {
		return fmt.Errorf("link up: %v, want %t", v, up)
	}
	return nil
}

// wantState asks the region how it sees a facility.
func wantState(ctx context.Context, s *site.Site, facility, state string) error {
	f, err := s.API.FacilityStatus(ctx, facility)
	if err != nil {
		return err
	}
	if f.State != state {
		return fmt.Errorf("%s is %s (%s), want %s", facility, f.State, f.Reason, state)
	}
	return nil
}
