package apply

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/run"
)

// flushEvery is the shortest time between the begins of two flushes.
const flushEvery = 50 * time.Millisecond

// flusher makes asynchronous commits durable: one transaction that waits for
// the disk (and for synchronous standbys, where there are any) makes all that
// it can see durable too. What it saw is read in the same transaction, so a
// server that crashed in between and lost commits cannot be mistaken.
type flusher struct {
	pool *Pool
	wake chan struct{}

	mu      sync.Mutex
	waiting map[string]func(change.Position) // by facility
}

func newFlusher(p *Pool) *flusher {
	return &flusher{pool: p, wake: make(chan struct{}, 1), waiting: map[string]func(change.Position){}}
}

// want asks for a flush, after which durable is called with the position.
func (f *flusher) want(facility string, durable func(change.Position)) {
	f.mu.Lock()
	f.waiting[facility] = durable
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *flusher) take() map[string]func(change.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	taken := f.waiting
	f.waiting = make(map[string]func(change.Position), len(taken))
	return taken
}

// Run makes applied positions durable until ctx ends, and returns its error.
// Exactly one must run for each pool, as long as an Applier does.
func (p *Pool) Run(ctx context.Context) error {
	f := p.flusher
	var s *session
	defer func() {
		if s != nil {
			s.close()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.wake:
		}
		began := time.Now()
		taken := f.take()
		var at map[string]change.Position
		err := run.Retry(ctx, p.log.With("part", "flush"), run.Backoff{Max: 2 * time.Second}, func(ctx context.Context) (err error) {
			if s == nil {
				if s, err = p.dedicated(ctx); err != nil {
					return err
				}
			}
			if at, err = f.flush(ctx, s, slices.Collect(maps.Keys(taken))); err != nil {
				s.close()
				s = nil
			}
			return err
		})
		if err != nil {
			return err
		}
		for facility, durable := range taken {
			durable(at[facility])
		}
		if err := pause(ctx, flushEvery-time.Since(began)); err != nil {
			return err
		}
	}
}

func (f *flusher) flush(ctx context.Context, s *session, facilities []string) (map[string]change.Position, error) {
	if err := s.exec(ctx, `BEGIN; SET LOCAL synchronous_commit = on;
SELECT pg_logical_emit_message(true, '`+FlushPrefix+`', '')`); err != nil {
		return nil, fmt.Errorf("begin to flush the WAL: %w", err)
	}
	list := textArray(len(facilities), func(i int) []byte { return []byte(facilities[i]) })
	res := s.pg.ExecParams(ctx, `SELECT facility, epoch, seq FROM holdfast.position WHERE facility = ANY ($1::text[])`,
		[][]byte{list.value}, nil, []int16{1}, nil).Read()
	if res.Err != nil {
		return nil, fmt.Errorf("read positions: %w", res.Err)
	}
	at := make(map[string]change.Position, len(res.Rows))
	for _, row := range res.Rows {
		var pos change.Position
		if _, err := fmt.Sscan(string(row[1])+" "+string(row[2]), &pos.Epoch, &pos.Seq); err != nil {
			return nil, fmt.Errorf("read the position of %s: %w", row[0], err)
		}
		at[string(row[0])] = pos
	}
	if err := s.exec(ctx, "COMMIT"); err != nil {
		return nil, fmt.Errorf("flush the WAL: %w", err)
	}
	return at, nil
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
