package uplink

import (
	"testing"

	"github.com/agogsaas/holdfast/proto"
)

// That a box has all of a table is believed where this very database has come so far, and
// where nothing that came of it was refused: else what it lacks would be removed in the
// region. What was sent before that is sent once more then.
func TestATableIsWholeOnceAllOfItIsHere(t *testing.T) {
	t.Parallel()
	u, db := settled(t)
	settle(t, u)
	db.Exec(t, `INSERT INTO holdfast.position (facility, epoch, seq) VALUES ('la', 7, 10)`)
	tell := func(seq uint64) (again bool) {
		t.Helper()
		again, err := u.store.whole(t.Context(), "la", &proto.Whole{Table: "public.t", Epoch: 7, Seq: seq})
		if err != nil {
			t.Fatal(err)
		}
		return again
	}
	table := func() entry {
		t.Helper()
		_, list, _, err := u.store.tables(t.Context())
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return list[0]
	}
	lacks := func(why string, seq uint64) {
		t.Helper()
		if before := table(); tell(seq) || table().Whole || table().LoadNo != before.LoadNo {
			t.Errorf("%s, and yet the table is whole", why)
		}
	}
	lacks("the database has not come so far", 11)
	const parked = `INSERT INTO holdfast.parked (facility, direction, epoch, seq, schema_name, table_name, key, key_hash, op, columns, bytes, reason, message, state)
		VALUES ('la', 'down', 7, 9, 'public', 't', '{}', '', 'insert', '[]', 0, 'check', '', $1)`
	for _, state := range []string{"waiting", "discarded"} {
		db.Exec(t, parked, state)
		lacks("a row is parked and "+state, 10)
		db.Exec(t, `UPDATE holdfast.parked SET state = 'applied'`)
	}
	db.Exec(t, `INSERT INTO holdfast.parked_table (facility, direction, schema_name, table_name, reason, message, columns) VALUES ('la', 'down', 'public', 't', 'check', '', '[]')`)
	lacks("rows were passed over", 10)
	db.Exec(t, `DELETE FROM holdfast.parked_table`)
	e := table()
	if err := u.store.setState(t.Context(), e.SyncedTable, proto.TableRefused, nil); err != nil {
		t.Fatal(err)
	}
	lacks("the table is refused", 10)
	if err := u.store.setState(t.Context(), e.SyncedTable, proto.TableLoading, nil); err != nil {
		t.Fatal(err)
	}

	streams := func() {
		t.Helper()
		if err := u.store.loaded(t.Context(), table()); err != nil {
			t.Fatal(err)
		}
	}
	if !tell(10) || !table().Whole {
		t.Error("a load that is under way does not begin anew")
	}
	streams()
	if tell(10) || table().State != proto.TableStreaming {
		t.Error("a table that streams is sent once more, and nothing of it was lost")
	}
	if err := u.store.reload(t.Context(), nil, true); err != nil {
		t.Fatal(err)
	}
	streams()
	if !tell(10) {
		t.Error("what was sent while the region did not believe it is not sent once more")
	}
	streams()
	e = table()
	e.RegionSchema = "elsewhere"
	if err := u.store.replace(t.Context(), proto.Tables{Version: 2, Tables: []proto.SyncedTable{e.SyncedTable}}); err != nil {
		t.Fatal(err)
	}
	if table().Whole {
		t.Error("a table that goes elsewhere in the region is whole")
	}
}
