package tunnel

import (
	"encoding/binary"
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// runControlSize is the room for the control message that carries the size of
// the datagrams in a run (UDP_SEGMENT out, UDP_GRO in).
var runControlSize = unix.CmsgSpace(4)

// enableRuns asks the kernel to take and give runs of datagrams, and reports
// which of the two it does.
func enableRuns(c *net.UDPConn) (tx, rx bool) {
	rc, err := c.SyscallConn()
	if err != nil {
		return false, false
	}
	err = rc.Control(func(fd uintptr) {
		_, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		tx = err == nil
		rx = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil
	})
	return tx && err == nil, rx && err == nil
}

// runsRefused reports whether the network interface cannot cut runs.
func runsRefused(err error) bool { return errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL) }

func appendRunSize(b []byte, size int) []byte {
	at := len(b)
	b = b[:at+unix.CmsgSpace(2)]
	clear(b[at:])
	h := b[at:]
	// struct cmsghdr: length (a machine word), level, type.
	word := unix.CmsgLen(0) - 8
	if word == 8 {
		binary.NativeEndian.PutUint64(h, uint64(unix.CmsgLen(2)))
	} else {
		binary.NativeEndian.PutUint32(h, uint32(unix.CmsgLen(2)))
	}
	binary.NativeEndian.PutUint32(h[word:], unix.IPPROTO_UDP)
	binary.NativeEndian.PutUint32(h[word+4:], unix.UDP_SEGMENT)
	binary.NativeEndian.PutUint16(h[unix.CmsgLen(0):], uint16(size))
	return b
}

// runSize is the size of the datagrams in a received run, 0 if it is not one.
func runSize(control []byte) int {
	for len(control) >= unix.SizeofCmsghdr {
		hdr, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return 0
		}
		if hdr.Level == unix.IPPROTO_UDP && hdr.Type == unix.UDP_GRO && len(data) >= 2 {
			// The kernel writes an int; on either byte order its value fits the
			// 16 bits that older kernels wrote.
			if len(data) >= 4 {
				return int(int32(binary.NativeEndian.Uint32(data)))
			}
			return int(binary.NativeEndian.Uint16(data))
		}
		control = rest
	}
	return 0
}
