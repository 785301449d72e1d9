package ingest

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/run"
)

// countersEvery is how often the counters of all facilities are written.
const countersEvery = time.Second

// counters collects how much was applied of each facility's tables.
type counters struct {
	store store
	mu    sync.Mutex
	sums  map[counterKey]counter

	txs, changes, bytes uint64 // of all, since the start
}

type counterKey struct{ facility, schema, table string }

type counter struct {
	changes int64
	seq     uint64
}

func newCounters(s store) *counters { return &counters{store: s, sums: map[counterKey]counter{}} }

func (c *counters) add(facility string, p apply.Progress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.txs, c.changes, c.bytes = c.txs+uint64(p.Txs), c.changes+uint64(p.Changes), c.bytes+uint64(p.Bytes)
	for _, t := range p.Tables {
		k := counterKey{facility, t.Schema, t.Name}
		sum := c.sums[k]
		c.sums[k] = counter{sum.changes + t.Changes, p.Position.Seq}
	}
}

// applied returns how much that was since the start.
func (c *counters) applied() (txs, changes, bytes uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.txs, c.changes, c.bytes
}

func (c *counters) take() map[counterKey]counter {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.sums
	c.sums = make(map[counterKey]counter, len(taken))
	return taken
}

// putBack adds what could not be written to what has come since.
func (c *counters) putBack(taken map[counterKey]counter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, old := range taken {
		sum, ok := c.sums[k]
		if !ok {
			sum.seq = old.seq
		}
		sum.changes += old.changes
		c.sums[k] = sum
	}
}

func (c *counters) run(ctx context.Context, log *slog.Logger) error {
	return run.Loop(ctx, log.With("part", "counters"), run.Backoff{Max: 5 * time.Second}, func(ctx context.Context, up func()) error {
		tick := time.NewTicker(countersEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
			taken := c.take()
			if len(taken) == 0 {
				continue
			}
			if err := c.store.addCounts(ctx, taken); err != nil {
				c.putBack(taken)
				return err
			}
			up()
		}
	})
}
