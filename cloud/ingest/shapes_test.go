package ingest

import (
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/proto"
)

func TestTheRegionKnowsHowAFacilitysColumnsDiffer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	here, err := b.Shape(ctx, "", orders)
	if err != nil || here == nil {
		t.Fatalf("the region's own table: %v, %v", here, err)
	}
	columns := here.Describe()
	if d, err := b.Compare(ctx, "f1", orders, here.Fingerprint(), nil); err != nil || len(d) > 0 {
		t.Errorf("the same columns: %+v, %v", d, err)
	}
	if d, err := b.Compare(ctx, "f1", orders, 0, nil); err != nil || len(d) > 0 {
		t.Errorf("a facility that has not told: %+v, %v", d, err)
	}
	more := append(columns, proto.TableColumn{Name: "extra", Type: "integer"})
	if d, err := b.Compare(ctx, "f1", orders, 1, more); err != nil || len(d) != 1 || d[0].Column != "extra" || !d[0].Warning {
		t.Errorf("a column more: %+v, %v", d, err)
	}
	// The build before this one tells the fingerprint only.
	if d, err := b.Compare(ctx, "f1", orders, 1, nil); err != nil || len(d) != 1 || d[0].Warning {
		t.Errorf("a box that does not say which: %+v, %v", d, err)
	}
	gone := proto.SyncedTable{Schema: "public", Name: "gone", Class: "fact"}
	if d, err := b.Compare(ctx, "f1", gone, 1, columns); err != nil || len(d) != 1 || !d[0].Warning {
		t.Errorf("no table in the region: %+v, %v", d, err)
	}
	own := proto.SyncedTable{Schema: "public", Name: "orders", Class: "fact", RegionSchema: "{facility}_{schema}"}
	if s, err := b.Shape(ctx, "", own); err != nil || s != nil {
		t.Errorf("a table that each facility has: %v, %v", s, err)
	}
	if s, err := b.Shape(ctx, "f1", own); err != nil || s != nil {
		t.Errorf("a table that is not there: %v, %v", s, err)
	}
}

func TestColumnsToldOnceAreRemembered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	if err := b.Add(ctx, orders, "test"); err != nil {
		t.Fatal(err)
	}
	tell := func(fingerprint uint64, columns ...proto.TableColumn) int {
		t.Helper()
		s := proto.TableState{Schema: "public", Name: "orders", State: proto.TableStreaming, Fingerprint: fingerprint, Columns: columns}
		if err := b.TableStates(ctx, "f1", []proto.TableState{s}); err != nil {
			t.Fatal(err)
		}
		var n int
		if err := b.db.QueryRow(ctx, `SELECT jsonb_array_length(columns) FROM holdfast.facility_table WHERE facility = 'f1'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	one := proto.TableColumn{Name: "id", Type: "integer", Key: true}
	for i, c := range []struct{ got, want int }{
		{tell(1 << 63), 0},
		{tell(1<<63, one, one), 2},
		{tell(1 << 63), 2},     // as told before
		{tell(2), 0},           // another shape, not told
		{tell(2, one), 1},      // now it is
		{tell(3, one, one), 2}, // a migration
	} {
		if c.got != c.want {
			t.Errorf("step %d: %d columns, want %d", i, c.got, c.want)
		}
	}
}

func TestEqualNumbersAreWarnedOf(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if _, err := b.db.Exec(t.Context(), `CREATE SCHEMA f2_public; CREATE TABLE f2_public.film (film_id serial PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	film := proto.SyncedTable{Schema: "public", Name: "film", Class: "fact", RegionSchema: "{facility}_{schema}"}
	problems, warnings, err := b.Check(t.Context(), film)
	if err != nil || len(problems) > 0 || len(warnings) != 1 || !strings.Contains(warnings[0], `ALTER SEQUENCE "f2_public"."film_film_id_seq" INCREMENT BY 2`) {
		t.Errorf("%v, %q, %v", problems, warnings, err)
	}
	if _, err := b.db.Exec(t.Context(), `ALTER SEQUENCE f2_public.film_film_id_seq INCREMENT BY 2 RESTART WITH 2`); err != nil {
		t.Fatal(err)
	}
	for _, fine := range []proto.SyncedTable{film, orders, {Schema: "public", Name: "none", Class: "fact", RegionSchema: "{facility}_{schema}"}} {
		if problems, warnings, err := b.Check(t.Context(), fine); err != nil || len(problems)+len(warnings) > 0 {
			t.Errorf("%s: %v, %q, %v", fine.ID(), problems, warnings, err)
		}
	}
}
