package proto

import (
	"encoding/binary"
	"net/netip"
)

// TunnelPrefix holds all addresses inside a region's tunnel. It is a unique
// local prefix (RFC 4193), the same in every region: regions' tunnels do not
// meet.
var TunnelPrefix = netip.MustParsePrefix("fd48:6f6c:6466::/48")

// HubAddress is the region's own address inside the tunnel.
var HubAddress = netip.MustParseAddr("fd48:6f6c:6466::1")

// FacilityAddress is the address inside the tunnel of the facility with this
// number in its region, fd48:6f6c:6466:1::N. The hub lets a facility use no
// other, so the source of a connection proves whose it is.
func FacilityAddress(number uint32) netip.Addr {
	a := TunnelPrefix.Addr().As16()
	a[7] = 1
	binary.BigEndian.PutUint32(a[12:], number)
	return netip.AddrFrom16(a)
}

// FacilityNumber is the number in a FacilityAddress; false for any other
// address.
func FacilityNumber(a netip.Addr) (uint32, bool) {
	if !a.Is6() {
		return 0, false
	}
	b := a.As16()
	n := binary.BigEndian.Uint32(b[12:])
	return n, n != 0 && FacilityAddress(n) == a.WithZone("")
}
