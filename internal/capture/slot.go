package capture

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/hint"
)

// SlotInfo is the state of a replication slot.
type SlotInfo struct {
	// Created is true when EnsureSlot has just made it: everything that
	// committed before is not in it.
	Created bool
	// ConfirmedFlush is where reading starts.
	ConfirmedFlush uint64
	Plugin         string
	// Active is true while somebody reads it.
	Active bool
	// Lost is true when the server has removed WAL that the slot needed.
	Lost bool
	// WAL is the current end of the database's WAL, and RetainedBytes how much
	// of it the slot holds back.
	WAL           uint64
	RetainedBytes int64
}

// Gap says why something may lie between have, the end in the WAL of what the
// reader holds, and what the slot will give next; "" when nothing can.
func (i SlotInfo) Gap(have uint64) string {
	switch {
	case i.Created:
		return "the replication slot was gone: the database was restored or replaced"
	case i.ConfirmedFlush > have:
		return "the replication slot is ahead of the queue: the queue lost its end"
	case i.WAL < have:
		return "the database is older than the queue: it was restored from a backup"
	}
	return ""
}

// Older reports whether the database that the slot is of is certainly older
// than have: nothing else makes a WAL shorter that has the slot still.
func (i SlotInfo) Older(have uint64) bool {
	return !i.Created && i.ConfirmedFlush <= have && i.WAL < have
}

// Recovered returns an LSN behind all that the database had when its server
// started, and before all that was committed since, unless there was a checkpoint.
func Recovered(ctx context.Context, conn *pgx.Conn) (uint64, error) {
	var redo string
	if err := conn.QueryRow(ctx, `SELECT redo_lsn::text FROM pg_catalog.pg_control_checkpoint()`).Scan(&redo); err != nil {
		return 0, fmt.Errorf("look where the database's recovery ended: %w", err)
	}
	at, err := pglogrepl.ParseLSN(redo)
	return uint64(at), err
}

// readSlot returns nil when there is none.
func readSlot(ctx context.Context, conn *pgx.Conn, name string) (*SlotInfo, error) {
	var flush, restart, wal *string
	var status *string
	info := new(SlotInfo)
	err := conn.QueryRow(ctx, `SELECT confirmed_flush_lsn::text, restart_lsn::text, pg_catalog.pg_current_wal_lsn()::text,
			plugin::text, active, wal_status
		FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND database = pg_catalog.current_database()`, name).
		Scan(&flush, &restart, &wal, &info.Plugin, &info.Active, &status)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up slot %s: %w", name, err)
	}
	info.Lost = status != nil && *status == "lost"
	var at LSN
	for p, s := range map[*uint64]*string{&info.ConfirmedFlush: flush, &info.WAL: wal, (*uint64)(&at): restart} {
		if s == nil {
			continue
		}
		lsn, err := pglogrepl.ParseLSN(*s)
		if err != nil {
			return nil, err
		}
		*p = uint64(lsn)
	}
	if at > 0 && info.WAL > uint64(at) {
		info.RetainedBytes = int64(info.WAL - uint64(at))
	}
	return info, nil
}

// EnsureSlot makes the slot if it is not there, and says so. A new slot gives
// only what commits from now on. The publications must be there before it
// (EnsurePublications): the WAL is read with the catalog of its time. conn must be an ordinary connection, outside
// of a transaction; making a slot waits for the transactions that are open.
func EnsureSlot(ctx context.Context, conn *pgx.Conn, name string) (SlotInfo, error) {
	info, err := readSlot(ctx, conn, name)
	if err != nil {
		return SlotInfo{}, err
	}
	if info != nil && info.Lost {
		// It will never give anything again.
		if err := DropSlot(ctx, conn, name); err != nil {
			return SlotInfo{}, err
		}
		info = nil
	}
	if info != nil {
		return *info, nil
	}
	if _, err := conn.Exec(ctx, `SELECT pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput')`, name); err != nil {
		return SlotInfo{}, hint.Wrap(fmt.Errorf("create slot %s: %w", name, err),
			"Set wal_level = logical, raise max_replication_slots if all are taken, and give the role REPLICATION.")
	}
	if info, err = readSlot(ctx, conn, name); err != nil {
		return SlotInfo{}, err
	}
	if info == nil {
		return SlotInfo{}, fmt.Errorf("slot %s belongs to another database of this server", name)
	}
	info.Created = true
	return *info, nil
}

// DropSlot removes the slot, and ends whoever reads it. It is fine if there is
// none.
func DropSlot(ctx context.Context, conn *pgx.Conn, name string) error {
	_, err := conn.Exec(ctx, `SELECT pg_catalog.pg_terminate_backend(active_pid, 5000)
		FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL`, name)
	if err == nil {
		_, err = conn.Exec(ctx, `SELECT pg_catalog.pg_drop_replication_slot(slot_name)
			FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, name)
	}
	if err != nil {
		return fmt.Errorf("drop slot %s: %w", name, err)
	}
	return nil
}

// ReadSlot returns the state of a slot, and false when there is none.
func ReadSlot(ctx context.Context, conn *pgx.Conn, name string) (SlotInfo, bool, error) {
	info, err := readSlot(ctx, conn, name)
	if info == nil || err != nil {
		return SlotInfo{}, false, err
	}
	return *info, true, nil
}
