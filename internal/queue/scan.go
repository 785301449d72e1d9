package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/agogsaas/holdfast/internal/change"
)

// Opening builds the index from the headers of all frames, without reading the
// frames: a few hundred bytes for each. What a header says is believed if the
// one before and the one after agree with it; else the frame is read whole.

const peekBytes = 384

// scan fills the index from the log; x is empty.
func (x *index) scan(l *raftLog, dir string) error {
	x.first, x.last = l.first, 0
	if l.first == 0 {
		return nil
	}
	x.last = l.first - 1
	for _, info := range l.segments {
		if err := x.scanSegment(l, dir, info); err != nil {
			return err
		}
	}
	return x.readTail(l)
}

func (x *index) scanSegment(l *raftLog, dir string, info types.SegmentInfo) error {
	from, to := max(info.MinIndex, info.BaseIndex), l.last
	if !info.SealTime.IsZero() {
		to = info.MaxIndex
	}
	if to < from {
		return nil
	}
	f, err := os.Open(filepath.Join(dir, segment.FileName(info)))
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	defer f.Close()
	s := scanner{f: f, base: info.BaseIndex, indexStart: int64(info.IndexStart), off: segmentHeader, at: info.BaseIndex}
	for i := from; i <= to; i++ {
		h, size, err := s.peek(i)
		if err == nil {
			if _, _, err = x.order.follow(&h); err != nil && x.visible == 0 && x.order == (order{}) {
				err = nil // the oldest frame that is kept follows nothing
			}
		}
		if err != nil {
			// Either this header is damaged or the one before was: read it whole.
			var whole change.Sealed
			if whole, err = l.frame(i); err == nil {
				h, size = whole.Header, len(whole.Bytes)
			}
		}
		if err != nil {
			x.addUnreadable()
			continue
		}
		x.add(&h, size)
	}
	return nil
}

// readTail makes sure of what the whole queue's position is taken from.
func (x *index) readTail(l *raftLog) error {
	if x.visible == 0 {
		return nil
	}
	f, err := l.frame(x.visible)
	if err != nil || f.Header.Last != x.tail.Seq || f.Header.Epoch != x.tail.Epoch {
		// Its number follows from the frame before; its LSN is not to be
		// trusted, so that capture finds the slot ahead and raises the epoch.
		x.tailLSN = 0
		return nil
	}
	x.tailLSN = f.Header.LSN
	return nil
}

// frame returns entry i, verified.
func (l *raftLog) frame(i uint64) (change.Sealed, error) {
	raw, err := l.get(i)
	if err != nil {
		return change.Sealed{}, err
	}
	return change.Parse(raw)
}

// scanner reads the beginnings of the entries of one segment.
type scanner struct {
	f          *os.File
	base       uint64
	indexStart int64 // of a sealed segment

	at  uint64 // entry that starts at or after off, in a segment without an index
	off int64
	buf [recordHeader + peekBytes]byte
}

// peek returns the header of entry i and the size of its frame, unverified. In
// a segment that is not sealed the entries must be asked for in order.
func (s *scanner) peek(i uint64) (change.Header, int, error) {
	off, err := s.find(i)
	if err != nil {
		return change.Header{}, 0, err
	}
	n, err := s.f.ReadAt(s.buf[:], off)
	if n < recordHeader || err != nil && !errors.Is(err, io.EOF) {
		return change.Header{}, 0, errors.Join(err, io.ErrUnexpectedEOF)
	}
	r := record{s.buf[0], binary.LittleEndian.Uint32(s.buf[4:])}
	if r.typ != recordEntry || r.n > maxRecordBytes {
		return change.Header{}, 0, errDamaged
	}
	if s.indexStart == 0 {
		s.off, s.at = r.next(off), i+1
	}
	b := s.buf[recordHeader:min(n, recordHeader+int(r.n))]
	index, b := uvarint(b)
	_, b = uvarint(b) // term
	_, b = uvarint(b) // type
	size, b := uvarint(b)
	if index != i || size > maxRecordBytes {
		return change.Header{}, 0, errDamaged
	}
	h, err := change.Peek(b)
	return h, int(size), err
}

func (s *scanner) find(i uint64) (int64, error) {
	if s.indexStart > 0 {
		var b [4]byte
		if _, err := s.f.ReadAt(b[:], s.indexStart+int64(i-s.base)*4); err != nil {
			return 0, err
		}
		return int64(binary.LittleEndian.Uint32(b[:])), nil
	}
	for {
		var h [recordHeader]byte
		if _, err := s.f.ReadAt(h[:], s.off); err != nil {
			return 0, err
		}
		r := record{h[0], binary.LittleEndian.Uint32(h[4:])}
		switch {
		case r.typ == recordEntry && s.at == i:
			return s.off, nil
		case r.typ == recordEntry:
			s.at++
		case r.typ != recordCommit && r.typ != recordIndex:
			return 0, errDamaged
		}
		s.off = r.next(s.off)
	}
}

func uvarint(b []byte) (uint64, []byte) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil
	}
	return v, b[n:]
}
