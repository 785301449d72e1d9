package capture

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agogsaas/holdfast/internal/change"
)

// LeftOut is something that is not in the stream although it was committed.
// Waiting for it would hold all others up for good, so it must be told.
type LeftOut struct {
	Table *change.Table
	// Key is the row's, empty where all of the table is meant; Row is nil where
	// it is not known. Neither may be kept.
	Key, Row change.Row
	// To is the only facility that the row is for, "" for whoever has it.
	To     string
	Reason LeftOutReason
}

// LeftOutReason says why.
type LeftOutReason string

// The reasons.
const (
	TooLarge LeftOutReason = "too_large" // no frame can hold the row
	Keyless  LeftOutReason = "keyless"   // the table has lost its key: its updates and deletes cannot be sent
)

// keyMaxBytes bounds a key in words.
const keyMaxBytes = 200

// KeyText is the key for people.
func (l *LeftOut) KeyText() string {
	parts := make([]string, len(l.Key))
	for i, v := range l.Key {
		parts[i] = string(v)
	}
	s := strings.Join(parts, ", ")
	return strings.ToValidUTF8(s[:min(len(s), keyMaxBytes)], "")
}

// Text says what of a table was left out; keys may be the first of them only.
func (r LeftOutReason) Text(table string, rows int64, keys []string) string {
	if r == Keyless {
		return fmt.Sprintf("%s has lost its key, and updates and deletes of its rows were not sent", table)
	}
	keys = slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return k == "" })
	text := fmt.Sprintf("%d rows of %s are too large to be sent and were left out", rows, table)
	if rows == 1 {
		text = fmt.Sprintf("a row of %s is too large to be sent and was left out", table)
	}
	if len(keys) > 0 {
		text += ": (" + strings.Join(keys, "), (") + ")"
	}
	if int64(len(keys)) < rows && len(keys) > 0 {
		text += " …"
	}
	return text
}

// Remedy says what to do about it; facility may be "<facility>".
func (r LeftOutReason) Remedy(table, facility string) string {
	first := "Make the row smaller: 60 MB, or 128 MB before it is packed, is the most. Large files belong beside the database."
	if r == Keyless {
		first = "Give the table a primary key again."
	}
	return fmt.Sprintf("%s Then: holdfastctl resync %s %s", first, facility, table)
}

// leaveOut tells of what is not sent; mu is held.
func (s *stream) leaveOut(l LeftOut) {
	l.To = s.txTo
	s.c.mu.Lock()
	s.c.stats.LeftOut++
	s.c.mu.Unlock()
	s.c.c.Log.Error(l.Reason.Text(l.Table.ID(), 1, []string{l.KeyText()}), "part", "capture", "table", l.Table.ID(), "key", l.KeyText())
	if s.c.c.OnLeftOut != nil {
		s.c.c.OnLeftOut(l)
	}
}
