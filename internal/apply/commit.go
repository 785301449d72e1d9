package apply

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agogsaas/holdfast/internal/change"
)

// batch is whole transactions of the sender that become one of the target, or
// one part of a transaction that is too big for that.
type batch struct {
	from, to change.Position
	txs      []txRef
	// fold is the txs folded; nil when they are not yet.
	fold     *folded
	changes  int
	bytes    int // as sent; unpacked is what they take in memory
	unpacked int
	// event is recorded when the position moves without a transaction.
	event *streamEvent
	// part is set for a part of a big transaction.
	part *part
	// verdicts on the digests at its end; see digest.go.
	verdicts []Verdict
}

// part says which part of a big transaction a batch is. A void one ends a
// transaction that has no last part: its batch is the event that says why.
type part struct{ first, last, void bool }

// txRef is a transaction of an unpacked frame.
type txRef struct {
	tx   *change.Tx
	body *change.Body
	// shapes of the body's tables, of which those that tx uses are known; nil
	// until the transaction is folded.
	shapes          []*shape
	bytes, unpacked int
}

// streamEvent is something that a person should be able to read later.
type streamEvent struct{ kind, detail string }

// positionSQL moves the position and writes the origin to the WAL, but only
// from where it is expected: otherwise it selects no row.
const positionSQL = `WITH p AS (UPDATE holdfast.position SET epoch = $2::bigint, seq = $3::bigint,
  source_lsn = CASE WHEN $4::bigint = 0 THEN source_lsn ELSE '0/0'::pg_lsn + $4::numeric END,
  source_commit_at = CASE WHEN $5::bigint = 0 THEN source_commit_at ELSE 'epoch'::timestamptz + $5::bigint * interval '1 microsecond' END,
  applied_at = now()
 WHERE facility = $1::text AND epoch = $6::bigint AND seq = $7::bigint RETURNING 1)
SELECT pg_logical_emit_message(true, '` + OriginPrefix + `', $8::text) FROM p`

const eventSQL = `INSERT INTO holdfast.stream_event (facility, kind, epoch, seq, detail)
VALUES ($1::text, $2::text, $3::bigint, $4::bigint, $5::text)`

func number[T int64 | uint64](n T) arg { return textArg(strconv.FormatInt(int64(n), 10)) }

// positionCalls are the statements that a transaction begins with.
func (a *Applier) positionCalls(from, to change.Position, last *change.Tx) []call {
	var lsn uint64
	var at int64
	if last != nil {
		lsn, at = last.LSN, last.CommitMicros
	}
	origin := Origin{Direction: a.cfg.Direction, Facility: a.cfg.Facility, Position: to}
	return []call{{sql: "BEGIN"}, {sql: positionSQL, args: []arg{
		textArg(a.cfg.Facility), number(to.Epoch), number(to.Seq),
		number(lsn), number(at), number(from.Epoch), number(from.Seq), textArg(origin.String()),
	}}}
}

func checkPosition(counts []int64) error {
	if counts[1] != 1 {
		return ErrFenced
	}
	return nil
}

// applyBatch applies b, or as much of it as can be: on a RowError everything
// before the transaction that it names is committed and b is what remains.
func (a *Applier) applyBatch(ctx context.Context, s *session, b *batch) error {
	for attempt := 0; ; attempt++ {
		if b.fold == nil {
			fold, err := a.foldAll(ctx, s, b.txs)
			if err != nil {
				return a.afterFoldError(ctx, s, b, err)
			}
			b.fold = fold
		}
		err := a.applyFolded(ctx, s, b)
		if err == nil {
			return nil
		}
		s.rollback(ctx)
		switch {
		case gone(ctx) || !refused(err):
			return err
		case attempt == 0 && stale(err):
			a.pool.catalog.forget()
			b.refold()
			continue
		case a.pool.tooEager(err, a.lastCall):
			continue
		}
		switch len(b.txs) {
		case 0:
			return err // the position itself could not be written
		case 1:
		default:
			return a.bisect(ctx, s, b)
		}
		return a.applyRows(ctx, s, b)
	}
}

