package queue

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
)

// addFrozen only ever adds: a frozen queue is what lies on boxes in the field.
var addFrozen = flag.Bool("update", false, "write the queue of this build, if testdata lacks it")

// frozenQueue is a queue's folder as the first build of this format left it: 40
// frames in several segments, 25 of them acknowledged, a mark behind its end.
const frozenQueue = "testdata/v1"

const (
	frozenFrames = 40
	frozenAcked  = 25
	frozenMark   = 50_000
)

func frozenOptions(dir string) Options {
	return Options{Dir: dir, SegmentBytes: 4 << 10, KeepBytes: 1 << 20}
}

func frozenFrame(t *testing.T, seq uint64) change.Sealed {
	t.Helper()
	f, err := change.Seal(change.Header{Kind: change.Changes, Epoch: 1 << 32, First: seq, Last: seq, LSN: 1000 * seq, CommitMicros: 1_795_401_064_000_000}, &change.Body{
		Tables: []change.Table{{Schema: "public", Name: "orders", Columns: []change.Column{{Name: "id", Type: "bigint", Key: true}, {Name: "note", Type: "text"}}}},
		Txs: []change.Tx{{Seq: seq, LSN: 1000 * seq, CommitMicros: 1_795_401_064_000_000, Changes: []change.Change{
			{Op: change.Insert, Row: change.Row{fmt.Append(nil, seq), fmt.Appendf(nil, "order %d of the frozen queue", seq)}},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// A box that was updated while its line was down goes on with the queue that the
// build before has left.
func TestQueueOfAnEarlierBuildIsReadOn(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(frozenQueue); os.IsNotExist(err) && *addFrozen {
		freeze(t)
	}
	dir := filepath.Join(t.TempDir(), "queue")
	if err := os.CopyFS(dir, os.DirFS(frozenQueue)); err != nil {
		t.Fatalf("%v (go test ./internal/queue -update writes it)", err)
	}
	q, err := Open(frozenOptions(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if o := q.Opened(); o != (Opened{}) {
		t.Errorf("opened: %+v", o)
	}
	if tail, lsn, ok := q.Tail(); !ok || tail != (change.Position{Epoch: 1 << 32, Seq: frozenFrames}) || lsn != 1000*frozenFrames {
		t.Errorf("it ends at %v, %d, %t", tail, lsn, ok)
	}
	if acked := q.Acked(); acked.Seq != frozenAcked {
		t.Errorf("acknowledged to %v", acked)
	}
	s := q.Stats()
	if s.Transactions != frozenFrames-frozenAcked || s.Changes != frozenFrames-frozenAcked || q.Marked() != frozenMark {
		t.Errorf("stats %+v, mark %d", s, q.Marked())
	}
	if err := q.Append(frozenFrame(t, frozenFrames+1)); err != nil {
		t.Fatal(err)
	}
	cursor := q.Cursor(q.Acked())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for seq := uint64(frozenAcked + 1); seq <= frozenFrames+1; seq++ {
		f, err := cursor.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		body, err := f.Open()
		if err != nil || f.Header.First != seq || string(body.Txs[0].Changes[0].Row[1]) != fmt.Sprintf("order %d of the frozen queue", seq) {
			t.Fatalf("transaction %d: %+v, %v", seq, f.Header, err)
		}
	}
}

func freeze(t *testing.T) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "queue")
	q, err := Open(frozenOptions(dir))
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= frozenFrames; seq++ {
		err = errors.Join(err, q.Append(frozenFrame(t, seq)))
	}
	err = errors.Join(err, q.Ack(change.Position{Epoch: 1 << 32, Seq: frozenAcked}), q.Mark(frozenMark), q.Close())
	if err == nil {
		err = os.CopyFS(frozenQueue, os.DirFS(dir))
	}
	if err != nil {
		t.Fatal(err)
	}
}
