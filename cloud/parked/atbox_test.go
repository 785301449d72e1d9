package parked

import (
	"context"
	"testing"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/proto"
)

// box is a connected box, as its stream shows it here.
type box func(o *proto.ParkedOrder) (*proto.ParkedDone, error)

func (b box) OrderParked(_ context.Context, _ string, o *proto.ParkedOrder) (*proto.ParkedDone, error) {
	return b(o)
}

// What a box tried by itself just before it was told of a correction, and tells of late,
// is not what came of the correction.
func TestAnOlderRefusalIsNotWhatCameOfACorrection(t *testing.T) {
	t.Parallel()
	db := pgtest.Migrated(t, "region", migrations.Up)
	pool := db.Pool(t)
	db.Exec(t, `INSERT INTO holdfast.facility (id, tenant) VALUES ('la', 'foo')`)
	at := time.Now().Add(-time.Minute).UnixMicro()
	row := proto.ParkedRow{
		ID: 3, Epoch: 1, Seq: 7, Schema: "public", Name: "orders", Key: `{"id": "1"}`, Op: "update", Row: `{"id": "1", "notes": "refused"}`,
		Columns: `[{"name": "id", "type": "integer", "key": true}, {"name": "notes", "type": "text"}]`, Reason: "check", Message: "violates it", State: "waiting", ParkedAt: at, TriedAt: at + 1, Attempts: 1,
	}
	tell := func(r *Room, row proto.ParkedRow) {
		t.Helper()
		p := &proto.Parked{Rows: []proto.ParkedRow{row}}
		if row.State == "waiting" {
			p.Waiting = 1
		}
		if err := r.Told(t.Context(), "la", p, nil); err != nil {
			t.Error(err)
		}
	}
	tried := row
	tried.TriedAt, tried.Attempts = at+2, 2
	ordered := make(chan struct{})
	r := New(pool, nil, box(func(*proto.ParkedOrder) (*proto.ParkedDone, error) {
		defer close(ordered)
		return &proto.ParkedDone{TriedAt: tried.TriedAt}, nil
	}))
	r.outcomeWait = 2 * time.Minute
	tell(r, row)
	var id int64
	if err := pool.QueryRow(t.Context(), `SELECT id FROM holdfast.parked`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	mended := "mended"
	came := make(chan v1.ParkedRow, 1)
	go func() {
		row, err := r.Edit(t.Context(), id, map[string]*string{"notes": &mended}, "ann")
		if err != nil {
			t.Error(err)
		}
		came <- row
	}()
	select {
	case <-ordered:
	case <-came:
		t.Fatal("the box was not told")
	}
	tell(r, tried) // waits until the correction is written down
	select {
	case row := <-came:
		t.Fatalf("it is said to be %q before the box has tried it", row.Outcome)
	case <-time.After(10 * outcomeEvery):
	}
	applied := tried
	applied.TriedAt, applied.Attempts, applied.State = at+3, 3, "applied"
	tell(r, applied)
	if row := <-came; row.Outcome != v1.ParkedApplied {
		t.Errorf("it is said to be %q", row.Outcome)
	}
}
