package epoch

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/agogsaas/holdfast/internal/change"
)

func TestAnEpochIsFoundAsItWasLeft(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "epoch")
	open := func(base uint64, want Epoch) File {
		t.Helper()
		f, err := Open(path, base)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Get(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		return f
	}
	f := open(7, Epoch{Number: 7, Opening: true})
	open(7, Epoch{Number: 7, Opening: true})
	if err := f.Set(Epoch{Number: 9, Reason: "of\nmany  words"}); err != nil {
		t.Fatal(err)
	}
	open(7, Epoch{Number: 9, Reason: "of many words"})
	for _, e := range []Epoch{
		{Number: 10, Opening: true, Restored: true, After: change.Position{Epoch: 9, Seq: 41}, Reason: "put back"},
		{Number: 10, Restored: true, Whole: true, Past: Past{LSN: 1 << 33, Micros: 1_700_000_000_000_000}},
		{Number: 10, Unread: true, Reason: "lost"},
		{Number: 10, Unread: true, After: change.Position{Epoch: 9, Seq: 41}, Reason: "lost"},
		{Number: 10, Unread: true, Past: Past{LSN: 1 << 33, Micros: 1_700_000_000_000_000}},
		{Number: 10, Opening: true, Past: Past{LSN: 1 << 33, Micros: 1_700_000_000_000_000}},
		{Number: 10},
	} {
		if err := f.Set(e); err != nil {
			t.Fatal(err)
		}
		open(7, e)
	}
	open(20, Epoch{Number: 20, Opening: true, Reason: "the box was enrolled anew"})
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(20, Epoch{Number: 20 + 1<<31, Opening: true, Reason: "the note of the epoch was damaged on disk"})
}
