package sim

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/agogsaas/holdfast/cloud/ingest"
	"github.com/agogsaas/holdfast/cloud/parked"
	"github.com/agogsaas/holdfast/cloud/router"
	"github.com/agogsaas/holdfast/cloud/stream"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/fault"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/proto"
)

// stopWithin bounds each step of stopping a program.
const stopWithin = 20 * time.Second

const tenant = "foo"

// region is the region's program: the rooms of a row, without people.
type region struct {
	*database
	dir   string
	addrs map[netip.Addr]string // facilities by their tunnel address
	// enrolments counts the boxes that each facility has had.
	enrolments map[string]*atomic.Uint32
	log        *slog.Logger

	// toLog is the step to the log of the way down.
	toLog fault.Point

	accept  chan net.Conn
	stack   *run.Stack
	ingest  *ingest.Ingest
	router  *router.Router
	streams *stream.Server
}

func (r *region) start(ctx context.Context) error {
	r.stack = run.New(r.log)
	in, err := ingest.New(ctx, ingest.Config{DB: r.pool, ApplyConnString: r.conn, MaxConns: 4, Patience: time.Second, GiveWay: func() bool { return r.router.Late() > 100*time.Millisecond }, Heal: func(facility, table, reason string) bool {
		asked, err := r.streams.Heal(facility, reason, table)
		return asked && err == nil
	}, Log: r.log.With("part", "ingest")})
	if err != nil {
		return err
	}
	r.ingest = in
	r.router, err = router.New(router.Config{
		ConnString: r.conn, DB: r.pool, Dir: r.dir, Tables: in.Tables, AppendFault: &r.toLog, SegmentBytes: 1 << 20,
		Facilities: func(context.Context) ([]router.Facility, error) {
			var list []router.Facility
			for _, id := range facilities {
				list = append(list, router.Facility{ID: id, Tenant: tenant, Enrolments: int(r.enrolments[id].Load())})
			}
			return list, nil
		},
		Mended: func(facility, table, occasion string) bool {
			asked, err := r.streams.Mend(facility, table, occasion)
			return asked && err == nil
		},
		Whole:    func(facility string) (uint32, func(string, change.Position) error) { return r.streams.Whole(facility) },
		Restored: func(facility string) { _ = r.streams.Restored(facility) },
		Log:      r.log,
	})
	if err != nil {
		return err
	}
	waiting := parked.New(r.pool, in, nil)
	sock := newSocket(r.accept)
	r.streams = stream.New(stream.Config{
		Listener: sock, Region: "sim", Log: r.log.With("part", "stream"),
		FacilityOf: func(a netip.Addr) (string, uint32, bool) {
			f, ok := r.addrs[a]
			if !ok {
				return "", 0, false
			}
			return f, r.enrolments[f].Load(), true
		},
		Open: func(ctx context.Context, facility string) (stream.Session, error) {
			if err := r.router.Announced(ctx); err != nil {
				return nil, err
			}
			if err := r.router.Join(ctx, facility); err != nil {
				return nil, err
			}
			return in.Open(ctx, facility)
		},
		Parked: func(ctx context.Context, facility string, p *proto.Parked) error {
			return waiting.Told(ctx, facility, p, func(ctx context.Context, table string) error { return r.router.Resync(ctx, facility, table) })
		},
		Down: func(ctx context.Context, facility string, enrolment uint32, from change.Position, behind bool) (stream.Down, error) {
			r.router.Behind(facility, behind)
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			reader, err := r.router.Attach(ctx, router.Facility{ID: facility, Tenant: tenant, Enrolments: int(enrolment)}, from)
			return down{reader, r.router, facility}, err
		},
		WentBack: func(ctx context.Context, facility string, from change.Position) (bool, error) {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			return r.router.WentBack(ctx, facility, from)
		},
		Restore: func(ctx context.Context, facility string, epoch uint64, from change.Position) (lacking bool, err error) {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			return r.router.Restore(ctx, facility, epoch, from)
		},
		Tables: r.router.Tables, TableStates: in.TableStates, Explain: ingest.Explain,
		Event: func(ctx context.Context, facility, kind, detail string) { _ = in.Event(ctx, facility, kind, detail) },
	})
	r.stack.Go("ingest", in.Run)
	r.stack.Go("router", r.router.Run)
	r.stack.Go("streams", r.streams.Run)
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

// down is one facility's way down, while its box is connected.
type down struct {
	*router.Reader
	router   *router.Router
	facility string
}

func (d down) Epoch() uint64 { return d.Position().Epoch }

func (d down) Next(ctx context.Context) (stream.DownFrame, error) {
	p, err := d.Reader.Next(ctx)
	return stream.DownFrame{Prev: p.Prev, Frame: p.Frame, More: p.More}, err
}

func (d down) Acked(p change.Position) { d.router.Acked(d.facility, p) }
