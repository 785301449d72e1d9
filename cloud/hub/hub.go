// Package hub is the region's end of the tunnels: one WireGuard peer for each
// facility, added and removed while the others work. Who connects through it
// is known by the address that the connection comes from.
//
// In:  edge/uplink, through internal/tunnel; cloud/provision adds and removes facilities.
// Out: cloud/ingest takes the streams; cloud/fleet reads the links as evidence.
package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/internal/tunnel"
	"github.com/agogsaas/holdfast/proto"
)

// Facility is one that may connect.
type Facility struct {
	ID string
	// Number gives its address in the tunnel, see proto.FacilityAddress. It is
	// at least 1 and never used for another facility.
	Number uint32
	// Enrolment counts the facility's boxes; it is not checked here.
	Enrolment uint32
	PublicKey tunnel.PublicKey
}

// Config is what a hub needs.
type Config struct {
	// PrivateKey is the region's; boxes were told its public half when they
	// enrolled, so it must stay. See LoadKey.
	PrivateKey tunnel.PrivateKey
	// Port is the UDP port; 0 lets the system choose.
	Port uint16
	// MTU inside the tunnel in bytes. Default 1420.
	MTU int
	Log *slog.Logger
}

// Hub is the region's end. Its methods may be called from several goroutines.
type Hub struct {
	log    *slog.Logger
	tun    *tunnel.Tunnel
	stream *listener

	mu    sync.Mutex
	byID  map[string]*member
	byNum map[uint32]*member
	byKey map[tunnel.PublicKey]*member
	done  bool
}

// member is a facility and what was seen of its link. Guarded by Hub.mu.
type member struct {
	Facility
	link  Link
	conns map[*conn]struct{}

	rx, tx    uint64    // wireguard's counters at the last look
	reachable bool      // wireguard knew an address of it then
	forgotten time.Time // see forgetAfter
}

// New opens the UDP port and the stream port. It knows no facility yet: Add
// those that the region knows before the boxes ask.
func New(c Config) (*Hub, error) {
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	tun, err := tunnel.New(tunnel.Config{
		PrivateKey: c.PrivateKey,
		ListenPort: c.Port,
		Addresses:  []netip.Prefix{netip.PrefixFrom(proto.HubAddress, 128)},
		MTU:        c.MTU,
		Profile:    tunnel.Hub,
		Log:        log,
	})
	if err != nil {
		return nil, fmt.Errorf("open the hub: %w", err)
	}
	l, err := tun.Listen(netip.AddrPortFrom(proto.HubAddress, proto.StreamPort))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the hub: %w", err), tun.Close())
	}
	h := &Hub{
		log:   log,
		tun:   tun,
		byID:  map[string]*member{},
		byNum: map[uint32]*member{},
		byKey: map[tunnel.PublicKey]*member{},
	}
	h.stream = &listener{Listener: l, hub: h}
	return h, nil
}

