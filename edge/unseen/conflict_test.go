package unseen_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/apply"
)

const by = `SELECT pg_logical_emit_message(true, 'holdfast.author', '%s')`

// Each kind of conflict under each policy: who stands, what is recorded, and
// that both sides come to the same.
func TestEachKindUnderEachPolicy(t *testing.T) {
	t.Parallel()
	const big = `repeat(md5('%s'), 300)`
	base := `INSERT INTO t (id, v, price, big) SELECT i, 'base', '1', ` + fmt.Sprintf(big, "base") + ` FROM generate_series(1, 9) i`
	cases := []struct {
		name, edge, cloud string
		kind              string
		id                int
		// what stands of v and price under each policy; "" is no row.
		edgeWins, cloudWins, columns string
		// who is recorded to have decided under the policies.
		decided [3]string
	}{
		{
			"both inserted", `INSERT INTO t VALUES (20, 'la', 'E', '2', 'b')`, `INSERT INTO t VALUES (20, 'la', 'C', '3', 'b')`,
			"insert_exists", 20, "(E,2)", "(C,3)", "(E,3)",
			[3]string{"edge", "cloud", "merged"},
		},
		{
			"both updated", `UPDATE t SET v = 'E' WHERE id = 1`, `UPDATE t SET v = 'C', price = '3' WHERE id = 1`,
			"update_origin_differs", 1, "(E,1)", "(C,3)", "(E,3)",
			[3]string{"edge", "cloud", "merged"},
		},
		{
			"the edge deleted", `DELETE FROM t WHERE id = 2`, `UPDATE t SET v = 'C', big = 'new' WHERE id = 2`,
			"update_deleted", 2, "", "(C,1)", "",
			[3]string{"edge", "cloud", "edge"},
		},
		{
			"the edge deleted what the cloud changed in part", `DELETE FROM t WHERE id = 8`, `UPDATE t SET v = 'C' WHERE id = 8`,
			"update_deleted", 8, "", "", "",
			[3]string{"edge", "edge", "edge"},
		},
		{
			"the cloud deleted", `UPDATE t SET v = 'E' WHERE id = 3`, `DELETE FROM t WHERE id = 3`,
			"delete_origin_differs", 3, "(E,1)", "", "(E,1)",
			[3]string{"edge", "cloud", "edge"},
		},
		{
			"both the same", `UPDATE t SET v = 'S' WHERE id = 4`, `UPDATE t SET v = 'S' WHERE id = 4`,
			"", 4, "(S,1)", "(S,1)", "(S,1)",
			[3]string{},
		},
		{
			"both deleted", `DELETE FROM t WHERE id = 5`, `DELETE FROM t WHERE id = 5`,
			"", 5, "", "", "",
			[3]string{},
		},
		{
			"the edge deleted and made it again", `DELETE FROM t WHERE id = 6; INSERT INTO t VALUES (6, 'la', 'E', '2', 'b')`, `DELETE FROM t WHERE id = 6`,
			"delete_origin_differs", 6, "(E,2)", "", "(E,2)",
			[3]string{"edge", "cloud", "edge"},
		},
		{
			"the cloud changed what is large", `UPDATE t SET v = 'E' WHERE id = 7`, `UPDATE t SET big = 'large' WHERE id = 7`,
			"update_origin_differs", 7, "(E,1)", "(base,1)", "(E,1)",
			[3]string{"edge", "cloud", "merged"},
		},
	}
	for i, policy := range []apply.Policy{apply.PolicyEdge, apply.PolicyCloud, apply.PolicyColumns} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			o := options{policy: policy}
			if policy == apply.PolicyColumns {
				o.columns = []string{"price", "big"}
			}
			r := newRig(t, o)
			r.edge.tx(base)
			r.rest()
			for _, c := range cases {
				r.edge.tx(fmt.Sprintf(by, "eve"), c.edge)
				r.region.tx(fmt.Sprintf(by, "carl"), c.cloud)
			}
			r.downAll(1000)
			r.rest()
			if !r.equal() {
				t.Error("the sides differ")
			}
			for _, c := range cases {
				want := []string{c.edgeWins, c.cloudWins, c.columns}[i]
				got := strings.Join(r.edge.lines(fmt.Sprintf("SELECT v, price FROM t WHERE id = %d", c.id)), "")
				if got != want {
					t.Errorf("%s: %q stands, want %q", c.name, got, want)
				}
				records := r.region.lines(fmt.Sprintf(`SELECT kind, decision, policy, edge_by, cloud_by FROM holdfast.conflict WHERE key->>'id' = '%d'`, c.id))
				switch {
				case c.kind == "" && len(records) > 0:
					t.Errorf("%s: records %q of what is no conflict", c.name, records)
				case c.kind != "" && fmt.Sprint(records) != fmt.Sprintf("[(%s,%s,%s,eve,carl)]", c.kind, c.decided[i], policy):
					t.Errorf("%s: records %q", c.name, records)
				}
			}
		})
	}
}
