package config_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/hint"
)

func TestSecretIsReadWithoutItsNewline(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "password")
	write(t, path, 0o600, "s3cret word \r\n")
	got, err := config.ReadSecret(path)
	if err != nil || string(got) != "s3cret word " {
		t.Errorf("ReadSecret: %q, %v", got, err)
	}
}

func TestSecretThatOthersMayOpenIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "password")
	write(t, path, 0o640, "x")
	_, err := config.ReadSecret(path)
	if err == nil || !strings.Contains(hint.Of(err), "chmod 600 "+path) {
		t.Errorf("ReadSecret: %v, hint %q", err, hint.Of(err))
	}
}

func TestSecretFromSystemdIsTrusted(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Join(dir, "credentials"))
	outside := filepath.Join(dir, "password")
	write(t, outside, 0o440, "x")
	if _, err := config.ReadSecret(outside); err == nil {
		t.Error("a file beside the credentials was trusted")
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if _, err := config.ReadSecret(outside); err != nil {
		t.Errorf("ReadSecret: %v", err)
	}
}

func TestUnusableSecretIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	empty, large := filepath.Join(dir, "empty"), filepath.Join(dir, "large")
	write(t, empty, 0o600, "\n")
	write(t, large, 0o600, strings.Repeat("x", 64<<10+1))
	for _, path := range []string{fifo, empty, large, dir, filepath.Join(dir, "none")} {
		if got, err := config.ReadSecret(path); err == nil {
			t.Errorf("%s was read: %d bytes", path, len(got))
		}
	}
}
