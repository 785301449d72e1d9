package broker

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

var (
	errNotYet = errors.New("nothing listens there yet")
	// errElsewhere means that the port is open to more than it should be. Some
	// builds of Mosquitto bind all addresses whatever they are told.
	errElsewhere = errors.New("the broker listens on addresses that it was not told to")
)

// listensAt returns nil when the process listens at addr (host:port), and at
// no other address with the same port unless host is empty or a wildcard. What
// other processes listen to does not count.
func listensAt(addr string, pid int) error {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q: %w", addr, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return fmt.Errorf("address %q: %w", addr, err)
	}
	found, err := listeners(uint16(port), pid)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return errNotYet
	}
	want := net.ParseIP(host)
	if want == nil || want.IsUnspecified() {
		return nil
	}
	if slices.ContainsFunc(found, net.IP.IsUnspecified) {
		return fmt.Errorf("%w: port %d is bound to all", errElsewhere, port)
	}
	if !slices.ContainsFunc(found, want.Equal) {
		return errNotYet
	}
	return nil
}

// listeners returns the local addresses at which a process listens to a TCP port.
func listeners(port uint16, pid int) (ips []net.IP, err error) {
	for _, file := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		raw, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) && strings.HasSuffix(file, "6") {
			continue // no IPv6 here
		}
		if err != nil {
			return nil, fmt.Errorf("list listeners: %w", err)
		}
		for _, l := range parseListeners(string(raw), port) {
			if holdsSocket(pid, l.inode) {
				ips = append(ips, l.ip)
			}
		}
	}
	return ips, nil
}

// listening is one row of the kernel's table.
type listening struct {
	ip    net.IP
	inode string
}

// parseListeners reads the kernel's table: the second field is the local
// address, in hex words of the machine's byte order, the fourth the state, and
// the tenth the socket's number.
func parseListeners(table string, port uint16) (found []listening) {
	const stateListen = "0A"
	suffix := fmt.Sprintf(":%04X", port)
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 10 || f[3] != stateListen {
			continue
		}
		text, ok := strings.CutSuffix(f[1], suffix)
		if !ok {
			continue
		}
		ip, err := hex.DecodeString(text)
		if err != nil || len(ip) != net.IPv4len && len(ip) != net.IPv6len {
			continue
		}
		for i := 0; i < len(ip); i += 4 { // little endian words, as on every machine we run on
			slices.Reverse(ip[i : i+4])
		}
		found = append(found, listening{net.IP(ip), f[9]})
	}
	return found
}

// holdsSocket reports whether a process has that socket open. Where the kernel
// does not let this process look (root in a container, say), the answer is yes:
// a broker whose port is taken ends by itself.
func holdsSocket(pid int, inode string) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrPermission) {
		return true
	}
	if err != nil {
		return false
	}
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && to == "socket:["+inode+"]" {
			return true
		}
	}
	return false
}
