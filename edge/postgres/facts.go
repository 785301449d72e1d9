package postgres

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/pgcluster"
)

// Facts is what the heartbeat and the status page tell of the database.
type Facts struct {
	State   pgcluster.State
	Reason  string // why it is not up
	Version string // of the server

	// WALRetainedBytes is how much WAL is held back by the slot that holds
	// back most.
	WALRetainedBytes int64
	Slots            []Slot

	Connections    int // of clients
	MaxConnections int
	// OldestTransaction is the age of the oldest open transaction. A very old
	// one holds back the WAL and the clean-up of dead rows.
	OldestTransaction time.Duration
	DatabaseBytes     int64 // measured once a minute
	// DiskTotalBytes and DiskFreeBytes are of the data directory's file
	// system, free for ordinary users; 0 in existing mode.
	DiskTotalBytes, DiskFreeBytes uint64
}

// Slot is one replication slot.
type Slot struct {
	Name     string
	Database string
	Active   bool
	// WALStatus is reserved, extended, unreserved or lost.
	WALStatus string
	// RetainedBytes of WAL cannot be removed because of the slot.
	RetainedBytes int64
	// UnconfirmedBytes of WAL have not been acknowledged by the reader.
	UnconfirmedBytes int64
	// SafeBytes is how much more may be written before the slot is lost; nil
	// when there is no limit or it is lost already.
	SafeBytes *int64
	// ConfirmedLSN is up to where the reader has acknowledged.
	ConfirmedLSN int64
}

// Slot returns the slot of that name: one of proto's words active, inactive,
// lost or missing.
func (f Facts) Slot(name string) string {
	for _, s := range f.Slots {
		switch {
		case s.Name != name:
		case s.WALStatus == "lost":
			return "lost"
		case s.Active:
			return "active"
		default:
			return "inactive"
		}
	}
	return "missing"
}

const (
	factsTimeout = 3 * time.Second // less than the heartbeat's period
	sizeEvery    = time.Minute     // measuring the size looks at every file
	slotsMax     = 100
)

// Facts collects what is true now. A database that does not answer is not an
// error but a fact: State and Reason say so, and the rest is empty.
func (d *DB) Facts(ctx context.Context) Facts {
	s := d.server.Status()
	f := Facts{State: s.State, Reason: s.Reason, Version: s.Version}
	if d.dir != "" {
		var st syscall.Statfs_t
		if err := syscall.Statfs(d.dir, &st); err == nil {
			f.DiskTotalBytes = st.Blocks * uint64(st.Bsize)
			f.DiskFreeBytes = st.Bavail * uint64(st.Bsize)
		}
	}
	if s.State != pgcluster.Up {
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, factsTimeout)
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.query(ctx, &f); err != nil {
		d.disconnect()
		f.State, f.Reason = pgcluster.Down, err.Error()
	}
	return f
}

// query must be called with mu held.
func (d *DB) query(ctx context.Context, f *Facts) error {
	if d.conn == nil || d.conn.IsClosed() {
		conn, err := pgx.Connect(ctx, d.server.DSN(pgcluster.Monitor))
		if err != nil {
			return fmt.Errorf("connect to the local database: %w", err)
		}
		d.conn = conn
	}
	var oldest float64
	err := d.conn.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('max_connections')::int,
			count(*) FILTER (WHERE backend_type = 'client backend')::int,
			coalesce(extract(epoch FROM clock_timestamp() - min(xact_start) FILTER (WHERE backend_type = 'client backend' AND pid <> pg_backend_pid())), 0)::float8
		FROM pg_stat_activity`).Scan(&f.Version, &f.MaxConnections, &f.Connections, &oldest)
	if err != nil {
		return fmt.Errorf("count the connections: %w", err)
	}
	f.OldestTransaction = time.Duration(oldest * float64(time.Second))
	rows, err := d.conn.Query(ctx, `SELECT slot_name, coalesce(database, ''), active, coalesce(wal_status, ''),
			coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint,
			coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn), 0)::bigint, safe_wal_size,
			coalesce(pg_wal_lsn_diff(confirmed_flush_lsn, '0/0'), 0)::bigint
		FROM pg_replication_slots ORDER BY slot_name LIMIT $1`, slotsMax)
	if err != nil {
		return fmt.Errorf("look at the slots: %w", err)
	}
	f.Slots, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Slot])
	if err != nil {
		return fmt.Errorf("look at the slots: %w", err)
	}
	for _, s := range f.Slots {
		f.WALRetainedBytes = max(f.WALRetainedBytes, s.RetainedBytes)
	}
	return d.measure(ctx, f)
}

func (d *DB) measure(ctx context.Context, f *Facts) error {
	if time.Since(d.sizeAt) >= sizeEvery {
		if err := d.conn.QueryRow(ctx, `SELECT pg_database_size(current_database())`).Scan(&d.size); err != nil {
			return fmt.Errorf("measure the database: %w", err)
		}
		d.sizeAt = time.Now()
	}
	f.DatabaseBytes = d.size
	return nil
}
