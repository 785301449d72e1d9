package tunnel

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// segmenter cuts one outgoing packet into packets of at most MTU size. A
// packet that is small enough passes unchanged.
type segmenter struct {
	buf     []byte // the packet, headers first; reused for each
	off     int    // where the next payload byte is; len(buf) when all is cut
	ipLen   int
	hdrLen  int // IP and TCP headers
	mss     int // payload bytes per packet; 0 when the packet passes whole
	v6      bool
	seq     uint32
	flags   header.TCPFlags
	pseudo  uint16 // checksum of the pseudo header without the length
	pending bool
}

func (s *segmenter) empty() bool { return !s.pending }

// load copies pkt in. It does not keep pkt.
func (s *segmenter) load(pkt *stack.PacketBuffer) {
	s.buf = s.buf[:0]
	for _, v := range pkt.AsSlices() {
		s.buf = append(s.buf, v...)
	}
	s.pending = len(s.buf) > 0
	s.mss = 0
	gso := pkt.GSOOptions
	if gso.Type == stack.GSONone || len(s.buf) < int(gso.L3HdrLen)+header.TCPMinimumSize {
		return
	}
	s.ipLen = int(gso.L3HdrLen)
	t := header.TCP(s.buf[s.ipLen:])
	s.hdrLen = s.ipLen + int(t.DataOffset())
	if s.hdrLen > len(s.buf) {
		s.pending = false
		return
	}
	s.v6 = gso.Type == stack.GSOTCPv6
	s.mss = max(int(gso.MSS), 1)
	s.off = s.hdrLen
	s.seq = t.SequenceNumber()
	s.flags = t.Flags()
	s.pseudo = s.pseudoHeader()
}

// next writes the next packet into dst and returns its size, 0 if it does not
// fit.
func (s *segmenter) next(dst []byte) int {
	if s.mss == 0 {
		s.pending = false
		if len(s.buf) > len(dst) {
			return 0
		}
		return copy(dst, s.buf)
	}
	payload := s.buf[s.off:]
	if len(payload) > s.mss {
		payload = payload[:s.mss]
	}
	last := s.off+len(payload) == len(s.buf)
	size := s.hdrLen + len(payload)
	if size > len(dst) {
		s.pending = false
		return 0
	}
	p := dst[:size]
	copy(p, s.buf[:s.hdrLen])
	copy(p[s.hdrLen:], payload)

	if s.v6 {
		header.IPv6(p).SetPayloadLength(uint16(size - s.ipLen))
	} else {
		ip := header.IPv4(p)
		ip.SetTotalLength(uint16(size))
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
	}
	t := header.TCP(p[s.ipLen:])
	t.SetSequenceNumber(s.seq + uint32(s.off-s.hdrLen))
	flags := s.flags
	if !last {
		// As segmentation in hardware does it: these belong to the end of the
		// data, and a push in the middle would keep the receiver from joining
		// the segments again.
		flags &^= header.TCPFlagFin | header.TCPFlagPsh
	}
	t.SetFlags(uint8(flags))
	t.SetChecksum(0)
	var l [2]byte
	binary.BigEndian.PutUint16(l[:], uint16(size-s.ipLen))
	t.SetChecksum(^checksum.Checksum(t, checksum.Combine(s.pseudo, checksum.Checksum(l[:], 0))))

	s.off += len(payload)
	s.pending = !last
	return size
}

func (s *segmenter) pseudoHeader() uint16 {
	var src, dst tcpip.Address
	if s.v6 {
		src, dst = header.IPv6(s.buf).SourceAddress(), header.IPv6(s.buf).DestinationAddress()
	} else {
		src, dst = header.IPv4(s.buf).SourceAddress(), header.IPv4(s.buf).DestinationAddress()
	}
	return header.PseudoHeaderChecksum(header.TCPProtocolNumber, src, dst, 0)
}
