package tunnel_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agogsaas/holdfast/internal/tunnel"
)

// namespace is a network namespace of its own, entered by one thread. It ends
// with the test.
type namespace struct {
	calls chan func()
	tid   int
}

func newNamespace(t testing.TB) *namespace {
	t.Helper()
	n := &namespace{calls: make(chan func())}
	ready := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		// Never unlocked: the thread, and with it the namespace, ends here.
		runtime.LockOSThread()
		n.tid = unix.Gettid()
		ready <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range n.calls {
			f()
		}
	})
	t.Cleanup(func() {
		close(n.calls)
		wg.Wait()
	})
	if err := <-ready; err != nil {
		t.Fatalf("network namespace: %v", err)
	}
	return n
}

// do runs f inside the namespace; sockets and processes that f starts stay in
// it.
func (n *namespace) do(f func()) {
	done := make(chan struct{})
	n.calls <- func() {
		defer close(done)
		f()
	}
	<-done
}

func (n *namespace) run(t testing.TB, cmd string) {
	t.Helper()
	var out []byte
	var err error
	n.do(func() { out, err = exec.Command("sh", "-c", cmd).CombinedOutput() })
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// asRoot reports whether the test may make namespaces. An ordinary user runs
// this one test again as root of a user namespace, and takes its verdict.
func asRoot(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() == 0 {
		return true
	}
	cmd := exec.Command("unshare", "-Urn", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("as root of a user namespace: %v", err)
	}
	return false
}

// TestDataFlowsSoonAfterABlackHole cuts a busy path in both directions without
// a word, and wants data within seconds of its return, whichever end writes.
func TestDataFlowsSoonAfterABlackHole(t *testing.T) {
	t.Parallel()
	if !asRoot(t) {
		return
	}
	hubNS, edgeNS := newNamespace(t), newNamespace(t)
	hubNS.run(t, "ip link set lo up && ip link add hub0 type veth peer name edge0 && ip link set edge0 netns "+strconv.Itoa(edgeNS.tid)+
		" && ip addr add 192.0.2.1/24 dev hub0 && ip link set hub0 up")
	edgeNS.run(t, "ip link set lo up && ip addr add 192.0.2.2/24 dev edge0 && ip link set edge0 up")

	var hub, edge *tunnel.Tunnel
	hubNS.do(func() { hub = newTunnel(t, tunnel.Hub, hubAddr) })
	edgeNS.do(func() { edge = newTunnel(t, tunnel.Edge, facilityAddr(1)) })
	if err := hub.SetPeer(tunnel.Peer{PublicKey: edge.PublicKey(), AllowedIPs: []netip.Prefix{netip.PrefixFrom(facilityAddr(1), 128)}}); err != nil {
		t.Fatal(err)
	}
	if err := edge.SetPeer(hubPeer(hub, fmt.Sprintf("192.0.2.1:%d", hub.Port()))); err != nil {
		t.Fatal(err)
	}
	runTunnel(t, edge)
	echo(t, hub)
	c := dial(t, edge)
	mustExchange(t, c, 100_000)

	// The writer never stops; the hub echoes, so both ends have data under way.
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.Close()
	_ = c.SetDeadline(time.Time{})
	wg.Go(func() {
		for range time.Tick(10 * time.Millisecond) {
			if _, err := c.Write([]byte(strings.Repeat("x", 100))); err != nil {
				return
			}
		}
	})
	buf := make([]byte, 64<<10)
	readUntil := func(deadline time.Time) error {
		_ = c.SetReadDeadline(deadline)
		_, err := c.Read(buf)
		return err
	}
	for _, outage := range []time.Duration{2 * time.Second, 6 * time.Second} {
		edgeNS.run(t, `nft -f - <<'E'
table inet cut {
	chain i { type filter hook input priority 0; policy drop; }
	chain o { type filter hook output priority 0; policy drop; }
}
E`)
		until := time.Now().Add(outage)
		for readUntil(until) == nil { // what was under way, then silence
		}
		edgeNS.run(t, "nft delete table inet cut")
		restored := time.Now()
		if err := readUntil(restored.Add(10 * time.Second)); err != nil {
			t.Fatalf("after %v without a path: %v", outage, err)
		}
		took := time.Since(restored)
		t.Logf("outage of %v: data after %v", outage, took.Round(time.Millisecond))
		if took > 5*time.Second { // make bench holds it to 3 s on a quiet machine
			t.Errorf("after %v without a path data came only after %v", outage, took)
		}
		for drained := time.Now().Add(time.Second); time.Now().Before(drained); {
			if err := readUntil(drained.Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
		}
	}
}
