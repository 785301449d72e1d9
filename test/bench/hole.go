package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	holeFor    = 2 * time.Minute
	holeRounds = 2
)

// benchBlackHole drops every packet of the tunnel for two minutes while
// workers go on, and measures from its end until the first of the waiting rows
// is in the region.
func benchBlackHole(ctx context.Context, l *lab) ([]Figure, error) {
	if err := l.start(ctx); err != nil {
		return nil, err
	}
	if err := l.openWorkspace(ctx); err != nil {
		return nil, err
	}
	var back, all []float64
	for range holeRounds {
		b, a, err := l.blackHole(ctx)
		if err != nil {
			return nil, err
		}
		back, all = append(back, b), append(all, a)
		l.log.Info("black hole", "first_row_s", b, "all_rows_s", a)
	}
	return []Figure{atMost(3, Figure{
		ID: "tunnel_recover_s", What: "after two minutes without a packet, under traffic: until rows arrive in the region again",
		Measured: maximum(back), Unit: "s",
		Peer: fmt.Sprintf("worst of %s s, relay drops all packets, 50 tx/s all the while; everything was there after %s s", list(back), list(all)),
	})}, nil
}

func (l *lab) blackHole(ctx context.Context) (first, all float64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var workErr error
	wg.Go(func() {
		_, workErr = l.pgbench(ctx, l.edgeDSN(), "", workerScript, "-n", "-M", "prepared", "-c", "2", "-R", "50", "-T", fmt.Sprint(int(holeFor.Seconds())+20))
	})
	defer wg.Wait()
	if err := pause(ctx, 5*time.Second); err != nil {
		return 0, 0, err
	}
	l.edge.Cut()
	if err := pause(ctx, holeFor); err != nil {
		return 0, 0, err
	}
	var had int64
	if err := l.region.QueryRow(ctx, `SELECT count(*) FROM orders`).Scan(&had); err != nil {
		return 0, 0, fmt.Errorf("count in the region: %w", err)
	}
	began := time.Now()
	l.edge.Restore()
	more := fmt.Sprintf(`SELECT count(*) > %d FROM orders`, had)
	if err := l.visible(ctx, more); err != nil {
		return 0, 0, err
	}
	first = time.Since(began).Seconds()
	if err := l.delivered(ctx); err != nil {
		return 0, 0, err
	}
	all = time.Since(began).Seconds()
	wg.Wait()
	return first, all, workErr
}
