package capture

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sys/unix"

	"github.com/agogsaas/holdfast/internal/hint"
)

// LSN is a place in the WAL; its String is PostgreSQL's notation.
type LSN = pglogrepl.LSN

// textSettings make the text form of every value the same on every server. The
// search path is empty so that names in values are qualified.
var textSettings = map[string]string{
	"application_name":   "holdfast-capture",
	"client_encoding":    "UTF8",
	"datestyle":          "ISO, MDY",
	"intervalstyle":      "postgres",
	"timezone":           "UTC",
	"extra_float_digits": "3",
	"bytea_output":       "hex",
	"xmlbinary":          "base64",
	"lc_monetary":        "C",
	"search_path":        "",
}

// conn is a walsender's connection and an ordinary one for questions.
type conn struct {
	repl    *pgconn.PgConn
	front   *pgproto3.Frontend
	buf     *bufio.Reader
	raw     syscall.RawConn // nil if it is no plain socket
	catalog *pgx.Conn
	config  *pgx.ConnConfig // of the ordinary one

	writeMu sync.Mutex
}

const (
	connectTimeout = 10 * time.Second
	readBuffer     = 256 << 10
)

// undefinedObject is the SQLSTATE of a publication that is not there.
const undefinedObject = "42704"

// connect checks that the slot gives what follows have, and starts reading
// there. The error is a *GapError if it does not.
func connect(ctx context.Context, connString, slot string, have uint64) (_ *conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	c := new(conn)
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	plain, err := pgx.ParseConfig(connString)
	if err != nil {
		return nil, fmt.Errorf("%w: connection string: %w", errFatal, err)
	}
	delete(plain.RuntimeParams, "replication")
	for k, v := range textSettings {
		plain.RuntimeParams[k] = v
	}
	c.config = plain
	if c.catalog, err = pgx.ConnectConfig(ctx, plain); err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	if err := checkSlot(ctx, c.catalog, slot, have); err != nil {
		return nil, err
	}
	repl := plain.Config.Copy()
	repl.RuntimeParams["replication"] = "database"
	repl.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		c.buf = bufio.NewReaderSize(r, readBuffer)
		return pgproto3.NewFrontend(c.buf, w)
	}
	if c.repl, err = pgconn.ConnectConfig(ctx, repl); err != nil {
		return nil, fmt.Errorf("connect for replication: %w", err)
	}
	err = pglogrepl.StartReplication(ctx, c.repl, pgx.Identifier{slot}.Sanitize(), LSN(have), pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names '" + Publication + "," + EventPublication + "'", "messages 'true'"},
	})
	if err != nil {
		return nil, fmt.Errorf("start replication: %w", err)
	}
	c.front = c.repl.Frontend()
	if sc, ok := c.repl.Conn().(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn() // without it only naps are longer
	}
	return c, nil
}

// checkSlot compares the slot with the end of what the sink has.
func checkSlot(ctx context.Context, conn *pgx.Conn, slot string, have uint64) error {
	info, err := readSlot(ctx, conn, slot)
	if err != nil {
		return err
	}
	switch {
	case info == nil:
		return &GapError{Reason: "the replication slot " + slot + " is gone: the database was restored or replaced, or somebody dropped it"}
	case info.Lost:
		return &GapError{Reason: "the server threw away WAL that the replication slot " + slot + " still needed (max_slot_wal_keep_size)"}
	case info.Plugin != "pgoutput":
		return hint.Wrap(fmt.Errorf("%w: slot %s belongs to the plugin %q", errFatal, slot, info.Plugin), "Drop the slot %s, or give Holdfast another slot name.", slot)
	case info.ConfirmedFlush > have:
		return &GapError{Reason: fmt.Sprintf("the replication slot is at %s, the queue ends at %s: the queue lost its end", LSN(info.ConfirmedFlush), LSN(have))}
	case info.WAL < have:
		return &GapError{Reason: fmt.Sprintf("the database's WAL ends at %s, the queue has changes up to %s: the database is older than the queue", LSN(info.WAL), LSN(have)), Older: info.Older(have)}
	}
	return nil
}

// buffered is how many bytes were received and not read yet.
func (c *conn) buffered() int { return c.buf.Buffered() + c.front.ReadBufferLen() }

// waiting is how many bytes the kernel has for us, 0 also where it does not say.
func (c *conn) waiting() int {
	if c.raw == nil {
		return 0
	}
	n := 0
	_ = c.raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }) // 0 will do
	return n
}

// receive returns the payload of the next copy message; it is valid until the
// next call.
func (c *conn) receive() ([]byte, error) {
	for {
		m, err := c.front.Receive()
		if err != nil {
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				return nil, fmt.Errorf("the server said nothing for %s", silenceLimit)
			}
			return nil, err
		}
		switch m := m.(type) {
		case *pgproto3.CopyData:
			return m.Data, nil
		case *pgproto3.ErrorResponse:
			if err := pgconn.ErrorResponseToPgError(m); err.Code != undefinedObject {
				return nil, err
			}
			// The server reads the WAL with the catalog of its time, in which
			// there is no publication: it will never give what follows.
			return nil, &GapError{Reason: "a publication was dropped: " + m.Message}
		case *pgproto3.CopyDone, *pgproto3.CommandComplete, *pgproto3.ReadyForQuery:
			return nil, errors.New("the server ended replication")
		}
	}
}

// awaitUntil bounds the wait for the next bytes.
func (c *conn) awaitUntil(t time.Time) { _ = c.repl.Conn().SetReadDeadline(t) }

// status tells the server what was received and what is durable. Flush is
// always explicit: nothing may be taken as durable because it was received.
func (c *conn) status(received, durable uint64, ping bool) error {
	b := make([]byte, 0, 64)
	b = append(b, 'd', 0, 0, 0, 4+34, pglogrepl.StandbyStatusUpdateByteID)
	b = binary.BigEndian.AppendUint64(b, max(received, durable))
	b = binary.BigEndian.AppendUint64(b, durable)
	b = binary.BigEndian.AppendUint64(b, durable)
	b = binary.BigEndian.AppendUint64(b, uint64(time.Now().UnixMicro()-pgEpochMicros))
	if ping {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	_ = c.repl.Conn().SetWriteDeadline(time.Now().Add(connectTimeout))
	_, err := c.repl.Conn().Write(b)
	return err
}

func (c *conn) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if c.repl != nil {
		// The protocol's farewell would wait for a server that is busy sending.
		_ = c.repl.Conn().Close()
		_ = c.repl.Close(ctx)
	}
	if c.catalog != nil {
		_ = c.catalog.Close(ctx)
	}
}
