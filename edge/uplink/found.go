package uplink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/durable"
)

// Where the queue ended when nobody had agreed yet with the region is all that the
// region can have. A queue that went back with its box passes that again as people
// work, so that it is kept over a restart, until a session has agreed.

// foundFile is beside the note of the epoch.
func foundFile(epochFile string) string { return epochFile + ".found" }

// keepFound returns what was found first since the last session that agreed: now,
// unless a process before found something.
func keepFound(path string, now change.Position) (found change.Position, err error) {
	b, err := os.ReadFile(path)
	if err == nil {
		if _, err := fmt.Sscanf(string(b), "%d:%d\n", &found.Epoch, &found.Seq); err == nil {
			return found, nil
		} // a disk that was damaged; it is replaced by rename
	} else if !errors.Is(err, fs.ErrNotExist) {
		return now, fmt.Errorf("read where the queue ended: %w", err)
	}
	if err := durable.WriteFile(path, []byte(now.String()+"\n"), 0o600); err != nil {
		return now, fmt.Errorf("note where the queue ends: %w", err)
	}
	return now, nil
}

// forgetFound is called before anything is sent that the region does not have.
func (u *Uplink) forgetFound() error {
	if u.found == (change.Position{}) {
		return nil
	}
	path := foundFile(u.EpochFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget where the queue ended: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("forget where the queue ended: %w", err)
	}
	u.found = change.Position{}
	return nil
}
