package scenario

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/agogsaas/holdfast/test/rig/procs"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// While a region is updated, the boxes still are of the build before, for weeks
// perhaps. An outage and a return pass as with a box of this build; then the box
// is updated in the middle of another outage, with its queue as it lies on disk.
func TestTheBuildBeforeWorksWithThisRegion(t *testing.T) {
	t.Parallel()
	before, ref := procs.Previous(t, procs.Edge)
	t.Logf("the box is of %s", ref)
	s := startSite(t)
	la := addEdgeWith(t, s, site.EdgeOptions{ID: "la", Bin: filepath.Dir(before)})
	addWorkspace(t, s)
	edge, region := edgeDB(t, la), regionDB(t, s)
	n := 0
	write := func(rows int) {
		t.Helper()
		for range rows {
			if _, err := edge.Exec(t.Context(), insertOrder, "la", fmt.Sprintf("A-%d", n), n+1); err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	arrives := func() {
		t.Helper()
		eventually(t, func(ctx context.Context) error { return sameOrders(ctx, "la", edge, region) })
	}
	change := func(sql string) {
		t.Helper()
		if _, err := edge.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	write(20)
	arrives()

	la.Cut()
	write(200)
	change(`UPDATE orders SET status = 'shipped' WHERE quantity % 3 = 0`)
	change(`DELETE FROM orders WHERE quantity % 7 = 0`)
	if err := sameOrders(t.Context(), "la", edge, region); err == nil {
		t.Fatal("the cable was cut, and yet the region has everything")
	}
	la.Restore()
	arrives()

	// The region knows what such a box does not tell, and says so without alarm.
	eventually(t, func(ctx context.Context) error {
		status, err := s.API.SyncStatus(ctx, "la")
		if err != nil {
			return err
		}
		streaming := 0
		for _, table := range status.Tables {
			if table.State == "streaming" {
				streaming++
			}
			for _, d := range table.Differs {
				if d.Warning {
					return fmt.Errorf("%s: a warning where nothing is wrong: %s", table.Table, d.Text)
				}
			}
		}
		if streaming < 4 || len(status.Stalled) > 0 {
			return fmt.Errorf("%d tables stream; %+v", streaming, status.Stalled)
		}
		return nil
	})

	la.Cut()
	write(100)
	change(`UPDATE orders SET status = 'cancelled' WHERE quantity % 5 = 0`)
	if err := la.Agent.Stop(); err != nil {
		t.Fatal(err)
	}
	la.Agent.Path = filepath.Join(s.Bin, "holdfast-edge")
	if err := la.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(50)
	la.Restore()
	arrives()
}
