package router

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
)

// Whoever should have had what cannot be sent down learns of it, once.
func TestWhatCannotBeSentDownIsToldOfWhoShouldHaveIt(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.start(t)
	g.db.Exec(t, `BEGIN; INSERT INTO holiday VALUES (1, 'x'); ALTER TABLE holiday REPLICA IDENTITY FULL; ALTER TABLE holiday DROP CONSTRAINT holiday_pkey; UPDATE holiday SET v = 'y'; COMMIT`)
	table := func(name string, columns ...string) *change.Table {
		t := &change.Table{Schema: "public", Name: name}
		for i, c := range columns {
			t.Columns = append(t.Columns, change.Column{Name: c, Type: "text", Key: i == 0})
		}
		return t
	}
	row := func(v ...string) (r change.Row) {
		for _, s := range v {
			r = append(r, []byte(s))
		}
		return r
	}
	for range 2 {
		g.r.leaveOut(capture.LeftOut{Table: table("loose", "id", "facility_id"), Key: row("7"), Row: row("7", "ny"), Reason: capture.TooLarge})
		g.r.leaveOut(capture.LeftOut{Table: table("product", "id", "tenant"), Key: row("8"), Row: row("8", "bar"), Reason: capture.TooLarge})
		g.r.leaveOut(capture.LeftOut{Table: table("product", "id", "tenant"), Key: row("9"), Row: row("9", "foo"), To: "la", Reason: capture.TooLarge})
	}
	const large = " is too large to be sent and was left out: "
	want := []string{
		"bonn on the way down a row of public.product" + large + "(8)",
		"bonn on the way down public.holiday has lost its key, and updates and deletes of its rows were not sent",
		"la on the way down a row of public.product" + large + "(9)",
		"la on the way down public.holiday has lost its key, and updates and deletes of its rows were not sent",
		"ny on the way down a row of public.loose" + large + "(7)",
		"ny on the way down public.holiday has lost its key, and updates and deletes of its rows were not sent",
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		rows, err := g.pool.Query(t.Context(), `SELECT facility || ' ' || split_part(detail, '. ', 1) FROM holdfast.stream_event WHERE kind = 'left_out' ORDER BY 1`)
		if err != nil {
			t.Fatal(err)
		}
		got, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		if slices.Equal(got, want) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("told %q\nwant %q\n%+v", got, want, g.r.Stats())
		}
	}
	if n := g.r.Stats().LeftOut; n != 7 {
		t.Errorf("%d are counted", n)
	}
}
