package pgcluster

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheFuseIsATenthOfTheDiskWithinBounds(t *testing.T) {
	t.Parallel()
	for disk, want := range map[int64]string{4 * gib: "1024MB", 32 * gib: "3276MB", 4096 * gib: "32768MB"} {
		if got := fuse(disk); got != want {
			t.Errorf("disk of %d GiB: %s, want %s", disk/gib, got, want)
		}
	}
}

func TestAutoFollowsTheMemory(t *testing.T) {
	t.Parallel()
	for memory, want := range map[int64]Profile{1 * gib: Pi4, 4 * gib: Pi4, 8 * gib: NUC, 16 * gib: NUC, 64 * gib: Large} {
		if got := Auto.resolve(memory); got != want {
			t.Errorf("%d GiB: %s, want %s", memory/gib, got, want)
		}
	}
}

func TestASettingCannotBreakOutOfItsQuotes(t *testing.T) {
	t.Parallel()
	got := string(render(map[string]string{"cluster_name": "it's"}))
	if !strings.HasSuffix(got, "\ncluster_name = 'it''s'\n") {
		t.Errorf("%s", got)
	}
}

func TestVerifiersMatchOnlyTheirPassword(t *testing.T) {
	t.Parallel()
	v, err := scramVerifier("secret")
	if err != nil {
		t.Fatal(err)
	}
	for candidate, want := range map[string]bool{"secret": true, "Secret": false, "": false} {
		if scramMatches(v, candidate) != want {
			t.Errorf("%q: want %v", candidate, want)
		}
	}
	for _, bad := range []string{"", "md5abc", "SCRAM-SHA-256$x:y$z:w", "SCRAM-SHA-256$99999999:c2FsdA==$a:b", strings.Replace(v, "4096", "-1", 1)} {
		if scramMatches(bad, "secret") {
			t.Errorf("%q matches", bad)
		}
	}
}

func TestOldLogsMakeRoomForNew(t *testing.T) {
	t.Parallel()
	c := &Cluster{cfg: Config{Dir: t.TempDir()}, log: slog.New(slog.DiscardHandler)}
	if err := os.Mkdir(c.cfg.logDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	name := func(i int) string {
		return filepath.Join(c.cfg.logDir(), fmt.Sprintf("postgresql-20260101-0000%02d.log", i))
	}
	for i := range 12 {
		f, err := os.Create(name(i))
		if err != nil {
			t.Fatal(err)
		}
		f.Truncate(8 * mib) // takes no room
		f.Close()
	}
	c.prune(c.log)
	left, err := os.ReadDir(c.cfg.logDir())
	if err != nil || len(left) != int(logMaxBytes/(8*mib)) {
		t.Fatalf("%d files left, %v", len(left), err)
	}
	if _, err := os.Stat(name(11)); err != nil {
		t.Errorf("the newest is gone: %v", err)
	}
}
