package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/proto"
)

const (
	sqlList = `
SELECT f.id, f.tenant, f.name, f.time_zone, d.certificate_not_after
FROM holdfast.facility f
LEFT JOIN holdfast.device d ON d.facility = f.id AND d.state = 'active'
WHERE f.removed_at IS NULL`

	sqlSeen = `SELECT facility, heard_at, tunnel_at, session_epoch, boot_id, status FROM holdfast.facility_seen WHERE facility = ANY($1)`

	// An empty status means: as it was. The join leaves out facilities that
	// were removed meanwhile, which would fail the whole batch.
	sqlFlush = `
INSERT INTO holdfast.facility_seen AS s (facility, heard_at, tunnel_at, session_epoch, boot_id, status)
SELECT u.facility, u.heard_at, u.tunnel_at, u.session_epoch, u.boot_id, u.status
FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::bigint[], $5::text[], $6::jsonb[])
     AS u (facility, heard_at, tunnel_at, session_epoch, boot_id, status)
JOIN holdfast.facility f ON f.id = u.facility
ON CONFLICT (facility) DO UPDATE SET
    heard_at = excluded.heard_at,
    tunnel_at = coalesce(excluded.tunnel_at, s.tunnel_at),
    session_epoch = excluded.session_epoch,
    boot_id = excluded.boot_id,
    status = CASE WHEN excluded.status = '{}'::jsonb THEN s.status ELSE excluded.status END`

	sqlPulse = `INSERT INTO holdfast.pulse (one, at) VALUES (true, $1) ON CONFLICT (one) DO UPDATE SET at = excluded.at`

	// What was found and is not over, by whichever process.
	sqlOpen = `
SELECT i.kind, coalesce(i.facility, ''), i.severity, i.since, i.summary, i.evidence, coalesce(p.kind, '')
FROM holdfast.incident i
LEFT JOIN holdfast.incident p ON p.id = i.parent
WHERE i.resolved_at IS NULL`

	// What programs were told of a facility's incidents: the topics below its own.
	sqlMirrored = `
SELECT DISTINCT m.address || '/' || i.kind FROM holdfast.incident i
JOIN holdfast.delivery d ON d.incident = i.id
JOIN holdfast.contact_method m ON m.id = d.method
WHERE i.facility = $1 AND d.channel = 'mqtt' AND d.attempts > 0`

	// What the watcher counts; the order is that of the struct.
	sqlCounted = `
SELECT f.id, coalesce(p.epoch, 0), coalesce(p.seq, 0), coalesce(k.n, 0), coalesce(k.tried, 0), coalesce(d.n, 0), coalesce(d.rows, 0),
       coalesce(b.n, 0), coalesce(v.n, 0)
FROM holdfast.facility f
LEFT JOIN holdfast.position p ON p.facility = f.id
LEFT JOIN (SELECT facility, count(*) AS n, (1000000 * extract(epoch FROM max(tried_at)))::bigint AS tried
           FROM holdfast.parked WHERE direction = 'up' AND state = 'waiting' GROUP BY facility) k ON k.facility = f.id
LEFT JOIN (SELECT facility, count(*) FILTER (WHERE done_at IS NULL) AS n, sum(rows_sent)::bigint AS rows
           FROM holdfast.down_load GROUP BY facility) d ON d.facility = f.id
LEFT JOIN (SELECT facility, sum(waiting)::bigint AS n FROM holdfast.parked_at_box GROUP BY facility) b ON b.facility = f.id
LEFT JOIN (SELECT facility, sum(greatest(differing - repaired, 0))::bigint AS n FROM holdfast.verified GROUP BY facility) v ON v.facility = f.id
WHERE f.removed_at IS NULL`

	// Without its slot the log has nothing behind its own end.
	sqlRouted = `
SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(s.confirmed_flush_lsn, '0/0'::pg_lsn + $2::numeric))::bigint,
       coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn), 0)::bigint,
       coalesce(pg_wal_lsn_diff(s.confirmed_flush_lsn, '0/0'), 0)::bigint
FROM (VALUES (0)) one LEFT JOIN pg_replication_slots s ON s.slot_name = $1 AND s.database = current_database()`
)

// store is the table facility_seen.
type store struct{ db *pgxpool.Pool }

// seen is one row of it.
type seen struct {
	ID                string
	HeardAt, TunnelAt *time.Time
	Session           int64
	Boot              string
	Status            []byte // JSON; {} for none, or when flushing: as it was
}

// listed is a facility of the region.
type listed struct {
	ID, Tenant, Name, TimeZone string
	CertificateUntil           *time.Time
}

