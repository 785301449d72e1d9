package tunnel

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// Run looks after the peers that this end calls (those with an Endpoint): it
// resolves host names, and brings a tunnel whose other end fell silent back
// sooner than WireGuard's own timers would. It logs when a peer comes and goes.
//
// Left alone, WireGuard notices a restarted hub after 15 s, tries every 5 s,
// and gives up after 90 s until there is something to send.

const (
	tick = time.Second

	// quietLimit is how long we may send without an answer before a new
	// handshake is tried. It does not disturb the keys in use: a slow path only gets new ones.
	quietLimit = 3 * time.Second

	// quietBytes must have been sent in that time. A keepalive needs no answer;
	// this much does.
	quietBytes = 160

	// resolveEvery is how long an address of the peer's name is given before
	// the name is resolved again and the next address tried.
	resolveEvery   = 10 * time.Second
	resolveTimeout = 4 * time.Second

	// downAfter is when a peer that was up is logged as lost.
	downAfter = 30 * time.Second
)

// While there are no keys in use a handshake is tried every nudgeWait, to be
// quick after an outage. Each invalidates the one before, so every
// nudgePatient-th waits longer for its answer: a path with a round trip of
// seconds is slow to come up, and not shut out.
const (
	nudgeWait        = 2 * time.Second
	nudgePatient     = 12
	nudgePatientWait = 6 * time.Second
)

// peerState is what Run remembers of a peer. Guarded by Tunnel.mu except where
// only Run touches it.
type peerState struct {
	key      PublicKey
	config   Peer
	initiate bool   // this end calls
	host     string // name to resolve; empty for a literal address
	port     uint16

	// Owned by Run.
	rx, txAtRx uint64
	heard      time.Time // when rx last grew
	nudged     time.Time
	nudges     int
	resolved   time.Time
	nextAddr   int
	up         bool
}

// Run works until ctx ends, and returns nil then. It is optional for an end
// that only answers.
func (t *Tunnel) Run(ctx context.Context) error {
	// A region's facilities must not all knock at the same moment.
	timer := time.NewTimer(rand.N(tick / 4))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.closed:
			return fmt.Errorf("tunnel: %w", net.ErrClosed)
		case <-timer.C:
		}
		t.look(ctx, time.Now())
		timer.Reset(tick)
	}
}

// look is one tick.
func (t *Tunnel) look(ctx context.Context, now time.Time) {
	stats, err := t.Stats()
	if err != nil {
		t.log.Warn("tunnel statistics not readable", "err", err)
		return
	}
	for _, s := range stats {
		t.mu.Lock()
		p := t.peers[s.PublicKey]
		t.mu.Unlock()
		if p == nil || !p.initiate {
			continue
		}
		p.note(t, s, now)
		silent := now.Sub(p.heard)
		if p.host != "" && (s.Endpoint == "" || silent > quietLimit && p.unanswered(s)) && now.Sub(p.resolved) >= resolveEvery {
			p.resolved = now
			t.resolve(ctx, p, s.Endpoint)
		}
		switch {
		case s.Endpoint == "" && p.host != "":
			// Not resolved yet.
		case now.Sub(s.LastHandshake) > device.RejectAfterTime:
			wait := nudgeWait
			if p.nudges > 0 && p.nudges%nudgePatient == 0 {
				wait = nudgePatientWait
			}
			if now.Sub(p.nudged) >= wait {
				p.nudged = now
				p.nudges++
				t.handshake(p.key, true)
			}
		case silent >= quietLimit && p.unanswered(s):
			t.handshake(p.key, false)
		}
	}
}

// note updates what is known of the peer and logs a change.
func (p *peerState) note(t *Tunnel, s PeerStats, now time.Time) {
	if s.RxBytes != p.rx {
		p.rx, p.txAtRx, p.heard = s.RxBytes, s.TxBytes, now
		p.nudges = 0
		if !p.up {
			p.up = true
			t.log.Info("tunnel up", "peer", p.key.String(), "endpoint", s.Endpoint)
		}
		return
	}
	if p.heard.IsZero() {
		p.heard = now
	}
	if p.up && now.Sub(p.heard) > downAfter && p.unanswered(s) {
		p.up = false
		t.log.Warn("tunnel down", "peer", p.key.String(), "endpoint", s.Endpoint, "silent", now.Sub(p.heard).Round(time.Second))
	}
}

// unanswered reports whether more went out since the last answer than a peer
// may leave unanswered.
func (p *peerState) unanswered(s PeerStats) bool { return s.TxBytes-p.txAtRx >= quietBytes }

// handshake starts one. fresh forgets the keys in use first, which lets it go
// out at once; without it wireguard allows one in 5 s.
func (t *Tunnel) handshake(key PublicKey, fresh bool) {
	peer := t.wg.LookupPeer(device.NoisePublicKey(key))
	if peer == nil {
		return
	}
	if fresh {
		peer.ExpireCurrentKeypairs()
	}
	// An error means that the network is unreachable; the next tick tries again.
	_ = peer.SendHandshakeInitiation(false)
}

// resolve looks the peer's name up and points wireguard at the next of its
// addresses.
func (t *Tunnel) resolve(ctx context.Context, p *peerState, current string) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", p.host)
	if err != nil || len(addrs) == 0 {
		t.log.Debug("tunnel endpoint not resolved", "host", p.host, "err", err)
		return
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	ap := netip.AddrPortFrom(addrs[p.nextAddr%len(addrs)].Unmap(), p.port)
	p.nextAddr++
	if ap.String() == current {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.peers[p.key] != p || t.isClosed() {
		return // changed or removed meanwhile
	}
	if err := t.wg.IpcSet(fmt.Sprintf("public_key=%s\nupdate_only=true\nendpoint=%s\n", hexKey(p.key), ap)); err != nil {
		t.log.Warn("tunnel endpoint not set", "host", p.host, "err", err)
	}
}
