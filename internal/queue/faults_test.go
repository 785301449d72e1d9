package queue

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/fault"
)

func TestAppendFailsAndWorksAgain(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		arm  func(write, sync *fault.Point)
	}{
		{"half written", func(w, _ *fault.Point) { w.FailBefore(1) }},
		{"written, reported as failed", func(w, _ *fault.Point) { w.FailAfter(1) }},
		{"not synced", func(_, s *fault.Point) { s.FailBefore(1) }},
		{"synced, reported as failed", func(_, s *fault.Point) { s.FailAfter(1) }},
		{"for a while", func(w, s *fault.Point) { w.Break(syscall.ENOSPC); s.Break(syscall.EIO) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			write, sync := &fault.Point{Name: "queue.write"}, &fault.Point{Name: "queue.sync"}
			// Small segments, so that the failure also meets a segment's end.
			o := Options{Dir: t.TempDir(), SegmentBytes: 2 << 10, WriteFault: write, SyncFault: sync}
			q := open(t, o)
			var frames []change.Sealed
			reader := q.Cursor(change.Position{})
			for n := uint64(1); n <= 40; n++ {
				f := sealed(t, epoch1, n, n, 100)
				if n%3 == 0 {
					tc.arm(write, sync)
					tries := 0
					for err := q.Append(f); err != nil; err = q.Append(f) {
						if tail, _, _ := q.Tail(); tail.Seq != n-1 {
							t.Fatalf("%d failed and the tail is %s", n, tail)
						}
						if tries++; tries == 3 {
							write.Heal()
							sync.Heal()
						}
						if tries > 10 {
							t.Fatal(err)
						}
					}
					if tries == 0 {
						t.Fatal("did not fail")
					}
				} else {
					appendAll(t, q, f)
				}
				frames = append(frames, f)
				if got := next(t, reader); !bytes.Equal(got.Bytes, f.Bytes) {
					t.Fatalf("read %+v", got.Header)
				}
			}
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			q = open(t, o)
			if lost := readAll(t, q, frames); len(lost) > 0 {
				t.Errorf("lost %v", lost)
			}
		})
	}
}

