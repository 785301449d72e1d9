package enrol

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/internal/durable"
)

// clock is the system's clock with a floor: a time that is known to have
// passed. A Raspberry Pi without a battery wakes up in the past, and would take
// every certificate for one of the future. The floor rises only by what others
// have signed, never by the system's clock, which may be ahead by mistake.
type clock struct {
	path   string
	system func() time.Time // time.Now, except in tests

	mu    sync.Mutex
	floor time.Time
}

func openClock(stateDir string) *clock {
	k := &clock{path: filepath.Join(stateDir, clockFile), system: time.Now, floor: buildTime()}
	if b, err := os.ReadFile(k.path); err == nil {
		if t, err := time.Parse(time.RFC3339, strings.TrimSpace(string(b))); err == nil && t.After(k.floor) {
			k.floor = t
		}
	}
	return k
}

// now is the system's time, but not before the floor.
func (k *clock) now() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := k.system(); now.After(k.floor) {
		return now
	}
	return k.floor
}

// learn raises the floor to a time that is proven to have passed, and saves it
// for the next start. That it cannot be saved is no reason to stop.
func (k *clock) learn(t time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !t.After(k.floor) {
		return
	}
	k.floor = t
	_ = durable.WriteFile(k.path, []byte(t.UTC().Format(time.RFC3339)+"\n"), 0o600)
}

// buildTime is when the source of this build was committed, zero if unknown.
func buildTime() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
				return t
			}
		}
	}
	return time.Time{}
}
