package queue

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
)

// FuzzSegment opens a queue whose last file has any content, with the checksums
// of its frames and batches as they are or made good, so that what is behind
// them is reached too. Whatever it is, the queue opens, is read to its end and
// takes another frame.
func FuzzSegment(f *testing.F) {
	o := Options{Dir: filepath.Join(memory(f), "queue"), SegmentBytes: 4 << 10}
	frames := fill(f, o, 20)
	files := segments(f, o.Dir)
	last := files[len(files)-1]
	if len(files) < 2 {
		f.Fatalf("%d segments", len(files))
	}
	whole, err := os.ReadFile(last)
	if err != nil {
		f.Fatal(err)
	}
	for _, data := range [][]byte{whole, whole[:len(whole)/2], append(bytes.Clone(whole), whole[segmentHeader:]...), nil} {
		f.Add(data, false)
		f.Add(data, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, good bool) {
		if good {
			data = reseal(bytes.Clone(data))
		}
		dir := copyDir(t, o.Dir)
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(last)), data, 0o600); err != nil {
			t.Fatal(err)
		}
		q := open(t, Options{Dir: dir, SegmentBytes: o.SegmentBytes})
		tail, _, _ := q.Tail()
		readOn(t, q.Cursor(change.Position{}), tail, func(got change.Sealed) {
			if h := got.Header; !good && (h.First > uint64(len(frames)) || !bytes.Equal(got.Bytes, frames[h.First-1].Bytes)) {
				t.Fatalf("frame %+v was never appended", h)
			}
		})
		if tail.Epoch == math.MaxInt64 {
			return // nothing can follow it
		}
		more, found := sealed(t, tail.Epoch+1, 1, 1, 33), false
		appendAll(t, q, more)
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		readOn(t, open(t, q.o).Cursor(tail), at(tail.Epoch+1, 1), func(got change.Sealed) { found = found || bytes.Equal(got.Bytes, more.Bytes) })
		// (Frames that contradict each other, each with a good checksum, lead the
		// cursor astray; no damage makes such.)
		if !found && !good {
			t.Fatalf("what was appended after %s is not there", tail)
		}
	})
}

// readOn reads up to a position; what is lost on the way must be told.
func readOn(t *testing.T, c *Cursor, to change.Position, each func(change.Sealed)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for c.Position().Before(to) {
		got, err := c.Next(ctx)
		var lost *LostError
		switch {
		case errors.As(err, &lost):
		case err != nil:
			t.Fatalf("the cursor stands at %s of %s: %v", c.Position(), to, err)
		default:
			each(got)
		}
	}
}

// reseal walks the records of a segment's file as far as they lead, and gives
// each frame and each batch in it a good checksum.
func reseal(data []byte) []byte {
	if len(data) < segmentHeader {
		return data
	}
	batch := 0 // where it starts; the first one's checksum is over the file's header, too
	for off := segmentHeader; off+recordHeader <= len(data); {
		r := record{data[off], binary.LittleEndian.Uint32(data[off+4:])}
		next := r.next(int64(off))
		if next > int64(len(data)) {
			break
		}
		switch r.typ {
		case recordCommit:
			binary.LittleEndian.PutUint32(data[off+4:], crc32.Checksum(data[batch:off], castagnoli))
			batch = int(next)
		case recordEntry:
			b := data[off+recordHeader : off+recordHeader+int(r.n)]
			for range 3 { // index, term, type
				_, b = uvarint(b)
			}
			if n, frame := uvarint(b); n >= 4 && n <= uint64(len(frame)) {
				binary.BigEndian.PutUint32(frame, crc32.Checksum(frame[4:n], castagnoli))
			}
		}
		off = int(next)
	}
	return data
}
