// Package tunnel carries TCP between a facility and its region through
// WireGuard in user space: no kernel module, no interface of the operating
// system, no privileges. Both ends run the same code; they differ in a profile.
//
// In:  edge/uplink dials, cloud/hub listens.
// Out: internal/transfer reads and writes the connections.
package tunnel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/device"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Profile chooses how much memory a tunnel may trade for speed.
type Profile int

const (
	// Edge has one peer and little memory: TCP buffers of at most 4 MiB out and
	// 2 MiB in, one socket, small batches.
	Edge Profile = iota
	// Hub serves thousands of peers, and takes as little memory for each as it can.
	Hub
)

const (
	// DefaultMTU leaves room for WireGuard, UDP and IPv6 in 1500 bytes.
	DefaultMTU = 1420
	// minMTU is IPv6's own minimum.
	minMTU = 1280
	// maxMTU is what wireguard can carry, less its headers.
	maxMTU = 65000

	// DefaultKeepalive keeps NAT entries alive. Without it a facility whose
	// address changes cannot be reached until it speaks by itself.
	DefaultKeepalive = 25 * time.Second
)

// Config is what a tunnel needs. PrivateKey and Addresses are required.
type Config struct {
	PrivateKey PrivateKey
	// ListenPort is the UDP port; 0 lets the system choose.
	ListenPort uint16
	// Addresses are this end's own addresses inside the tunnel.
	Addresses []netip.Prefix
	// MTU inside the tunnel in bytes, 1280 to 65000. Default 1420.
	MTU     int
	Profile Profile
	Log     *slog.Logger
}

// Tunnel is one end. All methods may be called from several goroutines.
type Tunnel struct {
	log   *slog.Logger
	key   PublicKey
	tun   *tunDevice
	stack *stack.Stack
	wg    *device.Device

	closed  chan struct{}
	closing sync.Once

	mu    sync.Mutex // guards peers and serialises changes to wireguard's
	peers map[PublicKey]*peerState
}

// New opens the UDP socket and starts the tunnel, without peers. Close ends it.
func New(c Config) (*Tunnel, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	buf := buffers{sendDef: 256 * kib, sendMax: 4 * mib, recvDef: 256 * kib, recvMax: 2 * mib}
	batch, bind := edgeBatch, newEdgeBind()
	if c.Profile == Hub {
		buf.recvMax = 4 * mib
		batch, bind = hubBatch, newHubBind()
	}
	tun := newDevice(cmp.Or(c.MTU, DefaultMTU), batch)
	st, err := newStack(tun, c.Addresses, buf)
	if err != nil {
		_ = tun.Close()
		return nil, err
	}
	t := &Tunnel{
		log:    log,
		key:    c.PrivateKey.Public(),
		tun:    tun,
		stack:  st,
		wg:     device.NewDevice(tun, bind, newLogger(log)),
		closed: make(chan struct{}),
		peers:  map[PublicKey]*peerState{},
	}
	if err := t.wg.IpcSet(fmt.Sprintf("private_key=%s\nlisten_port=%d\n", hexKey(c.PrivateKey), c.ListenPort)); err != nil {
		_ = t.Close()
		return nil, fmt.Errorf("configure the tunnel: %w", err)
	}
	if err := t.wg.Up(); err != nil {
		_ = t.Close()
		return nil, fmt.Errorf("open the tunnel on UDP port %d: %w", c.ListenPort, err)
	}
	return t, nil
}

func (c Config) check() error {
	var errs []error
	if c.PrivateKey.IsZero() {
		errs = append(errs, errors.New("no private key"))
	}
	if len(c.Addresses) == 0 {
		errs = append(errs, errors.New("no tunnel address"))
	}
	for _, a := range c.Addresses {
		if !a.IsValid() {
			errs = append(errs, errors.New("a tunnel address is not valid"))
		}
	}
	if c.MTU != 0 && (c.MTU < minMTU || c.MTU > maxMTU) {
		errs = append(errs, fmt.Errorf("MTU %d is outside %d to %d", c.MTU, minMTU, maxMTU))
	}
	if len(errs) > 0 {
		return fmt.Errorf("tunnel configuration: %w", errors.Join(errs...))
	}
	return nil
}

// PublicKey is this end's key.
func (t *Tunnel) PublicKey() PublicKey { return t.key }

// Port is the UDP port in use; it differs from the configured one when that
// was 0.
func (t *Tunnel) Port() uint16 {
	var port uint16
	err := t.read(func(key, value []byte) {
		if string(key) == "listen_port" {
			_, _ = fmt.Sscan(string(value), &port)
		}
	})
	if err != nil {
		return 0
	}
	return port
}

// DialContext connects to an address inside the tunnel, such as
// "[fd48:6f6c:6466::1]:7400". The network must be "tcp". It waits for the
// tunnel's handshake if there is none yet, and ends with ctx.
func (t *Tunnel) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if !strings.HasPrefix(network, "tcp") {
		return nil, fmt.Errorf("dial %s through the tunnel: network %q is not tcp", addr, network)
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dial through the tunnel: %w", err)
	}
	return t.DialTCP(ctx, ap)
}

// DialTCP connects to an address inside the tunnel.
func (t *Tunnel) DialTCP(ctx context.Context, ap netip.AddrPort) (net.Conn, error) {
	if t.isClosed() {
		return nil, fmt.Errorf("dial %v through the tunnel: %w", ap, net.ErrClosed)
	}
	fa, proto := fullAddress(ap)
	c, err := gonet.DialContextTCP(ctx, t.stack, fa, proto)
	if err != nil {
		return nil, fmt.Errorf("dial %v through the tunnel: %w", ap, err)
	}
	return c, nil
}

// IsRefused reports whether a dial failed because the other end is there and
// nobody listens on that port.
func IsRefused(err error) bool {
	// gVisor's errors are not errors of the operating system; gonet keeps only
	// their text.
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Err != nil && op.Err.Error() == (&tcpip.ErrConnectionRefused{}).String()
}

// Listen accepts TCP connections on an address of this end. The remote address
// of an accepted connection is proven: wireguard lets a peer use only its own.
func (t *Tunnel) Listen(ap netip.AddrPort) (net.Listener, error) {
	if t.isClosed() {
		return nil, fmt.Errorf("listen on %v in the tunnel: %w", ap, net.ErrClosed)
	}
	fa, proto := fullAddress(ap)
	l, err := gonet.ListenTCP(t.stack, fa, proto)
	if err != nil {
		return nil, fmt.Errorf("listen on %v in the tunnel: %w", ap, err)
	}
	return l, nil
}

// Close resets every connection, forgets the keys and closes the socket. It
// waits for all of the tunnel's work to end; more calls do nothing.
func (t *Tunnel) Close() error {
	t.closing.Do(func() {
		close(t.closed)
		// Connections end first: a sender blocked in a full buffer must not
		// outlive the device that would have drained it.
		t.stack.Close()
		t.wg.Close()
		t.stack.Wait()
	})
	return nil
}

func (t *Tunnel) isClosed() bool {
	select {
	case <-t.closed:
		return true
	default:
		return false
	}
}
