package scenario

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/test/rig/site"
)

// victims are what a round may kill, each with how it is brought back.
func victims(s *site.Site, e *site.Edge) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"agent": func(ctx context.Context) error {
			if err := e.Agent.Kill9(); err != nil {
				return err
			}
			return e.Start(ctx)
		},
		"region": func(ctx context.Context) error {
			if err := s.Cloud.Kill9(); err != nil {
				return err
			}
			return s.Restart(ctx)
		},
		// These are brought back by the programs themselves.
		"broker":            s.KillBroker,
		"facility database": func(context.Context) error { return e.KillPostgres() },
		"region database":   func(context.Context) error { return s.KillPostgres() },
	}
}

// TestNothingIsLostOrDoubleWhenProcessesAreKilled kills one or two of the
// processes at a random moment while people work, again and again, and compares
// both sides row by row after each round.
func TestNothingIsLostOrDoubleWhenProcessesAreKilled(t *testing.T) {
	t.Parallel()
	seed, rng := seeded(t)
	rounds := 50
	if s := os.Getenv("HOLDFAST_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("HOLDFAST_ROUNDS: %v", err)
		}
		rounds = n
	}
	s := startSite(t)
	la := addEdge(t, s, "la")
	addFloor(t, s, la)
	edge, region := edgeDB(t, la), regionDB(t, s)
	var done atomic.Int64
	crew := floorCrew(la, 3, seed, &done)
	all := victims(s, la)
	names := []string{"agent", "region", "broker", "facility database", "region database"}
	for round := range rounds {
		// Each in turn, so that all have theirs, and sometimes a second one.
		picked := []string{names[round%len(names)]}
		if second := names[rng.IntN(len(names))]; rng.IntN(4) == 0 && second != picked[0] {
			picked = append(picked, second)
		}
		began := time.Now()
		var brokerDied time.Time
		killDuring(t, rng, crew, &done, func(ctx context.Context) error {
			g, ctx := errgroup.WithContext(ctx)
			for _, name := range picked {
				g.Go(func() error {
					if err := all[name](ctx); err != nil {
						return fmt.Errorf("%s: %w", name, err)
					}
					if name == "broker" {
						brokerDied = time.Now()
					}
					return nil
				})
			}
			return g.Wait()
		})
		worked := time.Since(began)
		sameFloor(t, crew, edge, region)
		if !brokerDied.IsZero() {
			// No row passes through it: that it is back shows in what is heard.
			eventually(t, func(ctx context.Context) error { return wantHeardSince(ctx, s, "la", brokerDied) })
		}
		t.Logf("round %d: killed %v; worked %s, equal %s later", round, picked, worked.Round(time.Millisecond), (time.Since(began) - worked).Round(time.Millisecond))
	}
}

// wantHeardSince asks for a facility that is online and was heard through the
// broker after a moment, by the region's clock.
func wantHeardSince(ctx context.Context, s *site.Site, facility string, since time.Time) error {
	f, err := s.API.FacilityStatus(ctx, facility)
	if err != nil {
		return err
	}
	if f.State != "online" || f.LastHeardAt == nil || !f.LastHeardAt.After(since) {
		return fmt.Errorf("%s is %s (%s), last heard %v, want online and heard since %v", facility, f.State, f.Reason, f.LastHeardAt, since)
	}
	return nil
}

// transactionsPerRound of each writer.
const transactionsPerRound = 60

// killDuring lets the crew work, and does the harm at a random moment of it.
func killDuring(t *testing.T, rng *rand.Rand, crew []*writer, done *atomic.Int64, harm func(context.Context) error) {
	t.Helper()
	at := done.Load() + int64(rng.IntN(len(crew)*transactionsPerRound))
	g, ctx := errgroup.WithContext(within(t))
	for _, w := range crew {
		g.Go(func() error { return w.work(ctx, transactionsPerRound) })
	}
	g.Go(func() error {
		for done.Load() < at {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Millisecond):
			}
		}
		return harm(ctx)
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}
