package procs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/agogsaas/holdfast/internal/pgtest"
)

// The project's programs, by the folders of their main packages.
const (
	Edge  = "edge/cmd/holdfast-edge"
	Cloud = "cloud/cmd/holdfast-cloud"
	Ctl   = "cloud/cmd/holdfastctl"
)

var built struct {
	sync.Mutex
	dir   string
	paths map[string]string
}

// Build returns the path of one of the project's programs, built on first use
// in this test binary. With HOLDFAST_BIN_DIR set, the program of that name in
// that folder is taken as it is. With HOLDFAST_RACE set, the programs are
// built with the race detector.
func Build(t testing.TB, program string) string {
	t.Helper()
	if dir := os.Getenv("HOLDFAST_BIN_DIR"); dir != "" {
		return filepath.Join(dir, filepath.Base(program))
	}
	built.Lock()
	defer built.Unlock()
	if path := built.paths[program]; path != "" {
		return path
	}
	if built.dir == "" {
		built.dir = pgtest.SharedDir(t)
		built.paths = map[string]string{}
	}
	path := filepath.Join(built.dir, filepath.Base(program))
	if err := build(program, path); err != nil {
		t.Fatalf("build %s: %v", program, err)
	}
	built.paths[program] = path
	return path
}

func build(program, path string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	return buildIn(root, program, path)
}

func buildIn(root, program, path string) error {
	// As make build does, so that what it compiled is not compiled again here, nor
	// the build before each time that it lies in another folder.
	args, cgo := []string{"build", "-trimpath", "-o", path}, "0"
	if os.Getenv("HOLDFAST_RACE") != "" {
		args, cgo = append(args, "-race"), "1"
	}
	cmd := exec.Command("go", append(args, "./"+program)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if !filepath.IsAbs(mod) || filepath.Base(mod) != "go.mod" {
		return "", errors.New("run inside the project's checkout, or set HOLDFAST_BIN_DIR")
	}
	return filepath.Dir(mod), nil
}
