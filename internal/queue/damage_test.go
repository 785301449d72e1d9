package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/change"
)

// memory is a folder in memory where there is one: these tests open the queue
// thousands of times, and each time waits for the disk.
func memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "queue-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// copyDir makes a copy of a closed queue.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(memory(t), "queue")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// segments returns the paths of the log's files in order.
func segments(t testing.TB, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(list)
	return list
}

func size(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// readAll reads what there is and returns the numbers that were lost. Every
// frame that is read must be what was appended.
func readAll(t testing.TB, q *Queue, want []change.Sealed) (lost map[uint64]bool) {
	t.Helper()
	lost = map[uint64]bool{}
	tail, _, _ := q.Tail()
	c := q.Cursor(change.Position{})
	at := uint64(0)
	for at < tail.Seq {
		f, err := c.Next(context.Background())
		var l *LostError
		switch {
		case errors.As(err, &l):
			if l.First != at+1 || l.Last < l.First || l.Epoch != epoch1 {
				t.Fatalf("after %d: %v", at, err)
			}
			for n := l.First; n <= l.Last; n++ {
				lost[n] = true
			}
			at = l.Last
		case err != nil:
			t.Fatalf("after %d: %v", at, err)
		default:
			if f.Header.First != at+1 || !bytes.Equal(f.Bytes, want[at].Bytes) {
				t.Fatalf("after %d: frame %+v", at, f.Header)
			}
			at++
		}
	}
	return lost
}

// goesOn appends two more frames, reopens, and reads them.
func goesOn(t testing.TB, q *Queue) {
	t.Helper()
	tail, _, _ := q.Tail()
	appendAll(t, q, sealed(t, epoch1, tail.Seq+1, tail.Seq+1, 33), sealed(t, epoch1, tail.Seq+2, tail.Seq+2, 400))
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, q.o)
	c := again.Cursor(tail)
	for n := range uint64(2) {
		if f := next(t, c); f.Header.First != tail.Seq+1+n {
			t.Fatalf("after the repair: %+v", f.Header)
		}
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

// fill makes a closed queue of n frames, several to a batch now and then.
func fill(t testing.TB, o Options, n int) []change.Sealed {
	t.Helper()
	q := open(t, o)
	var frames []change.Sealed
	r := rand.New(rand.NewPCG(7, uint64(n)))
	for len(frames) < n {
		from := len(frames)
		for range 1 + r.IntN(3) {
			s := uint64(len(frames) + 1)
			frames = append(frames, sealed(t, epoch1, s, s, r.IntN(300)))
		}
		appendAll(t, q, frames[from:]...)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	return frames
}

func TestWriteTornAtAnyByteIsCutOff(t *testing.T) {
	t.Parallel()
	o := Options{Dir: filepath.Join(memory(t), "queue")}
	frames := fill(t, o, 12)
	path := segments(t, o.Dir)[0]
	before := size(t, path)
	q := open(t, o)
	n := uint64(len(frames))
	last := []change.Sealed{sealed(t, epoch1, n+1, n+1, 8), sealed(t, epoch1, n+2, n+2, 3)}
	appendAll(t, q, last...)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	after := size(t, path)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := append(append([]change.Sealed{}, frames...), last...)
	for cut := before; cut <= after; cut++ {
		// Sectors reach the disk in any order: the end may be missing, or be
		// zeros, or be there while the beginning is not.
		torn := map[string][]byte{"short": whole[:cut], "zeros": append(bytes.Clone(whole[:cut]), make([]byte, after-cut)...)}
		if cut > before {
			late := bytes.Clone(whole)
			clear(late[before:cut])
			torn["late"] = late
		}
		for name, data := range torn {
			dir := copyDir(t, o.Dir)
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), data, 0o600); err != nil {
				t.Fatal(err)
			}
			q := open(t, Options{Dir: dir})
			tail, lsn, _ := q.Tail()
			want := n
			if bytes.Equal(data, whole) || name == "late" && tail.Seq == n+2 && q.Opened().Repaired > 0 {
				want = n + 2 // all that was missing was a header
			}
			if tail.Seq != want || lsn != lsnOf(want) || q.Opened().Damaged != "" {
				t.Fatalf("%s at %d of %d: tail %s, %+v", name, cut-before, after-before, tail, q.Opened())
			}
			if lost := readAll(t, q, all); len(lost) > 0 {
				t.Fatalf("%s at %d: lost %v", name, cut-before, lost)
			}
			goesOn(t, q)
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// flips calls test with a copy of the queue in which one bit is flipped.
func flips(t *testing.T, o Options, files func(string) []string, step int64, test func(what, dir string)) {
	t.Helper()
	for _, path := range files(o.Dir) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(1, uint64(len(data))))
		for off := r.Int64N(step); off < int64(len(data)); off += 1 + r.Int64N(2*step) {
			dir := copyDir(t, o.Dir)
			bit := byte(1) << r.IntN(8)
			flipped := bytes.Clone(data)
			flipped[off] ^= bit
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), flipped, 0o600); err != nil {
				t.Fatal(err)
			}
			test(fmt.Sprintf("%s byte %d bit %02x", filepath.Base(path), off, bit), dir)
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestFlippedBitIsNoticed flips bits all over the log. Nothing wrong may ever be
// read; what cannot be read must be reported; and at most the frame that was
// hit is lost, or the last append, which looks as if it had been torn: then the
// tail says so, and capture finds the slot ahead.
func TestFlippedBitIsNoticed(t *testing.T) {
	t.Parallel()
	o := Options{Dir: filepath.Join(memory(t), "queue"), SegmentBytes: 8 << 10}
	frames := fill(t, o, 150)
	if n := len(segments(t, o.Dir)); n < 3 {
		t.Fatalf("%d segments", n)
	}
	tested, harmless := 0, 0
	flips(t, o, func(dir string) []string { return segments(t, dir) }, 110, func(what, dir string) {
		tested++
		q := open(t, Options{Dir: dir, SegmentBytes: o.SegmentBytes})
		if q.Opened().Damaged != "" {
			t.Fatalf("%s: %+v", what, q.Opened())
		}
		tail, lsn, _ := q.Tail()
		lost := readAll(t, q, frames)
		if len(lost) > 1 {
			t.Errorf("%s: lost %v", what, lost)
		}
		if missing := len(frames) - int(tail.Seq); missing > 3 {
			t.Errorf("%s: the tail is %s, there were %d", what, tail, len(frames))
		} else if missing == 0 && len(lost) == 0 {
			harmless++ // padding, or the log's own bookkeeping
		}
		if lsn != lsnOf(tail.Seq) && lsn != 0 {
			t.Errorf("%s: the tail's LSN is %d", what, lsn)
		}
		goesOn(t, q)
	})
	if tested < 150 || harmless > tested/4 {
		t.Errorf("%d flips, %d harmless", tested, harmless)
	}
}

func TestFlippedBitInTheBookkeepingLosesNothing(t *testing.T) {
	t.Parallel()
	o := Options{Dir: filepath.Join(memory(t), "queue"), SegmentBytes: 8 << 10}
	frames := fill(t, o, 100)
	small := func(dir string) []string {
		var list []string
		for _, pattern := range []string{"segments.*", "note.*"} {
			l, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, l...)
		}
		return list
	}
	flips(t, o, small, 400, func(what, dir string) {
		q := open(t, Options{Dir: dir, SegmentBytes: o.SegmentBytes})
		tail, _, _ := q.Tail()
		if lost := readAll(t, q, frames); len(lost) > 0 || int(tail.Seq) != len(frames) || q.Opened().Damaged != "" {
			t.Errorf("%s: tail %s, lost %v, %+v", what, tail, lost, q.Opened())
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	})
	// Both copies of the list of segments gone: it is made again from the files.
	for _, f := range []string{"segments.0", "segments.1"} {
		if err := os.Truncate(filepath.Join(o.Dir, f), 10); err != nil {
			t.Fatal(err)
		}
	}
	q := open(t, o)
	if lost := readAll(t, q, frames); len(lost) > 0 || q.Opened().Damaged != "" {
		t.Errorf("lost %v, %+v", lost, q.Opened())
	}
	goesOn(t, q)
}

func TestOlderListOfSegmentsIsBroughtUpToDate(t *testing.T) {
	t.Parallel()
	o := Options{Dir: filepath.Join(memory(t), "queue"), SegmentBytes: 4 << 10, KeepBytes: -1}
	fill(t, o, 30)
	old := copyDir(t, o.Dir)
	q := open(t, o)
	tail, _, _ := q.Tail()
	for n := tail.Seq + 1; n < tail.Seq+300; n++ {
		appendAll(t, q, sealed(t, epoch1, n, n, 200))
		if err := q.Ack(at(epoch1, n-5)); err != nil {
			t.Fatal(err)
		}
	}
	want, _, _ := q.Tail()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	// As if the writes of the list had never reached the disk.
	for _, f := range []string{"segments.0", "segments.1"} {
		data, err := os.ReadFile(filepath.Join(old, f))
		if err == nil {
			err = os.WriteFile(filepath.Join(o.Dir, f), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	q = open(t, o)
	if tail, _, _ := q.Tail(); tail != want || q.Opened().Damaged != "" {
		t.Fatalf("tail %s, want %s, %+v", tail, want, q.Opened())
	}
	goesOn(t, q)
}

func TestUnusableLogIsMovedAside(t *testing.T) {
	t.Parallel()
	o := Options{Dir: filepath.Join(memory(t), "queue"), SegmentBytes: 8 << 10}
	fill(t, o, 100)
	files := segments(t, o.Dir)
	if err := os.Remove(files[1]); err != nil { // in the middle
		t.Fatal(err)
	}
	q := open(t, o)
	opened := q.Opened()
	if opened.Damaged == "" || !strings.HasPrefix(opened.MovedTo, o.Dir+".damaged-") {
		t.Fatalf("%+v", opened)
	}
	if _, err := os.Stat(filepath.Join(opened.MovedTo, filepath.Base(files[0]))); err != nil {
		t.Error(err)
	}
	if _, _, ok := q.Tail(); ok {
		t.Error("not empty")
	}
	appendAll(t, q, sealed(t, epoch1+1, 1, 1, 1))
}

func TestFolderThatCannotBeUsedIsAnError(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if q, err := Open(Options{Dir: dir}); err == nil || errors.Is(err, fs.ErrExist) {
		t.Errorf("%v %v", q, err)
	}
}