// TestFullDiskIsReportedAndRecoversByItself fills a real file system.
func TestFullDiskIsReportedAndRecoversByItself(t *testing.T) {
	t.Parallel()
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=1m"); err != nil {
		// Not root: the same in a process whose files may not grow.
		runChild(t, t.TempDir(), "full")
		return
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mount, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	o := Options{Dir: filepath.Join(mount, "queue"), SegmentBytes: 128 << 10, KeepBytes: -1}
	q, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := fullDisk(q, func() error { return nil }); err != nil {
		t.Error(err)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

// fullDisk appends until the disk is full, acknowledges, and goes on.
func fullDisk(q *Queue, free func() error) error {
	tb := new(testing.T)
	n, full := uint64(1), 0
	reader := q.Cursor(change.Position{})
	for ; n < 3000; n++ {
		f := sealed(tb, epoch1, n, n, 1000)
		err := q.Append(f)
		if err != nil {
			full++
			if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EFBIG) {
				return fmt.Errorf("append %d: %w", n, err)
			}
			if err := q.Append(f); err == nil {
				return errors.New("a full disk took a frame")
			}
			// What is there can be read, and acknowledging it makes room.
			for reader.Position().Seq < n-1 {
				next(tb, reader)
			}
			if err := q.Ack(at(epoch1, n-1)); err != nil {
				return fmt.Errorf("acknowledge on a full disk: %w", err)
			}
			if err := free(); err != nil {
				return err
			}
			if err := q.Append(f); err != nil {
				return fmt.Errorf("append %d with room again: %w", n, err)
			}
		}
	}
	for reader.Position().Seq < n-1 {
		next(tb, reader)
	}
	if full == 0 {
		return errors.New("the disk was never full")
	}
	return nil
}

// The test binary is also the process that is killed or limited.
const (
	childEnv    = "QUEUE_TEST_CHILD"
	childDirEnv = "QUEUE_TEST_DIR"
)

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "write":
		err = writeForever(os.Getenv(childDirEnv))
	case "full":
		err = growLimited(os.Getenv(childDirEnv))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(dir, what string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+what, childDirEnv+"="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

func runChild(t *testing.T, dir, what string) {
	t.Helper()
	cmd := child(dir, what)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
}

// growLimited is fullDisk where a file may not grow beyond a limit.
func growLimited(dir string) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = 256 << 10
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	q, err := Open(Options{Dir: dir, SegmentBytes: 512 << 10, KeepBytes: -1})
	if err != nil {
		return err
	}
	return fullDisk(q, func() error {
		limit.Cur += 256 << 10
		return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
	})
}

// writeForever appends and says so, until it is killed.
func writeForever(dir string) error {
	q, err := Open(Options{Dir: dir, SegmentBytes: 16 << 10, KeepBytes: 32 << 10})
	if err != nil {
		return err
	}
	if d := q.Opened().Damaged; d != "" {
		return errors.New(d)
	}
	tail, _, _ := q.Tail()
	n := tail.Seq
	r := rand.New(rand.NewPCG(n, 1))
	t := new(testing.T)
	for {
		var frames []change.Sealed
		for range 1 + r.IntN(3) {
			n++
			if r.IntN(4) == 0 {
				frames = append(frames, part(t, epoch1, n, 0, true, r.IntN(500)), part(t, epoch1, n, 1, false, r.IntN(500)))
			} else {
				frames = append(frames, sealed(t, epoch1, n, n, r.IntN(1500)))
			}
			if r.IntN(3) == 0 { // its parts may be torn apart by the end
				if err := q.Append(frames...); err != nil {
					return err
				}
				frames = nil
			}
		}
		if err := q.Append(frames...); err != nil {
			return err
		}
		fmt.Println(n)
		if r.IntN(5) == 0 {
			if err := q.Ack(at(epoch1, n-n/10)); err != nil {
				return err
			}
		}
		if r.IntN(5) == 0 {
			if err := q.Mark(lsnOf(n)); err != nil {
				return err
			}
		}
	}
}

func TestEveryAppendThatReturnedSurvivesKill9(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "queue")
	r := rand.New(rand.NewPCG(20261123, 1))
	for round := range 20 {
		cmd := child(dir, "write")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(20+r.IntN(150))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		said := uint64(0)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if v, err := strconv.ParseUint(strings.TrimSpace(lines.Text()), 10, 64); err == nil {
				said = v
			}
		}
		if err := lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
		err = cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("round %d: the writer ended by itself: %v", round, err)
		}
		q := open(t, Options{Dir: dir, SegmentBytes: 16 << 10, KeepBytes: 32 << 10})
		tail, lsn, ok := q.Tail()
		if q.Opened().Damaged != "" || tail.Seq < said || ok && lsn != lsnOf(tail.Seq) {
			t.Fatalf("round %d: tail %s, said %d, %+v", round, tail, said, q.Opened())
		}
		s := q.Stats()
		if tail.Seq > 0 {
			c := q.Cursor(at(epoch1, s.First-1))
			for c.Position() != tail {
				next(t, c)
			}
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{200, 20_000, 1_000_000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			q := open(b, Options{Dir: b.TempDir(), KeepBytes: -1})
			n := uint64(0)
			f := sealed(b, epoch1, 1, 1, size)
			b.SetBytes(int64(len(f.Bytes)))
			for b.Loop() {
				n++
				f.Header.First, f.Header.Last = n, n
				if err := q.Append(f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	q, err := Open(Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	const frames = 200_000
	batch := make([]change.Sealed, 0, 1000)
	for n := uint64(1); n <= frames; n++ {
		if batch = append(batch, sealed(b, epoch1, n, n, 200)); len(batch) == cap(batch) {
			if err := q.Append(batch...); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		q, err := Open(Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		if err := q.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(frames, "frames")
}
