package heartbeat

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/internal/version"
	"github.com/agogsaas/holdfast/proto"
)

// pace is how often what is said.
type pace struct {
	beat      time.Duration // heartbeats, give or take a tenth
	status    time.Duration // status documents, if nothing changes
	change    time.Duration // shortest time between two of them
	keepAlive time.Duration
}

var (
	standard = pace{5 * time.Second, 15 * time.Minute, 10 * time.Second, 10 * time.Second}
	metered  = pace{time.Minute, 2 * time.Hour, 2 * time.Minute, 2 * time.Minute}
)

const publishTimeout = 10 * time.Second

// Config says who the box is, where the broker is, and what to tell.
type Config struct {
	Tenant, Facility string
	// Enrolment is the number that the region gave the box when it enrolled.
	Enrolment uint32
	// URL is the broker's (mqtts://host:8883), TLS the way to prove who the box
	// is (see mqttclient.TLSFiles).
	URL string
	TLS func() (*tls.Config, error)
	// Username and Password are for brokers that want them too; usually empty.
	Username string
	Password func() (string, error)
	// StateDir is where the session number is kept, DataDir where the database
	// is. How full their disks are is told.
	StateDir, DataDir string
	// Metered is for links that are paid by the megabyte: a heartbeat a minute.
	Metered bool
	// Hardware names the machine; empty means that the kernel is asked.
	Hardware string
	// IgnoreWatchdog means that a hardware watchdog that nobody has armed is
	// told, but is no fault.
	IgnoreWatchdog bool
	Facts          Facts
	Log            *slog.Logger
}

// Heartbeat is the box's voice. Its methods may be called from several
// goroutines, and none of them waits for the network.
type Heartbeat struct {
	cfg     Config
	log     *slog.Logger
	pace    pace
	machine machine
	client  *mqttclient.Client
	session uint64
	boot    proto.BootID
	booted  time.Time
	started time.Time

	slow     slow
	asked    chan struct{} // has room for one: the status document is wanted now
	events   outbox
	commands commands

	mu      sync.Mutex
	seq     uint64       // of the last heartbeat
	digest  proto.Digest // of the last status document that was published
	goodbye string
	back    time.Duration
}

// New counts this start, and prepares the connection. Run connects.
func New(cfg Config) (*Heartbeat, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if err := errors.Join(proto.CheckTenant(cfg.Tenant), proto.CheckID(cfg.Facility)); err != nil {
		return nil, fmt.Errorf("heartbeat: %w", err)
	}
	h := &Heartbeat{
		cfg: cfg, log: cfg.Log, pace: standard, machine: machine{"/"}, started: time.Now(),
		asked: make(chan struct{}, 1), goodbye: "stopping",
	}
	if cfg.Metered {
		h.pace = metered
	}
	var err error
	if h.boot, err = h.machine.bootID(); err != nil {
		return nil, fmt.Errorf("heartbeat: read the boot id: %w", err)
	}
	h.booted = time.Now().Add(-h.machine.uptime())
	starts, err := nextStart(cfg.StateDir, h.log)
	if err != nil {
		return nil, fmt.Errorf("heartbeat: %w", err)
	}
	h.session = proto.SessionEpoch(cfg.Enrolment, starts)
	h.events.init()
	h.commands.init(h)
	h.client, err = mqttclient.New(mqttclient.Config{
		URL: cfg.URL, ClientID: proto.ClientID(cfg.Tenant, cfg.Facility, cfg.Enrolment),
		Username: cfg.Username, Password: cfg.Password, TLS: cfg.TLS, KeepAlive: h.pace.keepAlive, Log: h.log,
		Will: func(connection uint64) (mqttclient.Message, error) {
			return h.connMessage(proto.ConnWill, connection, "connection lost", 0)
		},
		Subscriptions: []mqttclient.Subscription{{Filter: h.topic(proto.KindCommand), Handle: h.commands.receive}},
		Connected:     h.connected,
		Stopping:      h.stopping,
	})
	if err != nil {
		return nil, fmt.Errorf("heartbeat: %w", err)
	}
	return h, nil
}

// Run speaks until ctx is done, and then says goodbye.
func (h *Heartbeat) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.client.Run(ctx) })
	g.Go(func() error { return h.renewing(ctx) })
	g.Go(func() error { return h.commands.running(ctx) })
	return g.Wait()
}

