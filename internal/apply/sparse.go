package apply

import (
	"fmt"

	"github.com/agogsaas/holdfast/internal/change"
)

// This file is what the way down has beside the way up: transactions know what
// their sender had seen of the receiver's own stream, and several of them may
// belong together.

// source is what a conflict must know of the transaction that a change is of.
type source struct {
	tx    *change.Tx
	epoch uint64
	seen  change.Position // what the sender had seen when it made it
}

func (s *source) position() change.Position { return change.Position{Epoch: s.epoch, Seq: s.tx.Seq} }

// by is who made the transaction, if it says so.
func (s *source) by() string { return noteOf(s.tx, change.NoteBy) }

// echo reports whether the rows are only what has become of this facility's own
// changes, which were parked; see echo.go.
func (s *source) echo() bool {
	for i := range s.tx.Changes {
		c := &s.tx.Changes[i]
		if c.Op != change.Note {
			break // it stands in front
		}
		if string(c.Row[0]) == change.NoteEcho {
			return true
		}
	}
	return false
}

// corrected reports whether the rows of an echo are what somebody in the region
// made of this facility's changes; by says who.
func (s *source) corrected() bool { return s.echo() && s.by() != "" }

func noteOf(tx *change.Tx, word string) string {
	about := ""
	for i := range tx.Changes {
		if c := &tx.Changes[i]; c.Op == change.Note && string(c.Row[0]) == word {
			about = string(c.Row[1])
		}
	}
	return about
}

// seenIn returns what the sender of the transaction had seen, if it says so.
func seenIn(tx *change.Tx) (p change.Position, ok bool) {
	s := ""
	for i := range tx.Changes {
		c := &tx.Changes[i]
		if c.Op != change.Note {
			break
		}
		if string(c.Row[0]) == change.NoteSeen {
			s = string(c.Row[1])
		}
	}
	if s == "" {
		return p, false
	}
	_, err := fmt.Sscanf(s, "%d:%d", &p.Epoch, &p.Seq)
	return p, err == nil && p.String() == s
}

func onlyNotes(tx *change.Tx) bool {
	for i := range tx.Changes {
		if tx.Changes[i].Op != change.Note {
			return false
		}
	}
	return true
}

// endsWhole reports whether the batch may be committed without what follows.
func (b *batch) endsWhole() bool { return len(b.txs) == 0 || !b.txs[len(b.txs)-1].joined }

// seenAt is what the sender had seen at a position of its stream.
type seenAt struct{ at, seen change.Position }

// sawUpTo notes what OnSeen is to be told once the batch is durable.
func (a *Applier) sawUpTo(b *batch) {
	if a.cfg.Direction != Down {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	last := a.seen
	if n := len(a.toTell); n > 0 {
		last = a.toTell[n-1].seen
	}
	if b.seen != last {
		a.toTell = append(a.toTell, seenAt{b.to, b.seen})
	}
}
