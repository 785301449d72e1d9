package fleet

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/internal/progress"
	"github.com/agogsaas/holdfast/proto"
)

const (
	judgeEvery  = 250 * time.Millisecond
	hurryAfter  = 100 * time.Millisecond // all that is urgent within it is one look
	sampleEvery = 5 * time.Second
	flushEvery  = 4 * time.Second // with stallEvery and the router's: these seldom meet
	listEvery   = 7 * time.Second
	manyAtOnce  = 256 // facilities: some tenths of a millisecond
)

// Link is what the hub knows of a facility's tunnel.
type Link struct {
	// Heard is when an authenticated packet last came, by this process's
	// clock; zero before the first.
	Heard time.Time
	// Rx and Tx are bytes from and to the facility.
	Rx, Tx uint64
}

// Config is what a Fleet needs. Only DB and Client are required.
type Config struct {
	DB *pgxpool.Pool
	// Client completes the broker connection's configuration (cloud/broker).
	Client func(mqttclient.Config) mqttclient.Config
	// AsBox is Client for a connection that comes in as boxes' do (cloud/broker); nil
	// when there is no such way.
	AsBox func(mqttclient.Config) mqttclient.Config
	// Link returns what the hub knows of a facility (cloud/hub); nil when
	// there is no hub.
	Link func(facility string) (Link, bool)
	// Probe asks a facility through the tunnel whether it is there
	// (cloud/hub); nil when it cannot.
	Probe func(ctx context.Context, facility string) (time.Duration, error)
	// Streaming reports whether a facility's sync stream is connected; nil
	// means no.
	Streaming func(facility string) bool
	// Received returns what a facility's stream has brought, and false while it
	// is not connected (cloud/stream). Down returns how many transactions wait
	// for a facility on the way down and what moves when it takes some. Either
	// may be nil.
	Received func(facility string) (Received, bool)
	Down     func(facility string) (waiting uint64, moves progress.Mark, ok bool)
	// Route returns what the log of the way down has of the region's WAL
	// (cloud/router); nil when nothing goes down.
	Route func() Route
	// Pace is how many bytes per second may travel of a facility's, 0 for no limit;
	// what has to wait for its turn does not stand still. nil: no limits.
	Pace func(facility string) (bytesPerSecond uint64)
	// StalledAfter is how long a stage may have work and make no progress;
	// default a minute.
	StalledAfter time.Duration
	// Maintenance returns the facilities that are under announced work now, and
	// until when (cloud/oncall); nil when nobody knows. It is asked every few
	// seconds, and only shown.
	Maintenance func(ctx context.Context) (map[string]time.Time, error)
	// Detect has what may be set of the rules.
	Detect detect.Config
	Log    *slog.Logger
}

// Fleet is all facilities of the region. Its methods may be called from
// several goroutines, and none of them waits for the network or the database
// unless it takes a context.
type Fleet struct {
	cfg    Config
	log    *slog.Logger
	client *mqttclient.Client
	store  store
	counts counters

	canaries   [canaryCount]canary
	word       atomic.Pointer[detect.Word]
	hurry      chan struct{} // has room for one: something is to be judged, or asked, at once
	unwritable atomic.Pointer[time.Time]
	listing    chan struct{} // has room for one: who reads the list of facilities
	inbox      chan arrival
	ending     <-chan struct{} // closed when nobody takes in what arrives any more

	mu         sync.Mutex
	detector   *detect.Detector
	facilities map[string]*facility
	work       map[string]time.Time // announced, by facility, and until when
	route      route
	moments    moments
	listening  time.Time           // since when heartbeats can be heard; zero while not
	entered    time.Time           // when the last box came in
	shut       bool                // nobody can
	subs       map[*sub]struct{}   // who wants to know of changes
	mirrors    map[string]bool     // facilities whose mirrors are to be published; true: the status too
	asks       map[string]struct{} // facilities to ask for their status document
	wake       chan struct{}       // has room for one: mirrors or asks has grown
	commands   map[proto.CommandID]chan proto.CommandAck
}

