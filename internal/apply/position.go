package apply

import (
	"context"
	"fmt"

	"github.com/agogsaas/holdfast/internal/change"
)

// Position returns how far the facility's stream is committed and durable in
// the target database, zero if nothing is.
func (p *Pool) Position(ctx context.Context, facility string) (change.Position, error) {
	s, err := p.session(ctx)
	if err != nil {
		return change.Position{}, err
	}
	pos, err := readPosition(ctx, s, facility)
	lost := err != nil && p.afterLoss(s) // before somebody else has the connection
	s.release()
	if !lost || ctx.Err() != nil {
		return pos, err
	}
	// The server was restarted since this connection was last used.
	if s, err = p.session(ctx); err != nil {
		return change.Position{}, err
	}
	defer s.release()
	return readPosition(ctx, s, facility)
}

// readSeen returns how much of the receiver's own stream the sender had seen at
// the facility's position.
func (p *Pool) readSeen(ctx context.Context, facility string) (seen change.Position, err error) {
	s, err := p.session(ctx)
	if err != nil {
		return seen, err
	}
	defer s.release()
	err = s.conn.QueryRow(ctx, `SELECT seen_epoch, seen_seq FROM holdfast.position WHERE facility = $1`, facility).Scan(&seen.Epoch, &seen.Seq)
	if err != nil {
		return seen, fmt.Errorf("read what the region had seen of %s: %w", facility, err)
	}
	return seen, nil
}

func readPosition(ctx context.Context, s *session, facility string) (change.Position, error) {
	if err := s.exec(ctx, "SET synchronous_commit = on"); err != nil {
		return change.Position{}, err
	}
	// A commit that is not on disk yet must not be built upon by an answer to
	// the sender: this write makes what it reads durable.
	var pos change.Position
	err := s.conn.QueryRow(ctx, `INSERT INTO holdfast.position AS p (facility, epoch, seq) VALUES ($1, 0, 0)
		ON CONFLICT (facility) DO UPDATE SET seq = p.seq RETURNING epoch, seq`, facility).Scan(&pos.Epoch, &pos.Seq)
	if serr := s.exec(ctx, "SET synchronous_commit = off"); err == nil {
		err = serr
	}
	if err != nil {
		return change.Position{}, fmt.Errorf("read the position of %s: %w", facility, err)
	}
	return pos, nil
}
