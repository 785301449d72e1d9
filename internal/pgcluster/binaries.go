package pgcluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// MinMajor is the oldest PostgreSQL that Holdfast works with. Version 15 is
// the first where a role without superuser rights may be granted
// session_replication_role, which the apply role needs.
const MinMajor = 15

// Binaries is one installation of the PostgreSQL server programs.
type Binaries struct {
	Dir     string // the folder that holds postgres, initdb and the rest
	Major   int    // 15, 16, 17, …
	Version string // as the server prints it, such as "15.18"
}

// Path returns the full path of one program of the installation.
func (b Binaries) Path(program string) string { return filepath.Join(b.Dir, program) }

// patterns are where distributions put the server programs, which are mostly
// not on PATH: Debian and Ubuntu, Red Hat and SUSE, Homebrew.
var patterns = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/usr/lib/postgresql*/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
}

// FindBinaries returns the newest installed PostgreSQL of at least MinMajor.
// A non-empty dir is the only place looked at.
func FindBinaries(dir string) (Binaries, error) { return findBinaries(dir, 0) }

// findBinaries prefers the major version want, that of existing data, over
// the newest. 0 means no preference.
func findBinaries(dir string, want int) (Binaries, error) {
	if dir != "" {
		b, err := inspect(dir)
		if err != nil {
			return Binaries{}, fmt.Errorf("look for PostgreSQL in %s: %w", dir, err)
		}
		if b.Major < MinMajor {
			return Binaries{}, tooOld(b)
		}
		return b, nil
	}
	var best, old Binaries
	for _, d := range candidates() {
		b, err := inspect(d)
		switch {
		case err != nil:
		case b.Major < MinMajor:
			old = b
		case best.Dir == "", better(b.Major, best.Major, want):
			best = b
		}
	}
	switch {
	case best.Dir != "":
		return best, nil
	case old.Dir != "":
		return Binaries{}, tooOld(old)
	}
	return Binaries{}, missing()
}

func candidates() []string {
	var dirs []string
	if p, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	for _, p := range patterns {
		found, _ := filepath.Glob(p) // the only error is a bad pattern
		dirs = append(dirs, found...)
	}
	return dirs
}

var versionText = regexp.MustCompile(`\(PostgreSQL\) ((\d+)(?:\.\d+|devel|beta\d+|rc\d+)?)`)

func inspect(dir string) (Binaries, error) {
	for _, program := range []string{"postgres", "initdb"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
			return Binaries{}, err
		}
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("ask postgres for its version: %w", err)
	}
	m := versionText.FindStringSubmatch(string(out))
	if m == nil {
		return Binaries{}, fmt.Errorf("unknown version text %q", strings.TrimSpace(string(out)))
	}
	major, err := strconv.Atoi(m[2])
	if err != nil {
		return Binaries{}, fmt.Errorf("version text %q: %w", m[1], err)
	}
	return Binaries{Dir: dir, Major: major, Version: m[1]}, nil
}

func better(a, b, want int) bool {
	if (a == want) != (b == want) {
		return a == want
	}
	return a > b
}
