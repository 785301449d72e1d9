package capture

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// The server may forget the WAL before a slot's restart_lsn, and moves that
// only when the slot's reader passes a record of the running transactions. It
// writes one every 15 s and at checkpoints, so at 20 MB/s a slot that is read
// and acknowledged at once still holds 300 MB back, and twice that while
// transactions always run. So capture has the server write one when much WAL
// has passed. (docs/decisions/0020)
const (
	// nudgeBytes of WAL behind a nudge, the next is due. A slot holds back two
	// such distances, and what is not read yet.
	nudgeBytes = 16 << 20
	// nudgeLimit bounds one; a long transaction holds it up, and it would not
	// help then: the slot must keep what that transaction began with.
	nudgeLimit = 2 * time.Second
	// nudgeRest is the pause after one that did not work, as the server's own.
	nudgeRest = 15 * time.Second
	// nudgeIdle closes the connection when none was due for so long.
	nudgeIdle = time.Minute
)

// nudger makes the server log its running transactions.
type nudger struct {
	config *pgx.ConnConfig
	slot   string

	conn *pgx.Conn // nil until it is needed
	// may is true where the server has a function for it, and lets this role.
	may bool
	at  uint64 // end of the WAL at the last nudge
}

// nudge does it, if the slot holds back every bytes and the WAL has grown by
// half as much since the last time. After an error the connection is gone.
func (n *nudger) nudge(ctx context.Context, every uint64) (err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if err := n.open(ctx); err != nil {
		return err
	}
	info, err := readSlot(ctx, n.conn, n.slot)
	if err != nil {
		return err
	}
	if info == nil || info.RetainedBytes < int64(every) || info.WAL < n.at+every/2 {
		return nil
	}
	n.at = info.WAL
	if n.may {
		_, err = n.conn.Exec(ctx, `SELECT pg_catalog.pg_log_standby_snapshot()`)
	} else {
		// Making a logical slot begins with it. The slot itself is of no use.
		_, err = n.conn.Exec(ctx, `SELECT pg_catalog.pg_drop_replication_slot(slot_name)
			FROM pg_catalog.pg_create_logical_replication_slot('holdfast_nudge_' || pg_catalog.pg_backend_pid(), 'pgoutput', true)`)
	}
	if err != nil {
		return fmt.Errorf("have the running transactions logged: %w", err)
	}
	return nil
}

func (n *nudger) open(ctx context.Context) error {
	if n.conn != nil {
		return nil
	}
	config := n.config.Copy()
	config.RuntimeParams["application_name"] = "holdfast-nudge"
	config.RuntimeParams["statement_timeout"] = fmt.Sprint(nudgeLimit.Milliseconds())
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to nudge the server: %w", err)
	}
	n.conn = conn
	err = conn.QueryRow(ctx, `SELECT coalesce(pg_catalog.has_function_privilege(pg_catalog.to_regprocedure('pg_catalog.pg_log_standby_snapshot()'), 'EXECUTE'), false)`).Scan(&n.may)
	if err != nil {
		return fmt.Errorf("ask what the server can log: %w", err)
	}
	return nil
}

func (n *nudger) close() {
	if n.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = n.conn.Close(ctx) // a temporary slot goes with it
	n.conn = nil
}

// nudgeLoop nudges when read says that it is due. Where that does not work,
// because no slot is free, say, the slot moves on every 15 s as it would.
func (s *stream) nudgeLoop(ctx context.Context) error {
	n := &nudger{config: s.cn.config, slot: s.c.c.Slot}
	defer n.close()
	told := false
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(nudgeIdle):
			n.close()
			continue
		case <-s.nudge:
		}
		err := n.nudge(ctx, s.c.nudgeBytes)
		if err == nil {
			told = false
			continue
		}
		if !told && ctx.Err() == nil {
			told = true
			s.c.c.Log.Debug("the slot cannot be moved on early", "part", "capture", "wait", nudgeRest, "err", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(nudgeRest):
		}
	}
}

// passed notes how far the server has read; mu is held.
func (s *stream) passed() {
	if s.received >= s.nudgeAt+s.c.nudgeBytes {
		s.nudgeAt = s.received
		notify(s.nudge)
	}
}
