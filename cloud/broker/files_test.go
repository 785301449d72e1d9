package broker

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAllThatIsWrongIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	_, err := New(Config{
		LocalAddr: "0.0.0.0:1883", TLSAddr: "nowhere",
		Integrations: []Account{{Name: "scada"}, {Name: "scada"}, {Name: accountControl}, {Name: "Big"}},
	})
	if err == nil {
		t.Fatal("nothing is wrong with it")
	}
	for _, want := range []string{
		"folder", "devices", "not a loopback", "TLS address", "certificate",
		`"scada" is taken`, `"holdfast-control" is taken`, "small letters",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error says nothing about %q: %v", want, err)
		}
	}
	for url, want := range map[string]string{"tls://broker:8883": "", "nonsense": "unknown scheme", "tcp://u:p@h:1": "user name"} {
		_, err := New(Config{External: &External{URL: url}})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("external %s: %v, want %q", url, err, want)
		}
	}
}

func TestListenersAreReadFromTheKernel(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	all, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = all.Close() }()
	_, port, err := net.SplitHostPort(all.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]error{
		l.Addr().String():                 nil,
		net.JoinHostPort("0.0.0.0", port): nil,
		":" + port:                        nil,
		"127.0.0.1:" + port:               errElsewhere,
		"127.0.0.1:1":                     errNotYet,
	} {
		if err := listensAt(addr, os.Getpid()); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", addr, err, want)
		}
	}
	if err := listensAt(l.Addr().String(), 0); !errors.Is(err, errNotYet) {
		t.Errorf("another process's port: %v", err)
	}
	const table = `  sl  local_address                         remote_address                        st
   0: 00000000000000000000000001000000:07D0 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1
   1: 0100007F:07D0 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1
`
	if ips := parseListeners(table, 2000); len(ips) != 1 || !ips[0].ip.Equal(net.IPv6loopback) || ips[0].inode != "4711" {
		t.Errorf("read %v, want ::1", ips)
	}
}

func TestOnlyTheBrokersUserReadsItsFiles(t *testing.T) {
	t.Parallel()
	user, err := brokerUser("")
	if err != nil {
		t.Fatal(err)
	}
	dir, cleanup, err := makeDir(filepath.Join(t.TempDir(), "broker"), user)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFile(dir, "secret", []byte("x"), user); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "secret"): 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %o", path, info.Mode(), err, want)
		}
	}
	if err := cleanup(); err != nil {
		t.Error(err)
	}
}

func TestListOfRevokedMustBeGoodForLong(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{"empty": "", "not PEM": "hello", "not a list": "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"} {
		if err := checkCRL([]byte(raw)); err == nil {
			t.Errorf("%s was taken for a list of revoked certificates", name)
		}
	}
}
