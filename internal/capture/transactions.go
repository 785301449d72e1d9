package capture

import (
	"slices"
	"time"
	"unicode/utf8"

	"github.com/agogsaas/holdfast/internal/change"
)

// Where a transaction begins and ends, and what its logical messages say of it.

// begin starts the open transaction in pending with its first change, so that
// empty ones leave nothing.
func (s *stream) begin() {
	if s.begun {
		return
	}
	s.pending.Begin(s.next.Seq, s.txMicros)
	s.begun = true
	for _, n := range s.txNotes {
		s.pending.AddNote(n[:]...)
	}
	s.txNotes = s.txNotes[:0]
}

func (s *stream) commit(end uint64) {
	s.txOpen, s.skipped = false, 0
	s.read = max(s.read, end)
	if s.begun {
		s.finish(end)
	}
	for _, name := range s.txNames {
		s.settling = append(s.settling, barrier{name, s.next.Seq})
	}
	if len(s.txNames) > 0 {
		s.txNames = s.txNames[:0]
		s.settle()
		notify(s.wake)
	}
}

// finish counts the open transaction as one that is whole.
func (s *stream) finish(end uint64) {
	s.begun = false
	s.pending.Commit(end)
	s.next.Seq++
	s.whole++
	// That the other side's arrived is nobody's hurry.
	hurry := !s.txTagged || !s.c.c.Origins
	if hurry {
		s.real++
	}
	if s.whole == 1 || hurry && s.real == 1 {
		s.since = time.Now()
		notify(s.wake) // write sets its timer
	}
	s.c.mu.Lock()
	s.c.stats.LastCommit = time.UnixMicro(s.txMicros)
	if hurry {
		s.hurried = time.Now()
		s.c.stats.Late, s.c.stats.LateAt = s.sent.Sub(s.c.stats.LastCommit), time.Now()
	}
	s.c.mu.Unlock()
}

func (s *stream) logicalMessage(r *reader) error {
	transactional := r.u8()&1 != 0
	r.u64() // where it is
	prefix := r.cstring()
	content := r.take(int(r.u32()))
	if err := r.done("logical message"); err != nil {
		return err
	}
	if !transactional {
		return nil
	}
	if prefix == BarrierPrefix && len(content) <= maxWordBytes {
		// Also in a transaction that the sink has: what was before it is there.
		s.txNames = append(s.txNames, string(content))
	}
	if s.txSkip {
		return nil
	}
	switch prefix {
	case TagPrefix:
		s.tag(string(content))
	case RangePrefix:
		if err := s.addRange(content); err != nil {
			// Anyone may emit a message; only the loader's mean something.
			s.c.c.Log.Error("a range in the WAL is not the loader's and is left out", "part", "capture", "err", err)
		}
	case DigestPrefix:
		s.addDigest(content)
	case MendPrefix:
		s.addMending(content)
	case RowPrefix:
		table, c, err := change.DecodeRow(content)
		if err != nil {
			s.c.c.Log.Error("a row in the WAL is malformed and is left out", "part", "capture", "err", err)
			return nil
		}
		s.addRow(table, c)
	case AuthorPrefix:
		s.note(change.NoteBy, content)
	case WholePrefix:
		s.note(change.NoteWhole, content)
	case ToPrefix:
		s.note(change.NoteTo, content)
		s.txTo = string(content)
	}
	return nil
}

// tag drops the open transaction, because it came from the other side; with
// Config.Origins a note of it stays. Parts of it that are in the sink already
// do not count: its number is given again.
func (s *stream) tag(origin string) {
	if s.txTagged {
		return
	}
	s.txTagged, s.txNotes, s.txSaid = true, s.txNotes[:0], s.txSaid[:0]
	if s.begun {
		s.pending.Abandon()
		s.begun = false
		if s.whole == 0 {
			s.part = 0
		}
	}
	if !s.c.c.Origins {
		s.note(change.NoteBack, []byte("1")) // what is left of it
		return
	}
	s.begin()
	s.pending.AddNote(change.NoteOrigin, origin)
}

// note says something of the open transaction, at its beginning or where it is
// said. A transaction without changes is not worth it.
func (s *stream) note(word string, content []byte) {
	if len(content) == 0 || len(content) > maxWordBytes || !utf8.Valid(content) {
		return
	}
	n := [2]string{word, string(content)}
	switch word {
	case change.NoteBy, change.NoteBack: // whoever reads a later part reads it by itself
		s.txSaid = append(slices.DeleteFunc(s.txSaid, func(m [2]string) bool { return m[0] == word }), n)
	}
	if s.begun {
		s.pending.AddNote(n[:]...)
		return
	}
	s.txNotes = append(s.txNotes, n)
}

// addRow puts a row message's change into pending.
func (s *stream) addRow(t *change.Table, c *change.Change) {
	s.begin()
	s.pending.Add(c.Op, s.tableOf(t), c.Key, c.Row, c.Absent)
	if !s.fits() {
		s.pending.Undo()
		key := c.Key
		if key == nil && c.Row != nil {
			key = rowKey(t, c.Row)
		}
		s.leaveOut(LeftOut{Table: t, Key: key, Row: c.Row, Reason: TooLarge})
	}
}

// tableOf returns the place in pending of a message's table.
func (s *stream) tableOf(t *change.Table) int {
	if s.messageTable == nil || s.messageBuild != s.build || !sameTable(s.messageTable, t) {
		s.messageTable, s.messageBuild, s.messagePos = t, s.build, s.pending.AddTable(*t)
	}
	return s.messagePos
}

func rowKey(t *change.Table, row change.Row) (key change.Row) {
	for _, k := range t.KeyColumns() {
		key = append(key, row[k])
	}
	return key
}

func sameTable(a, b *change.Table) bool {
	return a.Schema == b.Schema && a.Name == b.Name && slices.Equal(a.Columns, b.Columns)
}
