// Package uplink is the box's way to its region: it keeps the list of synced
// tables, captures their changes into the queue, sends what waits, and loads
// tables whose earlier rows the region does not have.
//
// In:  the local PostgreSQL's WAL, through internal/capture; the region's word on what is synced.
// Out: internal/queue, and through internal/transfer the region's ingest; edge/downlink, with what comes down.
package uplink

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/edge/downlink"
	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/epoch"
	"github.com/agogsaas/holdfast/internal/queue"
	"github.com/agogsaas/holdfast/proto"
)

// Config is what an Uplink needs. All fields are needed unless they say otherwise.
type Config struct {
	Facility string
	// EpochBase is the lowest epoch of this box's enrolment.
	EpochBase uint64
	// EpochFile keeps the current epoch; its directory must exist.
	EpochFile string
	// DB connects as a role that owns the synced tables or is a superuser.
	DB *pgxpool.Pool
	// CaptureConn is the connection string of a role with REPLICATION.
	CaptureConn string
	Queue       *queue.Queue
	// Down takes what comes down; nil speaks as a box without the way down.
	Down *downlink.Downlink
	// Linger is how long changes may gather while nobody waits for them.
	Linger time.Duration
	// GiveWayAfter is how long the link must be down before a queue that is nearly
	// full gives way; 0 is a minute.
	GiveWayAfter time.Duration
	// Dial connects through the tunnel; Hub is the stream's host:port in it.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	Hub  string
	// Agent and Boot name this program's version and this boot, for people.
	Agent, Boot string
	Log         *slog.Logger
}

// Uplink runs as four parts that need no order among themselves: Tables, Capture,
// Transfer and GiveWay. Transfer works without the local database, so that a
// box whose PostgreSQL is down still delivers what is safe in its queue.
type Uplink struct {
	Config
	base  *slog.Logger // of parts that name themselves
	store store
	epoch epoch.File

	// settled is closed when the list of tables was first read and the
	// publications exist; capture begins then.
	settled chan struct{}
	orders  *orders
	// obeyed wait for the list to be settled; owned by Tables.
	obeyed []chan<- struct{}
	// begunAgain is when a table had a restored epoch begin; owned by Tables.
	begunAgain map[string]time.Time

	// pendingGap is why a new epoch must begin before capture goes on; owned
	// by Capture.
	pendingGap string
	// slotSpoilt is true when the slot has to be made anew. It is not when only
	// the queue was damaged: then the WAL still has what nobody has read yet.
	slotSpoilt bool
	// wentBack is true when the gap is that the database is older than the queue.
	wentBack bool

	// found is where the queue ended when this process began, or one before that no
	// session agreed with, until one has; owned by Transfer. The region can have no
	// more than that. See found.go.
	found change.Position

	setting sync.Mutex // held while the epoch is set

	mu      sync.Mutex
	link    Link
	sent    Sent
	tables  []entry
	version uint64
	reg     *apply.Registry
	// capture reads the WAL; while it is there the slot is, and what is written
	// to the WAL now will be captured. recap ends it.
	capture    *capture.Capture
	captureErr string
	captured   Captured // as last shown
	recap      context.CancelCauseFunc
	wanted     wanted
	leftNew    []leftOutOf   // left out and not written down yet
	left       []leftOut     // left out since the table was last sent
	changed    chan struct{} // closed and replaced when tables change
	// agreed is true once a session could tell that the local database did not go
	// back; see restored.go. pastLost: the queue lost what it had of the time before
	// this epoch. free is closed and replaced when the region's rows are here.
	agreed, pastLost bool
	// needless are loads of fact tables that need not be once the region's rows
	// are here: they and what people changed since are all that the tables have.
	needless map[string]int64
	free     chan struct{}
	// renewed is closed and replaced when the session is to begin anew.
	renewed chan struct{}
}

// Link is how the stream to the region fares.
type Link struct {
	Up    bool
	Since time.Time // of the last change of Up
	// Acked is the last position that is durable in the region, and AckedAt
	// when that was last heard.
	Acked   change.Position
	AckedAt time.Time
	// Problem is why frames wait although the link is up, nil when they flow.
	Problem *proto.Problem
	// BytesPerSecond is how fast frames may be sent, by the region's word; 0 is
	// as fast as the link takes them.
	BytesPerSecond uint64
	// Replaced is true when the region says that another box took this one's place.
	Replaced bool
	// Error is why the link is down, in the words of the last attempt.
	Error string
}

// Captured is how the reading of the WAL fares.
type Captured struct {
	Running bool
	Since   time.Time
	Error   string
}

// New prepares an uplink; it does not touch the network or the database.
func New(c Config) (*Uplink, error) {
	e, err := epoch.Open(c.EpochFile, c.EpochBase)
	if err != nil {
		return nil, err
	}
	found, _, ok := c.Queue.Tail()
	if ok && found.Epoch > e.Current() {
		if err := e.Set(epoch.Epoch{Number: found.Epoch + 1, Opening: true, Reason: "the note of the epoch is older than the queue"}); err != nil {
			return nil, err
		}
	}
	var gap string
	if q := c.Queue.Opened(); q.Damaged != "" {
		gap = "the queue was damaged on disk: " + q.Damaged
	}
	now := time.Now()
	base := c.Log
	c.Log = base.With("part", "uplink")
	if !ok || found.Epoch < e.Current() {
		found = change.Position{Epoch: e.Current()} // it has nothing of this epoch
	}
	if found, err = keepFound(foundFile(c.EpochFile), found); err != nil {
		c.Log.Warn("where the queue ends is forgotten when the agent is started again", "err", err) // a full disk, say
	}
	return &Uplink{
		Config: c, base: base, store: store{db: c.DB}, epoch: e, found: found,
		settled: make(chan struct{}), orders: newOrders(), begunAgain: map[string]time.Time{}, pendingGap: gap, changed: make(chan struct{}), free: make(chan struct{}), renewed: make(chan struct{}),
		link: Link{Since: now}, captured: Captured{Since: now}, reg: apply.NewRegistry(-1, nil),
	}, nil
}

