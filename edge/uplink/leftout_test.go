package uplink

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/proto"
)

// told is what the region is told of the table beside its state.
func told(u *Uplink) string {
	var words []string
	for _, p := range u.TableStates()[0].Problems {
		words = append(words, p.String())
	}
	return strings.Join(words, "\n")
}

// What cannot be sent is told with its table, whoever starts again, until the
// table is sent again.
func TestWhatIsLeftOutIsToldUntilTheTableIsSentAgain(t *testing.T) {
	t.Parallel()
	u, db := settledAlone(t)
	begin(t, u.Capture)
	// A key that is dropped is the one thing that small rows can be left out for.
	if err := u.waitForSlot(t.Context()); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `BEGIN; INSERT INTO t VALUES (1, 'la'); ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t DROP CONSTRAINT t_pkey; UPDATE t SET facility = 'x'; COMMIT`)
	for deadline := time.Now().Add(2 * time.Minute); u.LeftOut() == 0; {
		if err := u.keepLeftOut(t.Context()); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing is told: %+v", u.CaptureState())
		}
		<-time.After(5 * time.Millisecond)
	}
	db.Exec(t, `ALTER TABLE t ADD PRIMARY KEY (id)`)
	key := func(n string) change.Row { return change.Row{[]byte(n)} }
	for _, n := range []string{"7", "8", "7"} {
		u.leaveOut(capture.LeftOut{Table: &change.Table{Schema: "public", Name: "t"}, Key: key(n), Reason: capture.TooLarge})
	}
	settle(t, u)
	const want = "public.t has lost its key, and updates and deletes of its rows were not sent. Give the table a primary key again. Then: holdfastctl resync la public.t\n" +
		"2 rows of public.t are too large to be sent and were left out: (7), (8). Make the row smaller: 60 MB, or 128 MB before it is packed, is the most. " +
		"Large files belong beside the database. Then: holdfastctl resync la public.t"
	if got := told(u); got != want || u.LeftOut() != 3 || len(u.LeftOutProblems()) != 2 {
		t.Errorf("told:\n%s\nwant:\n%s", got, want)
	}

	again, err := New(Config{Facility: "la", EpochBase: 1 << 32, EpochFile: u.EpochFile, DB: u.DB, CaptureConn: u.CaptureConn, Queue: u.Queue, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	settle(t, again)
	if got := told(again); got != want {
		t.Errorf("after a restart:\n%s", got)
	}
	if err := again.obey(t.Context(), order{reload: []string{"public.t"}}); err != nil {
		t.Fatal(err)
	}
	if e := settle(t, again); e.State != proto.TableLoading || told(again) != "" || again.LeftOut() != 0 {
		t.Errorf("sent again, and told: %s, %s", e.State, told(again))
	}
}
