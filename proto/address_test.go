package proto_test

import (
	"math"
	"net/netip"
	"testing"

	"github.com/agogsaas/holdfast/proto"
)

func TestAFacilityAddressGivesItsNumberBack(t *testing.T) {
	t.Parallel()
	for _, n := range []uint32{1, 2, 65535, 65536, math.MaxUint32} {
		a := proto.FacilityAddress(n)
		if !proto.TunnelPrefix.Contains(a) {
			t.Errorf("%v is outside %v", a, proto.TunnelPrefix)
		}
		if got, ok := proto.FacilityNumber(a); !ok || got != n {
			t.Errorf("%v: number %d, %v, want %d", a, got, ok, n)
		}
	}
	if got := proto.FacilityAddress(2).String(); got != "fd48:6f6c:6466:1::2" {
		t.Errorf("facility 2 has %s", got)
	}
	for _, s := range []string{"fd48:6f6c:6466::1", "fd48:6f6c:6466:1::", "fd48:6f6c:6466:1::1:0:2", "fd48:6f6c:6466:2::2", "10.0.0.1", "::ffff:10.0.0.1", "::"} {
		if n, ok := proto.FacilityNumber(netip.MustParseAddr(s)); ok {
			t.Errorf("%s is taken for facility %d", s, n)
		}
	}
}
