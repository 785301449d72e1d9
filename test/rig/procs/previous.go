package procs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/pgtest"
)

// beforeTags is what counts as the build before this one as long as no version
// is tagged: the last commit in which changes went up only.
const beforeTags = "3c97bfe"

// Previous returns the path of a program of the build before this one, and what
// that build is called: the newest tag before this commit, whose boxes are in the
// field while a region is updated. It is made from the repository's history, which
// must be there.
func Previous(t testing.TB, program string) (path, ref string) {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	ref = previousRef(root)
	built.Lock()
	defer built.Unlock()
	if built.paths == nil {
		built.dir, built.paths = pgtest.SharedDir(t), map[string]string{}
	}
	key := ref + ":" + program
	if path := built.paths[key]; path != "" {
		return path, ref
	}
	source := filepath.Join(built.dir, "previous")
	path = filepath.Join(built.dir, "previous-bin", filepath.Base(program))
	if err := errors.Join(checkOut(root, ref, source), buildIn(source, program, path)); err != nil {
		t.Fatalf("build %s of %s: %v", program, ref, err)
	}
	built.paths[key] = path
	return path, ref
}

// previousRef is the newest tag before this commit. There is none in the first
// commits, and in a copy without tags.
func previousRef(root string) string {
	cmd := exec.Command("git", "describe", "--tags", "--abbrev=0", "HEAD^")
	cmd.Dir = root
	out, err := cmd.Output()
	if tag := strings.TrimSpace(string(out)); err == nil && tag != "" {
		return tag
	}
	return beforeTags
}

// checkOut writes the files of a commit into a folder, without touching the
// repository.
func checkOut(root, ref, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var archive, complaint bytes.Buffer
	cmd := exec.Command("git", "archive", "--format=tar", ref)
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, &archive, &complaint
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("read commit %s: %w: %s (a shallow copy lacks it: git fetch --unshallow --tags)", ref, err, bytes.TrimSpace(complaint.Bytes()))
	}
	cmd = exec.Command("tar", "-x", "-C", dir)
	cmd.Stdin = &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("unpack commit %s: %w: %s", ref, err, bytes.TrimSpace(out))
	}
	return nil
}
