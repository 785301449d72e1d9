// Package netns gives a test a small network of its own, of the kernel's
// network namespaces, in which cables can be cut.
//
// One namespace is the hub, the region; the others, the boxes, are joined to it
// by a pair of virtual cards each. It works as root and, through user
// namespaces, as an ordinary user. All of it goes with the test binary, however
// that ends, because the namespaces live only as long as a process that waits
// for the end of a pipe.
//
// In:  test scenarios that need real packets to vanish.
// Out: ip, nft, unshare and nsenter, and the programs run with Command.
package netns

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Direction is one way along a cable.
type Direction int

// Up is from a node to the hub.
const (
	Up Direction = iota
	Down
)

// Net is a hub and its nodes.
type Net struct {
	t     testing.TB
	hub   *space
	nodes map[string]*space
}

// space is one network namespace.
type space struct {
	name   string
	pid    int    // of the process that keeps it
	number int    // of the node, from 1; 0 is the hub
	addr   string // IPv4
}

const (
	patience = 2 * time.Minute
	nodesMax = 250
	hubAddr  = "10.99.0.1"
)

// New makes the namespaces. Every node reaches the hub's Addr and the hub
// every node's; nodes do not reach one another. Nothing else is reachable.
func New(t testing.TB, hub string, nodes ...string) *Net {
	t.Helper()
	if len(nodes) > nodesMax {
		t.Fatalf("%d nodes, at most %d fit", len(nodes), nodesMax)
	}
	n := &Net{t: t, nodes: map[string]*space{}}
	n.hub = n.unshare(hub, 0)
	n.hub.addr = hubAddr
	n.admin(n.hub, "ip link set lo up && ip addr add %s/32 dev lo && nft -f -", hubAddr)
	for i, name := range nodes {
		s := n.unshare(name, i+1)
		s.addr = fmt.Sprintf("10.99.%d.2", s.number)
		n.nodes[name] = s
		gateway := fmt.Sprintf("10.99.%d.1", s.number)
		// The hub answers from its one address, whatever card a question came by.
		n.admin(n.hub, "ip link add to%[1]d type veth peer name up0 netns %[2]d && ip addr add %[3]s/24 dev to%[1]d && ip link set to%[1]d up && "+
			"ip route replace 10.99.%[1]d.0/24 dev to%[1]d src %[4]s", s.number, s.pid, gateway, hubAddr)
		n.admin(s, "ip link set lo up && ip addr add %s/24 dev up0 && ip link set up0 up && ip route add default via %s && nft -f -",
			s.addr, gateway)
	}
	return n
}

// Addr returns the IPv4 address of the hub or of a node.
func (n *Net) Addr(name string) string { return n.space(name).addr }

// Command prepares a program to run in a namespace, as the user who runs the
// test.
func (n *Net) Command(ctx context.Context, name, program string, args ...string) *exec.Cmd {
	enter := n.enter(n.space(name))
	if os.Geteuid() != 0 {
		// Inside, the test's user is root. PostgreSQL and others refuse that, so
		// go one user namespace deeper, where it has its own number again.
		// Changing user namespaces cancels what the kernel was told to do at our
		// death, so it is told again.
		enter = append(enter, "unshare", "-U", "--map-user="+strconv.Itoa(os.Geteuid()), "--map-group="+strconv.Itoa(os.Getegid()), "--",
			"setpriv", "--pdeathsig", "KILL", "--")
	}
	all := append(append(enter, program), args...)
	cmd := exec.CommandContext(ctx, all[0], all[1:]...)
	cmd.Env = environment()
	return cmd
}

// Cut makes packets between a node and the hub vanish at the receiver's end,
// in the given directions or in both. No sender sees an error.
func (n *Net) Cut(node string, directions ...Direction) { n.set(node, true, directions) }

// Restore ends a cut, in the given directions or in both.
func (n *Net) Restore(node string, directions ...Direction) { n.set(node, false, directions) }

func (n *Net) set(node string, cut bool, directions []Direction) {
	n.t.Helper()
	s := n.nodes[node]
	if s == nil {
		n.t.Fatalf("no node named %q", node)
	}
	if len(directions) == 0 {
		directions = []Direction{Up, Down}
	}
	verb := "delete"
	if cut {
		verb = "add"
	}
	for _, d := range directions {
		at, card := n.hub, fmt.Sprintf("to%d", s.number)
		if d == Down {
			at, card = s, "up0"
		}
		// To add what is there is no error; to delete what is not would be.
		n.admin(at, `nft add element inet rig cut '{ %[2]s }' && nft %[1]s element inet rig cut '{ %[2]s }'`, verb, card)
	}
}

// filter drops what comes in through a card of the set "cut". Dropping what
// goes out would tell the sender.
const filter = `table inet rig {
	set cut { type ifname; }
	chain in { type filter hook prerouting priority -300; iifname @cut drop; }
}
`

func (n *Net) space(name string) *space {
	n.t.Helper()
	if name == n.hub.name {
		return n.hub
	}
	s := n.nodes[name]
	if s == nil {
		n.t.Fatalf("no namespace named %q", name)
	}
	return s
}

// unshare starts the process that keeps a namespace.
func (n *Net) unshare(name string, number int) *space {
	n.t.Helper()
	args := []string{"unshare", "-n"}
	switch {
	case os.Geteuid() == 0:
	case n.hub == nil:
		args = []string{"unshare", "-Urn"}
	default:
		args = append(n.enter(n.hub), args...)
	}
	args = append(args, "sh", "-c", "echo ready $$; read end")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = environment()
	in, err := cmd.StdinPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		n.t.Fatalf("make a network namespace: %v", err)
	}
	n.t.Cleanup(func() {
		in.Close()
		cmd.Wait() // ends with the pipe; how does not matter
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil && err != io.EOF {
		n.t.Fatal(err)
	}
	s := &space{name: name, number: number}
	if _, err := fmt.Sscanf(line, "ready %d", &s.pid); err != nil {
		in.Close()
		cmd.Wait()
		n.t.Fatalf("make a network namespace: %s (as an ordinary user this needs user namespaces: sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)", strings.TrimSpace(said.String()))
	}
	return s
}

func (n *Net) enter(s *space) []string {
	args := []string{"nsenter", "-t", strconv.Itoa(s.pid), "-n"}
	if os.Geteuid() != 0 {
		args = append(args, "-U", "--preserve-credentials")
	}
	return append(args, "--")
}

// admin runs a shell line with the rights to configure the namespace. The
// filter is its standard input.
func (n *Net) admin(s *space, format string, args ...any) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	line := fmt.Sprintf(format, args...)
	all := append(n.enter(s), "sh", "-ec", line)
	cmd := exec.CommandContext(ctx, all[0], all[1:]...)
	cmd.Env = environment()
	cmd.Stdin = strings.NewReader(filter)
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("in namespace %s: %s: %v: %s", s.name, line, err, bytes.TrimSpace(out))
	}
}

// environment finds ip and nft also where an ordinary user's PATH lacks them.
func environment() []string {
	return append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
}
