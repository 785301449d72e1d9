// Package stream receives the facilities' streams: it greets each box that
// comes through the tunnel, hands its frames on, acknowledges what is durable,
// and sends what goes down.
//
// In:  cloud/hub, whose listener proves by the tunnel address whose stream it is.
// Out: cloud/ingest, one session for each connected facility; and to the boxes, from cloud/router.
package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/transfer"
	"github.com/agogsaas/holdfast/proto"
)

// windowBytes is how much a box may send ahead of the acknowledgement: at the
// best rate measured, a second's worth, while positions become durable a few
// times a second.
const windowBytes = 16 << 20

// Session takes one facility's frames (cloud/ingest).
type Session interface {
	// Position is the last transaction that is durable, when it was opened.
	Position() change.Position
	// Push takes a frame, waiting for room. An error ends the session; what
	// was pushed before may or may not have been applied.
	Push(ctx context.Context, f change.Sealed) error
	// Durable gives the newest position that is on the region's disk each
	// time that it grows, and is closed when the session has ended.
	Durable() <-chan change.Position
	// Err says why the session ended by itself; nil before.
	Err() error
	// Close ends the session, once what was pushed is applied if that does not
	// take long. When ctx ends it does not wait for that.
	Close(ctx context.Context)
}

// Down gives one facility's frames on the way down (cloud/router).
type Down interface {
	// Epoch is that of the way down.
	Epoch() uint64
	// Next waits for the frame that follows. After an error the stream begins anew.
	Next(ctx context.Context) (DownFrame, error)
	// Acked notes that the box has everything up to p on its disk.
	Acked(p change.Position)
	Close()
}

// DownFrame is one frame, and what must have come before it. More is true when
// the next one belongs to the same transactions of the region.
type DownFrame struct {
	Prev  change.Position
	Frame change.Sealed
	More  bool
}

// Config is what a Server needs.
type Config struct {
	Listener net.Listener
	// FacilityOf names the facility behind a tunnel address, and counts its
	// boxes: the address is the newest one's.
	FacilityOf func(netip.Addr) (facility string, enrolment uint32, ok bool)
	// Open begins a facility's session and ends its older one.
	Open func(ctx context.Context, facility string) (Session, error)
	// Down opens a facility's way down behind from, the last that its box has.
	// While it returns an error the box is served without; nil is a region that
	// sends nothing down.
	// behind is true when the region has less of the facility than it had
	// acknowledged: its database was restored.
	Down func(ctx context.Context, facility string, enrolment uint32, from change.Position, behind bool) (Down, error)
	// WentBack reports whether a box has less of the way down than it had told to
	// be durable: its database was put back from a backup. It is asked before Down,
	// of a box that knows what to do then. Restore is called instead of it once the
	// box, in the given epoch, waits for the region's rows; lacking is true when the
	// region passed over some. Default: nobody asks.
	WentBack func(ctx context.Context, facility string, from change.Position) (bool, error)
	Restore  func(ctx context.Context, facility string, epoch uint64, from change.Position) (lacking bool, err error)
	// Tables returns what is synced, and a channel that is closed when that changes.
	Tables func() (proto.Tables, <-chan struct{})
	// Pace returns how many bytes of frames per second may go in either direction,
	// 0 for no limit, and a channel that is closed when that may have changed.
	// Default: no limit.
	Pace func(facility string) (bytesPerSecond uint64, changed <-chan struct{})
	// TableStates stores how a facility's tables fare.
	TableStates func(ctx context.Context, facility string, states []proto.TableState) error
	// Explain turns an error of a session into words for people, or returns
	// nil where the cause will go by itself (a lost connection).
	Explain func(error) *proto.Problem
	// Unverified is told which question about a table has no answer. It must
	// not block. Default: nobody is.
	Unverified func(facility string, u *proto.Unverified)
	// Parked keeps what a box says is parked there. Default: nobody does.
	Parked func(ctx context.Context, facility string, p *proto.Parked) error
	// Event keeps something about a stream that a person should be able to read later.
	Event  func(ctx context.Context, facility, kind, detail string)
	Region string
	Log    *slog.Logger
}

// Server accepts streams until it is told to stop.
type Server struct {
	Config

	mu    sync.Mutex
	boxes map[string]*box // connected, by facility
	open  map[string]int  // streams of each facility, old ones that are ending included
	asked uint64          // number of the last Check
	// joined counts the streams.
	joined uint64
}

// New prepares a server on a listener of the hub.
func New(c Config) *Server {
	if c.Unverified == nil {
		c.Unverified = func(string, *proto.Unverified) {}
	}
	if c.Parked == nil {
		c.Parked = func(context.Context, string, *proto.Parked) error { return nil }
	}
	if c.Pace == nil {
		c.Pace = func(string) (uint64, <-chan struct{}) { return 0, nil }
	}
	return &Server{Config: c, boxes: make(map[string]*box), open: make(map[string]int)}
}

