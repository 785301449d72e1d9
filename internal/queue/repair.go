package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/types"

	"github.com/agogsaas/holdfast/internal/change"
)

// The log cannot tell a torn write from a damaged byte: where the chain of its
// records breaks, it takes all that follows for never written, and overwrites
// it. So before the log opens, its last segment is walked here:
//
//  1. What lies after the last batch whose checksum is right was never
//     acknowledged: it is cut off, so that nothing stale lies behind the tail.
//  2. Where the chain breaks and whole frames follow, a record's header is
//     damaged: it is written anew, so that one frame is lost and not all after it.
//  3. A segment that was sealed before the list of segments said so is told.
//
// A record is a type, three zero bytes, a length or checksum (4 bytes, little
// endian), then the payload padded to 8 bytes.

const (
	recordEntry    = 1
	recordIndex    = 2
	recordCommit   = 3
	recordHeader   = 8
	segmentHeader  = 32
	segmentMagic   = 0x58eb6b0d
	maxRepairs     = 1000
	maxRecordBytes = change.MaxFrameBytes + 4096
)

var epochOfFiles = time.Unix(1, 0).UTC()

// tail is what the last segment holds.
type tail struct {
	entries    uint64
	sealed     bool
	indexStart uint64
	torn       bool
	repaired   int
}

// header returns the first bytes of the file of a segment.
func header(info types.SegmentInfo) []byte {
	b := make([]byte, segmentHeader)
	binary.LittleEndian.PutUint32(b, segmentMagic)
	binary.LittleEndian.PutUint64(b[8:], info.BaseIndex)
	binary.LittleEndian.PutUint64(b[16:], info.ID)
	binary.LittleEndian.PutUint64(b[24:], info.Codec)
	return b
}

// repairHeader writes a sealed segment's header anew if it is damaged: all that
// it says is known from the list.
func repairHeader(path string, info types.SegmentInfo) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	have := make([]byte, segmentHeader)
	if _, err := f.ReadAt(have, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	want := header(info)
	if string(have) == string(want) {
		return nil
	}
	if _, err := f.WriteAt(want, 0); err != nil {
		return err
	}
	return f.Sync()
}

// repairTail walks and puts right the last segment's file.
func repairTail(path string, info types.SegmentInfo) (tail, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return tail{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return tail{}, err
	}
	w := &walk{f: f, size: st.Size(), base: info.BaseIndex, header: header(info)}
	for range maxRepairs {
		again, err := w.run()
		if err != nil {
			return tail{}, fmt.Errorf("check %s: %w", path, err)
		}
		if again {
			continue
		}
		if err := w.finish(); err != nil {
			return tail{}, fmt.Errorf("repair %s: %w", path, err)
		}
		return w.t, nil
	}
	return tail{}, fmt.Errorf("%w: %s has more than %d damaged records", errDamaged, path, maxRepairs)
}

// walk goes through one segment's file.
type walk struct {
	f      *os.File
	size   int64
	base   uint64
	header []byte

	buf   []byte // of the file, from bufAt
	bufAt int64

	t   tail
	end int64 // after the last batch that counts; 0 is none
}

