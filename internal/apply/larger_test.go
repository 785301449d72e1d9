package apply

import (
	"context"
	"testing"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// TestABatchGrowsWhileTheSameRowsChange, and not while each change is of
// another row; nor as far where others wait behind it.
func TestABatchGrowsWhileTheSameRowsChange(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE SCHEMA la; CREATE TABLE la.hot (id int PRIMARY KEY, n int)`)
	r := newRegion(t, db.ConnString(), Table{Name: "hot", TargetSchema: "{facility}"})
	for _, c := range []struct {
		name string
		keys int
		wait bool
		want int
	}{
		{"fifty rows", 50, false, foldMaxChanges},
		{"each its own", 1 << 30, false, batchMaxChanges},
		{"fifty rows, and others wait", 50, true, foldMaxChanges / beside},
		{"each its own, and others wait", 1 << 30, true, batchMaxChanges / beside},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := New(t.Context(), r.pool, Config{Facility: "la", Registry: r.current, GiveWay: func() bool { return c.wait }})
			if err != nil {
				t.Fatal(err)
			}
			s, err := r.pool.session(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer s.release()
			from, n := newSender(t, table("public", "hot", key("id", "integer"), col("n", "integer"))), 0
			g := &gatherer{a: a, out: make(chan *batch), resolver: resolver{applier: a}, batch: &batch{fold: newFolded("la")}}
			g.a.next.Epoch = epoch1
			for g.batch.changes < c.want {
				var list [][]change.Change
				for range 1000 {
					list = append(list, []change.Change{upd(0, n%c.keys, n), upd(0, (n+1)%c.keys, n)})
					n += 2
				}
				f := from.frame(list...)
				body, err := f.Open()
				if err != nil {
					t.Fatal(err)
				}
				if n == 2000 { // so that gather need not read the catalog
					if err := g.resolver.fold(t.Context(), s, newFolded("la"), &txRef{tx: &body.Txs[0], body: body}); err != nil {
						t.Fatal(err)
					}
				}
				// Nobody takes a batch: the one that is full waits for ever.
				ctx, cancel := context.WithCancel(t.Context())
				if g.batch.changes+2000 >= c.want {
					cancel()
				}
				if err := g.take(ctx, opened{arrived{Sealed: f}, f.Header, body, len(f.Bytes)}); err != nil && ctx.Err() == nil {
					t.Fatal(err)
				}
				cancel()
			}
			if got := g.batch.changes; got != c.want {
				t.Errorf("a batch of %d changes is full, want %d", got, c.want)
			}
			if !a.full(g.batch, 1) {
				t.Error("it is not full")
			}
		})
	}
}
