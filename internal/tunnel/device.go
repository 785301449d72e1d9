package tunnel

import (
	"context"
	"os"
	"sync"

	"golang.zx2c4.com/wireguard/tun"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/stack/gro"
)

// A packet on its way out goes through the functions of this file and of
// segment.go in this order: TCP hands the interface a super-segment of up to
// 32 KiB; it waits in ep's queue; Read takes it, cuts it into packets of MTU
// size (segment.go) and gives wireguard up to batch of them at once. A packet
// on its way in: wireguard calls Write with a batch; neighbouring segments of
// one connection are joined again (gro) and handed to TCP as one.
//
// Both ends of this halve the work a byte costs, because the price is per
// packet, not per byte.

// outQueue is how many super-segments wait between TCP and wireguard. TCP's
// send buffer is the real limit; a full queue drops, and TCP retransmits.
const outQueue = 512

// tunDevice is wireguard's view of the stack: a tun.Device.
type tunDevice struct {
	ep     *channel.Endpoint
	mtu    int
	batch  int
	events chan tun.Event

	ctx    context.Context // ends when the device closes
	cancel context.CancelFunc
	once   sync.Once

	// cut is the super-segment that Read is cutting. Owned by Read, which
	// wireguard calls from one goroutine only.
	cut segmenter

	groPool sync.Pool // of *gro.GRO
}

func newDevice(mtu, batch int) *tunDevice {
	ctx, cancel := context.WithCancel(context.Background())
	d := &tunDevice{
		ep:     channel.New(outQueue, uint32(mtu), ""),
		mtu:    mtu,
		batch:  batch,
		events: make(chan tun.Event),
		ctx:    ctx,
		cancel: cancel,
	}
	d.ep.SupportedGSOKind = stack.HostGSOSupported
	// wireguard has authenticated every packet that comes in: checking TCP's
	// weaker checksum again would find nothing.
	d.ep.LinkEPCapabilities = stack.CapabilityRXChecksumOffload
	d.groPool.New = func() any {
		g := &gro.GRO{Dispatcher: d}
		g.Init(true)
		return g
	}
	return d
}

// Read waits for at least one packet and returns as many as are ready, up to
// len(bufs).
func (d *tunDevice) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	n := 0
	for n < len(bufs) {
		if d.cut.empty() {
			var pkt *stack.PacketBuffer
			if n == 0 {
				pkt = d.ep.ReadContext(d.ctx)
			} else {
				pkt = d.ep.Read()
			}
			if pkt == nil {
				break
			}
			d.cut.load(pkt)
			pkt.DecRef()
		}
		size := d.cut.next(bufs[n][offset:])
		if size == 0 {
			continue // malformed or larger than the buffer: dropped
		}
		sizes[n] = size
		n++
	}
	if n == 0 {
		return 0, os.ErrClosed
	}
	return n, nil
}

// Write hands a batch of decrypted packets to the stack. wireguard calls it
// from one goroutine per peer, so batches of several peers come at once.
func (d *tunDevice) Write(bufs [][]byte, offset int) (int, error) {
	if d.ctx.Err() != nil {
		return 0, os.ErrClosed
	}
	g := d.groPool.Get().(*gro.GRO)
	for _, b := range bufs {
		packet := b[offset:]
		if len(packet) == 0 {
			continue
		}
		var proto tcpip.NetworkProtocolNumber
		switch packet[0] >> 4 {
		case 4:
			proto = header.IPv4ProtocolNumber
		case 6:
			proto = header.IPv6ProtocolNumber
		default:
			continue
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(packet)})
		pkt.NetworkProtocolNumber = proto
		pkt.RXChecksumValidated = true
		g.Enqueue(pkt)
		pkt.DecRef()
	}
	g.Flush()
	d.groPool.Put(g)
	return len(bufs), nil
}

// DeliverNetworkPacket takes a joined packet from gro to the stack.
func (d *tunDevice) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	d.ep.InjectInbound(proto, pkt)
}

// DeliverLinkPacket is part of gro's dispatcher and has nothing to do here.
func (d *tunDevice) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// Close ends Read and drops what waits. wireguard calls it; calling it again
// does nothing.
func (d *tunDevice) Close() error {
	d.once.Do(func() {
		d.cancel()
		d.ep.Close()
		close(d.events)
	})
	return nil
}

// File is nil: there is no descriptor behind this device.
func (d *tunDevice) File() *os.File { return nil }

// Name is shown in wireguard's errors only.
func (d *tunDevice) Name() (string, error) { return "holdfast", nil }

// MTU is the largest packet inside the tunnel, in bytes.
func (d *tunDevice) MTU() (int, error) { return d.mtu, nil }

// Events is closed by Close; nothing else happens to this device.
func (d *tunDevice) Events() <-chan tun.Event { return d.events }

// BatchSize is how many packets Read and Write take at once.
func (d *tunDevice) BatchSize() int { return d.batch }
