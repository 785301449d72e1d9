package scenario

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// TestEverythingMayBeRestartedInAnyOrder stops the programs in turn, in an
// orderly way or not, and starts them in another order.
func TestEverythingMayBeRestartedInAnyOrder(t *testing.T) {
	t.Parallel()
	seed, rng := seeded(t)
	s := startSite(t)
	la, frankfurt := addEdge(t, s, "la"), addEdge(t, s, "frankfurt")
	addFloor(t, s, la, frankfurt)
	edge, region := edgeDB(t, la), regionDB(t, s)
	var done atomic.Int64
	crew := floorCrew(la, 2, seed, &done)
	step := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	starts := []func(){
		func() { step("start the region", s.Restart(t.Context())) },
		func() { step("start la", la.Start(t.Context())) },
		func() { step("start frankfurt", frankfurt.Start(t.Context())) },
	}
	stops := []func(){
		func() { step("stop the region", s.Cloud.Stop()) },
		func() { step("stop la", la.Agent.Stop()) },
		func() { step("stop frankfurt", frankfurt.Agent.Stop()) },
	}
	for range 3 {
		work(t, crew, 20)
		shuffle(rng, stops)
		shuffle(rng, starts)
		for _, stop := range stops {
			stop()
		}
		for _, start := range starts {
			start()
		}
		work(t, crew, 20)
		sameFloor(t, crew, edge, region)
	}

	// An agent that was killed leaves its database running; the next one takes
	// it over as it is.
	before := postmasterOf(t, la.ClusterDir())
	step("kill la", la.Agent.Kill9())
	work(t, crew, 20) // people work on meanwhile
	step("start la", la.Start(t.Context()))
	if after := postmasterOf(t, la.ClusterDir()); after != before {
		t.Errorf("PostgreSQL was process %d, now it is %d", before, after)
	}
	before = postmasterOf(t, s.ClusterDir())
	step("kill the region", s.Cloud.Kill9())
	step("start the region", s.Restart(t.Context()))
	if after := postmasterOf(t, s.ClusterDir()); after != before {
		t.Errorf("the region's PostgreSQL was process %d, now it is %d", before, after)
	}
	sameFloor(t, crew, edge, region)
}

func shuffle(rng *rand.Rand, list []func()) {
	rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
}

func postmasterOf(t *testing.T, cluster string) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(cluster, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}
