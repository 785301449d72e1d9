package heartbeat

import (
	"context"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/proto"
)

const (
	slowEvery   = 10 * time.Second
	slowTimeout = 5 * time.Second
	// slowOld is when facts that could not be renewed no longer count.
	slowOld = 30 * time.Second
)

// Facts are what the other parts know of themselves. A nil one is not told.
//
// Queue, Tunnel, Faults and Stalls are called at each heartbeat and must not wait.
// Database and Tables may take up to 5 seconds; they are called every 10
// seconds, apart from the heartbeat.
type Facts struct {
	Queue    func() proto.Queue
	Tunnel   func() proto.Tunnel
	Faults   func() []proto.FaultCode
	Stalls   func() []proto.Stall
	Database func(ctx context.Context) (DatabaseFacts, error)
	Tables   func(ctx context.Context) ([]proto.TableStatus, error)
}

// DatabaseFacts is the box's own PostgreSQL. An error in its place means that
// the database is down.
type DatabaseFacts struct {
	proto.Database
	Version string // of the server, e.g. "15.18"
}

// slow holds the facts that take time.
type slow struct {
	mu       sync.Mutex
	database DatabaseFacts
	tables   []proto.TableStatus
	at       time.Time // when database was last renewed
}

// renewing calls the slow sources until ctx is done.
func (h *Heartbeat) renewing(ctx context.Context) error {
	tick := time.NewTicker(slowEvery)
	defer tick.Stop()
	for {
		h.renew(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (h *Heartbeat) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, slowTimeout)
	defer cancel()
	if h.cfg.Facts.Database != nil {
		d, err := h.cfg.Facts.Database(ctx)
		if err != nil {
			d.State = "down"
		}
		h.slow.mu.Lock()
		if err != nil && d.Version == "" {
			d.Version = h.slow.database.Version // it has not changed by going down
		}
		h.slow.database, h.slow.at = d, time.Now()
		h.slow.mu.Unlock()
	}
	if h.cfg.Facts.Tables != nil {
		if tables, err := h.cfg.Facts.Tables(ctx); err == nil {
			h.slow.mu.Lock()
			h.slow.tables = tables
			h.slow.mu.Unlock()
		}
	}
}

// databaseNow is the last that is known; "unknown" when a source hangs.
func (h *Heartbeat) databaseNow() DatabaseFacts {
	h.slow.mu.Lock()
	defer h.slow.mu.Unlock()
	d := h.slow.database
	if h.cfg.Facts.Database == nil || time.Since(h.slow.at) > slowOld {
		d.State = "unknown"
	}
	return d
}

func (h *Heartbeat) tablesNow() []proto.TableStatus {
	h.slow.mu.Lock()
	defer h.slow.mu.Unlock()
	// Those with a problem come first: the others are left out when there are many.
	var bad, good []proto.TableStatus
	for _, t := range h.slow.tables {
		if t.Problem != "" {
			bad = append(bad, t)
		} else {
			good = append(good, t)
		}
	}
	return append(bad, good...)
}
