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
)

// WriteFile replaces the file at path, or makes it. Nobody but this process's user can
// read it before it has its mode. With own, which may give the file to another user, it
// does so before the file is in its place.
func WriteFile(path string, data []byte, mode fs.FileMode, own ...func(path string) error) error {
	// A name that nobody can foresee: the folder may be another user's, who could
	// have put a link there.
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	for _, give := range own {
		if err := give(f.Name()); err != nil {
			return err
		}
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes durable what a folder lists: files that were made, renamed or removed.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
