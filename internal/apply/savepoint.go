package apply

import (
	"context"
	"fmt"
)

// savepoint is a place of the open transaction to go back to. Going back, the execution
// also forgets what it has noted since: what it has sent back, what it found lacking, and
// the search_path.
type savepoint struct {
	x       *execution
	name    string
	lacking int
	noted   int
	search  int
}

// savepoint begins what may have to be undone.
func (x *execution) savepoint(ctx context.Context, name string) (*savepoint, error) {
	if err := x.session.exec(ctx, "SAVEPOINT "+name); err != nil {
		return nil, fmt.Errorf("begin what may be undone: %w", err)
	}
	p := &savepoint{x: x, name: name, lacking: len(x.lacking), search: len(x.search)}
	if x.facts != nil {
		p.noted = len(x.facts.noted)
	}
	return p, nil
}

func (p *savepoint) release(ctx context.Context) error {
	if err := p.x.session.exec(ctx, "RELEASE "+p.name); err != nil {
		return fmt.Errorf("end what may be undone: %w", err)
	}
	return nil
}

// undo goes back to the savepoint and ends it, after a statement may have failed.
func (p *savepoint) undo(ctx context.Context) error {
	x, s := p.x, p.x.session
	x.lacking, x.search = x.lacking[:p.lacking], x.search[:p.search]
	if x.facts != nil {
		x.facts.forget(p.noted)
	}
	if err := s.exec(ctx, "ROLLBACK TO "+p.name+"; RELEASE "+p.name); err != nil {
		return fmt.Errorf("undo what was refused: %w", err)
	}
	if s.stmts.dirty {
		if err := s.forget(ctx); err != nil {
			return fmt.Errorf("undo what was refused: %w", err)
		}
	}
	return nil
}
