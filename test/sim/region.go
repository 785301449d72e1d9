package sim

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/cloud/ingest"
	"github.com/agogsaas/holdfast/cloud/stream"
	"github.com/agogsaas/holdfast/internal/run"
)

// stopWithin bounds each step of stopping a program.
const stopWithin = 20 * time.Second

// region is the region's program: the rooms of a row, without people.
type region struct {
	db    *pgxpool.Pool
	conn  string
	dir   string
	addrs map[netip.Addr]string // facilities by their tunnel address
	log   *slog.Logger

	accept chan net.Conn
	stack  *run.Stack
}

func (r *region) start(ctx context.Context) error {
	r.stack = run.New(r.log)
	in, err := ingest.New(ctx, ingest.Config{DB: r.db, ApplyConnString: r.conn, MaxConns: 4, Patience: time.Second, Log: r.log.With("part", "ingest")})
	if err != nil {
		return err
	}
	sock := newSocket(r.accept)
	streams := stream.New(stream.Config{
		Listener: sock, Region: "sim", Log: r.log.With("part", "stream"),
		FacilityOf: func(a netip.Addr) (string, uint32, bool) { f, ok := r.addrs[a]; return f, 1, ok },
		Open:       func(ctx context.Context, facility string) (stream.Session, error) { return in.Open(ctx, facility) },
		Tables:     in.Tables, TableStates: in.TableStates, Explain: ingest.Explain,
		Event: func(ctx context.Context, facility, kind, detail string) { _ = in.Event(ctx, facility, kind, detail) },
	})
	r.stack.Go("ingest", in.Run)
	r.stack.Go("streams", streams.Run)
	return nil
}

// stop ends the program. What it had not committed is lost, as in a crash.
func (r *region) stop() error {
	if r.stack == nil {
		return nil
	}
	err := r.stack.Stop(stopWithin)
	r.stack = nil
	return err
}
