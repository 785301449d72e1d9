package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// makeSlots makes the peer's slots, at the end of the WAL.
func (f *fan) makeSlots(ctx context.Context) ([]string, error) {
	names := make([]string, fanSlots)
	for i := range names {
		names[i] = fmt.Sprintf("native_%03d", i)
		if _, err := f.pool.Exec(ctx, `SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, names[i]); err != nil {
			return nil, fmt.Errorf("make a native slot: %w", err)
		}
	}
	_, err := f.pool.Exec(ctx, `DROP PUBLICATION IF EXISTS native; CREATE PUBLICATION native FOR TABLE price`)
	if err != nil {
		return nil, fmt.Errorf("make the peer's publication: %w", err)
	}
	return names, nil
}

func (f *fan) dropSlots(ctx context.Context) error {
	return f.l.until(ctx, time.Minute, func(ctx context.Context) (bool, error) {
		var left int
		err := f.pool.QueryRow(ctx, `SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'native%' AND active`).Scan(&left)
		if err != nil || left > 0 {
			return false, err
		}
		_, err = f.pool.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'native%'`)
		return err == nil, err
	})
}

// readSlots reads all slots at once up to lsn, and returns the processor time
// of the server.
func (f *fan) readSlots(ctx context.Context, slots []string, lsn string) (time.Duration, error) {
	end, err := pglogrepl.ParseLSN(lsn)
	if err != nil {
		return 0, err
	}
	before, err := f.cluster.busy()
	if err != nil {
		return 0, err
	}
	var wg sync.WaitGroup
	errs := make([]error, len(slots))
	for i, slot := range slots {
		wg.Go(func() { errs[i] = f.readSlot(ctx, slot, end) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	if err := pause(ctx, time.Second); err != nil { // until the server has collected its processes
		return 0, err
	}
	after, err := f.cluster.busy()
	return after - before, err
}

func (f *fan) readSlot(ctx context.Context, slot string, end pglogrepl.LSN) error {
	config, err := pgconn.ParseConfig(f.cluster.dsn(f.database))
	if err != nil {
		return err
	}
	config.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to a native slot: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = pglogrepl.StartReplication(ctx, conn, slot, 0, pglogrepl.StartReplicationOptions{PluginArgs: []string{"proto_version '1'", "publication_names 'native'", "binary 'true'"}})
	if err != nil {
		return fmt.Errorf("read a native slot: %w", err)
	}
	for {
		msg, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return fmt.Errorf("read a native slot: %w", err)
		}
		data, ok := msg.(*pgproto3.CopyData)
		if !ok {
			return fmt.Errorf("a native slot answered with %T", msg)
		}
		var at pglogrepl.LSN
		switch data.Data[0] {
		case pglogrepl.PrimaryKeepaliveMessageByteID:
			m, err := pglogrepl.ParsePrimaryKeepaliveMessage(data.Data[1:])
			if err != nil {
				return err
			}
			if m.ReplyRequested {
				if err := pglogrepl.SendStandbyStatusUpdate(ctx, conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: m.ServerWALEnd}); err != nil {
					return err
				}
			}
		case pglogrepl.XLogDataByteID:
			m, err := pglogrepl.ParseXLogData(data.Data[1:])
			if err != nil {
				return err
			}
			if len(m.WALData) > 0 && m.WALData[0] == 'C' {
				at = m.WALStart
			}
		}
		if at >= end {
			return nil
		}
	}
}