// Run serves until ctx is done.
func (s *Server) Run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+proto.StreamPath, s.serve)
	var streams gate
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !streams.enter() {
				return // accepted just before the end
			}
			defer streams.leave()
			mux.ServeHTTP(w, r)
		}),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 5 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() }) // streams end by ctx
	defer stop()
	err := srv.Serve(s.Listener)
	streams.close() // hijacked connections are not the server's to wait for
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return ctx.Err()
	}
	return fmt.Errorf("serve streams: %w", err)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, "no address", http.StatusBadRequest)
		return
	}
	facility, enrolment, ok := s.FacilityOf(ap.Addr())
	if !ok {
		http.Error(w, "this tunnel address is not a facility's", http.StatusForbidden)
		return
	}
	if !s.enter(facility) {
		http.Error(w, "this facility has too many streams open", http.StatusTooManyRequests)
		return
	}
	defer s.exit(facility)
	link, err := transfer.Accept(w, r)
	if err != nil {
		return // answered already
	}
	defer link.Close()
	b := &box{server: s, facility: facility, enrolment: enrolment, link: link, log: s.Log.With("facility", facility), problem: make(chan *proto.Problem, 1), parked: make(chan *proto.Parked, 1), left: make(chan struct{})}
	err = b.run(r.Context())
	if r.Context().Err() != nil {
		link.Goodbye(proto.GoodbyeShutdown, "the region stops or restarts")
		return
	}
	b.log.Info("stream ended", "err", err)
}

// Connected lists the facilities whose stream is up.
func (s *Server) Connected() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]string, 0, len(s.boxes))
	for f := range s.boxes {
		list = append(list, f)
	}
	return list
}

// IsConnected reports whether a facility's stream is up.
func (s *Server) IsConnected(facility string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.boxes[facility] != nil
}

// Stuck is told by ingest why a facility's frames wait, and nil when they flow
// again; the box is told. It does not block.
func (s *Server) Stuck(facility string, err error) {
	s.mu.Lock()
	b := s.boxes[facility]
	s.mu.Unlock()
	if b == nil {
		return
	}
	p := &proto.Problem{}
	if err != nil {
		if p = s.Explain(err); p == nil {
			return
		}
	}
	select {
	case <-b.problem: // only the latest counts
	default:
	}
	select {
	case b.problem <- p:
	default:
	}
}

// Fence tells the box that serves a facility now that another takes its place,
// and waits a moment for it to hear that: its tunnel ends next.
func (s *Server) Fence(ctx context.Context, facility string) {
	s.mu.Lock()
	b := s.boxes[facility]
	s.mu.Unlock()
	if b == nil {
		return
	}
	if err := b.link.Send(proto.TypeGoodbye, &proto.Goodbye{Code: proto.GoodbyeFenced, Text: "another box takes this facility over"}); err != nil {
		return // it is gone
	}
	t := time.NewTimer(fenceWait)
	defer t.Stop()
	select {
	case <-b.left:
	case <-t.C:
		b.link.Close()
	case <-ctx.Done():
	}
}

// fenceWait is how long a box that is replaced has to hear so.
const fenceWait = 2 * time.Second

// Restored tells a facility whose database had been put back that it has all
// that the region has of it.
func (s *Server) Restored(facility string) error {
	_, err := s.heal(facility, &proto.Heal{Reason: "the region's rows were all sent", Restored: true}) // without a box: it comes again
	return err
}

// Heal asks a facility to send tables again, all when none is named. It
// reports whether the facility is connected.
func (s *Server) Heal(facility, reason string, tables ...string) (asked bool, err error) {
	return s.heal(facility, &proto.Heal{Tables: tables, Reason: reason})
}

// Mend asks a facility for a table behind what it was sent of it. It may be asked
// again with the same occasion, and then goes on where it was.
func (s *Server) Mend(facility, table, occasion string) (asked bool, err error) {
	return s.heal(facility, &proto.Heal{Tables: []string{table}, Reason: "the way down was mended", Mend: occasion})
}

func (s *Server) heal(facility string, m *proto.Heal) (asked bool, err error) {
	s.mu.Lock()
	b := s.boxes[facility]
	s.mu.Unlock()
	if b == nil {
		return false, nil
	}
	return true, b.link.Send(proto.TypeHeal, m)
}

// Whole returns how to tell the box that serves a facility now, and no later one, that
// it has all rows of a table once it has come to a position of the way down, and
// which of the facility's boxes it is; nil when none is connected.
func (s *Server) Whole(facility string) (enrolment uint32, tell func(table string, at change.Position) error) {
	s.mu.Lock()
	b := s.boxes[facility]
	s.mu.Unlock()
	if b == nil {
		return 0, nil
	}
	return uint32(b.epoch >> 32), func(table string, at change.Position) error {
		return b.link.Send(proto.TypeWhole, &proto.Whole{Table: table, Epoch: at.Epoch, Seq: at.Seq})
	}
}

// streamsMax is how many streams one facility may have at once. A box needs
// one, and another while the region has not noticed the end of the last.
const streamsMax = 4

func (s *Server) enter(facility string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[facility] >= streamsMax {
		return false
	}
	s.open[facility]++
	return true
}

func (s *Server) exit(facility string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[facility]--; s.open[facility] == 0 {
		delete(s.open, facility)
	}
}

func (s *Server) join(b *box) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joined++
	b.number = s.joined
	s.boxes[b.facility] = b
}

func (s *Server) leave(b *box) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.boxes[b.facility] == b {
		delete(s.boxes, b.facility)
	}
	close(b.left)
}
