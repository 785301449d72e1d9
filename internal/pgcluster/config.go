package pgcluster

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"
)

// Config says where a managed cluster lives and how it is sized.
type Config struct {
	// Dir is the cluster's home. Below it: data (the data directory), log (the
	// server's own log, bounded), run (the unix socket) and secrets (a password
	// file per role, mode 0600). Required.
	Dir string
	// BinDir is the folder of the server programs. Default: the version that
	// the data has, else the newest of at least MinMajor that is installed.
	BinDir string
	// User is the operating system user that the server runs as when Holdfast
	// runs as root. Default "postgres". Ignored otherwise: the server then runs
	// as the same user.
	User string
	// Port is the TCP port, also part of the socket's name. Default 5432.
	Port int
	// Listen holds the loopback addresses to listen on. Default 127.0.0.1. The
	// single word "none" leaves only the unix socket.
	Listen []string
	// Profile sizes the server: "pi4", "nuc", "server", or "auto" (default) to
	// go by this machine's memory.
	Profile Profile
	// Settings are added to the managed ones and win over them. Those that
	// keep committed data safe cannot be changed; New refuses them.
	Settings map[string]string
	// StopGrace is how long a stop waits for clients' transactions to be
	// rolled back and the last checkpoint, before the server is stopped without
	// one and recovers at its next start. Default 7 s.
	StopGrace time.Duration
}

func (c Config) dataDir() string    { return filepath.Join(c.Dir, "data") }
func (c Config) logDir() string     { return filepath.Join(c.Dir, "log") }
func (c Config) socketDir() string  { return filepath.Join(c.Dir, "run") }
func (c Config) secretsDir() string { return filepath.Join(c.Dir, "secrets") }

// socketPathMax is what fits in a unix socket address with its end mark.
const socketPathMax = 107

// withDefaults returns the configuration with every default filled in, and
// all that is wrong with it.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("the cluster's directory is not set"))
	} else if abs, err := filepath.Abs(c.Dir); err != nil {
		errs = append(errs, fmt.Errorf("resolve %s: %w", c.Dir, err))
	} else {
		c.Dir = abs
	}
	c.Port = cmp.Or(c.Port, 5432)
	if c.Port < 1 || c.Port > 65535 {
		errs = append(errs, fmt.Errorf("port %d is not between 1 and 65535", c.Port))
	}
	c.StopGrace = cmp.Or(c.StopGrace, 7*time.Second)
	c.Profile = cmp.Or(c.Profile, Auto)
	if !c.Profile.known() {
		errs = append(errs, fmt.Errorf("profile %q is not one of pi4, nuc, server, auto", c.Profile))
	}
	switch {
	case len(c.Listen) == 0:
		c.Listen = []string{"127.0.0.1"}
	case len(c.Listen) == 1 && c.Listen[0] == "none":
		c.Listen = nil
	}
	for _, a := range c.Listen {
		if ip, err := netip.ParseAddr(a); err != nil || !ip.IsLoopback() {
			errs = append(errs, notLoopback(a))
		}
	}
	if s := c.socketPath(); len(s) > socketPathMax && len(c.Listen) == 0 {
		errs = append(errs, socketPathTooLong(s, socketPathMax))
	}
	for name, value := range c.Settings {
		if err := allowed(name, value); err != nil {
			errs = append(errs, err)
		}
	}
	return c, errors.Join(errs...)
}

func (c Config) socketPath() string {
	return filepath.Join(c.socketDir(), fmt.Sprintf(".s.PGSQL.%d", c.Port))
}

// hasSocket is false where the path is too long for one.
func (c Config) hasSocket() bool { return len(c.socketPath()) <= socketPathMax }

// fixed settings are those that committed data, or capture, depends on, and
// those that Config has a field for.
var fixed = map[string]string{
	"fsync":                   "committed data would be lost with the power",
	"full_page_writes":        "a page half written at a power cut could not be repaired",
	"wal_level":               "changes could not be captured",
	"data_directory":          "it follows from the cluster's directory",
	"hba_file":                "Holdfast writes it",
	"listen_addresses":        "set the listen addresses instead",
	"port":                    "set the port instead",
	"unix_socket_directories": "it follows from the cluster's directory",
	"password_encryption":     "passwords are always SCRAM",
}

func allowed(name, value string) error {
	if why, ok := fixed[strings.ToLower(name)]; ok {
		return fmt.Errorf("setting %s cannot be changed: %s", name, why)
	}
	if !settingName.MatchString(name) {
		return fmt.Errorf("%q is not the name of a PostgreSQL setting", name)
	}
	if strings.ContainsAny(value, "\n\r\x00") {
		return fmt.Errorf("setting %s: the value has a line break", name)
	}
	return nil
}
