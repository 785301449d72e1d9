package netns_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/test/rig/netns"
)

// The tests run copies of themselves inside the namespaces.
func TestMain(m *testing.M) {
	switch os.Getenv("NETNS_ROLE") {
	case "echo":
		echo()
	case "ask":
		ask()
	default:
		os.Exit(m.Run())
	}
}

func echo() {
	c, err := net.ListenPacket("udp", ":7007")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		c.WriteTo(buf[:n], from)
	}
}

// ask sends each line of its input and prints the answer, or "nothing".
func ask() {
	c, err := net.Dial("udp", os.Getenv("NETNS_ADDR"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	buf := make([]byte, 1500)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if _, err := c.Write(in.Bytes()); err != nil {
			fmt.Println("error", err)
			continue
		}
		c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := c.Read(buf)
		if err != nil {
			fmt.Println("nothing")
			continue
		}
		fmt.Println(string(buf[:n]))
	}
}

// start runs a copy of this test in a namespace.
func start(t *testing.T, n *netns.Net, where, role string, env ...string) (io.Writer, *bufio.Reader) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := n.Command(t.Context(), where, self)
	cmd.Env = append(cmd.Env, append(env, "NETNS_ROLE="+role)...)
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
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return in, bufio.NewReader(out)
}

func TestACutCableSwallowsPacketsAndARestoredOneCarriesThem(t *testing.T) {
	t.Parallel()
	n := netns.New(t, "region", "la", "frankfurt")
	_, ready := start(t, n, "region", "echo")
	if line, _ := ready.ReadString('\n'); line != "ready\n" {
		t.Fatalf("echo said %q", line)
	}
	reach := func(node string) func(string) string {
		in, out := start(t, n, node, "ask", "NETNS_ADDR="+n.Addr("region")+":7007")
		return func(text string) string {
			fmt.Fprintln(in, text)
			answer, err := out.ReadString('\n')
			if err != nil {
				t.Fatalf("%s: %v", node, err)
			}
			return strings.TrimSpace(answer)
		}
	}
	la, frankfurt := reach("la"), reach("frankfurt")
	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Fatalf("%s: got %q, want %q", what, got, want)
		}
	}
	expect("healthy", la("one"), "one")
	n.Cut("la")
	n.Cut("la") // twice is once
	expect("cut", la("two"), "nothing")
	expect("the other node", frankfurt("three"), "three")
	n.Restore("la")
	n.Restore("la")
	expect("restored", la("four"), "four")
	n.Cut("la", netns.Down)
	expect("half open", la("five"), "nothing")
	n.Restore("la", netns.Down)
	expect("restored again", la("six"), "six")
}

func TestCommandsKeepTheirUser(t *testing.T) {
	t.Parallel()
	n := netns.New(t, "region")
	out, err := n.Command(t.Context(), "region", "id", "-u").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != strconv.Itoa(os.Geteuid()) {
		t.Fatalf("%s, %v", out, err)
	}
}

func TestTheWorldIsOutOfReach(t *testing.T) {
	t.Parallel()
	n := netns.New(t, "region", "la")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	err = n.Command(ctx, "la", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/"+port).Run()
	if _, ok := err.(*exec.ExitError); !ok {
		t.Fatalf("the machine's own loopback is reachable from the namespace: %v", err)
	}
}
