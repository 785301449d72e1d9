package relay

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	packetMaxBytes = 64 << 10
	clientsMax     = 1024    // packets of further clients are dropped
	pendingMax     = 1 << 16 // delayed packets in one direction; more are dropped
)

func (r *Relay) runUDP(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wait sync.WaitGroup
	defer wait.Wait()
	up, down := newDelay(r.links[Up]), newDelay(r.links[Down])
	wait.Go(func() { up.run(ctx) })
	wait.Go(func() { down.run(ctx) })
	defer cancel()

	u := &udp{Relay: r, clients: map[netip.AddrPort]*net.UDPConn{}, up: up, down: down}
	buf := make([]byte, packetMaxBytes)
	for {
		n, from, err := r.packets.ReadFromUDPAddrPort(buf)
		if err != nil {
			if ctx.Err() != nil || isClosed(err) {
				return nil
			}
			if passing(err) {
				continue
			}
			return fmt.Errorf("receive: %w", err)
		}
		out, fresh, err := u.client(from)
		if err != nil {
			r.links[Up].dropped()
			continue
		}
		if fresh {
			wait.Go(func() { u.answers(ctx, out, from) })
		}
		u.up.send(buf[:n], func(p []byte) error {
			_, err := out.Write(p)
			return err
		})
	}
}

type udp struct {
	*Relay
	mu       sync.Mutex
	clients  map[netip.AddrPort]*net.UDPConn
	up, down *delay
}

// client returns the socket that stands for a client towards the target.
func (u *udp) client(from netip.AddrPort) (out *net.UDPConn, fresh bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if out, ok := u.clients[from]; ok {
		return out, false, nil
	}
	if len(u.clients) >= clientsMax {
		return nil, false, errors.New("too many clients")
	}
	out, err = net.DialUDP("udp", nil, u.target)
	if err != nil {
		return nil, false, fmt.Errorf("open a socket to the target: %w", err)
	}
	u.clients[from] = out
	return out, true, nil
}

// answers carries the target's packets back to one client until the socket
// is closed.
func (u *udp) answers(ctx context.Context, out *net.UDPConn, to netip.AddrPort) {
	defer u.track(out, func() { out.Close() })()
	defer context.AfterFunc(ctx, func() { out.Close() })()
	defer func() {
		out.Close()
		u.mu.Lock()
		delete(u.clients, to)
		u.mu.Unlock()
	}()
	buf := make([]byte, packetMaxBytes)
	for {
		n, err := out.Read(buf)
		if err != nil {
			if passing(err) {
				continue
			}
			return
		}
		u.down.send(buf[:n], func(p []byte) error {
			_, err := u.packets.WriteToUDPAddrPort(p, to)
			return err
		})
	}
}

// passing errors come from an ICMP answer while nobody listens at the other
// end; the next packet may get through.
func passing(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
}

// delay delivers packets at their time.
type delay struct {
	link *link
	wake chan struct{}

	mu      sync.Mutex
	pending packetHeap
	order   uint64
}

func newDelay(l *link) *delay { return &delay{link: l, wake: make(chan struct{}, 1)} }

// send delivers at once what is due at once; that is the way of a healthy link.
func (d *delay) send(p []byte, deliver func([]byte) error) {
	now := time.Now()
	due, lost := d.link.planPacket(len(p), now)
	if lost {
		return
	}
	d.mu.Lock()
	if !due.After(now) && len(d.pending) == 0 {
		d.mu.Unlock()
		d.deliver(p, deliver)
		return
	}
	defer d.mu.Unlock()
	if len(d.pending) >= pendingMax {
		d.link.dropped()
		return
	}
	d.order++
	heap.Push(&d.pending, packet{due: due, order: d.order, data: slices.Clone(p), deliver: deliver})
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// deliver checks once more: a packet under way is lost with the cable.
func (d *delay) deliver(p []byte, deliver func([]byte) error) {
	if d.link.isCut() || deliver(p) != nil {
		d.link.dropped()
		return
	}
	d.link.passed(len(p))
}

func (d *delay) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next, ready := d.next()
		for _, p := range ready {
			d.deliver(p.data, p.deliver)
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-timer.C:
		}
	}
}

// next takes out what is due and says how long until the next.
func (d *delay) next() (time.Duration, []packet) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	var ready []packet
	for len(d.pending) > 0 && !d.pending[0].due.After(now) {
		ready = append(ready, heap.Pop(&d.pending).(packet))
	}
	if len(d.pending) == 0 {
		return time.Hour, ready
	}
	return d.pending[0].due.Sub(now), ready
}

type packet struct {
	due     time.Time
	order   uint64 // of arrival, between equal times
	data    []byte
	deliver func([]byte) error
}

type packetHeap []packet

func (h packetHeap) Len() int { return len(h) }
func (h packetHeap) Less(i, j int) bool {
	if !h[i].due.Equal(h[j].due) {
		return h[i].due.Before(h[j].due)
	}
	return h[i].order < h[j].order
}
func (h packetHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *packetHeap) Push(x any)   { *h = append(*h, x.(packet)) }
func (h *packetHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = packet{}
	*h = old[:len(old)-1]
	return last
}
