// Package epoch keeps the identity of a change stream on disk: a number that
// grows when the stream cannot go on where it was.
//
// In:  edge/uplink for the way up, cloud/router for the way down.
// Out: one small file.
package epoch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/durable"
)

// Epoch is a stream identity. It begins in steps that a crash may separate:
// first it is written down as opening, then all tables are marked to be sent
// again and the queue is told where in the WAL the stream begins, then it is
// open. An epoch that is found opening goes through the steps again.
type Epoch struct {
	Number  uint64
	Opening bool
	Reason  string // why the one before ended; empty for the first
	// Restored is true while the database is older than what the other side has
	// of it: it was put back from a backup, and the other side's rows come first.
	Restored bool
	// Whole is true when every change that was made since then is in the stream.
	Whole bool
	// After is the last that the queue has of the time before, without a number where
	// it has nothing. Where the database was put back the other side must have it
	// before it sends its rows, and what is behind it waits for them.
	After change.Position
	// Past is what the WAL still had of the time before: it is not of this epoch.
	Past Past
	// Unread is true while changes that were made before may be in the database alone:
	// what it holds is not in the stream again yet.
	Unread bool
}

// Past is what committed before both.
type Past struct {
	LSN    uint64
	Micros int64 // since 1970
}

// File keeps the current epoch on disk, outside the database and the
// queue, because a new epoch is begun when one of those was lost. Its lines
// are the number, the state, and the reason. The state is "opening" or "open",
// followed by "unread", "past" with its two numbers, and "after" with a position,
// which is "restored" or "whole" where the database was put back.
type File struct {
	path string
	now  *atomic.Pointer[Epoch]
}

// Open reads the file. Without one, or with one that is older, epoch base
// begins.
func Open(path string, base uint64) (File, error) {
	e := File{path: path, now: new(atomic.Pointer[Epoch])}
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return e, e.Set(Epoch{Number: base, Opening: true})
	case err != nil:
		return e, fmt.Errorf("read the epoch: %w", err)
	}
	lines := append(strings.SplitN(string(b), "\n", 3), "", "")
	n, err := strconv.ParseUint(strings.TrimSpace(lines[0]), 10, 64)
	if err != nil {
		// A torn file cannot be: it is replaced by rename. Whatever happened,
		// an epoch above all that this enrolment used is always right.
		return e, e.Set(Epoch{Number: base + 1<<31, Opening: true, Reason: "the note of the epoch was damaged on disk"})
	}
	if n < base {
		return e, e.Set(Epoch{Number: base, Opening: true, Reason: "the box was enrolled anew"})
	}
	now := Epoch{Number: n, Reason: strings.TrimSpace(lines[2])}
	if err := now.parseState(lines[1]); err != nil {
		return e, fmt.Errorf("read the epoch: %q: %w", lines[1], err)
	}
	e.now.Store(&now)
	return e, nil
}

// Get returns the current epoch; it is safe from any goroutine.
func (e File) Get() Epoch { return *e.now.Load() }

// Current is its number.
func (e File) Current() uint64 { return e.Get().Number }

// Set makes n the current epoch, durably. Only one goroutine may call it.
func (e File) Set(n Epoch) error {
	n.Reason = strings.Join(strings.Fields(n.Reason), " ")
	text := fmt.Sprintf("%d\n%s\n%s\n", n.Number, n.state(), n.Reason)
	if err := durable.WriteFile(e.path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the epoch: %w", err)
	}
	e.now.Store(&n)
	return nil
}

func (n Epoch) state() string {
	s := "open"
	if n.Opening {
		s = "opening"
	}
	if n.Unread {
		s += " unread"
	}
	if n.Past != (Past{}) {
		s += fmt.Sprintf(" past %d %d", n.Past.LSN, n.Past.Micros)
	}
	switch {
	case n.Restored && n.Whole:
		s += " whole " + n.After.String()
	case n.Restored:
		s += " restored " + n.After.String()
	case n.After != (change.Position{}):
		s += " after " + n.After.String()
	}
	return s
}

func (n *Epoch) parseState(s string) error {
	words := strings.Fields(s)
	n.Opening = len(words) > 0 && words[0] == "opening"
	for i := 1; i < len(words); i++ {
		rest, err := strings.Join(words[i+1:], " "), error(nil)
		switch words[i] {
		case "unread":
			n.Unread = true
		case "past":
			_, err = fmt.Sscanf(rest, "%d %d", &n.Past.LSN, &n.Past.Micros)
		case "restored", "whole", "after":
			n.Restored, n.Whole = words[i] != "after", words[i] == "whole"
			_, err = fmt.Sscanf(rest, "%d:%d", &n.After.Epoch, &n.After.Seq)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
