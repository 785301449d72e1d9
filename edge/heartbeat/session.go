package heartbeat

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/agogsaas/holdfast/internal/durable"
)

const sessionFile = "heartbeat-session"

// nextStart counts the starts of the agent on this box, durably, so that the
// region can tell an old last will from a new one. A count that was lost to
// damage goes on from the clock, which is far above any count.
func nextStart(dir string, log *slog.Logger) (uint32, error) {
	path := filepath.Join(dir, sessionFile)
	var last uint64
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return 0, fmt.Errorf("read the session number: %w", err)
	default:
		last, err = strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 32)
		if err != nil {
			last = uint64(max(1, time.Now().Unix()))
			log.Warn("session number is damaged, going on from the clock", "err", err)
		}
	}
	if last >= math.MaxUint32 {
		return 0, errors.New("the session numbers are used up; enrol the box again")
	}
	next := uint32(last + 1)
	if err := durable.WriteFile(filepath.Join(dir, sessionFile), []byte(strconv.FormatUint(uint64(next), 10)+"\n"), 0o600); err != nil {
		return 0, fmt.Errorf("write the session number: %w", err)
	}
	return next, nil
}
