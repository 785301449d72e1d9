package hub

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/agogsaas/holdfast/internal/tunnel"
)

// lookEvery is how often the links are read from WireGuard; with 10,000
// facilities a look takes 24 ms.
const lookEvery = 2 * time.Second

// A facility that has been silent for so long that its keys have expired is
// forgotten, see tunnel.ForgetPeer, and again every forgetEvery; at most
// forgetAtOnce in one look, for when all are silent.
const (
	forgetAfter  = 3*time.Minute + 10*time.Second
	forgetEvery  = time.Minute
	forgetAtOnce = 50
)

// Link is what the hub saw of one facility's tunnel.
type Link struct {
	Facility string
	// Endpoint is where the facility was last heard from, host:port.
	Endpoint string
	// Handshake is when the keys were last renewed; a tunnel that is used renews
	// them every two minutes. Zero before the first.
	Handshake time.Time
	// Heard is when an authenticated packet last came, to within 2 s, by this
	// process's own clock. Zero before the first. A box that has nothing to say
	// still sends one every 25 s.
	Heard time.Time
	// Rx and Tx are bytes from and to the facility since it was added to this
	// process, as they went over the network.
	Rx, Tx uint64
	// Conns is how many connections are open.
	Conns int
}

// Run reads the links until ctx ends.
func (h *Hub) Run(ctx context.Context) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		if err := h.look(time.Now()); err != nil {
			h.log.Warn("links not readable", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (h *Hub) look(now time.Time) error {
	stats, err := h.tun.Stats()
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	forgotten := 0
	for _, s := range stats {
		m := h.byKey[s.PublicKey]
		if m == nil {
			continue
		}
		m.note(s, now)
		if forgotten < forgetAtOnce && m.stale(now) {
			forgotten++
			if err := h.forgetLocked(m, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// note adds what wireguard counted since the last look.
func (m *member) note(s tunnel.PeerStats, now time.Time) {
	if s.RxBytes != m.rx {
		m.link.Heard = now
	}
	m.link.Rx += s.RxBytes - m.rx
	m.link.Tx += s.TxBytes - m.tx
	m.rx, m.tx = s.RxBytes, s.TxBytes
	if m.reachable = s.Endpoint != ""; m.reachable {
		m.link.Endpoint = s.Endpoint
	}
	if !s.LastHandshake.IsZero() {
		m.link.Handshake = s.LastHandshake
	}
}

func (m *member) stale(now time.Time) bool {
	return !m.link.Heard.IsZero() && now.Sub(m.link.Heard) > forgetAfter && now.Sub(m.link.Handshake) > forgetAfter && now.Sub(m.forgotten) > forgetEvery
}

func (h *Hub) forgetLocked(m *member, now time.Time) error {
	if err := h.tun.ForgetPeer(m.PublicKey); err != nil {
		return err
	}
	m.rx, m.tx, m.forgotten, m.reachable = 0, 0, now, false
	return nil
}

// Links is what was last seen of each facility, ordered by id.
func (h *Hub) Links() []Link {
	h.mu.Lock()
	out := make([]Link, 0, len(h.byID))
	for _, m := range h.byID {
		out = append(out, m.present())
	}
	h.mu.Unlock()
	slices.SortFunc(out, func(a, b Link) int { return strings.Compare(a.Facility, b.Facility) })
	return out
}

// Link is what was last seen of one facility; false when it is not known.
func (h *Hub) Link(id string) (Link, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.byID[id]
	if m == nil {
		return Link{}, false
	}
	return m.present(), true
}

func (m *member) present() Link {
	l := m.link
	l.Conns = len(m.conns)
	return l
}
