package broker

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
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

// listensAt returns nil when some process listens at addr (host:port), and at
// no other address with the same port unless host is empty or a wildcard.
func listensAt(addr string) error {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q: %w", addr, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return fmt.Errorf("address %q: %w", addr, err)
	}
	found, err := listeners(uint16(port))
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

// listeners returns the local addresses at which a TCP port is listened to.
func listeners(port uint16) (ips []net.IP, err error) {
	for _, file := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		raw, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) && strings.HasSuffix(file, "6") {
			continue // no IPv6 here
		}
		if err != nil {
			return nil, fmt.Errorf("list listeners: %w", err)
		}
		ips = append(ips, parseListeners(string(raw), port)...)
	}
	return ips, nil
}

// parseListeners reads the kernel's table: the second field is the local
// address, in hex words of the machine's byte order, and the fourth the state.
func parseListeners(table string, port uint16) (ips []net.IP) {
	const stateListen = "0A"
	suffix := fmt.Sprintf(":%04X", port)
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != stateListen {
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
		ips = append(ips, net.IP(ip))
	}
	return ips
}
