package uplink

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

// epoch is a stream identity. It begins in steps that a crash may separate:
// first it is written down as opening, then all tables are marked to be sent
// again and the queue is told where in the WAL the stream begins, then it is
// open. An epoch that is found opening goes through the steps again.
type epoch struct {
	number  uint64
	opening bool
	reason  string // why the one before ended; empty for the first
}

// epochFile keeps the current epoch on disk, outside the database and the
// queue, because a new epoch is begun when one of those was lost. Its lines
// are the number, "opening" or "open", and the reason.
type epochFile struct {
	path string
	now  *atomic.Pointer[epoch]
}

func openEpoch(path string, base uint64) (epochFile, error) {
	e := epochFile{path: path, now: new(atomic.Pointer[epoch])}
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return e, e.set(epoch{number: base, opening: true})
	case err != nil:
		return e, fmt.Errorf("read the epoch: %w", err)
	}
	lines := append(strings.SplitN(string(b), "\n", 3), "", "")
	n, err := strconv.ParseUint(strings.TrimSpace(lines[0]), 10, 64)
	if err != nil {
		// A torn file cannot be: it is replaced by rename. Whatever happened,
		// an epoch above all that this enrolment used is always right.
		return e, e.set(epoch{number: base + 1<<31, opening: true, reason: "the note of the epoch was damaged on disk"})
	}
	if n < base {
		return e, e.set(epoch{number: base, opening: true, reason: "the box was enrolled anew"})
	}
	e.now.Store(&epoch{number: n, opening: lines[1] == "opening", reason: strings.TrimSpace(lines[2])})
	return e, nil
}

func (e epochFile) get() epoch { return *e.now.Load() }

func (e epochFile) current() uint64 { return e.get().number }

// set makes n the current epoch, durably. Only one goroutine may call it.
func (e epochFile) set(n epoch) error {
	f, err := os.CreateTemp(filepath.Dir(e.path), ".epoch-*")
	if err != nil {
		return fmt.Errorf("write the epoch: %w", err)
	}
	state := "open"
	if n.opening {
		state = "opening"
	}
	n.reason = strings.Join(strings.Fields(n.reason), " ")
	_, err = fmt.Fprintf(f, "%d\n%s\n%s\n", n.number, state, n.reason)
	err = cmp.Or(err, f.Sync())
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), e.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(e.path))
	}
	if err != nil {
		return fmt.Errorf("write the epoch: %w", errors.Join(err, removeIfThere(f.Name())))
	}
	e.now.Store(&n)
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