// afterFoldError deals with a transaction that does not fit its tables: what
// is before it can still be applied.
func (a *Applier) afterFoldError(ctx context.Context, s *session, b *batch, err error) error {
	if !refused(err) || len(b.txs) == 1 {
		if refused(err) && len(b.txs) == 1 {
			err = describe(err, a.cfg.Facility, change.Position{Epoch: b.to.Epoch, Seq: b.txs[0].tx.Seq}, nil, nil)
		}
		return err
	}
	return a.bisect(ctx, s, b)
}

// bisect applies the first half of b and then the second, each as its own
// transaction. When a half fails, b is left as what is not committed.
func (a *Applier) bisect(ctx context.Context, s *session, b *batch) error {
	for len(b.txs) > 0 {
		mid := max(1, len(b.txs)/2)
		head := &batch{from: b.from, to: b.to, txs: b.txs[:mid]}
		head.to.Seq = b.txs[mid-1].tx.Seq
		head.count()
		err := a.applyBatch(ctx, s, head)
		if err != nil {
			// head is what remains of the half.
			b.txs = append(append([]txRef(nil), head.txs...), b.txs[mid:]...)
			b.from = head.from
			b.refold()
			return err
		}
		b.from, b.txs = head.to, b.txs[mid:]
		b.refold()
	}
	return nil
}

func (b *batch) count() {
	b.changes, b.bytes, b.unpacked = 0, 0, 0
	for _, t := range b.txs {
		b.changes += len(t.tx.Changes)
		b.bytes += t.bytes
		b.unpacked += t.unpacked
	}
}

// refold forgets what is derived from the transactions.
func (b *batch) refold() {
	b.fold = nil
	for i := range b.txs {
		b.txs[i].shapes = nil
	}
	b.count()
}

func (a *Applier) applyFolded(ctx context.Context, s *session, b *batch) error {
	x := a.execution(s, b)
	var last *change.Tx
	if len(b.txs) > 0 {
		last = b.txs[len(b.txs)-1].tx
	}
	first := a.positionCalls(b.from, b.to, last)
	if b.event != nil {
		first = append(first, call{sql: eventSQL, args: []arg{
			textArg(a.cfg.Facility), textArg(b.event.kind),
			number(b.to.Epoch), number(b.to.Seq), textArg(b.event.detail),
		}})
	}
	err := x.run(ctx, b.fold, first, checkPosition)
	a.lastCall = x.lastCall
	if err != nil {
		return err
	}
	if err := a.compare(ctx, s, b); err != nil {
		return err
	}
	if err := a.commit(ctx, s); err != nil {
		return err
	}
	a.committed(b, x.missing, last)
	return nil
}

func (a *Applier) execution(s *session, b *batch) *execution {
	return &execution{
		facility: a.cfg.Facility, session: s, careful: a.pool.careful, missing: map[string]int64{},
		replacement: b.to.Epoch>>32 > 1,
	}
}

// commit is a step of its own, so that tests can break it on both sides.
func (a *Applier) commit(ctx context.Context, s *session) error {
	err := a.Faults.Commit.Do(func() error { return s.exec(ctx, "COMMIT") })
	if err == nil {
		return nil
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Errorf("commit: %w", pg)
	}
	// The outcome is unknown: the position will tell.
	return fmt.Errorf("commit, outcome unknown: %w", err)
}

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
		if t.tx.Changes[i].Op == change.Digest {
			continue // its table is looked up when it is compared
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
	if s == nil {
		if sh := a.pool.catalog.known(reg, a.cfg.Facility, t); sh != nil {
			return sh, nil
		}
		return nil, errUnknown
	}
	return a.pool.catalog.shape(ctx, s, reg, a.cfg.Facility, t)
}

// committed reports a committed batch.
func (a *Applier) committed(b *batch, missing map[string]int64, last *change.Tx) {
	p := Progress{Position: b.to, Txs: len(b.txs), Changes: b.changes, Bytes: b.bytes, Missing: missing}
	p.countTables(b.fold)
	a.finish(p, last)
	for _, v := range b.verdicts {
		a.cfg.OnDigest(v)
	}
}

func (p *Progress) countTables(f *folded) {
	for _, t := range f.tables {
		p.Tables = append(p.Tables, TableCount{Schema: t.shape.schema, Name: t.shape.table, Changes: t.changes})
	}
}

func (a *Applier) finish(p Progress, last *change.Tx) {
	p.At = time.Now()
	if last != nil {
		p.LSN, p.Committed = last.LSN, time.UnixMicro(last.CommitMicros)
	}
	a.report(p)
}
