package tunnel

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// logRepeat is how long the same wireguard error is held back after it was
// logged once: an unreachable network would otherwise write a line a packet.
const logRepeat = 10 * time.Minute

// newLogger bridges wireguard's log. Its verbose lines (every handshake of
// every peer) are dropped; Run logs the state changes that people need. Its
// errors are kept, each text once per logRepeat.
func newLogger(log *slog.Logger) *device.Logger {
	var mu sync.Mutex
	last := map[string]time.Time{}
	return &device.Logger{
		Verbosef: device.DiscardLogf,
		Errorf: func(format string, args ...any) {
			// Keyed by format, not by text: addresses and ports in the text vary.
			mu.Lock()
			now := time.Now()
			quiet := now.Sub(last[format]) < logRepeat
			if !quiet {
				last[format] = now
			}
			mu.Unlock()
			if quiet {
				return
			}
			log.Warn("tunnel packet engine", "err", strings.TrimSpace(fmt.Sprintf(format, args...)))
		},
	}
}
