package enrol

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/agogsaas/holdfast/internal/hint"
)

func TestADamagedIdentityIsSaidAndNotReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Load(dir); !errors.Is(err, ErrNotEnrolled) || hint.Of(err) == "" {
		t.Errorf("an empty directory: %v (%s)", err, hint.Of(err))
	}
	path := filepath.Join(dir, identityFile)
	for _, text := range []string{"{", `{"format":1}`, `{"format":2}`, `{"format":1,"key":"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----"}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err == nil || errors.Is(err, ErrNotEnrolled) || hint.Of(err) == "" {
			t.Errorf("%s: %v (%s)", text, err, hint.Of(err))
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%s: the file was changed", text)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a key that others can read was taken")
	}
}

func TestOneEnrolmentAtATime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), lockFile)
	unlock, err := lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(path); err == nil {
		t.Error("two programs hold the lock")
	}
	unlock()
	again, err := lock(path)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
