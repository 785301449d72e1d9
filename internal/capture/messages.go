package capture

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
)

// message handles one copy message; mu is held.
func (s *stream) message(ctx context.Context, data []byte) error {
	r := reader{b: data}
	switch r.u8() {
	case 'w':
		start := r.u64()
		r.u64() // the server's end of WAL
		s.sent = time.UnixMicro(int64(r.u64()) + pgEpochMicros)
		if r.bad {
			return r.done("WAL data")
		}
		s.received = max(s.received, start)
		return s.decode(ctx, r.b)
	case 'k':
		end := r.u64()
		r.u64()
		reply := r.u8() != 0
		if err := r.done("keepalive"); err != nil {
			return err
		}
		s.received = max(s.received, end)
		if !s.txOpen {
			// All that committed before end was sent before this message.
			s.read = max(s.read, end)
		}
		if reply {
			notify(s.urgent)
		}
		return nil
	}
	return fmt.Errorf("%w: type %q", errMessage, data[:min(1, len(data))])
}

// decode handles one message of pgoutput; mu is held.
func (s *stream) decode(ctx context.Context, b []byte) error {
	r := reader{b: b}
	kind := r.u8()
	switch kind {
	case 'B':
		final, micros := r.u64(), int64(r.u64())+pgEpochMicros
		r.u32() // transaction id
		s.txOpen, s.txMicros = true, micros
		// After a new connection the server may begin with what the sink has.
		s.txSkip, s.txTagged = final < s.have || final < s.c.c.PastLSN && micros <= s.c.c.PastMicros, false
		s.txNotes, s.txSaid, s.txNames, s.txTo, s.skipped = s.txNotes[:0], s.txSaid[:0], s.txNames[:0], "", 0
		return r.done("begin")
	case 'C':
		r.u8()  // flags
		r.u64() // where the commit record starts
		end := r.u64()
		r.u64() // time
		if err := r.done("commit"); err != nil {
			return err
		}
		s.commit(end)
		return nil
	case 'R':
		m, err := r.relation()
		if err != nil {
			return err
		}
		// Not under the lock: the catalog may take its time.
		s.mu.Unlock()
		rel, err := resolve(ctx, s.cn.catalog, m, s.c.c.Beside)
		s.mu.Lock()
		if err != nil {
			return err
		}
		rel.keep = s.keep[rel.table.ID()]
		s.relations[m.id] = rel
		return nil
	case 'Y', 'O': // a type, an origin: known from the catalog, not needed
		return nil
	case 'M':
		return s.logicalMessage(&r)
	}
	if s.txSkip {
		return nil
	}
	switch kind {
	case 'I':
		rel, err := s.relation(&r)
		if err != nil {
			return err
		}
		if s.leftOut(rel) {
			return nil
		}
		r.u8() // N
		r.tuple(&s.now, len(rel.table.Columns))
		if err := r.done("insert"); err != nil {
			return err
		}
		s.add(change.Insert, rel, nil, s.now.row, nil)
		return nil
	case 'U':
		return s.update(&r)
	case 'D':
		rel, err := s.relation(&r)
		if err != nil {
			return err
		}
		if s.leftOut(rel) {
			return nil
		}
		r.u8() // K or O
		r.tuple(&s.old, len(rel.table.Columns))
		if err := r.done("delete"); err != nil {
			return err
		}
		if s.keyless(rel) {
			return nil
		}
		s.keyRow = rel.pick(s.keyRow[:0], s.old.row)
		s.add(change.Delete, rel, s.keyRow, nil, nil)
		return nil
	case 'T':
		n := r.u32()
		r.u8() // CASCADE and RESTART IDENTITY: each table truncated is listed
		for range n {
			rel, err := s.relation(&r)
			if err != nil {
				return err
			}
			if !s.leftOut(rel) {
				s.add(change.Truncate, rel, nil, nil, nil)
			}
		}
		return r.done("truncate")
	}
	return fmt.Errorf("%w: type %q", errMessage, kind)
}

func (s *stream) update(r *reader) error {
	rel, err := s.relation(r)
	if err != nil {
		return err
	}
	if s.leftOut(rel) {
		return nil
	}
	n := len(rel.table.Columns)
	was := r.u8()
	if was == 'K' || was == 'O' {
		r.tuple(&s.old, n)
		r.u8() // N
	}
	r.tuple(&s.now, n)
	if err := r.done("update"); err != nil {
		return err
	}
	if s.keyless(rel) {
		return nil
	}
	var key change.Row
	if was != 'N' {
		rel.complete(&s.now, &s.old, was == 'O')
		if !rel.sameKey(s.now.row, s.old.row) {
			s.keyRow = rel.pick(s.keyRow[:0], s.old.row)
			key = s.keyRow
		}
	}
	absent := s.now.absent
	if len(absent) == 0 {
		absent = nil
	}
	s.add(change.Update, rel, key, s.now.row, absent)
	return nil
}

func (s *stream) relation(r *reader) (*relation, error) {
	id := r.u32()
	rel := s.relations[id]
	if rel == nil {
		return nil, fmt.Errorf("%w: table %d was not announced", errMessage, id)
	}
	return rel, nil
}

// leftOut reports whether a table's changes do not count in this transaction.
func (s *stream) leftOut(rel *relation) bool { return s.txTagged && !rel.keep }

// keyless reports, and says once, that a table's updates and deletes cannot be
// sent: nothing tells its rows apart. EnsurePublications does not publish them;
// they come when the key was dropped since.
func (s *stream) keyless(rel *relation) bool {
	if len(rel.key) > 0 {
		return false
	}
	if id := rel.table.ID(); !s.untold[id] {
		s.untold[id] = true
		s.leaveOut(LeftOut{Table: &rel.table, Reason: Keyless})
	}
	return true
}

// add puts a change into pending.
func (s *stream) add(op change.Op, rel *relation, key, row change.Row, absent []int) {
	s.begin()
	if rel.build != s.build {
		rel.build, rel.pos = s.build, s.pending.AddTable(rel.table)
	}
	s.pending.Add(op, rel.pos, key, row, absent)
	if !s.fits() {
		s.pending.Undo()
		s.leaveOut(LeftOut{Table: &rel.table, Key: rel.pick(nil, row), Row: row, Reason: TooLarge})
	}
}

// fits reports whether a frame can hold the change that was just added.
func (s *stream) fits() bool {
	return s.pending.Fits(s.c.maxChangePacked, maxChangeBytes)
}

// addRange puts a range message's content into pending.
func (s *stream) addRange(content []byte) error {
	t, raw, err := change.ScanRange(content)
	if err != nil {
		return err
	}
	s.begin()
	s.pending.AddRawRange(s.tableOf(t), raw)
	if s.fits() {
		return nil
	}
	s.pending.Undo()
	_, r, err := change.DecodeRange(content)
	if err != nil {
		return err
	}
	s.addWithoutLargest(t, r)
	return nil
}

// addWithoutLargest puts a range into pending, without rows that are too large.
func (s *stream) addWithoutLargest(t *change.Table, r *change.KeyRange) {
	pos := s.tableOf(t)
	for s.pending.AddRange(pos, r); !s.fits(); s.pending.AddRange(pos, r) {
		s.pending.Undo()
		largest, most := 0, -1
		for i, row := range r.Rows {
			n := 0
			for _, v := range row {
				n += len(v)
			}
			if n > most {
				largest, most = i, n
			}
		}
		s.leaveOut(LeftOut{Table: t, Key: rowKey(t, r.Rows[largest]), Row: r.Rows[largest], Reason: TooLarge})
		r.Rows = slices.Delete(r.Rows, largest, largest+1)
	}
}
