package scenario

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/agogsaas/holdfast/test/rig/netns"
	"github.com/agogsaas/holdfast/test/rig/procs"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// Region and box have a network of their own each, joined by a cable of the
// kernel's. The test is in neither: it reaches their loopback through a door, a
// copy of itself inside, and their databases through sockets.

const doorEnv = "HOLDFAST_TEST_DOOR"

// door forwards what comes to a socket to the TCP address that its first line
// names. It ends with its input.
func door(path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	fmt.Println("open")
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = l.Close()
	})
	for {
		in, err := l.Accept()
		if err != nil {
			return nil // the test has ended, and with this process what is left
		}
		wg.Go(func() { forward(in) })
	}
}

func forward(in net.Conn) {
	defer in.Close()
	r := bufio.NewReader(in)
	addr, err := r.ReadString('\n')
	if err != nil {
		return
	}
	out, err := net.Dial("tcp", strings.TrimSpace(addr))
	if err != nil {
		return
	}
	defer out.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(out, r)
		_ = out.Close()
	})
	_, _ = io.Copy(in, out)
	_ = in.Close()
	wg.Wait()
}

// openDoor returns a client for the loopback of a namespace.
func openDoor(t *testing.T, n *netns.Net, name, dir string) *http.Client {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name+".door")
	cmd := n.Command(context.Background(), name, self)
	cmd.Env = append(cmd.Env, doorEnv+"="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // it has nothing to say any more
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "open\n" {
		t.Fatalf("the door to %s says %q, %v", name, line, err)
	}
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			_, err = fmt.Fprintln(c, addr)
		}
		return c, err
	}}}
}

func TestACutCableCostsNothingButTime(t *testing.T) {
	t.Parallel()
	seed, _ := seeded(t)
	n := netns.New(t, "region", "la")
	dir := folder(t)
	in := func(name string) func(string, ...string) *exec.Cmd {
		return func(program string, args ...string) *exec.Cmd {
			return n.Command(context.Background(), name, program, args...)
		}
	}
	bin := filepath.Dir(procs.Build(t, procs.Edge))
	procs.Build(t, procs.Cloud)
	s := startSiteWith(t, site.Options{
		Dir: dir, Bin: bin, Host: n.Addr("region"), Wrap: in("region"), Client: openDoor(t, n, "region", dir),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	la := addEdgeWith(t, s, site.EdgeOptions{ID: "la", Direct: true, Wrap: in("la"), Client: openDoor(t, n, "la", dir)})
	addFloor(t, s, la)
	edge, region := edgeDB(t, la), regionDB(t, s)
	var done atomic.Int64
	crew := floorCrew(la, 3, seed, &done)
	work(t, crew, 20)
	sameFloor(t, crew, edge, region)

	n.Cut("la")
	work(t, crew, 50)
	eventually(t, func(ctx context.Context) error { return wantState(ctx, s, "la", "offline") })
	n.Restore("la")
	sameFloor(t, crew, edge, region)
	eventually(t, func(ctx context.Context) error { return wantState(ctx, s, "la", "online") })

	for _, d := range []netns.Direction{netns.Up, netns.Down} {
		n.Cut("la", d)
		work(t, crew, 20)
		eventually(t, func(ctx context.Context) error {
			f, err := s.API.FacilityStatus(ctx, "la")
			if err == nil && f.Stream {
				err = fmt.Errorf("the stream is up although one direction is cut")
			}
			return err
		})
		n.Restore("la", d)
		sameFloor(t, crew, edge, region)
	}
}
