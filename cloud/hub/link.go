package hub

import (
	"context"
	"slices"
	"strings"
	"time"
)

// lookEvery is how often the links are read from WireGuard; with 10,000
// facilities a look takes 24 ms.
const lookEvery = 2 * time.Second

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
	for _, s := range stats {
		m := h.byKey[s.PublicKey]
		if m == nil {
			continue
		}
		if s.RxBytes != m.link.Rx {
			m.link.Heard = now
		}
		m.link.Endpoint, m.link.Handshake, m.link.Rx, m.link.Tx = s.Endpoint, s.LastHandshake, s.RxBytes, s.TxBytes
	}
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