// Add lets a facility in, at once. A facility that is there already gets its
// new key, and its old box is thrown out; with the same key nothing happens.
func (h *Hub) Add(f Facility) error {
	if err := proto.CheckID(f.ID); err != nil {
		return fmt.Errorf("add facility to the hub: %w", err)
	}
	if f.Number == 0 {
		return fmt.Errorf("add facility %s to the hub: it has no number", f.ID)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.done {
		return fmt.Errorf("add facility %s to the hub: %w", f.ID, net.ErrClosed)
	}
	if m := h.byNum[f.Number]; m != nil && m.ID != f.ID {
		return fmt.Errorf("add facility %s to the hub: number %d belongs to %s", f.ID, f.Number, m.ID)
	}
	if m := h.byKey[f.PublicKey]; m != nil && m.ID != f.ID {
		return fmt.Errorf("add facility %s to the hub: its key belongs to %s", f.ID, m.ID)
	}
	if m := h.byID[f.ID]; m != nil {
		if m.Facility == f {
			return nil
		}
		if err := h.removeLocked(m); err != nil {
			return err
		}
	}
	err := h.tun.SetPeer(tunnel.Peer{
		PublicKey:  f.PublicKey,
		AllowedIPs: []netip.Prefix{netip.PrefixFrom(proto.FacilityAddress(f.Number), 128)},
	})
	if err != nil {
		return fmt.Errorf("add facility %s to the hub: %w", f.ID, err)
	}
	m := &member{Facility: f, conns: map[*conn]struct{}{}, link: Link{Facility: f.ID}}
	h.byID[f.ID], h.byNum[f.Number], h.byKey[f.PublicKey] = m, m, m
	return nil
}

// Remove throws a facility out, at once: its connections are closed and its
// packets are dropped. A facility that is not there is no error.
func (h *Hub) Remove(id string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.byID[id]
	if m == nil {
		return nil
	}
	return h.removeLocked(m)
}

func (h *Hub) removeLocked(m *member) error {
	delete(h.byID, m.ID)
	delete(h.byNum, m.Number)
	delete(h.byKey, m.PublicKey)
	for c := range m.conns {
		// Closing tells the box; it may be the last thing it hears.
		_ = c.Conn.Close()
	}
	if h.done {
		return nil
	}
	if err := h.tun.RemovePeer(m.PublicKey); err != nil {
		return fmt.Errorf("remove facility %s from the hub: %w", m.ID, err)
	}
	return nil
}

// FacilityOf says whose address in the tunnel this is; false when no facility
// has it (any more).
func (h *Hub) FacilityOf(a netip.Addr) (id string, ok bool) {
	n, ok := proto.FacilityNumber(a)
	if !ok {
		return "", false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.byNum[n]
	if m == nil {
		return "", false
	}
	return m.ID, true
}

// BoxOf is FacilityOf with the count of the facility's boxes.
func (h *Hub) BoxOf(a netip.Addr) (id string, enrolment uint32, ok bool) {
	id, ok = h.FacilityOf(a)
	if !ok {
		return "", 0, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.byID[id]
	if m == nil {
		return "", 0, false
	}
	return id, m.Enrolment, true
}

// PublicKey is the hub's key, for the boxes.
func (h *Hub) PublicKey() tunnel.PublicKey { return h.tun.PublicKey() }

// Port is the UDP port in use.
func (h *Hub) Port() uint16 { return h.tun.Port() }

// Listener takes the facilities' connections to the stream port. A connection
// whose facility was removed meanwhile is closed before it is handed out.
func (h *Hub) Listener() net.Listener { return h.stream }

// Probe asks whether a facility's box answers through the tunnel, and how long
// that took. The box needs no service for it: its network stack refuses the
// connection, which is the answer. It ends with ctx.
func (h *Hub) Probe(ctx context.Context, id string) (time.Duration, error) {
	h.mu.Lock()
	m := h.byID[id]
	reachable := m != nil && m.reachable
	h.mu.Unlock()
	switch {
	case m == nil:
		return 0, fmt.Errorf("probe facility %s: it is not known to the hub", id)
	case !reachable:
		// WireGuard would keep the question and try for a minute and a half to agree on
		// keys with nobody: of thousands that have not called yet that is all it does.
		return 0, fmt.Errorf("probe facility %s: it has not called, so nobody knows where it is", id)
	}
	start := time.Now()
	c, err := h.tun.DialTCP(ctx, netip.AddrPortFrom(proto.FacilityAddress(m.Number), probePort))
	took := time.Since(start)
	if err == nil {
		_ = c.Close()
		return took, nil
	}
	if tunnel.IsRefused(err) {
		return took, nil
	}
	return 0, fmt.Errorf("probe facility %s: %w", id, err)
}

// probePort is the discard port: nothing listens there.
const probePort = 9

// Close ends all connections and the tunnel.
func (h *Hub) Close() error {
	h.mu.Lock()
	h.done = true
	h.mu.Unlock()
	return errors.Join(h.stream.Close(), h.tun.Close())
}