// LinkState returns how the stream fares now.
func (u *Uplink) LinkState() Link {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.link
}

// Registry returns the tables that may come down. What is of others waits
// until the region has told of them.
func (u *Uplink) Registry() *apply.Registry {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.reg
}

// Settled waits until everything that was committed here before the call is in
// the queue. For what must be read from the tables it does not wait; see unread.go.
// Whoever calls it holds the tables, so that none is exchanged meanwhile.
func (u *Uplink) Settled(ctx context.Context) error {
	if err := u.drained(ctx); err != nil {
		return err
	}
	// Behind it: where the slot was lost meanwhile, this was noted before the next was read.
	if u.epoch.Get().Unread {
		return errUnread
	}
	return u.sameTables(ctx)
}

// drained waits until what the WAL has now is in the queue.
func (u *Uplink) drained(ctx context.Context) error {
	u.mu.Lock()
	c := u.capture
	u.mu.Unlock()
	if c == nil {
		return errNotCaptured
	}
	conn, err := u.DB.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("reach the local database: %w", err)
	}
	defer conn.Release()
	return c.Settled(ctx, conn.Conn())
}

// errNotCaptured: what is committed here now will be in the queue later.
var errNotCaptured = fmt.Errorf("%w: the WAL is not read now", apply.ErrUnsettled)

// Epoch returns the current epoch.
func (u *Uplink) Epoch() uint64 { return u.epoch.Current() }

// TableStates returns how each synced table fares.
func (u *Uplink) TableStates() []proto.TableState {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.statesLocked()
}

func (u *Uplink) statesLocked() []proto.TableState {
	list := make([]proto.TableState, 0, len(u.tables))
	for _, e := range u.tables {
		list = append(list, proto.TableState{
			Schema: e.Schema, Name: e.Name, State: e.State,
			Problems: slices.Concat(e.Problems, u.leftOutLocked(e.ID())), RowsLoaded: uint64(e.RowsLoaded), Fingerprint: e.fingerprint, Columns: e.columns,
		})
	}
	return list
}

// tablesChanged returns the states and a channel that is closed when they change.
func (u *Uplink) tablesChanged() ([]proto.TableState, <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.statesLocked(), u.changed
}

func (u *Uplink) setTables(version uint64, list []entry, removed []string) {
	now := u.epoch.Get()
	entries := make([]apply.Table, len(list))
	for i, e := range list {
		entries[i] = apply.Table{
			Schema: e.Schema, Name: e.Name, Class: apply.Class(e.Class), FacilityColumn: e.FacilityColumn, TargetSchema: e.RegionSchema,
			Policy: apply.Policy(e.Policy), CloudColumns: e.CloudColumns,
		}
		// While nothing is decided (an epoch that opens is unread when it is open), what a
		// table waits for comes to an end before.
		if why := e.unread(); why != nil && !(why.Soon && (now.Unread || now.Opening)) {
			entries[i].Unread = why
		}
	}
	u.mu.Lock()
	read := slices.ContainsFunc(entries, func(e apply.Table) bool {
		before, ok := u.reg.Table(e.Schema, e.Name)
		return ok && before.Unread != nil && e.Unread == nil
	})
	u.version, u.tables = version, list
	u.reg = apply.NewRegistry(int64(version), entries, removed...)
	close(u.changed)
	u.changed = make(chan struct{})
	u.mu.Unlock()
	if read && u.Down != nil {
		u.Down.TryAgain() // what waited for that
	}
}

func (u *Uplink) setLink(f func(*Link)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	was := u.link.Up
	f(&u.link)
	if u.link.Up != was {
		u.link.Since = time.Now()
	}
}

// wanted is a new epoch that the session with the region asks Capture for.
type wanted struct {
	reason   string // empty when none is asked for
	above    uint64 // the new epoch's number must be higher
	restored bool   // because the local database was put back from a backup
	// after is what the region has, where the queue went back behind that and has
	// passed it again: what is there now is not of the time before.
	after change.Position
}

// askEpoch asks Capture to begin a new stream identity above an epoch, because
// this side and the region do not fit together. All tables are sent again in
// it; that mends whatever was lost. The error ends the session, so that the
// next one sees the new epoch.
func (u *Uplink) askEpoch(w wanted) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.epoch.Current() <= w.above && (u.wanted.reason == "" || u.wanted.above < w.above) {
		u.wanted = w
		if u.recap != nil {
			u.recap(errNewEpoch)
		}
	}
	return fmt.Errorf("a new epoch begins: %s", w.reason)
}

// wantedEpoch returns what askEpoch asked for, unless that is past.
func (u *Uplink) wantedEpoch() wanted {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.epoch.Current() > u.wanted.above {
		u.wanted = wanted{}
	}
	return u.wanted
}