// Connection is how the connection to the broker is.
func (h *Heartbeat) Connection() mqttclient.State { return h.client.State() }

// Session is this start's session epoch.
func (h *Heartbeat) Session() uint64 { return h.session }

// SendStatus has the status document sent soon, whatever has changed.
func (h *Heartbeat) SendStatus() {
	select {
	case h.asked <- struct{}{}:
	default:
	}
}

// SetGoodbye says why the box is about to stop, and when it expects to be back;
// 0 is not known.
func (h *Heartbeat) SetGoodbye(reason string, back time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.goodbye, h.back = reason, back
}

func (h *Heartbeat) topic(k proto.Kind) string { return proto.Topic(h.cfg.Tenant, h.cfg.Facility, k) }

func (h *Heartbeat) connMessage(state proto.ConnState, connection uint64, reason string, back time.Duration) (mqttclient.Message, error) {
	payload, err := proto.Conn{
		Tenant: h.cfg.Tenant, Facility: h.cfg.Facility, BootID: h.boot, Session: h.session, Connection: connection,
		State: state, Reason: reason, WallMs: time.Now().UnixMilli(), Clock: clock(),
		BackSeconds: uint32(back / time.Second), Agent: version.String(),
	}.Encode()
	return mqttclient.Message{Topic: h.topic(proto.KindConn), Payload: payload, QoS: 1}, err
}

// connected is one connection's life: birth, a heartbeat at once, the status
// document, and then each in its time.
func (h *Heartbeat) connected(ctx context.Context, connection uint64) {
	birth, err := h.connMessage(proto.ConnBirth, connection, "", 0)
	if err == nil {
		err = h.publish(ctx, birth)
	}
	if err != nil {
		h.log.Debug("birth not sent", "err", err)
	}
	var last sentStatus
	beat := time.NewTimer(0)
	defer beat.Stop()
	look := time.NewTicker(h.lookEvery())
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			h.beat(ctx)
			beat.Reset(jitter(h.pace.beat))
			if last.at.IsZero() { // the first document follows the first heartbeat
				last = h.sendStatus(ctx, last, true)
			}
		case <-look.C:
			last = h.sendStatus(ctx, last, false)
		case <-h.asked:
			last = h.sendStatus(ctx, last, true)
		case <-h.events.more:
			h.sendEvents(ctx)
		}
	}
}

// lookEvery is how often to see whether something material has changed.
func (h *Heartbeat) lookEvery() time.Duration { return min(h.pace.change, 10*time.Second) / 4 }

// jitter is d, give or take a tenth, so that boxes do not fall in step.
func jitter(d time.Duration) time.Duration { return d - d/10 + rand.N(d/5+1) }

func (h *Heartbeat) beat(ctx context.Context) {
	s := h.collect()
	h.mu.Lock()
	h.seq++
	b := proto.Heartbeat{
		Who: proto.WhoDigest(s.Tenant, s.Facility), BootID: s.BootID, Session: s.Session, Seq: h.seq,
		MonoMs: s.MonoMs, WallMs: s.WallMs, Clock: s.Clock, Health: s.Health, StatusDigest: h.digest, Faults: s.Faults,
		QueueTransactions: s.Queue.Transactions, QueueChanges: s.Queue.Changes, QueueBytes: s.Queue.Bytes,
		OldestSeconds: s.Queue.OldestSeconds, EverySeconds: uint16(h.pace.beat / time.Second),
	}
	h.mu.Unlock()
	payload, err := b.Encode()
	if err == nil {
		err = h.publish(ctx, mqttclient.Message{Topic: h.topic(proto.KindHeartbeat), Payload: payload, QoS: 1})
	}
	if err != nil && ctx.Err() == nil {
		h.log.Debug("heartbeat not sent", "err", err)
	}
}

func (h *Heartbeat) publish(ctx context.Context, m mqttclient.Message) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	return h.client.Publish(ctx, m)
}

// stopping says goodbye.
func (h *Heartbeat) stopping(ctx context.Context) {
	h.mu.Lock()
	reason, back := h.goodbye, h.back
	h.mu.Unlock()
	m, err := h.connMessage(proto.ConnBye, h.client.State().Connections, reason, back)
	if err == nil {
		err = h.publish(ctx, m)
	}
	if err != nil {
		h.log.Debug("goodbye not sent", "err", err)
	}
}