// at returns n bytes of the file at off, fewer at its end. They are valid until
// the next call.
func (w *walk) at(off int64, n int) ([]byte, error) {
	if off >= w.size {
		return nil, nil
	}
	n = int(min(int64(n), w.size-off))
	if i := off - w.bufAt; i >= 0 && i+int64(n) <= int64(len(w.buf)) {
		return w.buf[i : i+int64(n)], nil
	}
	if want := max(n, 256<<10); cap(w.buf) < want {
		w.buf = make([]byte, want)
	}
	m, err := w.f.ReadAt(w.buf[:cap(w.buf)], off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	w.buf, w.bufAt = w.buf[:m], off
	return w.buf[:min(n, m)], nil
}

type record struct {
	typ byte
	n   uint32 // length, or a commit's checksum
}

// next is where the record after the one at off starts.
func (r record) next(off int64) int64 {
	if r.typ == recordCommit {
		return off + recordHeader
	}
	return off + recordHeader + (int64(r.n)+7)&^7
}

// record reads the record header at off; ok is false if there is none.
func (w *walk) record(off int64) (r record, ok bool, err error) {
	h, err := w.at(off, recordHeader)
	if err != nil || len(h) < recordHeader {
		return r, false, err
	}
	r = record{h[0], binary.LittleEndian.Uint32(h[4:])}
	ok = r.typ >= recordEntry && r.typ <= recordCommit && h[1]|h[2]|h[3] == 0 &&
		(r.typ == recordCommit || r.n <= maxRecordBytes && r.next(off) <= w.size)
	return r, ok, nil
}

// entry returns the index of the frame in the entry at off, if it is whole.
func (w *walk) entry(off int64, r record) (index uint64, ok bool, err error) {
	b, err := w.at(off+recordHeader, int(r.n))
	if err != nil || len(b) < int(r.n) {
		return 0, false, err
	}
	defer func() {
		if recover() != nil {
			index, ok = 0, false // the decoder trusts what it reads
		}
	}()
	var e raft.Log
	if err := new(wal.BinaryCodec).Decode(b, &e); err != nil {
		return 0, false, nil
	}
	if _, err := change.Parse(e.Data); err != nil {
		return e.Index, false, nil
	}
	return e.Index, true, nil
}

// run walks the file once. It returns true when it repaired a record, so that
// the walk must be made again.
func (w *walk) run() (again bool, err error) {
	w.t, w.end = tail{repaired: w.t.repaired}, 0
	var (
		crc     = crc32.Checksum(w.header, castagnoli)
		off     = int64(segmentHeader)
		entries uint64 // up to here
		index   int64  // where the index starts, if one was seen
		pending bool   // the batch before has a wrong checksum
		lastEnd int64  // end of the batch with the wrong checksum
		lastN   uint64
	)
	for {
		r, ok, err := w.record(off)
		if err != nil {
			return false, err
		}
		if !ok {
			return w.broken(off, w.base+entries)
		}
		if r.typ == recordCommit {
			if pending {
				// A batch was written after it: it had been synced, and what is
				// wrong in it is damage, which reading will find.
				w.end, w.t.entries = lastEnd, lastN
			}
			if pending = crc != r.n; pending {
				lastEnd, lastN = off+recordHeader, entries
			} else {
				w.end, w.t.entries = off+recordHeader, entries
				w.t.sealed, w.t.indexStart = index > 0, uint64(index)
			}
			crc, off = 0, off+recordHeader
			continue
		}
		if r.typ == recordEntry {
			again, err := w.check(off, r, w.base+entries)
			if again || err != nil {
				return again, err
			}
			entries++
		} else {
			index = off + recordHeader
		}
		if crc, err = w.sum(crc, off, r.next(off)); err != nil {
			return false, err
		}
		off = r.next(off)
	}
}

func (w *walk) sum(crc uint32, from, to int64) (uint32, error) {
	for from < to {
		b, err := w.at(from, int(min(to-from, 64<<10)))
		if err != nil || len(b) == 0 {
			return crc, errors.Join(err, io.ErrUnexpectedEOF)
		}
		crc = crc32.Update(crc, castagnoli, b)
		from += int64(len(b))
	}
	return crc, nil
}

// check looks at the entry that should be number want. An entry that is not
// whole may have a damaged length: it is believed only if the chain goes on
// behind it.
func (w *walk) check(off int64, r record, want uint64) (again bool, err error) {
	index, ok, err := w.entry(off, r)
	if err != nil || ok && index == want {
		return false, err
	}
	next := r.next(off)
	for { // over commits
		nr, nok, err := w.record(next)
		if err != nil {
			return false, err
		}
		if !nok || nr.typ == recordIndex {
			h, err := w.at(next, recordHeader)
			if err != nil || nok || string(h) == string(make([]byte, len(h))) {
				return false, err // an index, the end of the file, or zeros
			}
			return w.broken(off, want)
		}
		if nr.typ == recordCommit {
			next += recordHeader
			continue
		}
		if i, ok, err := w.entry(next, nr); err != nil || ok && i == want+1 || !ok {
			return false, err
		}
		return w.broken(off, want)
	}
}

// broken is called where the chain breaks, at the record of entry want or at
// the commit before it. It looks for a whole frame behind, and if there is one
// it writes records that lead there.
func (w *walk) broken(off int64, want uint64) (again bool, err error) {
	for to := off + recordHeader; to < w.size; to += recordHeader {
		r, ok, err := w.record(to)
		if err != nil {
			return false, err
		}
		if !ok || r.typ != recordEntry {
			continue
		}
		index, ok, err := w.entry(to, r)
		if err != nil {
			return false, err
		}
		if ok && index >= want && index-want <= uint64(to-off)/recordHeader {
			w.t.repaired++
			return true, w.bridge(off, to, index-want)
		}
	}
	return false, nil
}

// bridge writes records from off to to that count as n entries; their contents
// stay unreadable.
func (w *walk) bridge(off, to int64, n uint64) error {
	put := func(typ byte, n uint32) error {
		h := make([]byte, recordHeader)
		h[0] = typ
		binary.LittleEndian.PutUint32(h[4:], n)
		_, err := w.f.WriteAt(h, off)
		off += recordHeader
		return err
	}
	w.buf = w.buf[:0]
	if n == 0 {
		for off < to {
			if err := put(recordCommit, 0); err != nil {
				return err
			}
		}
		return nil
	}
	for ; n > 1; n-- {
		if err := put(recordEntry, 0); err != nil {
			return err
		}
	}
	stop := to
	if r, ok, err := w.record(to - recordHeader); err != nil {
		return err
	} else if ok && r.typ == recordCommit && to-recordHeader > off {
		stop = to - recordHeader
	}
	return put(recordEntry, uint32(stop-off-recordHeader))
}

// finish cuts off what does not count and checks the header.
func (w *walk) finish() error {
	if w.end < w.size {
		h, err := w.at(max(w.end, segmentHeader), recordHeader)
		if err != nil {
			return err
		}
		w.t.torn = len(h) > 0
		if err := w.f.Truncate(w.end); err != nil {
			return err
		}
	}
	if w.end > 0 {
		if _, err := w.f.WriteAt(w.header, 0); err != nil {
			return err
		}
	}
	return w.f.Sync()
}
