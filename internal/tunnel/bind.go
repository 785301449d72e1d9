package tunnel

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/ipv6"
	"golang.zx2c4.com/wireguard/conn"
)

// wireguard's own Bind keeps 128 receive buffers of 64 KiB for each of IPv4
// and IPv6, and copies what it sends into buffers of that size: 16 MiB and
// more on a box that may use 64. This one has a single socket for both
// families, four large receive buffers of its own from which datagrams are
// dealt out, and sends without copying.

const (
	// edgeBatch is how many datagrams wireguard handles at once on an edge.
	edgeBatch = 64
	// rxBuffers is how many datagrams, or runs of datagrams joined by the
	// kernel, one system call receives.
	rxBuffers = 4
	// rxBufferSize holds the largest run of datagrams that the kernel joins.
	rxBufferSize = 64 * kib
	// txRun is how many datagrams the kernel takes as one.
	txRun = 64
	// txRunBytes is the most that such a run may hold.
	txRunBytes = 65535 - 40 - 8
	// socketBuffer is asked of the kernel, which may give less.
	socketBuffer = 2 * mib
	// readRetry is the pause after a failed read of an open socket.
	readRetry = 200 * time.Millisecond
)

type edgeBind struct {
	mu   sync.Mutex // guards conn, pc, offload
	conn *net.UDPConn
	pc   *ipv6.PacketConn
	tx   bool // the kernel cuts runs into datagrams
	rx   bool // and joins datagrams into runs

	// Sends come from wireguard's one sender per peer and from its handshake
	// workers.
	msgs sync.Pool // of *[]ipv6.Message
}

// edgeEndpoint is a peer's address.
type edgeEndpoint struct{ ap netip.AddrPort }

func (*edgeEndpoint) ClearSrc()             {}
func (*edgeEndpoint) SrcToString() string   { return "" }
func (*edgeEndpoint) SrcIP() netip.Addr     { return netip.Addr{} }
func (e *edgeEndpoint) DstToString() string { return e.ap.String() }
func (e *edgeEndpoint) DstIP() netip.Addr   { return e.ap.Addr() }
func (e *edgeEndpoint) DstToBytes() []byte {
	b, _ := e.ap.MarshalBinary()
	return b
}

func newEdgeBind() conn.Bind {
	b := &edgeBind{}
	b.msgs.New = func() any {
		m := make([]ipv6.Message, edgeBatch)
		for i := range m {
			m[i].OOB = make([]byte, 0, runControlSize)
		}
		return &m
	}
	return b
}

// Open listens on port for both families; a system without IPv6 gets IPv4.
func (b *edgeBind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != nil {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	addr, err := net.ResolveUDPAddr("udp", net.JoinHostPort("", strconv.Itoa(int(port))))
	if err != nil {
		return nil, 0, err
	}
	c, err := net.ListenUDP("udp", addr)
	if err != nil {
		return nil, 0, err
	}
	_ = c.SetReadBuffer(socketBuffer)
	_ = c.SetWriteBuffer(socketBuffer)
	b.conn, b.pc = c, ipv6.NewPacketConn(c)
	b.tx, b.rx = enableRuns(c)
	return []conn.ReceiveFunc{newReceiver(b.pc, b.rx).receive}, uint16(c.LocalAddr().(*net.UDPAddr).Port), nil
}

// Close makes receive return net.ErrClosed.
func (b *edgeBind) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn == nil {
		return nil
	}
	err := b.conn.Close()
	b.conn, b.pc = nil, nil
	return err
}

// SetMark is not used.
func (b *edgeBind) SetMark(uint32) error { return nil }

// BatchSize is the most that receive returns at once.
func (b *edgeBind) BatchSize() int { return edgeBatch }

// ParseEndpoint reads "address:port".
func (b *edgeBind) ParseEndpoint(s string) (conn.Endpoint, error) {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return nil, err
	}
	return &edgeEndpoint{ap}, nil
}

