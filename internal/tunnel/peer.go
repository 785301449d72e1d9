package tunnel

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Peer is the other end of a tunnel.
type Peer struct {
	PublicKey    PublicKey
	PresharedKey PresharedKey
	// Endpoint is where the peer can be reached, "host:port"; empty when the
	// peer speaks first. A host name is resolved by Run, and again whenever the
	// peer stops answering.
	Endpoint string
	// AllowedIPs are the only source addresses that are accepted from the peer,
	// and the destinations that are sent to it. A prefix belongs to one peer:
	// the last one that claims it.
	AllowedIPs []netip.Prefix
	// KeepaliveInterval is rounded to seconds; 0 sends none.
	KeepaliveInterval time.Duration
}

// PeerStats is what wireguard knows about a peer.
type PeerStats struct {
	PublicKey PublicKey
	// Endpoint is where the last authenticated packet came from, or where the
	// next goes.
	Endpoint string
	// LastHandshake is zero before the first.
	LastHandshake    time.Time
	RxBytes, TxBytes uint64
}

// SetPeer adds a peer, or changes one without disturbing its connections.
func (t *Tunnel) SetPeer(p Peer) error {
	if p.PublicKey.IsZero() {
		return errors.New("set tunnel peer: no public key")
	}
	if p.PublicKey == t.key {
		return errors.New("set tunnel peer: the key is this end's own")
	}
	st := &peerState{key: p.PublicKey, config: p}
	var lit netip.AddrPort
	if p.Endpoint != "" {
		host, port, err := net.SplitHostPort(p.Endpoint)
		if err != nil {
			return fmt.Errorf("set tunnel peer %v: endpoint: %w", p.PublicKey, err)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("set tunnel peer %v: endpoint %q: the port must be 1 to 65535", p.PublicKey, p.Endpoint)
		}
		st.initiate = true
		if a, err := netip.ParseAddr(host); err == nil {
			lit = netip.AddrPortFrom(a.Unmap(), uint16(n))
		} else {
			st.host, st.port = host, uint16(n)
		}
	}
	conf := p.text(lit)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.isClosed() {
		return fmt.Errorf("set tunnel peer %v: %w", p.PublicKey, net.ErrClosed)
	}
	if err := t.wg.IpcSet(conf); err != nil {
		return fmt.Errorf("set tunnel peer %v: %w", p.PublicKey, err)
	}
	t.peers[p.PublicKey] = st
	return nil
}

// text is the peer as wireguard is told it.
func (p Peer) text(endpoint netip.AddrPort) string {
	var b strings.Builder
	fmt.Fprintf(&b, "public_key=%s\n", hexKey(p.PublicKey))
	fmt.Fprintf(&b, "preshared_key=%s\n", hexKey(p.PresharedKey))
	if endpoint.IsValid() {
		fmt.Fprintf(&b, "endpoint=%s\n", endpoint)
	}
	fmt.Fprintf(&b, "persistent_keepalive_interval=%d\nreplace_allowed_ips=true\n", int(p.KeepaliveInterval.Round(time.Second)/time.Second))
	for _, a := range p.AllowedIPs {
		fmt.Fprintf(&b, "allowed_ip=%s\n", a.Masked())
	}
	return b.String()
}

// ForgetPeer makes the tunnel forget what it has seen of a peer that speaks
// first: its keys in use, its endpoint, and the time in its last handshake.
// The peer stays welcome. Its byte counters begin again at zero.
//
// WireGuard takes no handshake whose time is before the last one's, so that
// none can be replayed. A box without a battery for its clock comes back from a
// power cut in the past, and would be shut out until its clock has caught up.
// Once its keys have expired anyway, forgetting costs nothing but that a copied
// handshake is answered once, to no use without the peer's private key.
func (t *Tunnel) ForgetPeer(key PublicKey) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.peers[key]
	if st == nil || t.isClosed() {
		return nil
	}
	if st.initiate {
		return fmt.Errorf("forget tunnel peer %v: this end calls it", key)
	}
	conf := fmt.Sprintf("public_key=%s\nremove=true\n", hexKey(key)) + st.config.text(netip.AddrPort{})
	if err := t.wg.IpcSet(conf); err != nil {
		return fmt.Errorf("forget tunnel peer %v: %w", key, err)
	}
	return nil
}

// RemovePeer forgets a peer and its keys at once. An unknown key is no error.
func (t *Tunnel) RemovePeer(key PublicKey) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.peers, key)
	if t.isClosed() {
		return nil
	}
	if err := t.wg.IpcSet(fmt.Sprintf("public_key=%s\nremove=true\n", hexKey(key))); err != nil {
		return fmt.Errorf("remove tunnel peer %v: %w", key, err)
	}
	return nil
}

// Stats lists the peers, in no order. It costs about 3 microseconds a peer.
func (t *Tunnel) Stats() ([]PeerStats, error) {
	t.mu.Lock()
	out := make([]PeerStats, 0, len(t.peers))
	t.mu.Unlock()
	var cur *PeerStats
	var sec int64
	err := t.read(func(key, value []byte) {
		if string(key) == "public_key" {
			out = append(out, PeerStats{})
			cur = &out[len(out)-1]
			cur.PublicKey, _ = parseHexKey(string(value))
			return
		}
		if cur == nil {
			return
		}
		switch string(key) {
		case "endpoint":
			cur.Endpoint = string(value)
		case "last_handshake_time_sec":
			sec, _ = strconv.ParseInt(string(value), 10, 64)
		case "last_handshake_time_nsec":
			if ns, _ := strconv.ParseInt(string(value), 10, 64); sec != 0 || ns != 0 {
				cur.LastHandshake = time.Unix(sec, ns)
			}
		case "rx_bytes":
			cur.RxBytes, _ = strconv.ParseUint(string(value), 10, 64)
		case "tx_bytes":
			cur.TxBytes, _ = strconv.ParseUint(string(value), 10, 64)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read tunnel peers: %w", err)
	}
	return out, nil
}

// read calls fn for each line of wireguard's configuration dump. The dump
// holds the private key: fn picks what it knows, keeps neither of the two slices,
// and nothing is logged.
func (t *Tunnel) read(fn func(key, value []byte)) error {
	var lines lineReader
	lines.fn = fn
	if err := t.wg.IpcGetOperation(&lines); err != nil {
		return err
	}
	return nil
}

type lineReader struct {
	fn func(key, value []byte)
}

// Write gets the whole dump in one call. Of thousands of peers it is megabytes, so
// it is not copied.
func (l *lineReader) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		key, value, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte("="))
		if ok && string(key) != "private_key" && string(key) != "preshared_key" {
			l.fn(key, value)
		}
	}
	return len(b), nil
}
