package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// world is all that one seed plays with.
type world struct {
	seed   uint64
	rand   *rand.Rand
	region *region
	edges  []*edge
	books  map[string]*book
	told   strings.Builder // the steps so far, for a failure
	drops  []func() error
}

// newWorld starts a region and its facilities, and waits until they are joined.
func newWorld(ctx context.Context, l *lane, seed uint64, dir string, log *slog.Logger) (_ *world, err error) {
	w := &world{seed: seed, rand: rand.New(rand.NewPCG(seed, 0x686f6c64)), books: map[string]*book{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	name := fmt.Sprintf("seed_%d", seed)
	accept := make(chan net.Conn)
	r := &region{dir: filepath.Join(dir, "region"), addrs: map[netip.Addr]string{}, accept: accept, log: log.With("side", "region")}
	db, conn, drop, err := fresh(ctx, l.region, regionTemplate, name)
	if err != nil {
		return w, err
	}
	r.db, r.conn = db, conn
	w.region, w.drops = r, append(w.drops, drop)
	for i, id := range facilities {
		addr := netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(i + 2)})
		r.addrs[addr] = id
		e := &edge{id: id, dir: filepath.Join(dir, id), cable: newCable(addr, accept), log: log.With("side", id)}
		if e.db, e.conn, drop, err = fresh(ctx, l.edges[id], edgeTemplate, name); err != nil {
			return w, err
		}
		w.drops = append(w.drops, drop)
		w.edges, w.books[id] = append(w.edges, e), &book{}
	}
	for _, d := range append([]string{r.dir}, w.edges[0].dir, w.edges[1].dir) {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return w, err
		}
	}
	if err := r.start(ctx); err != nil {
		return w, err
	}
	for _, e := range w.edges {
		if err := e.start(ctx); err != nil {
			return w, err
		}
	}
	return w, w.rest(ctx)
}

// rest waits until each side has all that the other has committed.
func (w *world) rest(ctx context.Context) error {
	var last error
	err := until(ctx, restWithin, func() (bool, error) {
		for _, e := range w.edges {
			b := w.books[e.id]
			var n int
			if err := w.region.db.QueryRow(ctx, `SELECT coalesce((SELECT n FROM edge_count WHERE facility_id = $1), -1)`, e.id).Scan(&n); err != nil {
				last = err
				return false, nil
			}
			if n != len(b.edge) {
				last = fmt.Errorf("the region has %d of %d transactions of %s", n, len(b.edge), e.id)
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("no rest within %s: %w", restWithin, last)
	}
	return nil
}

const restWithin = 30 * time.Second

// until asks again and again until ok, within d.
func until(ctx context.Context, d time.Duration, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if done, err := ok(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (w *world) close() error {
	var errs []error
	for _, e := range w.edges {
		errs = append(errs, e.crash())
	}
	if w.region != nil {
		errs = append(errs, w.region.stop())
	}
	for _, drop := range w.drops {
		errs = append(errs, drop())
	}
	return errors.Join(errs...)
}
