package durable

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// names are the files of a folder: none may be left behind.
func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestAFileIsReplacedWholeWithItsMode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	for _, text := range []string{"the first, which is longer", "second"} {
		if err := WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		if got := read(t, path); got != text {
			t.Errorf("it holds %q, want %q", got, text)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("the folder has %v", got)
	}
}

func TestAFileThatCannotBeReplacedStaysAsItWas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("no such user")
	err := WriteFile(path, []byte("new"), 0o600, func(f *os.File) error {
		if got := read(t, f.Name()); got != "new" {
			t.Errorf("the file that is given away holds %q", got)
		}
		return refused
	})
	if !errors.Is(err, refused) {
		t.Errorf("error %v", err)
	}
	if got := read(t, path); got != "old" {
		t.Errorf("it holds %q", got)
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("the folder has %v", got)
	}
	path = filepath.Join(dir, "nowhere", "key")
	if err := WriteFile(path, nil, 0o600); !errors.Is(err, os.ErrNotExist) || err.Error() != "replace "+path+": no such file or directory" {
		t.Errorf("in a folder that is not there: %v", err)
	}
}

func TestWhatAKilledProcessLeftIsRemovedAndWhatAnotherWritesIsNot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	left, others := filepath.Join(dir, ".key.new-1"), filepath.Join(dir, ".key.new-2")
	for _, path := range []string{left, others} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * forgotten)
	if err := os.Chtimes(left, long, long); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(dir, "key"), []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{".key.new-2", "key"}) {
		t.Errorf("the folder has %v", got)
	}
}
