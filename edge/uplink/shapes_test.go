package uplink

import (
	"testing"

	"github.com/agogsaas/holdfast/proto"
)

func TestColumnsAreToldOncePerShape(t *testing.T) {
	t.Parallel()
	columns := []proto.TableColumn{{Name: "id", Type: "integer"}}
	told := shapesTold{}
	for i, c := range []struct {
		fingerprint uint64
		want        bool
	}{{1, true}, {1, false}, {2, true}, {2, false}, {1, true}} {
		states := []proto.TableState{{Schema: "public", Name: "t", Fingerprint: c.fingerprint, Columns: columns}}
		told.news(states)
		if got := len(states[0].Columns) > 0; got != c.want {
			t.Errorf("step %d: told %t, want %t", i, got, c.want)
		}
	}
}

func TestSettledTablesTellTheirColumns(t *testing.T) {
	t.Parallel()
	u, db := settled(t)
	s := u.TableStates()[0]
	if len(s.Columns) != 2 || s.Columns[0] != (proto.TableColumn{Name: "id", Type: "integer", Key: true, Required: true}) || s.Fingerprint == 0 {
		t.Errorf("got %+v", s)
	}
	db.Exec(t, `ALTER TABLE t ADD COLUMN note varchar(9)`)
	settle(t, u)
	if now := u.TableStates()[0]; len(now.Columns) != 3 || now.Columns[2].Type != "character varying(9)" || now.Fingerprint == s.Fingerprint {
		t.Errorf("after a migration: %+v", now)
	}
}
