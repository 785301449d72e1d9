package uplink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

// epochFile keeps the current epoch on disk, outside the database and the
// queue, because a new epoch is begun when one of those was lost.
type epochFile struct {
	path string
	now  *atomic.Uint64
}

func openEpoch(path string, base uint64) (epochFile, error) {
	e := epochFile{path: path, now: new(atomic.Uint64)}
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return e, e.set(base)
	case err != nil:
		return e, fmt.Errorf("read the epoch: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		// A torn file cannot be: it is replaced by rename. Whatever happened,
		// an epoch above all that this enrolment used is always right.
		return e, e.set(base + 1<<31)
	}
	if n < base {
		return e, e.set(base) // enrolled anew
	}
	e.now.Store(n)
	return e, nil
}

func (e epochFile) current() uint64 { return e.now.Load() }

func (e epochFile) set(n uint64) error {
	f, err := os.CreateTemp(filepath.Dir(e.path), ".epoch-*")
	if err != nil {
		return fmt.Errorf("write the epoch: %w", err)
	}
	_, err = fmt.Fprintln(f, n)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), e.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(e.path))
	}
	if err != nil {
		return fmt.Errorf("write the epoch: %w", errors.Join(err, removeIfThere(f.Name())))
	}
	e.now.Store(n)
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
