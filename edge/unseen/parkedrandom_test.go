package unseen_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/apply"
)

// TestWhateverEitherSideParkedEndsEqual: both sides change the same rows, each
// refuses some of what the other sends, and when that is mended both have the same.
func TestWhateverEitherSideParkedEndsEqual(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy apply.Policy
		seed   uint64
	}{
		{apply.PolicyEdge, uint64(time.Now().UnixNano())},
		// A row was sent back whole, and then taken in part from the cloud.
		{apply.PolicyEdge, 1795707851121700605},
		{apply.PolicyCloud, 1},
	} {
		policy, seed := c.policy, c.seed
		t.Run(fmt.Sprint(policy, " seed ", seed), func(t *testing.T) {
			t.Parallel()
			w := &world{rig: newRig(t, options{park: true, policy: policy}), rng: rand.New(rand.NewPCG(seed, 7))}
			for range 3 {
				for n, s := range []*side{w.edge, w.region} {
					s.db.Exec(t, fmt.Sprintf(`ALTER TABLE t ADD CONSTRAINT strict CHECK (v NOT LIKE '%s%%%d%%') NOT VALID`, []string{"c", "e"}[n], w.rng.IntN(10)))
				}
				for range 25 {
					switch w.rng.IntN(4) {
					case 0, 1:
						w.act(w.rng.IntN(2) == 0)
					case 2:
						w.up(1 + w.rng.IntN(3))
					default:
						w.downAll(1 + w.rng.IntN(3))
					}
				}
				for _, s := range []*side{w.edge, w.region} {
					s.db.Exec(t, `ALTER TABLE t DROP CONSTRAINT strict`)
				}
				w.noneWait()
				if t.Failed() {
					return
				}
			}
			t.Log(w.edge.lines(`SELECT state, count(*) FROM holdfast.parked GROUP BY 1`), w.region.lines(`SELECT state, count(*) FROM holdfast.parked GROUP BY 1`))
		})
	}
}