func (s store) list(ctx context.Context) ([]listed, error) {
	rows, err := s.db.Query(ctx, sqlList)
	if err != nil {
		return nil, fmt.Errorf("list facilities: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[listed])
	if err != nil {
		return nil, fmt.Errorf("list facilities: %w", err)
	}
	return all, nil
}

// seen is what was written of some facilities.
func (s store) seen(ctx context.Context, ids []string) (map[string]seen, error) {
	rows, err := s.db.Query(ctx, sqlSeen, ids)
	if err != nil {
		return nil, fmt.Errorf("read when facilities were heard: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[seen])
	if err != nil {
		return nil, fmt.Errorf("read when facilities were heard: %w", err)
	}
	out := make(map[string]seen, len(list))
	for _, one := range list {
		out[one.ID] = one
	}
	return out, nil
}

// counted is what the database says of each facility's stream.
func (s store) counted(ctx context.Context) ([]counted, error) {
	rows, err := s.db.Query(ctx, sqlCounted)
	if err != nil {
		return nil, fmt.Errorf("count what the streams have done: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[counted])
	if err != nil {
		return nil, fmt.Errorf("count what the streams have done: %w", err)
	}
	return list, nil
}

// routed is what the database says of the slot that the router reads.
func (s store) routed(ctx context.Context, r Route) (w routed, err error) {
	err = s.db.QueryRow(ctx, sqlRouted, r.Slot, strconv.FormatUint(r.LSN, 10)).Scan(&w.Behind, &w.Retained, &w.Confirmed)
	if err != nil {
		return w, fmt.Errorf("look at the slot of the way down: %w", err)
	}
	return w, nil
}

// pulse proves that the database takes writes.
func (s store) pulse(ctx context.Context, now time.Time) error {
	if _, err := s.db.Exec(ctx, sqlPulse, now); err != nil {
		return fmt.Errorf("write the pulse: %w", err)
	}
	return nil
}

// mirrored lists the topics, below a facility's own, of what programs were told
// of its incidents.
func (s store) mirrored(ctx context.Context, facility string) ([]string, error) {
	rows, err := s.db.Query(ctx, sqlMirrored, facility)
	if err != nil {
		return nil, fmt.Errorf("list what is retained of %s: %w", facility, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list what is retained of %s: %w", facility, err)
	}
	return list, nil
}

// open lists what was found and is not over.
func (s store) open(ctx context.Context) ([]detect.Finding, error) {
	rows, err := s.db.Query(ctx, sqlOpen)
	if err != nil {
		return nil, fmt.Errorf("list the open incidents: %w", err)
	}
	// By name: whether a finding is sure, for one, is no column, and the rules' to say.
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (f detect.Finding, err error) {
		err = r.Scan(&f.Kind, &f.Facility, &f.Severity, &f.Since, &f.Summary, &f.Evidence, &f.Of)
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the open incidents: %w", err)
	}
	return list, nil
}

// recall gives the rules what an earlier process had found.
func (f *Fleet) recall(ctx context.Context) error {
	open, err := f.store.open(ctx)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.detector.Recall(open)
	return nil
}

func (s store) flush(ctx context.Context, rows []seen) error {
	if len(rows) == 0 {
		return nil
	}
	var (
		ids, boots, docs = make([]string, 0, len(rows)), make([]string, 0, len(rows)), make([]string, 0, len(rows))
		heard, tunnel    = make([]*time.Time, 0, len(rows)), make([]*time.Time, 0, len(rows))
		sessions         = make([]int64, 0, len(rows))
	)
	for _, r := range rows {
		ids, boots, docs = append(ids, r.ID), append(boots, r.Boot), append(docs, string(r.Status))
		heard, tunnel = append(heard, r.HeardAt), append(tunnel, r.TunnelAt)
		sessions = append(sessions, r.Session)
	}
	if _, err := s.db.Exec(ctx, sqlFlush, ids, heard, tunnel, sessions, boots, docs); err != nil {
		return fmt.Errorf("write last heard facilities: %w", err)
	}
	return nil
}

// Reload reads the list of facilities, so that one that was just added is
// known at once. It is called every few seconds anyway.
func (f *Fleet) Reload(ctx context.Context) error {
	select {
	case f.listing <- struct{}{}: // an older list must not come last
		defer func() { <-f.listing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	rows, err := f.store.list(ctx)
	if err != nil {
		return err
	}
	// Their documents are long, and read once.
	var known map[string]seen
	if added := f.unknown(rows); len(added) > 0 {
		if known, err = f.store.seen(ctx, added); err != nil {
			return err
		}
	}
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	there := make(map[string]bool, len(rows))
	for i, r := range rows {
		f.pauseLocked(i)
		there[r.ID] = true
		fac := f.facilities[r.ID]
		if fac == nil || fac.tenant != r.Tenant {
			fac = newFacility(r.ID)
			fac.tenant, fac.Name, fac.timeZone = r.Tenant, r.Name, r.TimeZone
			f.remember(fac, known[r.ID])
			fac.certified(r.CertificateUntil)
			f.facilities[r.ID] = fac
			f.judgeLocked(fac, now)
			f.changedLocked(fac, true)
			continue
		}
		fac.certified(r.CertificateUntil)
		if fac.Name != r.Name || fac.timeZone != r.TimeZone {
			fac.Name, fac.timeZone = r.Name, r.TimeZone
			f.changedLocked(fac, false)
		}
	}
	for fac := range f.eachLocked() {
		if !there[fac.ID] {
			delete(f.facilities, fac.ID)
			f.changedLocked(fac, false)
		}
	}
	return nil
}

// unknown are those of a list that are not kept here.
func (f *Fleet) unknown(list []listed) (ids []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, r := range list {
		f.pauseLocked(i)
		if fac := f.facilities[r.ID]; fac == nil || fac.tenant != r.Tenant {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func (fac *facility) certified(until *time.Time) {
	fac.CertificateUntil = time.Time{}
	if until != nil {
		fac.CertificateUntil = *until
	}
}

// remember takes over what an earlier process knew.
func (f *Fleet) remember(fac *facility, r seen) {
	if r.HeardAt == nil {
		return
	}
	fac.Heard, fac.session, fac.boot = *r.HeardAt, uint64(r.Session), r.Boot
	if r.TunnelAt != nil {
		fac.Tunnel = *r.TunnelAt
	}
	var s proto.Status
	if err := json.Unmarshal(r.Status, &s); err != nil {
		f.log.Warn("stored status document is unreadable", "facility", fac.ID, "err", err)
		return
	}
	if s.Schema != 0 {
		fac.Status, fac.StatusAt = &s, *r.HeardAt
	}
}

// storing writes what was heard and reads the list of facilities.
func (f *Fleet) storing(ctx context.Context) error {
	flush, list := time.NewTicker(flushEvery), time.NewTicker(listEvery)
	defer flush.Stop()
	defer list.Stop()
	backoff := run.Backoff{Min: time.Second, Max: 15 * time.Second}
	for {
		var step func(context.Context) error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-flush.C:
			step = f.flush
		case <-list.C:
			step = f.relist
		}
		// While the database is away everything stays in memory.
		if err := run.Retry(ctx, f.log, backoff, step); err != nil {
			return err
		}
	}
}

// relist reads the list of facilities, and what work is announced.
func (f *Fleet) relist(ctx context.Context) error {
	if err := f.Reload(ctx); err != nil || f.cfg.Maintenance == nil {
		return err
	}
	work, err := f.cfg.Maintenance(ctx)
	if err != nil {
		return fmt.Errorf("list the announced work: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for fac := range f.eachLocked() {
		if id := fac.ID; !work[id].Equal(f.work[id]) {
			f.changedLocked(fac, false)
		}
	}
	f.work = work
	return nil
}

// flush writes the facilities that were heard since the last flush.
func (f *Fleet) flush(ctx context.Context) error {
	rows, undo, err := f.takeDirty()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := f.store.flush(ctx, rows); err != nil {
		undo()
		return err
	}
	f.counts.flushed(len(rows), time.Since(began))
	return nil
}

// takeDirty returns what is to be written; undo marks it as not written.
func (f *Fleet) takeDirty() (rows []seen, undo func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var taken, withStatus []*facility
	for fac := range f.eachLocked() {
		if !fac.dirty || fac.Heard.IsZero() {
			continue
		}
		heard := fac.Heard.Round(0) // the wall's time only
		r := seen{ID: fac.ID, HeardAt: &heard, Session: int64(fac.session), Boot: fac.boot, Status: []byte("{}")}
		if !fac.Tunnel.IsZero() {
			tunnel := fac.Tunnel.Round(0)
			r.TunnelAt = &tunnel
		}
		if fac.statusNew {
			if r.Status, err = json.Marshal(fac.Status); err != nil {
				return nil, nil, fmt.Errorf("write the status document of %s: %w", fac.ID, err)
			}
			fac.statusNew = false
			withStatus = append(withStatus, fac)
		}
		fac.dirty = false
		taken, rows = append(taken, fac), append(rows, r)
	}
	return rows, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, fac := range taken {
			fac.dirty = true
		}
		for _, fac := range withStatus {
			fac.statusNew = true
		}
	}, nil
}
