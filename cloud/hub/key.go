package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/tunnel"
)

// LoadKey reads the hub's private key from the file at path, and makes it
// (mode 0600) when there is none. Every enrolled box knows its public half:
// losing the file means enrolling all of them again.
func LoadKey(path string) (tunnel.PrivateKey, error) {
	b, err := config.ReadSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(path)
	}
	if err != nil {
		return tunnel.PrivateKey{}, fmt.Errorf("read the hub's key: %w", err)
	}
	k, err := tunnel.ParsePrivateKey(string(b))
	if err != nil {
		return tunnel.PrivateKey{}, hint.Wrap(fmt.Errorf("read the hub's key in %s: %w", path, err),
			"Restore the file from a backup. Without it every box must be enrolled again: remove the file only if that is what you want.")
	}
	return k, nil
}

func makeKey(path string) (tunnel.PrivateKey, error) {
	k, err := tunnel.GenerateKey()
	if err != nil {
		return k, err
	}
	if err := writeNew(path, []byte(k.Reveal()+"\n")); err != nil {
		return tunnel.PrivateKey{}, fmt.Errorf("keep the hub's key: %w", err)
	}
	return k, nil
}

// writeNew makes the file whole or not at all, also across a power cut.
func writeNew(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
