package pgcluster

import (
	"errors"
	"fmt"

	"github.com/agogsaas/holdfast/internal/hint"
)

// What can be wrong before a server runs, each with its remedy.

func missing() error {
	return hint.Wrap(errors.New("no PostgreSQL server programs found on PATH or under /usr/lib/postgresql"),
		"Install PostgreSQL %d or newer (Debian: apt-get install postgresql), or name the folder of its programs in the configuration.", MinMajor)
}

func tooOld(b Binaries) error {
	return hint.Wrap(fmt.Errorf("PostgreSQL %s in %s is too old", b.Version, b.Dir),
		"Install version %d or newer beside it; Holdfast takes the newest.", MinMajor)
}

func wrongMajor(dataDir string, data int, b Binaries) error {
	remedy := fmt.Sprintf("Install PostgreSQL %d beside it (Debian: apt-get install postgresql-%d), or upgrade the data with pg_upgrade.", data, data)
	if data > b.Major {
		remedy = fmt.Sprintf("Install PostgreSQL %d; data cannot go back to an older version.", data)
	}
	return hint.Wrap(fmt.Errorf("the data in %s is of PostgreSQL %d, but the programs in %s are of %d", dataDir, data, b.Dir, b.Major), "%s", remedy)
}

func noAccount(name string, err error) error {
	return hint.Wrap(fmt.Errorf("run PostgreSQL as user %q: %w", name, err),
		"Create the user (useradd --system %s), name another one in the configuration, or start Holdfast as an ordinary user.", name)
}

func notReachable(account, path, parent string) error {
	return hint.Wrap(fmt.Errorf("user %q cannot reach %s: folder %s is closed to it", account, path, parent),
		"Run chmod o+x %s, or choose a data directory elsewhere.", parent)
}

func notADataDir(path string) error {
	return hint.Wrap(fmt.Errorf("%s is neither empty nor a PostgreSQL data directory", path),
		"Choose another directory, or move what is in it away.")
}

func notOwned(path, account string) error {
	return hint.Wrap(fmt.Errorf("%s does not belong to user %q", path, account),
		"Run chown -R %s %s, or start Holdfast as the user that owns it.", account, path)
}

func portTaken(port int, err error) error {
	return hint.Wrap(fmt.Errorf("TCP port %d is in use by another program: %w", port, err),
		"Stop the other program (ss -ltnp shows it), or choose another port in the configuration.")
}

func socketPathTooLong(path string, limit int) error {
	return hint.Wrap(fmt.Errorf("the unix socket's path %s is longer than %d bytes", path, limit),
		"Choose a directory with a shorter path, or let the server listen on 127.0.0.1.")
}

func notLoopback(address string) error {
	return hint.Wrap(fmt.Errorf("listen address %q is not a loopback address", address),
		"Use 127.0.0.1, ::1, or none; other machines reach the data through Holdfast, not through PostgreSQL.")
}

func badSettings(said string, err error) error {
	return hint.Wrap(fmt.Errorf("PostgreSQL refuses its settings: %w: %s", err, said),
		"Correct the named setting in Holdfast's configuration, or in postgresql.auto.conf where ALTER SYSTEM put it.")
}
