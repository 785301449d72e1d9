package dashboard

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

func newTestBoard(list []v1.FacilityStatus) (b *board, snapshots, draws *int) {
	snapshots, draws = new(int), new(int)
	return newBoard(
		func() []v1.FacilityStatus { *snapshots++; return list },
		func(r row) (string, error) { *draws++; return r.ID, nil },
	), snapshots, draws
}

func ids(v fleetView) string {
	var out []string
	for _, r := range v.Rows {
		out = append(out, strings.TrimPrefix(r.ElementID, "f-"))
	}
	return strings.Join(out, " ")
}

func TestTroubleComesFirstAndSearchFindsIt(t *testing.T) {
	t.Parallel()
	lag := func(ms int64) *int64 { return &ms }
	b, _, _ := newTestBoard([]v1.FacilityStatus{
		{ID: "a", Name: "Zürich", State: "online", Lag: lag(5)},
		{ID: "b", Name: "Bern", State: "degraded", Reason: "Its tunnel is down.", Queue: v1.Queue{Transactions: 7}},
		{ID: "c", Name: "Chur", State: "new"},
		{ID: "d", Name: "Davos", State: "offline", Lag: lag(90000), Queue: v1.Queue{Transactions: 9}},
		{ID: "e", Name: "Egg", State: "unknown"},
	})
	for address, want := range map[string]string{
		"/":                       "d b e c a",
		"/?sort=state&dir=desc":   "a c e b d",
		"/?sort=name":             "b c d e a",
		"/?sort=queue":            "d b a c e",
		"/?sort=lag":              "d a b c e",
		"/?q=TUNNEL":              "b",
		"/?q=z%C3%BCr":            "a",
		"/?state=offline":         "d",
		"/?state=bogus&sort=evil": "d b e c a",
		"/?q=nothing&page=99":     "",
	} {
		v, err := b.view(readQuery(httptest.NewRequest("GET", address, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if got := ids(v); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
	v, err := b.view(query{Sort: "state", Page: 1})
	if err != nil || v.Title != "1 facility is offline: d." || !strings.Contains(v.Text, "Degraded: b.") {
		t.Errorf("%q %q %v", v.Title, v.Text, err)
	}
}

func TestAllIsWellOnlyWhenNothingWaitsForAPerson(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want string
		f    v1.FacilityStatus
	}{
		{"2 facilities online.", v1.FacilityStatus{}},
		{"No progress at 1 facility: la.", v1.FacilityStatus{Stalled: []v1.Stall{{Text: "x"}}, Parked: 1, Differing: 1}},
		{"Parked changes wait for somebody at 1 facility: la.", v1.FacilityStatus{Parked: 3, Differing: 1}},
		{"Rows differ at 1 facility: la.", v1.FacilityStatus{Differing: 1}},
	} {
		want, f := c.want, c.f
		f.ID, f.State = "la", "online"
		b, _, _ := newTestBoard([]v1.FacilityStatus{f, {ID: "sf", State: "online"}})
		v, err := b.view(query{Sort: "state", Page: 1})
		if err != nil || v.Title != want {
			t.Errorf("%q, want %q, %v", v.Title, want, err)
		}
	}
}

func TestViewersShareOneSnapshotAndOneDrawing(t *testing.T) {
	t.Parallel()
	var list []v1.FacilityStatus
	for i := range 1000 {
		list = append(list, v1.FacilityStatus{ID: fmt.Sprintf("f%04d", i), State: "online"})
	}
	b, snapshots, draws := newTestBoard(list)
	synctest.Test(t, func(t *testing.T) { // a busy machine must not make the snapshot old
		for range 50 {
			v, err := b.view(query{Sort: "state", Page: 3})
			if err != nil {
				t.Fatal(err)
			}
			if v.From != 101 || v.To != 150 || v.Pages != 20 || len(v.Rows) != rowsPerPage || v.Prev() != "2" || v.Next() != "4" {
				t.Fatalf("page %+v", v)
			}
		}
		if *snapshots != 1 || *draws != rowsPerPage {
			t.Errorf("%d snapshots and %d drawings for 50 viewers", *snapshots, *draws)
		}
		time.Sleep(boardEvery)
		if _, err := b.view(query{Sort: "state", Page: 3}); err != nil || *snapshots != 2 {
			t.Errorf("%d snapshots when the first is old, %v", *snapshots, err)
		}
	})
}

func FuzzQuery(f *testing.F) {
	f.Add("state=offline&q=a&sort=lag&dir=desc&page=2")
	f.Fuzz(func(t *testing.T, raw string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.RawQuery = raw
		q := readQuery(r)
		r.URL.RawQuery = strings.TrimPrefix(string(q.With("page", fmt.Sprint(q.Page))), "?")
		if again := readQuery(r); again != q {
			t.Fatalf("%q: %+v, then %+v", raw, q, again)
		}
	})
}
