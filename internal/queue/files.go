package queue

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft-wal/types"

	"github.com/agogsaas/holdfast/internal/durable"
	"github.com/agogsaas/holdfast/internal/fault"
)

// files is the file system that the log works on. It differs from the log's
// own in three points: a file takes only the space that was written (a 64 MB
// file that is allocated ahead would be most of what a quiet facility's queue
// takes), it knows how much of each file was synced, so that what a failed
// append left can be cut off, and its two steps can be broken by tests.
type files struct {
	dir         string
	write, sync *fault.Point
	bytes       atomic.Int64 // of all segments

	mu    sync.Mutex
	sizes map[string]int64
	good  map[string]int64 // size at the last successful sync, of files opened for writing
}

const segmentSuffix = ".wal"

func newFiles(dir string, write, sync *fault.Point) *files {
	return &files{dir: dir, write: write, sync: sync, sizes: map[string]int64{}, good: map[string]int64{}}
}

func (v *files) resize(name string, size int64) {
	if !strings.HasSuffix(name, segmentSuffix) {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.bytes.Add(size - v.sizes[name])
	v.sizes[name] = size
}

// ListDir implements types.VFS. It also takes stock of the sizes.
func (v *files) ListDir(dir string) ([]string, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range list {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		names = append(names, e.Name())
		v.resize(e.Name(), info.Size())
	}
	return names, nil
}

// Create implements types.VFS. The size is a limit, not a reservation.
func (v *files) Create(dir, name string, _ uint64) (types.WritableFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	v.resize(name, 0)
	v.setGood(name, 0)
	return &file{File: f, v: v, name: name, newDir: dir}, nil
}

// OpenWriter implements types.VFS. What a process before this one wrote and did
// not sync is readable now and might be gone after a power cut: sync it first.
func (v *files) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	w := &file{File: f, v: v, name: name, size: info.Size(), newDir: dir}
	v.resize(name, w.size)
	if err := w.Sync(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w, nil
}

// OpenReader implements types.VFS.
func (v *files) OpenReader(dir, name string) (types.ReadableFile, error) {
	return os.Open(filepath.Join(dir, name))
}

// Delete implements types.VFS.
func (v *files) Delete(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		return err
	}
	v.mu.Lock()
	v.bytes.Add(-v.sizes[name])
	delete(v.sizes, name)
	delete(v.good, name)
	v.mu.Unlock()
	return durable.SyncDir(dir)
}

func (v *files) setGood(name string, size int64) {
	v.mu.Lock()
	v.good[name] = size
	v.mu.Unlock()
}

// cutBack truncates every file that was written to what was synced last: after
// a failed write or sync nobody knows what of the rest is on the disk.
func (v *files) cutBack() error {
	v.mu.Lock()
	good := maps.Clone(v.good)
	v.mu.Unlock()
	for name, size := range good {
		f, err := os.OpenFile(filepath.Join(v.dir, name), os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil && info.Size() > size {
			err = f.Truncate(size)
			v.resize(name, size)
		}
		if err == nil {
			err = v.sync.Do(f.Sync)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("cut %s back to %d bytes: %w", name, size, err)
		}
	}
	return nil
}

// file is a segment that is written.
type file struct {
	*os.File
	v      *files
	name   string
	size   int64  // by the writer
	newDir string // to be synced with the first sync of the file, then ""
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if err := f.v.write.Before(); err != nil {
		// As a full disk would: some of it is there.
		n, _ := f.File.WriteAt(p[:len(p)/2], off)
		f.grow(off + int64(n))
		return n, err
	}
	n, err := f.File.WriteAt(p, off)
	f.grow(off + int64(n))
	if err == nil {
		err = f.v.write.After()
	}
	return n, err
}

func (f *file) grow(end int64) {
	if end > f.size {
		f.size = end
		f.v.resize(f.name, end)
	}
}

func (f *file) Sync() error {
	err := f.v.sync.Do(func() error {
		for {
			err := syscall.Fdatasync(int(f.Fd()))
			if err != syscall.EINTR {
				return err
			}
		}
	})
	if err != nil {
		return fmt.Errorf("sync %s: %w", f.name, err)
	}
	if f.newDir != "" {
		if err := durable.SyncDir(f.newDir); err != nil {
			return err
		}
		f.newDir = ""
	}
	f.v.setGood(f.name, f.size)
	return nil
}

// lockDir keeps a second process out until the file is closed.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// A program that this process is just starting holds a copy of the lock that
	// was released a moment ago, until its exec.
	for try := 0; ; try++ {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if try == lockTries {
			return nil, errors.Join(fmt.Errorf("another process has the queue open: %w", err), f.Close())
		}
		time.Sleep(lockPause)
	}
}

const (
	lockTries = 50
	lockPause = 10 * time.Millisecond
)

var (
	_ types.VFS   = (*files)(nil)
	_ io.ReaderAt = (*file)(nil)
	_ io.WriterAt = (*file)(nil)
)
