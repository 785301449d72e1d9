package hub

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/durable"
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
	if err := durable.WriteFile(path, []byte(k.Reveal()+"\n"), 0o600); err != nil {
		return tunnel.PrivateKey{}, fmt.Errorf("keep the hub's key: %w", err)
	}
	return k, nil
}
