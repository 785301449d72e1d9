package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/agogsaas/holdfast/internal/hint"
)

// secretMaxBytes is enough for any password, token or key file.
const secretMaxBytes = 64 << 10

// ReadSecret returns what the file at path holds, without the newline at its
// end. A file that anyone but its owner may open, that is empty, or that is larger
// than 64 KiB is refused. Credentials that systemd passes are exempt from the
// first rule: it guards them by other means.
func ReadSecret(path string) ([]byte, error) {
	// Without O_NONBLOCK, opening a FIFO would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open secret: %w", err)
	}
	defer f.Close()
	info, err := f.Stat() // of what was opened, not of what the name means now
	if err != nil {
		return nil, fmt.Errorf("open secret: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read secret %s: not a regular file", path)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 && !fromSystemd(path) {
		return nil, hint.Wrap(fmt.Errorf("read secret %s: others may open it (mode %04o)", path, perm),
			"Run chmod 600 %s, and replace the secret if someone may have read it.", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, secretMaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	if len(data) > secretMaxBytes {
		return nil, fmt.Errorf("read secret %s: larger than %s", path, Bytes(secretMaxBytes))
	}
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(data) == 0 {
		return nil, fmt.Errorf("read secret %s: the file is empty", path)
	}
	return data, nil
}

func fromSystemd(path string) bool {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return false
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
