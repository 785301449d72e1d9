package apply

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// A row that the sender inserted is normally new at the receiver, and a plain
// INSERT costs less than one that is ready for a conflict. Where rows turn out
// to be there already (a table is being loaded or healed beside the stream)
// its inserts are upserts for a while.

// carefulBatches is for how many batches a table's inserts are upserts after
// one of them met a row.
const carefulBatches = 256

// careful reports whether rows that should be new may be there already.
func (p *Pool) careful(t *target) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.eager[t]
	switch {
	case n > 1:
		p.eager[t] = n - 1
	case n == 1:
		delete(p.eager, t)
	}
	return n > 0
}

// tooEager reports whether err comes from a plain insert of a row that was
// there, and makes the next ones careful.
func (p *Pool) tooEager(err error, c *opCall) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Code != "23505" || c == nil || c.kind != callInsert || len(c.shape.key) == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.eager[c.shape.target] > 0 {
		return false
	}
	p.eager[c.shape.target] = carefulBatches
	return true
}
