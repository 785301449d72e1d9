package tunnel_test

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/tunnel"
)

// hubRole makes the test binary a hub in a process of its own: it reads the
// edge's key from the first line of its input, prints its own key and port,
// and then for each connection reads a first byte: 'u' discards what follows,
// 'd' sends without end.
const hubRole = "HOLDFAST_TUNNEL_TEST_HUB"

func TestMain(m *testing.M) {
	if os.Getenv(hubRole) != "" {
		if err := serveHub(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func serveHub() error {
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	edgeKey, err := tunnel.ParsePublicKey(strings.TrimSpace(line))
	if err != nil {
		return err
	}
	key, err := tunnel.GenerateKey()
	if err != nil {
		return err
	}
	hub, err := tunnel.New(tunnel.Config{PrivateKey: key, Profile: tunnel.Hub, Addresses: []netip.Prefix{netip.PrefixFrom(hubAddr, 128)}})
	if err != nil {
		return err
	}
	defer hub.Close()
	if err := hub.SetPeer(tunnel.Peer{PublicKey: edgeKey, AllowedIPs: []netip.Prefix{netip.PrefixFrom(facilityAddr(1), 128)}}); err != nil {
		return err
	}
	l, err := hub.Listen(stream)
	if err != nil {
		return err
	}
	fmt.Printf("%v %d\n", hub.PublicKey(), hub.Port())
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		way := make([]byte, 1)
		if _, err := io.ReadFull(c, way); err != nil {
			return err
		}
		buf := make([]byte, 128<<10)
		if way[0] == 'u' {
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, buf); err != nil {
				return err
			}
		}
		for way[0] == 'd' {
			if _, err := c.Write(buf); err != nil {
				break
			}
		}
		_ = c.Close()
	}
}

// startHub runs the hub as another process and gives an edge joined to it.
func startHub(t testing.TB) (edge *tunnel.Tunnel, pid int) {
	t.Helper()
	edge = newTunnel(t, tunnel.Edge, facilityAddr(1))
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), hubRole+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := fmt.Fprintln(in, edge.PublicKey()); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	key, port, _ := strings.Cut(strings.TrimSpace(line), " ")
	pub, err := tunnel.ParsePublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := edge.SetPeer(tunnel.Peer{PublicKey: pub, Endpoint: "127.0.0.1:" + port, AllowedIPs: []netip.Prefix{netip.PrefixFrom(hubAddr, 128)}}); err != nil {
		t.Fatal(err)
	}
	return edge, cmd.Process.Pid
}

// BenchmarkOneStream is one TCP stream between two processes over loopback.
func BenchmarkOneStream(b *testing.B) {
	for _, way := range []string{"up", "down"} {
		b.Run(way, func(b *testing.B) {
			edge, hub := startHub(b)
			c := dial(b, edge)
			if _, err := c.Write([]byte(way[:1])); err != nil {
				b.Fatal(err)
			}
			const piece = 4 << 20
			buf := make([]byte, 128<<10)
			b.SetBytes(piece)
			cpu := cpuSeconds(b, os.Getpid()) + cpuSeconds(b, hub)
			b.ResetTimer()
			for range b.N {
				for n := 0; n < piece; {
					var m int
					var err error
					if way == "up" {
						m, err = c.Write(buf)
					} else {
						m, err = c.Read(buf)
					}
					if err != nil {
						b.Fatal(err)
					}
					n += m
				}
			}
			b.StopTimer()
			b.ReportMetric(peakMiB(b, os.Getpid()), "edge-peak-MiB")
			b.ReportMetric(peakMiB(b, hub), "hub-peak-MiB")
			b.ReportMetric(float64(b.N*piece)/(1<<20)/(cpuSeconds(b, os.Getpid())+cpuSeconds(b, hub)-cpu), "MiB/cpu-s")
		})
	}
}

// peakMiB is the most memory that a process has had resident.
func peakMiB(t testing.TB, pid int) float64 {
	t.Helper()
	s, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(s)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb / 1024
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// cpuSeconds is the processor time that a process has used.
func cpuSeconds(t testing.TB, pid int) float64 {
	t.Helper()
	s, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(s[strings.LastIndexByte(string(s), ')')+2:]))
	user, err1 := strconv.ParseFloat(f[11], 64)
	system, err2 := strconv.ParseFloat(f[12], 64)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return (user + system) / 100 // USER_HZ
}
