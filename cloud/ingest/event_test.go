package ingest

import "testing"

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
