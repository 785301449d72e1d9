package tunnel

import (
	"fmt"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const nicID tcpip.NICID = 1

const (
	// tcpMaxRTO caps the wait between two retransmissions. The usual 120 s
	// leaves a connection silent for a minute after a two-minute outage; with
	// 2.5 s data flows again within 3 s of its end. Longer round trips than
	// this cost needless retransmissions, not correctness.
	tcpMaxRTO = 2500 * time.Millisecond

	// tcpMaxRetries retransmissions are made before a connection is given up:
	// about 8 minutes. The stream above notices a dead path long before, by
	// its pings; this bound only clears what nobody reads any more.
	tcpMaxRetries = 200

	kib = 1 << 10
	mib = 1 << 20
)

// buffers are TCP's per-connection limits in bytes. They grow on demand from
// def to max.
type buffers struct{ sendDef, sendMax, recvDef, recvMax int }

// newStack builds the TCP/IP stack behind the tunnel: one interface, the
// tunnel's own addresses, no forwarding between peers.
func newStack(dev *tunDevice, addrs []netip.Prefix, buf buffers) (*stack.Stack, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		HandleLocal:        true,
	})
	if err := tuneTCP(s, buf); err != nil {
		s.Destroy()
		return nil, err
	}
	if err := s.CreateNIC(nicID, dev.ep); err != nil {
		s.Destroy()
		return nil, fmt.Errorf("create the tunnel's interface: %v", err)
	}
	for _, p := range addrs {
		proto, subnet := ipv6.ProtocolNumber, header.IPv6EmptySubnet
		if p.Addr().Is4() {
			proto, subnet = ipv4.ProtocolNumber, header.IPv4EmptySubnet
		}
		pa := tcpip.ProtocolAddress{
			Protocol: proto,
			AddressWithPrefix: tcpip.AddressWithPrefix{
				Address:   tcpip.AddrFromSlice(p.Addr().AsSlice()),
				PrefixLen: p.Bits(),
			},
		}
		if err := s.AddProtocolAddress(nicID, pa, stack.AddressProperties{}); err != nil {
			s.Destroy()
			return nil, fmt.Errorf("add tunnel address %v: %v", p, err)
		}
		s.AddRoute(tcpip.Route{Destination: subnet, NIC: nicID})
	}
	return s, nil
}

// tuneTCP sets what the stock stack gets wrong for a long-lived stream over
// poor links.
func tuneTCP(s *stack.Stack, buf buffers) error {
	sack := tcpip.TCPSACKEnabled(true)
	// gVisor's RACK loses throughput on reordering; classic recovery does not.
	recovery := tcpip.TCPRecovery(0)
	// Reno by name: gVisor's cubic has overflow defects in its window arithmetic.
	cc := tcpip.CongestionControlOption("reno")
	rto := tcpip.TCPMaxRTOOption(tcpMaxRTO)
	retries := tcpip.TCPMaxRetriesOption(tcpMaxRetries)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	send := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: buf.sendDef, Max: buf.sendMax}
	recv := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: buf.recvDef, Max: buf.recvMax}
	for _, opt := range []tcpip.SettableTransportProtocolOption{&sack, &recovery, &cc, &rto, &retries, &moderate, &send, &recv} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, opt); err != nil {
			return fmt.Errorf("set tunnel TCP option %T: %v", opt, err)
		}
	}
	return nil
}

func fullAddress(ap netip.AddrPort) (tcpip.FullAddress, tcpip.NetworkProtocolNumber) {
	proto := ipv6.ProtocolNumber
	if ap.Addr().Is4() {
		proto = ipv4.ProtocolNumber
	}
	return tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFromSlice(ap.Addr().AsSlice()), Port: ap.Port()}, proto
}