// Send sends each of bufs as a datagram. A network that refuses runs of
// datagrams is given single ones from then on.
func (b *edgeBind) Send(bufs [][]byte, ep conn.Endpoint) error {
	b.mu.Lock()
	pc, runs := b.pc, b.tx
	b.mu.Unlock()
	if pc == nil {
		return net.ErrClosed
	}
	e, ok := ep.(*edgeEndpoint)
	if !ok {
		return conn.ErrWrongEndpointType
	}
	to := net.UDPAddrFromAddrPort(e.ap)
	for len(bufs) > 0 {
		n, err := b.sendSome(pc, to, bufs, runs)
		if err != nil {
			if runs && runsRefused(err) {
				runs = false
				b.mu.Lock()
				b.tx = false
				b.mu.Unlock()
				continue
			}
			return err
		}
		bufs = bufs[n:]
	}
	return nil
}

// sendSome sends what fits one system call, and returns how many of bufs that
// was.
func (b *edgeBind) sendSome(pc *ipv6.PacketConn, to *net.UDPAddr, bufs [][]byte, runs bool) (int, error) {
	mp := b.msgs.Get().(*[]ipv6.Message)
	msgs := *mp
	defer func() {
		for i := range msgs {
			msgs[i] = ipv6.Message{OOB: msgs[i].OOB[:0], Buffers: msgs[i].Buffers[:0]}
		}
		b.msgs.Put(mp)
	}()
	used, k := 0, 0
	for used < len(bufs) && k < len(msgs) {
		n := 1
		if runs {
			n = runLength(bufs[used:])
		}
		m := &msgs[k]
		m.Addr = to
		m.Buffers = append(m.Buffers[:0], bufs[used:used+n]...)
		m.OOB = m.OOB[:0]
		if n > 1 {
			m.OOB = appendRunSize(m.OOB, len(bufs[used]))
		}
		used += n
		k++
	}
	for sent := 0; sent < k; {
		n, err := pc.WriteBatch(msgs[sent:k], 0)
		if err != nil {
			return 0, err
		}
		sent += n
	}
	return used, nil
}

// runLength is how many of bufs may go as one run: all of the first one's
// size, except that the last may be shorter.
func runLength(bufs [][]byte) int {
	size, total := len(bufs[0]), len(bufs[0])
	n := 1
	for n < len(bufs) && n < txRun && len(bufs[n]) <= size && total+len(bufs[n]) <= txRunBytes {
		total += len(bufs[n])
		n++
		if len(bufs[n-1]) < size {
			break
		}
	}
	return n
}

// receiver deals datagrams out of its large buffers into wireguard's. It is
// used by one goroutine.
type receiver struct {
	pc   *ipv6.PacketConn
	msgs []ipv6.Message
	have int // messages received by the last call
	at   int // the one being dealt out
	off  int // where in it
	run  int // datagram size in it
}

func newReceiver(pc *ipv6.PacketConn, runs bool) *receiver {
	r := &receiver{pc: pc, msgs: make([]ipv6.Message, rxBuffers)}
	for i := range r.msgs {
		r.msgs[i].Buffers = [][]byte{make([]byte, rxBufferSize)}
		if runs {
			r.msgs[i].OOB = make([]byte, runControlSize)
		}
	}
	return r
}

// read waits for datagrams until the socket is closed. wireguard would give up
// for good after ten other errors, so they stay here.
func (r *receiver) read() (int, error) {
	for {
		n, err := r.pc.ReadBatch(r.msgs, 0)
		if err == nil {
			return n, nil
		}
		r.have, r.at = 0, 0
		if errors.Is(err, net.ErrClosed) {
			return 0, net.ErrClosed
		}
		time.Sleep(readRetry)
	}
}

func (r *receiver) receive(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	if r.at == r.have {
		n, err := r.read()
		if err != nil {
			return 0, err
		}
		r.have, r.at, r.off = n, 0, 0
	}
	n := 0
	for n < len(packets) && r.at < r.have {
		m := &r.msgs[r.at]
		data := m.Buffers[0][:m.N]
		if r.off == 0 {
			r.run = runSize(m.OOB[:m.NN])
			if r.run <= 0 {
				r.run = len(data)
			}
		}
		piece := data[r.off:min(r.off+r.run, len(data))]
		r.off += len(piece)
		if r.off >= len(data) {
			r.at, r.off = r.at+1, 0
		}
		addr, ok := m.Addr.(*net.UDPAddr)
		if len(piece) == 0 || len(piece) > len(packets[n]) || !ok {
			continue
		}
		copy(packets[n], piece)
		sizes[n] = len(piece)
		ap := addr.AddrPort()
		eps[n] = &edgeEndpoint{netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())}
		n++
	}
	return n, nil
}
