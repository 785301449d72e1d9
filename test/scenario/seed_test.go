package scenario

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// seeded returns chance that a failed test can be run again with:
// HOLDFAST_SEED=n makes the same choices. What the operating system does
// between them is its own.
func seeded(t *testing.T) (seed uint64, rng *rand.Rand) {
	t.Helper()
	seed = uint64(time.Now().UnixNano())
	if s := os.Getenv("HOLDFAST_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("HOLDFAST_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("run again with HOLDFAST_SEED=%d", seed)
	return seed, rand.New(rand.NewPCG(seed, 1))
}
