package pgcluster

import "fmt"

// The errors here carry what the reader of the message can do about it.

func missing(err error) error {
	return fmt.Errorf("%w; install it (Debian: apt-get install postgresql) or name its folder in the configuration", err)
}

func tooOld(b Binaries) error {
	return fmt.Errorf("PostgreSQL %s in %s is too old; install version %d or newer beside it, Holdfast takes the newest", b.Version, b.Dir, MinMajor)
}

func noAccount(name string, err error) error {
	return fmt.Errorf("run PostgreSQL as %q: %w; create the user (useradd --system %s), name another one, or start Holdfast as an ordinary user", name, err, name)
}

func notReachable(account, path, parent string) error {
	return fmt.Errorf("user %q cannot reach %s because %s is closed to it; run chmod o+x %s, or choose a data directory elsewhere", account, path, parent, parent)
}
