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
	fold *folded
	// seen is what the sender had seen after the txs.
	seen     change.Position
	changes  int
	bytes    int // as sent; unpacked is what they take in memory
	unpacked int
	// notes: the txs say only what their sender had seen, so that it may wait.
	notes bool
	// event is recorded when the position moves without a transaction.
	event *streamEvent
	// part is set for a part of a big transaction.
	part *part
	// draft is what it parks; nil without parked rows.
	draft *draft
	// sifted are, on the way down, the txs without what is parked; nil when
	// nothing was looked for.
	sifted []txRef
	// verdicts on the digests at its end; see digest.go.
	verdicts []Verdict
}

// part says which part of a big transaction a batch is. A void one ends a
// transaction that has no last part: its batch is the event that says why.
// An open one ends with a transaction that goes on in the next part.
type part struct{ first, last, void, open bool }

// txRef is a transaction of an unpacked frame.
type txRef struct {
	tx   *change.Tx
	body *change.Body
	// shapes of the body's tables, of which those that tx uses are known; nil
	// until the transaction is folded.
	shapes          []*shape
	bytes, unpacked int
	// src is set on the way down.
	src *source
	// joined: nobody may see this transaction without the next.
	joined bool
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

// positionDownSQL does the same on the way down, and notes what the sender had
// seen.
const positionDownSQL = `WITH p AS (UPDATE holdfast.position SET epoch = $2::bigint, seq = $3::bigint,
  source_lsn = CASE WHEN $4::bigint = 0 THEN source_lsn ELSE '0/0'::pg_lsn + $4::numeric END,
  source_commit_at = CASE WHEN $5::bigint = 0 THEN source_commit_at ELSE 'epoch'::timestamptz + $5::bigint * interval '1 microsecond' END,
  applied_at = now(), seen_epoch = $9::bigint, seen_seq = $10::bigint
 WHERE facility = $1::text AND epoch = $6::bigint AND seq = $7::bigint RETURNING 1)
SELECT pg_logical_emit_message(true, '` + OriginPrefix + `', $8::text) FROM p`

// politeSQL keeps what comes down from being in the way: where the facility's own
// transactions and this one wait for each other, this one gives up, well before
// PostgreSQL looks for deadlocks and might choose one of theirs.
const politeSQL = `SET LOCAL lock_timeout = '300ms'`

const eventSQL = `INSERT INTO holdfast.stream_event (facility, kind, epoch, seq, detail)
VALUES ($1::text, $2::text, $3::bigint, $4::bigint, $5::text)`

func number[T int64 | uint64](n T) arg { return textArg(strconv.FormatInt(int64(n), 10)) }

// positionCalls are the statements that a transaction begins with.
func (a *Applier) positionCalls(from, to, seen change.Position, last *change.Tx) []call {
	var lsn uint64
	var at int64
	if last != nil {
		lsn, at = last.LSN, last.CommitMicros
	}
	origin := Origin{Direction: a.cfg.Direction, Facility: a.cfg.Facility, Position: to}
	move := call{sql: positionSQL, planned: true, args: []arg{
		textArg(a.cfg.Facility), number(to.Epoch), number(to.Seq),
		number(lsn), number(at), number(from.Epoch), number(from.Seq), textArg(origin.String()),
	}}
	if a.cfg.Direction == Down {
		move.sql, move.args = positionDownSQL, append(move.args, number(seen.Epoch), number(seen.Seq))
		return []call{{sql: "BEGIN"}, move, {sql: politeSQL}}
	}
	return []call{{sql: "BEGIN"}, move}
}

func checkPosition(counts []int64) error {
	if counts[1] != 1 {
		return ErrFenced
	}
	return nil
}

// maxRaces is how often a batch is begun anew at once because the facility's own
// transactions were in the way. After that it waits in between.
const maxRaces = 10

// applyBatch applies b, or as much of it as can be: on a RowError everything
// before the transaction that it names is committed and b is what remains.
func (a *Applier) applyBatch(ctx context.Context, s *session, b *batch) error {
	for attempt := 0; ; attempt++ {
		if a.sifts(b) {
			if err := a.sift(ctx, s, b); errors.Is(err, errAlone) && b.half() == 0 {
				if err = a.parkRows(ctx, s, b); a.again(ctx, err, attempt) {
					b.refold()
					continue
				}
				return err
			} else if errors.Is(err, errAlone) {
				return a.bisect(ctx, s, b)
			} else if err != nil {
				return a.afterFoldError(ctx, s, b, err)
			}
		} else if b.fold == nil {
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
		case a.again(ctx, err, attempt):
			continue
		case gone(ctx) || !refused(err):
			return err
		case attempt == 0 && stale(err):
			a.pool.catalog.forget()
			b.refold()
			continue
		case a.pool.tooEager(err, a.lastCall):
			continue
		}
		switch {
		case len(b.txs) == 0:
			return err // the position itself could not be written
		case b.half() > 0:
			return a.bisect(ctx, s, b)
		}
		if a.parked != nil {
			if err = a.parkRows(ctx, s, b); a.again(ctx, err, attempt) {
				b.refold()
				continue
			}
			return err
		}
		return a.applyRows(ctx, s, b)
	}
}

// again reports whether the batch is to be begun anew at once, because a local
// transaction was in the way.
func (a *Applier) again(ctx context.Context, err error, attempt int) bool {
	return err != nil && a.cfg.Direction == Down && raced(err) && attempt < maxRaces && !gone(ctx)
}

// afterFoldError deals with a transaction that does not fit its tables: what
// is before it can still be applied.
func (a *Applier) afterFoldError(ctx context.Context, s *session, b *batch, err error) error {
	if !refused(err) || b.half() == 0 {
		if refused(err) && len(b.txs) > 0 {
			err = describe(err, a.cfg.Direction, a.cfg.Facility, change.Position{Epoch: b.to.Epoch, Seq: b.txs[0].tx.Seq}, nil, nil)
		}
		return err
	}
	return a.bisect(ctx, s, b)
}

// bisect applies the first half of b and then the second, each as its own
// transaction. When a half fails, b is left as what is not committed.
func (a *Applier) bisect(ctx context.Context, s *session, b *batch) error {
	for len(b.txs) > 0 {
		mid := b.half()
		if mid == 0 {
			mid = len(b.txs)
		}
		head := &batch{from: b.from, to: b.to, txs: b.txs[:mid], seen: b.seen}
		head.to.Seq = b.txs[mid-1].tx.Seq
		if src := b.txs[mid-1].src; src != nil {
			head.seen = src.seen
		}
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

// half returns how many transactions, about half of them, may be committed
// without the rest; 0 when all belong together.
func (b *batch) half() int {
	ends := func(n int) bool { return n > 0 && n < len(b.txs) && !b.txs[n-1].joined }
	for mid, d := len(b.txs)/2, 0; d <= len(b.txs)/2+1; d++ {
		if ends(mid - d) {
			return mid - d
		}
		if ends(mid + d) {
			return mid + d
		}
	}
	return 0
}

// whole is how many transactions end in b.
func (b *batch) whole() int {
	n := len(b.txs)
	if b.part != nil && b.part.open {
		n--
	}
	return n
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
	b.fold, b.draft, b.sifted = nil, nil, nil
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
	first := a.positionCalls(b.from, b.to, b.seen, last)
	if b.event != nil {
		first = append(first, call{sql: eventSQL, args: []arg{
			textArg(a.cfg.Facility), textArg(b.event.kind),
			number(b.to.Epoch), number(b.to.Seq), textArg(b.event.detail),
		}})
	}
	if b.draft != nil {
		first = append(first, b.draft.calls(a.cfg.Facility, a.cfg.Direction, b.to)...)
	}
	err := x.run(ctx, b.fold, first, checkPosition)
	a.lastCall = x.lastCall
	if err != nil {
		return err
	}
	if err := a.compare(ctx, s, b); err != nil {
		return err
	}
	if err := a.keepLacking(ctx, x); err != nil {
		return err
	}
	if err := a.commit(ctx, s); err != nil {
		return err
	}
	if b.draft != nil {
		a.parked.merge(b.draft)
	}
	a.committed(b, countLacking(x.lacking), last)
	return nil
}

func (a *Applier) execution(s *session, b *batch) *execution {
	x := &execution{
		facility: a.cfg.Facility, session: s, careful: a.pool.careful,
	}
	if a.cfg.Direction == Down {
		x.facts = &facts{local: a.cfg.Local, registry: a.cfg.Registry, txs: b.decided(), now: time.Now()}
		x.facts.restored, x.facts.whole = a.restored()
	}
	return x
}

// restored is Config.Restored's.
func (a *Applier) restored() (restored, whole bool) {
	if a.cfg.Restored == nil {
		return false, false
	}
	return a.cfg.Restored()
}

// decided are the transactions of which the batch's fold is.
func (b *batch) decided() []txRef {
	if b.sifted != nil {
		return b.sifted
	}
	return b.txs
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

// committed reports a committed batch.
func (a *Applier) committed(b *batch, missing map[string]int64, last *change.Tx) {
	p := Progress{Position: b.to, Txs: len(b.txs), Changes: b.changes, Bytes: b.bytes, Missing: missing}
	if b.draft != nil {
		p.Parked = len(b.draft.rows)
	}
	p.countTables(b.fold)
	a.sawUpTo(b)
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
