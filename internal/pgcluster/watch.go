package pgcluster

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/run"
)

const (
	watchEvery = 250 * time.Millisecond // is the process there
	probeEvery = 2 * time.Second        // does it answer
	pruneEvery = time.Minute            // the server's own logs
	// steadyAfter is how long a server must run before its last crash is
	// forgotten, so that one that crashes at once is tried ever more slowly.
	steadyAfter = 15 * time.Second
)

// Run keeps the server running until ctx is done: it starts one that does not
// run, starts a crashed one again with a growing wait, and keeps Status true.
// It returns nil when ctx is done and leaves the server running; Stop ends it.
func (c *Cluster) Run(ctx context.Context) error {
	b := run.Backoff{Min: 200 * time.Millisecond, Max: 30 * time.Second}
	first := true
	err := run.Loop(ctx, c.log, b, func(ctx context.Context, up func()) error {
		if !c.alive() {
			if !first {
				c.mu.Lock()
				c.status.Restarts++
				c.mu.Unlock()
			}
			if err := c.Start(ctx); err != nil {
				return err
			}
		}
		first = false
		return c.watch(ctx, up)
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (c *Cluster) alive() bool {
	s := c.Status()
	return s.State != Stopped && s.PID != 0 && !Gone(s.PID)
}

// watch returns an error when the postmaster has ended.
func (c *Cluster) watch(ctx context.Context, up func()) error {
	w := watcher{c: c, began: time.Now()}
	defer w.close()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	pid := c.Status().PID
	for {
		if Gone(pid) {
			return c.ended(pid)
		}
		now := time.Now()
		if now.Sub(w.began) >= steadyAfter {
			up()
		}
		if now.Sub(w.probed) >= probeEvery {
			w.probed = now
			w.probe(ctx)
		}
		if now.Sub(w.pruned) >= pruneEvery {
			w.pruned = now
			c.prune(c.log)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (c *Cluster) ended(pid int) error {
	c.starting.Lock()
	words := c.lastWords(c.reap())
	c.starting.Unlock()
	c.setPID(0, false)
	c.setState(Down, "PostgreSQL ended: "+words)
	return fmt.Errorf("PostgreSQL (process %d) ended: %s", pid, words)
}

// watcher holds one connection to ask over, because a new one each time would
// cost a process each time.
type watcher struct {
	c                     *Cluster
	conn                  *pgx.Conn
	began, probed, pruned time.Time
}

func (w *watcher) close() {
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	w.conn.Close(ctx) // the server may be gone already
	w.conn = nil
}

// probe asks for an answer and sets the state by what comes. A broken
// connection is tried anew once: it may be only this one that broke.
func (w *watcher) probe(ctx context.Context) {
	err := w.ask(ctx)
	if err != nil {
		w.close()
		err = w.ask(ctx)
	}
	switch {
	case ctx.Err() != nil:
	case err == nil:
		w.c.setState(Up, "")
	case isRecovering(err):
		w.close()
		w.c.setState(Recovering, "a crashed process made PostgreSQL restart; it replays its log")
	default:
		w.close()
		w.c.setState(Down, "PostgreSQL runs but does not answer: "+err.Error())
	}
}

func (w *watcher) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if w.conn == nil {
		conn, err := pgx.Connect(ctx, w.c.DSN(Superuser, "postgres"))
		if err != nil {
			return err
		}
		w.conn = conn
	}
	return w.conn.Ping(ctx)
}
