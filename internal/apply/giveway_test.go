package apply

import (
	"sync/atomic"
	"testing"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

func TestALargeBatchGivesWayAndNotForEver(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, coreSQL+`CREATE TABLE t (id int PRIMARY KEY, facility text NOT NULL)`)
	r := newRegion(t, db.ConnString(), Table{Name: "t", FacilityColumn: "facility"})
	var asked, waits atomic.Int64
	st := r.start(Config{Facility: "la", GiveWay: func() bool {
		asked.Add(1)
		return waits.Add(-1) >= 0
	}})
	s := newSender(t, table("public", "t", key("id", "integer"), col("facility", "text")))
	inserts := func(from, n int) (list []change.Change) {
		for i := range n {
			list = append(list, ins(0, from+i, "la"))
		}
		return list
	}
	st.push(s.frame(inserts(0, 1)))
	st.untilApplied(1)
	if asked.Load() > 0 {
		t.Error("a worker's change gave way")
	}
	// Somebody waits for a while.
	waits.Store(3)
	st.push(s.frame(inserts(1, largeChanges)))
	st.untilApplied(2)
	if got := asked.Load(); got != 4 {
		t.Errorf("it was asked %d times, want until nobody waited", got)
	}
	// Somebody waits all the time.
	waits.Store(1 << 40)
	st.push(s.frame(inserts(1+largeChanges, largeChanges)))
	st.untilApplied(3)
}
