package router

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/proto"
)

// store is the SQL of this package.
type store struct{ db *pgxpool.Pool }

// tableNames is a list of tables as two arrays.
func tableNames(tables []proto.SyncedTable) (schemas, names []string) {
	schemas, names = []string{}, []string{}
	for _, t := range tables {
		schemas, names = append(schemas, t.Schema), append(names, t.Name)
	}
	return schemas, names
}

func (s store) positions(ctx context.Context) (list map[string]change.Position, heard map[string]bool, err error) {
	rows, err := s.db.Query(ctx, `SELECT facility, epoch, seq, heard FROM holdfast.down_position`)
	if err != nil {
		return nil, nil, fmt.Errorf("read the positions of the way down: %w", err)
	}
	list, heard = map[string]change.Position{}, map[string]bool{}
	var f string
	var epoch, seq int64
	var h bool
	_, err = pgx.ForEachRow(rows, []any{&f, &epoch, &seq, &h}, func() error {
		list[f], heard[f] = change.Position{Epoch: uint64(epoch), Seq: uint64(seq)}, h
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read the positions of the way down: %w", err)
	}
	return list, heard, nil
}

func (s store) maxEpoch(ctx context.Context) (uint64, error) {
	var n int64
	if err := s.db.QueryRow(ctx, `SELECT coalesce(max(epoch), 0) FROM holdfast.down_position`).Scan(&n); err != nil {
		return 0, fmt.Errorf("read the positions of the way down: %w", err)
	}
	return uint64(n), nil
}

// ack writes positions down; those of an older epoch do not count.
func (s store) ack(ctx context.Context, list map[string]change.Position) error {
	var facilities []string
	var epochs, seqs []int64
	for f, p := range list {
		facilities, epochs, seqs = append(facilities, f), append(epochs, int64(p.Epoch)), append(seqs, int64(p.Seq))
	}
	_, err := s.db.Exec(ctx, `UPDATE holdfast.down_position AS p SET epoch = u.e, seq = u.s, at = now(), heard = true
		FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS u(f, e, s)
		WHERE p.facility = u.f AND (p.epoch, p.seq) < (u.e, u.s)`, facilities, epochs, seqs)
	if err != nil {
		return fmt.Errorf("write the positions of %d facilities: %w", len(list), err)
	}
	return nil
}

const askSQL = `INSERT INTO holdfast.down_load AS l (facility, schema_name, table_name, reason)
	SELECT $1::text, t.schema_name, t.table_name, $4::text
	FROM unnest($2::text[], $3::text[]) AS u(s, n) JOIN holdfast.synced_table t ON t.schema_name = u.s AND t.table_name = u.n
	ON CONFLICT (facility, schema_name, table_name) DO UPDATE SET reason = EXCLUDED.reason, load_after = NULL, rows_sent = 0,
		load_no = l.load_no + 1, asked_at = now(), done_at = NULL, mend_epoch = NULL, mend_seq = NULL, complete = true`

// ask marks tables to be sent to a facility from their first row.
func (s store) ask(ctx context.Context, facility string, tables []proto.SyncedTable, reason string) error {
	schemas, names := tableNames(tables)
	if _, err := s.db.Exec(ctx, askSQL, facility, schemas, names, reason); err != nil {
		return fmt.Errorf("mark tables to be sent to %s: %w", facility, err)
	}
	return nil
}

// anyBox stands for whichever box a facility has.
const anyBox = 0

// restart moves a facility's cursor, for the box of that enrolment from now on, and
// marks tables to be sent to it.
//
// What the region had seen of it was told before that place, if ever, so that
// it is said again: a word in the WAL like that of a transaction that was
// applied, behind all that it speaks of.
func (s store) restart(ctx context.Context, facility string, enrolment int, at change.Position, tables []proto.SyncedTable, reason string) error {
	schemas, names := tableNames(tables)
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO holdfast.down_position AS p (facility, epoch, seq, enrolment) VALUES ($1, $2, $3, $4)
			ON CONFLICT (facility) DO UPDATE SET epoch = EXCLUDED.epoch, seq = EXCLUDED.seq, at = now(), heard = false, enrolment = greatest(p.enrolment, EXCLUDED.enrolment)`,
			facility, int64(at.Epoch), int64(at.Seq), enrolment)
		if err == nil {
			_, err = tx.Exec(ctx, askSQL, facility, schemas, names, reason)
		}
		if err == nil {
			_, err = tx.Exec(ctx, seenSQL, facility)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("begin the way down of %s anew: %w", facility, err)
	}
	return nil
}

// restoredIn is the box's epoch in which it was last begun to send a facility
// all of its rows because its database was put back; 0 for none. lacking is true
// while changes of it are passed over here.
func (s store) restoredIn(ctx context.Context, facility string) (epoch uint64, lacking bool, err error) {
	var n int64
	err = s.db.QueryRow(ctx, `SELECT coalesce(max(restored_epoch), 0), EXISTS (SELECT FROM holdfast.parked_table WHERE facility = $1 AND direction = 'up')
		FROM holdfast.down_position WHERE facility = $1`, facility).Scan(&n, &lacking)
	if err != nil {
		return 0, false, fmt.Errorf("read the position of %s: %w", facility, err)
	}
	return uint64(n), lacking, nil
}

// restore notes that, and says so.
func (s store) restore(ctx context.Context, facility string, epoch uint64, at change.Position) error {
	_, err := s.db.Exec(ctx, `UPDATE holdfast.down_position SET restored_epoch = $2 WHERE facility = $1`, facility, int64(epoch))
	if err != nil {
		return fmt.Errorf("begin to restore %s: %w", facility, err)
	}
	return s.event(ctx, facility, "box_restored", at, "the box's database was put back from a backup; it is sent all rows that the region has of it, "+
		"and sends its own changes behind them")
}

// seenSQL says in the WAL what the region has applied of a facility, or of all.
const seenSQL = `SELECT pg_catalog.pg_logical_emit_message(true, 'holdfast', 'up ' || facility || ' ' || epoch || ':' || seq)
	FROM holdfast.position WHERE epoch > 0 AND ($1 = '' OR facility = $1)`

// reloadAll begins an epoch for all facilities that have a position.
func (s store) reloadAll(ctx context.Context, epoch uint64, tables []proto.SyncedTable, reason string) error {
	schemas, names := tableNames(tables)
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE holdfast.down_position SET epoch = $1, seq = 0, at = now()`, int64(epoch)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO holdfast.down_load AS l (facility, schema_name, table_name, reason)
			SELECT p.facility, t.schema_name, t.table_name, $3::text
			FROM holdfast.down_position p CROSS JOIN unnest($1::text[], $2::text[]) AS u(s, n)
			JOIN holdfast.synced_table t ON t.schema_name = u.s AND t.table_name = u.n
			ON CONFLICT (facility, schema_name, table_name) DO UPDATE SET reason = EXCLUDED.reason, load_after = NULL, rows_sent = 0,
				load_no = l.load_no + 1, asked_at = now(), done_at = NULL, mend_epoch = NULL, mend_seq = NULL, complete = true`, schemas, names, reason)
		if err == nil {
			_, err = tx.Exec(ctx, seenSQL, "")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("mark all tables to be sent again: %w", err)
	}
	return nil
}

// offer marks tables to be sent to every facility that was never sent them;
// again says to send them to all others too.
func (s store) offer(ctx context.Context, tables []proto.SyncedTable, again bool) error {
	if len(tables) == 0 {
		return nil
	}
	schemas, names := tableNames(tables)
	_, err := s.db.Exec(ctx, `INSERT INTO holdfast.down_load AS l (facility, schema_name, table_name, reason)
		SELECT p.facility, t.schema_name, t.table_name, 'new table'
		FROM holdfast.down_position p CROSS JOIN unnest($1::text[], $2::text[]) AS u(s, n)
		JOIN holdfast.synced_table t ON t.schema_name = u.s AND t.table_name = u.n
		ON CONFLICT (facility, schema_name, table_name) DO UPDATE SET reason = EXCLUDED.reason, load_after = NULL, rows_sent = 0,
			load_no = l.load_no + 1, asked_at = now(), done_at = NULL, mend_epoch = NULL, mend_seq = NULL, complete = true WHERE $3`, schemas, names, again)
	if err != nil {
		return fmt.Errorf("mark new tables to be sent: %w", err)
	}
	return nil
}

// existing returns those of the region's tables that are there and that this
// role may publish: no table may hold up the others.
func (s store) existing(ctx context.Context, schemas, names []string) (map[string]bool, error) {
	rows, err := s.db.Query(ctx, `SELECT n.nspname || '.' || c.relname FROM unnest($1::text[], $2::text[]) AS u(s, n)
		JOIN pg_catalog.pg_namespace n ON n.nspname = u.s
		JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = u.n AND c.relkind IN ('r', 'p')
			AND c.relpersistence = 'p' AND pg_catalog.pg_has_role(c.relowner, 'USAGE')`, schemas, names)
	if err != nil {
		return nil, fmt.Errorf("look tables up: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look tables up: %w", err)
	}
	there := map[string]bool{}
	for _, id := range ids {
		there[id] = true
	}
	return there, nil
}

// Load is a table that is, or was, sent to a facility by key ranges.
type Load struct {
	Facility, Schema, Table string
	Reason                  string
	// Rows were sent so far. Done is zero until all were.
	Rows        int64
	Asked, Done time.Time

	after change.Row
	no    int64
	// complete: all rows that there are of the table are sent. whole is the box, by its
	// number, that was told last that it has them.
	complete bool
	whole    uint32
}

func scanLoad(row pgx.CollectableRow) (Load, error) {
	var l Load
	var after *[]*string
	var done *time.Time
	err := row.Scan(&l.Facility, &l.Schema, &l.Table, &l.Reason, &after, &l.Rows, &l.no, &l.Asked, &done, &l.complete, &l.whole)
	if after != nil {
		l.after = make(change.Row, len(*after))
		for i, v := range *after {
			if v != nil {
				l.after[i] = []byte(*v)
			}
		}
	}
	if done != nil {
		l.Done = *done
	}
	return l, err
}

// loads returns the loads of these facilities, of all when nil.
func (s store) loads(ctx context.Context, facilities []string, waiting bool) ([]Load, error) {
	rows, err := s.db.Query(ctx, `SELECT facility, schema_name, table_name, reason, load_after, rows_sent, load_no, asked_at, done_at, complete, whole_enrolment
		FROM holdfast.down_load WHERE ($1::text[] IS NULL OR facility = ANY ($1)) AND (NOT $2 OR done_at IS NULL)
		ORDER BY facility, asked_at, schema_name, table_name`, facilities, waiting)
	if err != nil {
		return nil, fmt.Errorf("read the loads: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanLoad)
	if err != nil {
		return nil, fmt.Errorf("read the loads: %w", err)
	}
	return list, nil
}

// errRestarted ends a load that was told to begin anew.
var errRestarted = errors.New("the load begins anew")

// progress notes how far a load has come, in the transaction that sends the rows.
func (s store) progress(ctx context.Context, tx pgx.Tx, l Load, after change.Row, rows int64) error {
	text := make([]*string, len(after))
	for i, v := range after {
		if v != nil {
			s := string(v)
			text[i] = &s
		}
	}
	tag, err := tx.Exec(ctx, `UPDATE holdfast.down_load SET load_after = to_jsonb($5::text[]), rows_sent = rows_sent + $6
		WHERE facility = $1 AND schema_name = $2 AND table_name = $3 AND load_no = $4 AND done_at IS NULL`,
		l.Facility, l.Schema, l.Table, l.no, text, rows)
	if err == nil && tag.RowsAffected() == 0 {
		err = errRestarted
	}
	return err
}

// incomplete notes that rows may be left out of a load, in the transaction that sends it.
func (s store) incomplete(ctx context.Context, tx pgx.Tx, l Load) error {
	_, err := tx.Exec(ctx, `UPDATE holdfast.down_load SET complete = false
		WHERE facility = $1 AND schema_name = $2 AND table_name = $3 AND load_no = $4`, l.Facility, l.Schema, l.Table, l.no)
	if err != nil {
		return fmt.Errorf("note that rows of %s.%s may be left out for %s: %w", l.Schema, l.Table, l.Facility, err)
	}
	return nil
}

func (s store) loaded(ctx context.Context, l Load, mend change.Position) error {
	_, err := s.db.Exec(ctx, `UPDATE holdfast.down_load SET done_at = now(), mend_epoch = nullif($5::bigint, 0), mend_seq = CASE WHEN $5 <> 0 THEN $6::bigint END,
		complete = complete AND $7
		WHERE facility = $1 AND schema_name = $2 AND table_name = $3 AND load_no = $4`, l.Facility, l.Schema, l.Table, l.no, int64(mend.Epoch), int64(mend.Seq), l.complete)
	if err != nil {
		return fmt.Errorf("note that %s.%s was sent to %s: %w", l.Schema, l.Table, l.Facility, err)
	}
	return nil
}

// mends returns the tables that facilities are to be asked for, or told that they have.
// A box that parked rows of one does not have them.
func (s store) mends(ctx context.Context) ([]mend, error) {
	rows, err := s.db.Query(ctx, `SELECT facility, schema_name || '.' || table_name, load_no, mend_epoch, mend_seq,
			(extract(epoch FROM done_at) * 1000000)::bigint,
			complete, reason <> $1 AND (reason <> $2 OR NOT complete)
		FROM holdfast.down_load l WHERE mend_epoch IS NOT NULL AND NOT (complete AND reason IN ($1, $2) AND EXISTS (SELECT FROM holdfast.parked p
			WHERE p.direction = 'down' AND p.state = 'waiting' AND (p.facility, p.schema_name, p.table_name) = (l.facility, l.schema_name, l.table_name)))
		ORDER BY facility, done_at, schema_name, table_name`, reasonReplaced, reasonRestored)
	if err != nil {
		return nil, fmt.Errorf("read what is to be asked for: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m mend, err error) {
		err = row.Scan(&m.Facility, &m.Table, &m.no, &m.at.Epoch, &m.at.Seq, &m.done, &m.whole, &m.heal)
		return m, err
	})
	if err != nil {
		return nil, fmt.Errorf("read what is to be asked for: %w", err)
	}
	return list, nil
}

// whole notes that a box, by its number, has all rows of a table, and tells it so. It
// does neither when the load has begun anew, and lets it not begin until that is told.
func (s store) whole(ctx context.Context, m mend, enrolment uint32, tell func() error) (told bool, err error) {
	const still = ` WHERE facility = $1 AND schema_name || '.' || table_name = $2 AND load_no = $3 AND complete AND mend_epoch IS NOT NULL`
	// Before it is told: what it sends then is believed by this.
	_, err = s.db.Exec(ctx, `UPDATE holdfast.down_load SET whole_enrolment = $4`+still, m.Facility, m.Table, m.no, int64(enrolment))
	if err == nil {
		err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, `SELECT FROM holdfast.down_load`+still+` FOR UPDATE`, m.Facility, m.Table, m.no)
			told = err == nil && tag.RowsAffected() > 0 && tell() == nil
			return err
		})
	}
	if err != nil {
		return false, fmt.Errorf("note that %s has all of %s: %w", m.Facility, m.Table, err)
	}
	return told, nil
}

// mended notes that a facility was asked for a table.
func (s store) mended(ctx context.Context, m mend) error {
	_, err := s.db.Exec(ctx, `UPDATE holdfast.down_load SET mend_epoch = NULL, mend_seq = NULL
		WHERE facility = $1 AND schema_name || '.' || table_name = $2 AND load_no = $3`, m.Facility, m.Table, m.no)
	if err != nil {
		return fmt.Errorf("note that %s was asked for %s: %w", m.Facility, m.Table, err)
	}
	return nil
}

func (s store) event(ctx context.Context, facility, kind string, at change.Position, detail string) error {
	_, err := s.db.Exec(ctx, `INSERT INTO holdfast.stream_event (facility, kind, epoch, seq, detail) VALUES ($1, $2, $3, $4, $5)`,
		facility, kind, int64(at.Epoch), int64(at.Seq), detail)
	if err != nil {
		return fmt.Errorf("keep an event of %s: %w", facility, err)
	}
	return nil
}

// enrolment is that of the newest box for which a facility's way down was begun; 0 where
// that is not known.
func (s store) enrolment(ctx context.Context, facility string) (n int, err error) {
	err = s.db.QueryRow(ctx, `SELECT coalesce(max(enrolment), 0) FROM holdfast.down_position WHERE facility = $1`, facility).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("read the position of %s: %w", facility, err)
	}
	return n, nil
}

// walEnd is where the region's WAL ends now: what is committed is before it.
func (s store) walEnd(ctx context.Context) (lsn uint64, err error) {
	if err = s.db.QueryRow(ctx, `SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&lsn); err != nil {
		return 0, fmt.Errorf("read where the WAL ends: %w", err)
	}
	return lsn, nil
}

// eventOnce keeps an event, unless the facility has the same one already.
func (s store) eventOnce(ctx context.Context, facility, kind, detail string) error {
	_, err := s.db.Exec(ctx, `INSERT INTO holdfast.stream_event (facility, kind, detail) SELECT $1::text, $2::text, $3::text
		WHERE NOT EXISTS (SELECT FROM holdfast.stream_event WHERE facility = $1 AND kind = $2 AND detail = $3)`, facility, kind, detail)
	if err != nil {
		return fmt.Errorf("keep an event of %s: %w", facility, err)
	}
	return nil
}

// allBoxes is above every box's number.
const allBoxes = math.MaxInt32

// parked reports whether changes of the table are parked here that a box before the
// given one made.
func (s store) parked(ctx context.Context, l Load, before int) (bool, error) {
	var waits bool
	err := s.db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM holdfast.parked WHERE facility = $1 AND direction = 'up' AND state = 'waiting'
		AND schema_name = $2 AND table_name = $3 AND epoch >> 32 < $4)`, l.Facility, l.Schema, l.Table, int64(before)).Scan(&waits)
	if err != nil {
		return false, fmt.Errorf("look for parked changes of %s.%s: %w", l.Schema, l.Table, err)
	}
	return waits, nil
}
