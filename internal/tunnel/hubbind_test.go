package tunnel

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"testing"

	"golang.zx2c4.com/wireguard/conn"
)

func TestAReceivedBatchIsDealtOutInOrderAndWhole(t *testing.T) {
	t.Parallel()
	var came [][]string // batches that are still to be received
	calls := 0
	d := newDealer(func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		if len(came) == 0 {
			return 0, net.ErrClosed
		}
		batch := came[0]
		came, calls = came[1:], calls+1
		for i, s := range batch {
			sizes[i] = copy(bufs[i], s)
			eps[i] = &edgeEndpoint{netip.AddrPortFrom(netip.IPv6Loopback(), uint16(len(s)))}
		}
		return len(batch), nil
	}, 8)
	came = [][]string{{"a", "bb", "ccc", "dddd", "eeeee"}, {"ffffff"}, {}, {"ggggggg", ""}}
	packets, sizes, eps := [][]byte{make([]byte, 16), make([]byte, 16)}, make([]int, 2), make([]conn.Endpoint, 2)
	for i, want := range []struct {
		packets []string
		calls   int
	}{{[]string{"a", "bb"}, 1}, {[]string{"ccc", "dddd"}, 1}, {[]string{"eeeee"}, 1}, {[]string{"ffffff"}, 2}, {nil, 3}, {[]string{"ggggggg", ""}, 4}} {
		n, err := d.receive(packets, sizes, eps)
		if err != nil || n != len(want.packets) || calls != want.calls {
			t.Fatalf("call %d: %d packets, %v, of batch %d; want %d of %d", i, n, err, calls, len(want.packets), want.calls)
		}
		for k, p := range want.packets {
			if got := packets[k][:sizes[k]]; !bytes.Equal(got, []byte(p)) || eps[k].DstToString() != fmt.Sprintf("[::1]:%d", len(p)) {
				t.Errorf("call %d: packet %d is %q from %s, want %q", i, k, got, eps[k].DstToString(), p)
			}
		}
	}
	if _, err := d.receive(packets, sizes, eps); !errors.Is(err, net.ErrClosed) {
		t.Errorf("of a closed socket it says %v", err)
	}
}

// A region has thousands, and two gigabytes for all that it does. 20 KB are
// WireGuard's queues, which are a given.
func TestAPeerOfAHubTakesLessThan28Kilobytes(t *testing.T) {
	const peers = 1000
	key, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	hub, err := New(Config{PrivateKey: key, Profile: Hub, Addresses: []netip.Prefix{netip.MustParsePrefix("fd48:6f6c:6466::1/128")}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := hub.Close(); err != nil {
			t.Error(err)
		}
	}()
	before := heap()
	for i := range peers {
		key, err := GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		addr := netip.MustParseAddr(fmt.Sprintf("fd48:6f6c:6466:1::%x", i+1))
		if err := hub.SetPeer(Peer{PublicKey: key.Public(), AllowedIPs: []netip.Prefix{netip.PrefixFrom(addr, 128)}}); err != nil {
			t.Fatal(err)
		}
	}
	if each := (heap() - before) / peers; each > 28_000 {
		t.Errorf("it takes %d bytes", each)
	} else {
		t.Logf("it takes %d bytes", each)
	}
}

// heap is how many bytes are in use.
func heap() int {
	runtime.GC()
	runtime.GC() // what was pooled goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