// New prepares a fleet. Run fills and keeps it.
func New(cfg Config) (*Fleet, error) {
	if cfg.DB == nil || cfg.Client == nil {
		return nil, errors.New("fleet: the database and the broker are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.StalledAfter == 0 {
		cfg.StalledAfter = progress.Default
	}
	f := &Fleet{
		cfg: cfg, log: cfg.Log, store: store{cfg.DB},
		facilities: make(map[string]*facility),
		subs:       make(map[*sub]struct{}),
		mirrors:    make(map[string]bool),
		asks:       make(map[string]struct{}),
		wake:       make(chan struct{}, 1),
		hurry:      make(chan struct{}, 1),
		listing:    make(chan struct{}, 1),
		inbox:      make(chan arrival, inboxMost),
		commands:   make(map[proto.CommandID]chan proto.CommandAck),
		detector:   detect.New(cfg.Detect, time.Now()),
	}
	mc := mqttclient.Config{Log: cfg.Log, Connected: f.connected, WaitMax: 5 * time.Second}
	for k, handle := range map[proto.Kind]handler{
		proto.KindHeartbeat: f.heartbeatLocked,
		proto.KindStatus:    f.statusLocked,
		proto.KindConn:      f.connLocked,
		proto.KindEvent:     f.eventLocked,
		proto.KindAck:       f.ackLocked,
	} {
		mc.Subscriptions = append(mc.Subscriptions, mqttclient.Subscription{
			Filter: proto.Filter(k), QoS: 1, Handle: func(m mqttclient.Received) { f.arrived(k, m, handle) },
		})
	}
	sub, err := f.hatch()
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	mc.Subscriptions = append(mc.Subscriptions, sub)
	f.detector.Begin(f.regionLocked())
	f.client, err = mqttclient.New(cfg.Client(mc))
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	return f, nil
}

// Run reads what was last known, then listens, judges and writes until ctx is done.
func (f *Fleet) Run(ctx context.Context) error {
	if err := f.Reload(ctx); err != nil {
		return err
	}
	if err := f.recall(ctx); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	f.ending = gctx.Done()
	g.Go(func() error { return f.receiving(gctx) })
	g.Go(func() error { return f.client.Run(gctx) })
	g.Go(func() error { return f.publishing(gctx) })
	g.Go(func() error { return f.storing(gctx) })
	g.Go(func() error { return f.judging(gctx) })
	g.Go(func() error { return f.watching(gctx) })
	g.Go(func() error { return f.pulse(gctx) })
	for i := range f.canaries {
		g.Go(func() error { return f.canaries[i].client.Run(gctx) })
	}
	err := g.Wait()
	// What was heard last is worth a last write: it is what the next process
	// begins with.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if ferr := f.flush(last); ferr != nil {
		f.log.Warn("last heard facilities not written", "err", ferr)
	}
	return err
}

// Broker is how the fleet's connection to the broker is.
func (f *Fleet) Broker() mqttclient.State { return f.client.State() }

// Word is what was judged last. It is cheap, and safe from any goroutine; the
// reader must not change it.
func (f *Fleet) Word() detect.Word {
	if w := f.word.Load(); w != nil {
		return *w
	}
	return detect.Word{Held: true, Why: "This region has only just begun to listen."}
}

// judging keeps every facility's verdict and history up to date, and asks who is silent.
func (f *Fleet) judging(ctx context.Context) error {
	ask, wait := f.asker(ctx)
	defer wait()
	judge, sample := time.NewTicker(judgeEvery), time.NewTicker(sampleEvery)
	defer judge.Stop()
	defer sample.Stop()
	var soon <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-judge.C:
		case <-f.hurry:
			if soon == nil {
				soon = time.After(hurryAfter)
			}
			continue
		case <-soon:
			soon = nil
		case now := <-sample.C:
			f.sample(now)
			continue
		}
		f.judgeAll(time.Now(), ask)
	}
}

// hurryUp has the next look at everything be soon.
func (f *Fleet) hurryUp() {
	select {
	case f.hurry <- struct{}{}:
	default:
	}
}

