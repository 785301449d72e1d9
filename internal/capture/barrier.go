package capture

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// barrier is a barrier that was read: it is settled when all transactions
// before number are in the sink.
type barrier struct {
	name   string
	number uint64
}

var errEnded = errors.New("capture has ended")

// Settled waits until everything that committed before the call is in the
// sink: all of it that is numbered at all has been appended. For that it commits a
// transaction of its own on conn, which must be an ordinary connection outside
// of a transaction, and waits until that one has been read. An error says
// nothing about what is in the sink; it is ctx's, the connection's, or says
// that Run has ended.
func (c *Capture) Settled(ctx context.Context, conn *pgx.Conn) error {
	for {
		if again, err := c.settledOnce(ctx, conn); !again {
			return err
		}
	}
}

// settledOnce waits for one barrier. again is true when a connection began to stream
// meanwhile: it may begin behind the barrier, which the one before had read.
func (c *Capture) settledOnce(ctx context.Context, conn *pgx.Conn) (again bool, err error) {
	name := rand.Text()
	done := make(chan struct{})
	c.mu.Lock()
	c.barriers[name] = done
	begun := c.begun
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.barriers, name)
	}()
	// One statement is one transaction; the server gives out what is flushed,
	// so it must not be one that leaves flushing for later.
	_, err = conn.Exec(ctx, `SELECT pg_catalog.set_config('synchronous_commit', 'local', true),
		pg_catalog.pg_logical_emit_message(true, $1, $2::text)`, BarrierPrefix, name)
	if err != nil {
		return false, fmt.Errorf("write a barrier to the WAL: %w", err)
	}
	select {
	case <-done:
		return false, nil
	case <-begun:
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-c.ended:
		return false, errEnded
	}
}

// settle tells those who wait for barriers that are settled; mu is held. What
// is numbered and not in the sink is in pending, or on its way.
func (s *stream) settle() {
	if len(s.settling) == 0 {
		return
	}
	tail := s.next.Seq // the first number that is not in the sink
	if s.writing || s.whole > 0 || s.begun {
		at, _ := s.c.next()
		tail = at.Seq
	}
	n := 0
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for n < len(s.settling) && s.settling[n].number <= tail {
		if ch := s.c.barriers[s.settling[n].name]; ch != nil {
			close(ch)
			delete(s.c.barriers, s.settling[n].name)
		}
		n++
	}
	s.settling = append(s.settling[:0], s.settling[n:]...)
}
