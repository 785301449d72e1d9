package scenario

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/agogsaas/holdfast/test/rig/procs"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// ctl runs holdfastctl against the site and returns what it prints.
func ctl(t *testing.T, s *site.Site, args ...string) (out string, err error) {
	t.Helper()
	token := filepath.Join(s.Dir, "ctl-token")
	if err := os.WriteFile(token, []byte(s.API.Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return output(procs.Build(t, procs.Ctl), append([]string{"--url", s.URL(), "--token-file", token}, args...)...)
}

// output runs a program to its end and returns what it prints, errors too.
func output(program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	var both bytes.Buffer
	cmd.Stdout, cmd.Stderr = &both, &both
	err := cmd.Run()
	return both.String(), err
}