// judgeAll has everything judged, and hands on whom to ask.
func (f *Fleet) judgeAll(now time.Time, ask func(*facility) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// Nothing says when the connection is lost, so it is asked.
	switch connected := f.client.State().Connected; {
	case !connected:
		f.listening = time.Time{}
	case f.listening.IsZero():
		f.listening = now
	}
	full, region := false, f.regionLocked()
	f.knockLocked(now, region.Shut)
	w := f.detector.Step(detect.Snapshot{Now: now, Region: region, Facilities: func(yield func(*detect.Facts) bool) {
		for fac := range f.eachLocked() {
			changed := f.linkLocked(fac)
			if !yield(&fac.Facts) {
				return
			}
			f.judgedLocked(fac, f.detector.Verdict(&fac.Facts), changed)
			if !full && !fac.probing && f.detector.Probe(&fac.Facts, now) {
				full = !ask(fac) // the others have their turn later
			}
		}
	}})
	f.word.Store(&w)
}

// eachLocked yields all facilities, with pauses: see pauseLocked.
func (f *Fleet) eachLocked() iter.Seq[*facility] {
	return func(yield func(*facility) bool) {
		n := 0
		for _, fac := range f.facilities {
			f.pauseLocked(n)
			if n++; f.facilities[fac.ID] == fac && !yield(fac) {
				return
			}
		}
	}
}

// pauseLocked is called before the n-th of many facilities. Thousands take tens of
// milliseconds, for which no heartbeat should wait, so the lock is free now and then.
// What comes meanwhile may change any of them, and there may be more or fewer.
func (f *Fleet) pauseLocked(n int) {
	if n%manyAtOnce == manyAtOnce-1 {
		f.mu.Unlock()
		f.mu.Lock()
	}
}

// regionLocked is what is known of the region itself.
func (f *Fleet) regionLocked() detect.Region {
	r := detect.Region{
		Listening: f.listening, Hub: f.cfg.Link != nil, Probes: f.cfg.Probe != nil, Streams: f.cfg.Streaming != nil,
	}
	for i := range f.canaries {
		r.Canaries = append(r.Canaries, f.canaries[i].heard())
	}
	if since := f.unwritable.Load(); since != nil {
		r.Unwritable = *since
	}
	r.Shut, r.ShutWhy = f.doorLocked()
	for _, s := range f.route.stalls {
		r.Stalls = append(r.Stalls, s.Stage.Text(s.Work))
	}
	return r
}

// linkLocked takes in what the tunnel and the stream show of a facility, and
// reports whether the stream has come or gone.
func (f *Fleet) linkLocked(fac *facility) (changed bool) {
	if f.cfg.Link != nil {
		if link, ok := f.cfg.Link(fac.ID); ok {
			fac.link = link
			if link.Heard.After(fac.Tunnel) {
				fac.Tunnel, fac.TunnelHere, fac.dirty = link.Heard, true, true
			}
		}
	}
	was := fac.Streaming
	fac.Streaming = f.cfg.Streaming != nil && f.cfg.Streaming(fac.ID)
	return fac.Streaming != was
}

// judgeLocked applies the rule to one facility, between two looks at all.
func (f *Fleet) judgeLocked(fac *facility, now time.Time) {
	changed := f.linkLocked(fac)
	f.judgedLocked(fac, f.detector.Judge(&fac.Facts, now), changed)
}

// judgedLocked takes in a verdict and tells who wants to know.
func (f *Fleet) judgedLocked(fac *facility, v Verdict, changed bool) {
	was := fac.verdict
	fac.verdict = v
	if v.State != was.State {
		f.log.Info("facility is "+string(v.State), "facility", fac.ID, "was", string(was.State), "reason", v.Reason)
	}
	if v != was || changed {
		f.changedLocked(fac, false)
	}
}

// changedLocked tells the dashboards and, by and by, the mirrors.
func (f *Fleet) changedLocked(fac *facility, status bool) {
	for s := range f.subs {
		s.tell(fac.ID)
	}
	f.mirrors[fac.ID] = f.mirrors[fac.ID] || status
	f.wakeUp()
}

func (f *Fleet) wakeUp() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// connected is called after each connect to the broker.
func (f *Fleet) connected(context.Context, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listening = time.Now()
	// The broker may have forgotten what it retained.
	for id := range f.facilities {
		f.mirrors[id] = true
	}
	f.wakeUp()
}
