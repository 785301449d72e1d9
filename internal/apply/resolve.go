package apply

import (
	"context"
	"errors"

	"github.com/agogsaas/holdfast/internal/change"
)

// foldAll folds transactions from the start.
func (a *Applier) foldAll(ctx context.Context, s *session, txs []txRef) (*folded, error) {
	f := newFolded(a.cfg.Facility)
	r := resolver{applier: a}
	for i := range txs {
		if err := r.fold(ctx, s, f, &txs[i]); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// resolver finds the shapes of the tables of one frame after the other.
type resolver struct {
	applier  *Applier
	body     *change.Body
	registry *Registry
	shapes   []*shape
}

// fold adds the transaction to f, or leaves f as it was and returns an error.
func (r *resolver) fold(ctx context.Context, s *session, f *folded, t *txRef) error {
	if err := r.resolve(ctx, s, t); err != nil {
		return err
	}
	if err := f.check(t.tx, t.shapes); err != nil {
		return err
	}
	f.source = t.src
	f.add(t.tx, t.shapes)
	return nil
}

// resolve finds the shapes of the tables that the transaction uses. Without a
// session it does not read the catalog, and fails with errUnknown instead:
// gather must not wait for a connection while upsert holds the last one.
func (r *resolver) resolve(ctx context.Context, s *session, t *txRef) error {
	reg := r.applier.cfg.Registry()
	if r.body != t.body || r.registry != reg {
		r.body, r.registry, r.shapes = t.body, reg, make([]*shape, len(t.body.Tables))
	}
	for i := range t.tx.Changes {
		if !t.tx.Changes[i].Op.OfRows() {
			continue // a digest's table is looked up when it is compared
		}
		n := t.tx.Changes[i].Table
		if r.shapes[n] != nil {
			continue
		}
		sh, err := r.applier.shape(ctx, s, reg, &t.body.Tables[n])
		if err != nil {
			return err
		}
		r.shapes[n] = sh
	}
	t.shapes = r.shapes
	return nil
}

// errUnknown means that the catalog must be read to know the table.
var errUnknown = errors.New("table is not known yet")

func (a *Applier) shape(ctx context.Context, s *session, reg *Registry, t *change.Table) (*shape, error) {
	if reg.passedOver(t.Schema, t.Name) {
		return &shape{passedOver: true, facilityColumn: -1}, nil
	}
	at := a.at()
	if restored, _ := a.restored(); !restored {
		if err := reg.unread(t.Schema, t.Name); err != nil {
			return nil, err
		}
	}
	if s == nil {
		if sh := a.pool.catalog.known(reg, at, t); sh != nil {
			return sh, nil
		}
		return nil, errUnknown
	}
	return a.pool.catalog.shape(ctx, s, reg, at, t)
}
