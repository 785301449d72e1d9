package capture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agogsaas/holdfast/internal/change"
)

// A table is loaded by key ranges, a chunk at a time. Each chunk is read and
// written into the WAL as a logical message in one transaction, so that it
// takes its place in commit order: the changes before it in the stream are in
// it, the ones after it are not.
//
// For that no transaction may commit a change of the table between the chunk's
// snapshot and its commit: such a row would be in the stream before the range
// that does not know it, and "exactly these rows" would delete it. Neither row
// locks (an insert has no row to lock) nor SERIALIZABLE (which orders by
// dependency, not by commit) prevent it. So the chunk takes a SHARE lock on the
// table, which waits for the writers that are under way and holds new ones up
// for the few milliseconds that a chunk takes; it gives up after lockTimeout.
// Where workers waited, as much time as a chunk took belongs to them before the
// next one.

// Limits of a chunk.
const (
	chunkRows  = 2000
	chunkBytes = 1 << 20
	// calmRows are chunkRows behind calmFrom chunks that nobody waited for: half of
	// what a chunk costs does not depend on how many rows it has.
	calmRows = 5000
	calmFrom = 4
	// firstFetch is with how many rows a chunk begins at most, fetchGrows how many
	// times as many the next step may have, and fetchMost how many at most: rows may
	// get larger at any place, and those that do not fit any more are thrown away.
	firstFetch = 250
	fetchGrows = 4
	fetchMost  = 1000
	// sortedChunkRows is for keys whose order has no index: each chunk sorts
	// the table.
	sortedChunkRows  = 20_000
	sortedChunkBytes = 8 << 20
)

// Waiting for the lock.
const (
	lockTimeout = 200 * time.Millisecond
	// Every patientEvery-th attempt waits longer than deadlock_timeout (1 s by
	// default), after which PostgreSQL cancels an autovacuum in the way.
	patientEvery = 15
	patientLock  = 1500 * time.Millisecond
	lockRetryMin = 50 * time.Millisecond
	lockRetryMax = 2 * time.Second
	// chunkPauseMin is for those who ask for the table and do not wait for it, as
	// autovacuum does.
	chunkPauseMin = 500 * time.Microsecond
)

// ErrNoKey says that a table has no key, so that its rows cannot be loaded by
// range: only what is written from now on is sent.
var ErrNoKey = errors.New("the table has no key to load it by")

// Progress is called in the transaction of each chunk, before it commits: after
// is the key up to which the table is loaded then, in column order, rows how
// many the chunk had. With after a load can be taken up again.
type Progress func(ctx context.Context, tx pgx.Tx, after change.Row, rows int64) error

// LoadTable sends the rows of a table with keys after after, nil for all, into
// the change stream; the last range is unbounded above. Sending a table that is
// there already changes nothing but what is wrong. The slot must exist, and
// conn must not be in a transaction; its role must own the table.
//
// Keys are compared in column order, text and the labels of enums by their
// bytes (COLLATE "C"), because collations and the order of labels differ
// between machines. A text key whose column has another collation has no index
// for that order, an enum key has none either, and each chunk sorts the table:
// for text an index on (key COLLATE "C") helps.
func LoadTable(ctx context.Context, conn *pgx.Conn, t Table, after change.Row, progress Progress) error {
	return LoadPart(ctx, conn, t, Part{}, after, progress)
}

// Part is those rows of a table that are meant, and for whom. Its ranges say
// what the table's rows of that part are, and nothing of its other rows.
type Part struct {
	// Column is compared with Value; empty means all rows. OrNull adds the rows
	// in which it is NULL.
	Column, Value string
	OrNull        bool
	// To is the facility that the ranges are for; empty means whoever the
	// table's changes are for.
	To string
	// Whole says, of a box that took another's place, that the table has all rows that
	// its facility had then (change.NoteWhole).
	Whole bool
	// TooLarge is called in the transaction of a chunk that may not fit a frame, so
	// that rows of it may be left out; nil is fine.
	TooLarge func(ctx context.Context, tx pgx.Tx) error
	// Between is called between two chunks, outside of a transaction; its error
	// ends the load. nil is fine.
	Between func(ctx context.Context) error
}

