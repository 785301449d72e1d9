package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/pgcluster"
)

// place is where a demo lives: a checkout and its .demo folder.
type place struct {
	Checkout string
	Demo     string // <checkout>/.demo, which may be a link to Data
	Data     string // the real folder, with links resolved; "" before prepare
}

func (p place) bin(program string) string { return filepath.Join(p.Checkout, "bin", program) }
func (p place) file(name ...string) string {
	return filepath.Join(append([]string{p.Demo}, name...)...)
}

// findPlace finds the checkout around the working directory.
func findPlace(dir string) (place, error) {
	if dir == "" {
		var err error
		if dir, err = os.Getwd(); err != nil {
			return place{}, fmt.Errorf("find the working directory: %w", err)
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return place{}, fmt.Errorf("find the checkout: %w", err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		raw, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && strings.HasPrefix(string(raw), "module github.com/agogsaas/holdfast\n") {
			p := place{Checkout: at, Demo: filepath.Join(at, ".demo")}
			if real, err := filepath.EvalSymlinks(p.Demo); err == nil {
				p.Data = real
			}
			return p, nil
		}
		if at == filepath.Dir(at) {
			return place{}, hint.Wrap(fmt.Errorf("%s is not in a checkout of Holdfast", dir), "Run it there, or name the checkout with --checkout.")
		}
	}
}

// prepare makes the .demo folder. PostgreSQL never runs as root: for root the
// folder lets its user pass, and lives under /var/tmp when the checkout does
// not (as below /root). What is secret in it is closed by its own mode.
func (p place) prepare() (place, error) {
	account, err := pgcluster.FindAccount("")
	if err != nil {
		return p, err
	}
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	_, err = os.Lstat(p.Demo)
	if errors.Is(err, fs.ErrNotExist) {
		err = p.make(account, mode)
	}
	if err != nil {
		return p, fmt.Errorf("make %s: %w", p.Demo, err)
	}
	if p.Data, err = filepath.EvalSymlinks(p.Demo); err != nil {
		return p, hint.Wrap(fmt.Errorf("find the demo's data: %w", err), "The link points nowhere; remove %s and start again.", p.Demo)
	}
	if err := ours(p.Data); err != nil {
		return p, err
	}
	if err := os.Chmod(p.Data, mode); err != nil {
		return p, fmt.Errorf("close %s to others: %w", p.Data, err)
	}
	if err := account.Reaches(filepath.Join(p.Data, "any")); err != nil {
		return p, hint.Wrap(err, "Stop the demo, remove %s and start it again: it will choose a folder that PostgreSQL reaches.", p.Demo)
	}
	return p, nil
}

func (p place) make(account pgcluster.Account, mode fs.FileMode) error {
	if account.Reaches(filepath.Join(p.Demo, "any")) == nil {
		return os.Mkdir(p.Demo, mode)
	}
	sum := sha256.Sum256([]byte(p.Checkout))
	elsewhere := "/var/tmp/holdfast-demo-" + hex.EncodeToString(sum[:6])
	// Anybody may make folders there, so one that exists must be ours.
	if err := os.Mkdir(elsewhere, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := ours(elsewhere); err != nil {
		return err
	}
	return os.Symlink(elsewhere, p.Demo)
}

// ours refuses a folder that somebody else could have put there.
func ours(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return hint.Wrap(fmt.Errorf("%s is not a folder of user %d that others cannot write to", dir, os.Geteuid()),
			"Start the demo as the user who started it first, or look at the folder and remove it.")
	}
	return nil
}

var errRuns = errors.New("the demo runs already")

// lock makes this process the one that runs the demo here. The file holds its
// process id; the lock goes with the process, however it ends.
func (p place) lock() (*os.File, error) {
	f, err := os.OpenFile(p.file("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the demo: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, hint.Wrap(fmt.Errorf("%w, as process %d", errRuns, p.holder()), "Look at it with holdfastctl demo status, or stop it with make demo-down.")
		}
		return nil, fmt.Errorf("lock the demo: %w", err)
	}
	if err := f.Truncate(0); err != nil {
		return nil, fmt.Errorf("lock the demo: %w", err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return nil, fmt.Errorf("lock the demo: %w", err)
	}
	return f, nil
}

// holder is the process that holds the lock, 0 when none does.
func (p place) holder() int {
	f, err := os.OpenFile(p.file("lock"), os.O_RDWR, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		return 0 // nobody had it; closing lets it go again
	}
	raw := make([]byte, 32)
	n, _ := f.ReadAt(raw, 0) // its end is an error too
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw[:n])))
	if err != nil {
		return 0
	}
	return pid
}
