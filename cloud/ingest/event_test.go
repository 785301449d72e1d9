package ingest

import (
	"testing"

	"github.com/agogsaas/holdfast/proto"
)

func TestWhatRepeatsIsOneEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, e := range [][2]string{{"stuck", "no table"}, {"stuck", "no table"}, {"gap", "1 to 3"}, {"stuck", "no table"}} {
		if err := b.Event(t.Context(), "f1", e[0], e[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Event(t.Context(), "f2", "stuck", "no table"); err != nil {
		t.Fatal(err)
	}
	b.untilCount(t, `SELECT count(*) FROM holdfast.stream_event WHERE facility = 'f1'`, 3)
	b.untilCount(t, `SELECT count(*) FROM holdfast.stream_event WHERE facility = 'f2'`, 1)
}

// What a box cannot send it tells with its table each time that it connects.
func TestWhatABoxLeavesOutIsOneEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	if err := b.Add(ctx, orders, "test"); err != nil {
		t.Fatal(err)
	}
	states := []proto.TableState{{Schema: "public", Name: "orders", State: proto.TableStreaming, Problems: []proto.Problem{{Text: "a row is too large", Remedy: "Make it smaller."}}}}
	for range 3 {
		if err := b.TableStates(ctx, "f1", states); err != nil {
			t.Fatal(err)
		}
		if err := b.Event(ctx, "f1", "gap", "something else"); err != nil {
			t.Fatal(err)
		}
	}
	b.untilCount(t, `SELECT count(*) FROM holdfast.stream_event WHERE kind = 'left_out' AND detail = 'a row is too large. Make it smaller.'`, 1)
	b.untilCount(t, `SELECT count(*) FROM holdfast.facility_table WHERE problem = 'a row is too large' AND remedy = 'Make it smaller.'`, 1)

	// While a table is being sent its rows are not asked for.
	for state, want := range map[string]bool{proto.TableLoading: true, proto.TableStreaming: false} {
		states[0].State = state
		if err := b.TableStates(ctx, "f1", states); err != nil {
			t.Fatal(err)
		}
		if got := b.loading(ctx, "f1", "public.orders"); got != want {
			t.Errorf("%s: loading %t", state, got)
		}
	}
}
