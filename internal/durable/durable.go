// Package durable replaces small files so that a power cut at any moment leaves the
// old one or the new one, whole, and the new one once it has returned.
//
// In:  whoever keeps a key, a number or a configuration beside the database.
// Out: the file system: fsync of the file, rename(2), fsync of its folder.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// forgotten is how old a file that was never put in its place must be to be one
// of a process that was killed.
const forgotten = time.Hour

// WriteFile replaces the file at path, or makes it. Nobody but this process's user can
// read it before it has its mode. With own, which may give the file to another user, it
// does so before the file is in its place. The error is a *fs.PathError of path.
func WriteFile(path string, data []byte, mode fs.FileMode, own ...func(f *os.File) error) error {
	if err := replace(path, data, mode, own); err != nil {
		return &fs.PathError{Op: "replace", Path: path, Err: cause(err)}
	}
	return nil
}

func replace(path string, data []byte, mode fs.FileMode, own []func(f *os.File) error) error {
	aside := "." + filepath.Base(path) + ".new-*"
	sweep(filepath.Join(filepath.Dir(path), aside))
	// A name that nobody can foresee, and from then on the file and not its name: the
	// folder may be another user's, who could put a link there.
	f, err := os.CreateTemp(filepath.Dir(path), aside) // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	for _, give := range own {
		err = errors.Join(err, give(f))
	}
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// sweep removes what processes have left that were killed before the rename.
func sweep(pattern string) {
	left, _ := filepath.Glob(pattern) // a folder whose name is a pattern is swept by nobody
	for _, path := range left {
		if info, err := os.Lstat(path); err == nil && time.Since(info.ModTime()) > forgotten {
			_ = os.Remove(path) // or the next time
		}
	}
}

// cause is the error without the name that only this package knows.
func cause(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	if l, ok := errors.AsType[*os.LinkError](err); ok {
		return l.Err
	}
	return err
}

// SyncDir makes durable what a folder lists: files that were made, renamed or removed.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