// LoadPart sends the rows of a part of a table as LoadTable sends all of them.
func LoadPart(ctx context.Context, conn *pgx.Conn, t Table, part Part, after change.Row, progress Progress) error {
	l := &loader{conn: conn, table: t, part: part, after: after, progress: progress}
	if len(after) == 0 {
		l.after = nil
	}
	for attempt, wait := 0, lockRetryMin; ; {
		began := time.Now()
		done, err := l.chunk(ctx, attempt)
		switch {
		case err == nil && done:
			return nil
		case err == nil:
			if part.Between != nil {
				if err := part.Between(ctx); err != nil {
					return err
				}
			}
			attempt, wait = 0, lockRetryMin
			// Where workers waited they get as long as the chunk took. Who comes
			// while nobody waits is the next in any case.
			rest := chunkPauseMin
			l.calm++
			if l.waited {
				l.calm = 0
				rest = max(rest, time.Since(began))
			}
			if err := pause(ctx, rest); err != nil {
				return err
			}
		case busy(err):
			l.calm = 0
			attempt++
			if err := pause(ctx, wait/2+rand.N(wait)); err != nil {
				return err
			}
			wait = min(2*wait, lockRetryMax)
		default:
			return fmt.Errorf("load %s: %w", t.ID(), err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// busy reports whether somebody else was in the way.
func busy(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code {
	case "55P03", "40P01", "40001": // lock not available, deadlock, serialization
		return true
	}
	return false
}

type loader struct {
	conn     *pgx.Conn
	table    Table
	part     Part
	after    change.Row
	progress Progress
	// shape is what the chunk before knew of the table, good while the catalog
	// has stamp.
	shape *shape
	stamp string
	// rows are those of the chunk, and rowBytes what one of the chunk before took.
	rows     change.RangeWriter
	rowBytes int
	// waited: somebody waited for the table while the last chunk had it. calm is how
	// many chunks there were since.
	waited bool
	calm   int
}

// limit is how many rows the next chunk may have where its order has an index.
func (l *loader) limit() int {
	if l.calm >= calmFrom {
		return calmRows
	}
	return chunkRows
}

// chunk sends the next range. done is true after the last one.
func (l *loader) chunk(ctx context.Context, attempt int) (done bool, err error) {
	before := l.after
	// Each statement must see what committed before it, whatever the database's
	// default: the rows are read after the lock was granted.
	options := pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}
	err = pgx.BeginTxFunc(ctx, l.conn, options, func(tx pgx.Tx) error {
		stamp, err := l.lock(ctx, tx, attempt)
		if err != nil {
			return err
		}
		s, err := l.shapeNow(ctx, tx, stamp)
		if err != nil {
			return err
		}
		if l.after != nil && len(l.after) != len(s.key) {
			l.after = nil // the key is another one now
		}
		if err := s.limit(l.part, l.after); err != nil {
			return err
		}
		last, end, err := s.rows(ctx, tx, l.after, &l.rows, l.rowBytes, l.limit())
		if err != nil {
			return fmt.Errorf("read rows: %w", err)
		}
		n, after, upTo := l.rows.Rows(), l.after, last
		if n == 0 {
			upTo = l.after
		} else {
			l.rowBytes = l.rows.Bytes()/n + 1
		}
		l.after, done = upTo, end
		if done {
			upTo = nil // there is no end to it
		}
		message, err := l.rows.Message(&s.table, after, upTo)
		if err != nil {
			return err
		}
		if err := l.write(ctx, tx, s, message); err != nil {
			return err
		}
		if l.part.TooLarge != nil && len(message) > maxChangePacked {
			if err := l.part.TooLarge(ctx, tx); err != nil {
				return err
			}
		}
		if l.progress != nil {
			return l.progress(ctx, tx, l.after, int64(n))
		}
		return nil
	})
	if err != nil {
		l.after = before
	}
	return done, err
}

// lock prepares the transaction, locks the table and returns what stampSQL makes
// of it, in one round trip.
func (l *loader) lock(ctx context.Context, tx pgx.Tx, attempt int) (stamp string, err error) {
	var b pgx.Batch
	names, values := chunkSettings(attempt)
	b.Queue(settleSQL, names, values)
	b.Queue("LOCK TABLE " + l.table.quoted() + " IN SHARE MODE")
	b.Queue(stampSQL, l.table.quoted())
	r := tx.SendBatch(ctx, &b)
	defer func() {
		if cerr := r.Close(); err == nil {
			err = cerr
		}
	}()
	if _, err := r.Exec(); err != nil {
		return "", fmt.Errorf("prepare the transaction: %w", err)
	}
	if _, err := r.Exec(); err != nil {
		return "", fmt.Errorf("lock: %w", err)
	}
	var now *string
	if err := r.QueryRow().Scan(&now); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("look for changes of the table: %w", err)
	}
	if now != nil {
		stamp = *now
	}
	return stamp, nil
}

// write writes the range into the WAL, and sees whether somebody waits for the
// table.
func (l *loader) write(ctx context.Context, tx pgx.Tx, s *shape, message []byte) error {
	if l.part.To != "" {
		if _, err := tx.Exec(ctx, `SELECT pg_catalog.pg_logical_emit_message(true, $1, $2::text)`, ToPrefix, l.part.To); err != nil {
			return fmt.Errorf("write the addressee to the WAL: %w", err)
		}
	}
	if l.part.Whole {
		if _, err := tx.Exec(ctx, `SELECT pg_catalog.pg_logical_emit_message(true, $1, $2::text)`, WholePrefix, l.table.ID()); err != nil {
			return fmt.Errorf("write to the WAL that the table is whole: %w", err)
		}
	}
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE relation = $3 AND NOT granted)
		FROM pg_catalog.pg_logical_emit_message(true, $1, $2::bytea)`, RangePrefix, message, s.oid).Scan(&l.waited)
	if err != nil {
		return fmt.Errorf("write the range to the WAL: %w", err)
	}
	return nil
}

const settleSQL = `SELECT pg_catalog.set_config(n, v, true) FROM unnest($1::text[], $2::text[]) AS s(n, v)`

// settle prepares the transaction: canonical text, a short wait for locks, and
// a commit that does not hold the lock until the disk has it. Progress and
// message are lost together or not at all.
func settle(ctx context.Context, tx pgx.Tx, attempt int) error {
	names, values := chunkSettings(attempt)
	_, err := tx.Exec(ctx, settleSQL, names, values)
	return err
}

func chunkSettings(attempt int) (names, values []string) {
	timeout := lockTimeout
	if attempt%patientEvery == patientEvery-1 {
		timeout = patientLock
	}
	set := map[string]string{
		"lock_timeout":       strconv.FormatInt(timeout.Milliseconds(), 10),
		"synchronous_commit": "off",
		"statement_timeout":  "0",
		"row_security":       "off", // an error rather than rows left out
	}
	for k, v := range textSettings {
		if k != "application_name" && k != "client_encoding" {
			set[k] = v
		}
	}
	for k, v := range set {
		names, values = append(names, k), append(values, v)
	}
	return names, values
}
