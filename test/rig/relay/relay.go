// Package relay stands between two programs and spoils the network on request:
// it cuts one direction or both without a word, loses, delays and reorders
// packets, and narrows the bandwidth, for UDP and TCP. Links on one machine
// can be made as bad as a plant's without the rights that the kernel wants.
//
// In:  test scenarios and the demo, which put it on the way of tunnel and broker.
// Out: the real programs at both ends.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// Direction is one way through a relay.
type Direction int

// Up is from the one who dials, the box, to the target, the region.
const (
	Up Direction = iota
	Down
)

// Config says between whom a relay stands.
type Config struct {
	Network string // "udp" or "tcp"
	Listen  string // host:port; port 0 takes a free one
	Target  string // host:port
	Seed    uint64 // of all chance; the same seed makes the same choices in each direction
}

// Faults spoil one direction. The zero value passes everything at once.
type Faults struct {
	// Loss is the share of packets that vanish, 0 to 1. TCP cannot lose what
	// its sender believes to be delivered: there a lost chunk stands for a
	// retransmission and holds the stream up by 200 ms.
	Loss float64
	// Delay holds everything back; Jitter adds from 0 to this much to each.
	Delay, Jitter time.Duration
	// Reorder is the share of packets that are overtaken by those of the next
	// 10 ms. It has no effect on TCP.
	Reorder float64
	// BytesPerSecond narrows the direction; 0 is unlimited. At most a quarter
	// of a second's worth queues up; UDP beyond that is dropped.
	BytesPerSecond int64
}

func (f Faults) check() error {
	switch {
	case f.Loss < 0 || f.Loss > 1, f.Reorder < 0 || f.Reorder > 1:
		return fmt.Errorf("loss %g and reorder %g must be between 0 and 1", f.Loss, f.Reorder)
	case f.Delay < 0, f.Jitter < 0, f.BytesPerSecond < 0:
		return errors.New("delay, jitter and bandwidth cannot be negative")
	}
	return nil
}

// Stats count what went through one direction: packets of UDP, chunks of TCP.
type Stats struct {
	Packets, Bytes, Dropped uint64
}

// Relay forwards between the programs that come to its address and its target.
// Its methods may be called from several goroutines at any time.
type Relay struct {
	cfg   Config
	links [2]*link

	packets  *net.UDPConn
	listener net.Listener
	target   *net.UDPAddr

	mu    sync.Mutex
	conns map[io.Closer]func() // what Reset closes, and how
}

// New binds the address, so that Addr is known before Run. Close it if Run is
// never called.
func New(cfg Config) (*Relay, error) {
	r := &Relay{cfg: cfg, links: [2]*link{newLink(cfg.Seed, 0), newLink(cfg.Seed, 1)}, conns: map[io.Closer]func(){}}
	var err error
	switch cfg.Network {
	case "udp":
		if r.target, err = net.ResolveUDPAddr("udp", cfg.Target); err != nil {
			return nil, fmt.Errorf("resolve the relay's target: %w", err)
		}
		var listen *net.UDPAddr
		if listen, err = net.ResolveUDPAddr("udp", cfg.Listen); err != nil {
			return nil, fmt.Errorf("resolve the relay's address: %w", err)
		}
		r.packets, err = net.ListenUDP("udp", listen)
	case "tcp":
		r.listener, err = net.Listen("tcp", cfg.Listen)
	default:
		return nil, fmt.Errorf("network %q is neither udp nor tcp", cfg.Network)
	}
	if err != nil {
		return nil, fmt.Errorf("open the relay: %w", err)
	}
	return r, nil
}

// Addr returns the address that the relay listens on.
func (r *Relay) Addr() string {
	if r.packets != nil {
		return r.packets.LocalAddr().String()
	}
	return r.listener.Addr().String()
}

// Run forwards until ctx is done. Existing connections end with it.
func (r *Relay) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { r.Close() })()
	var err error
	if r.packets != nil {
		err = r.runUDP(ctx)
	} else {
		err = r.runTCP(ctx)
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Close frees the address.
func (r *Relay) Close() error {
	if r.packets != nil {
		return r.packets.Close()
	}
	return r.listener.Close()
}

// Cut lets nothing through any more, in the given directions or in both, and
// tells nobody: packets vanish, also those under way; TCP connections stay
// open and stall, new ones too.
func (r *Relay) Cut(directions ...Direction) {
	for _, l := range r.pick(directions) {
		l.setCut(true)
	}
}

// Restore ends a cut, in the given directions or in both.
func (r *Relay) Restore(directions ...Direction) {
	for _, l := range r.pick(directions) {
		l.setCut(false)
	}
}

// IsCut says whether any direction is cut.
func (r *Relay) IsCut() bool { return r.links[Up].isCut() || r.links[Down].isCut() }

// SetFaults replaces the faults of the given directions, or of both.
func (r *Relay) SetFaults(f Faults, directions ...Direction) error {
	if err := f.check(); err != nil {
		return fmt.Errorf("set the relay's faults: %w", err)
	}
	for _, l := range r.pick(directions) {
		l.setFaults(f)
	}
	return nil
}

// Reset forgets all connections: TCP peers see a reset, UDP goes on from a new
// source port, as after a router's restart.
func (r *Relay) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, end := range r.conns {
		end()
	}
}

// Stats returns what went through a direction so far.
func (r *Relay) Stats(d Direction) Stats { return r.links[d].count() }

func (r *Relay) pick(directions []Direction) []*link {
	if len(directions) == 0 {
		return r.links[:]
	}
	var some []*link
	for _, d := range directions {
		some = append(some, r.links[d])
	}
	return some
}

// track registers a connection for Reset, until the returned function is called.
func (r *Relay) track(c io.Closer, end func()) (forget func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[c] = end
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.conns, c)
	}
}

func isClosed(err error) bool {
	return errors.Is(err, net.ErrClosed) || err != nil && strings.Contains(err.Error(), "use of closed")
}
