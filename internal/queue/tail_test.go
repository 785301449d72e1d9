package queue

import (
	"os"
	"path/filepath"
	"testing"
)

// A last batch that is damaged cannot be told from a torn one, and is cut off.
// That must not pass for a queue that has everything up to its mark.
func TestLostEndIsNotCoveredByTheMark(t *testing.T) {
	dir := t.TempDir()
	q := open(t, Options{Dir: dir})
	for i := uint64(1); i <= 3; i++ {
		if err := q.Append(sealed(t, epoch1, i, i, 2000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Mark(lsnOf(3) + 500); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(files) != 1 {
		t.Fatalf("segments: %v, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1000] ^= 1
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	q = open(t, Options{Dir: dir})
	tail, lsn, _ := q.Tail()
	if have := max(lsn, q.Marked()); tail.Seq < 3 && have >= lsnOf(3) {
		t.Fatalf("the queue ends at %s and says that it has the WAL up to %d", tail, have)
	}
}
