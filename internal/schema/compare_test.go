package schema_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/schema"
	"github.com/agogsaas/holdfast/proto"
)

func TestDifferencesSayWhetherRowsCross(t *testing.T) {
	t.Parallel()
	conn := pgtest.New(t).Conn(t)
	table := func(ddl string) *schema.Table {
		t.Helper()
		if _, err := conn.Exec(t.Context(), "DROP TABLE IF EXISTS t; CREATE TABLE t ("+ddl+")"); err != nil {
			t.Fatal(err)
		}
		table, err := schema.Read(t.Context(), conn, "public", "t")
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	const same = "id int PRIMARY KEY, f text NOT NULL"
	for _, c := range []struct {
		facility, region, class string
		want                    string // warning or note, and words; one a line
	}{
		{same, same, "fact", ""},
		{same, "f text NOT NULL, id int PRIMARY KEY", "fact", ""}, // their order is nobody's business
		{same + ", a int", same, "fact", `warning the region does not have the column a / ALTER TABLE "public"."t" ADD COLUMN "a" integer;`},
		{same, same + ", a int", "fact", "note the facility does not have the column a yet"},
		{same, same + ", a int NOT NULL DEFAULT 1", "fact", "note the facility does not have the column a yet"},
		{same, same + ", a int NOT NULL", "fact", `warning the region requires the column a / ALTER COLUMN "a" DROP NOT NULL;`},
		{same, same + ", a int", "master", `warning the facility does not have the column a / In the facility: ALTER TABLE "public"."t" ADD COLUMN "a" integer;`},
		{same + ", a int", same, "master", "note the region does not have the column a yet"},
		{same + ", a int", same + ", a bigint", "fact", "note the column a is wider in the region"},
		{same + ", a bigint", same + ", a int", "fact", `warning the column a is bigint in the facility and integer in the region / ALTER COLUMN "a" TYPE bigint;`},
		{same + ", a bigint", same + ", a int", "master", "note the column a is wider in the facility"},
		{same + ", a varchar(5)", same + ", a text", "fact", "note"},
		{same + ", a int", same + ", a int GENERATED ALWAYS AS (id) STORED", "fact", "warning the region computes the column a / DROP EXPRESSION"},
		{same + ", a int GENERATED ALWAYS AS (id) STORED", same + ", a int", "fact", "note the facility computes the column a"},
		{same + ", a int GENERATED ALWAYS AS (id) STORED", same, "fact", ""},
		{same, "id int, f text NOT NULL, PRIMARY KEY (f, id)", "fact", ""},
		{"id int, f text NOT NULL, PRIMARY KEY (f, id)", same, "fact", "note the column f tells rows apart in the facility only"},
		{same + ", a int", same + ", b int NOT NULL", "fact", "warning the region does not have the column a / ADD COLUMN\nwarning the region requires the column b / until"},
		{same + ", a text, z int", same + ", a text, y int NOT NULL GENERATED ALWAYS AS IDENTITY, z bigint", "fact", "note the column z is wider\nnote the facility does not have the column y"},
	} {
		facility, region := table(c.facility).Describe(), table(c.region)
		got := schema.Compare("la", facility, region, proto.SyncedTable{Schema: "public", Name: "t", Class: c.class})
		var lines []string
		for _, d := range got {
			kind := "note"
			if d.Warning {
				kind = "warning"
			}
			lines = append(lines, fmt.Sprintf("%s %s / %s", kind, d.Text, d.Remedy))
		}
		var wants []string
		if c.want != "" {
			wants = strings.Split(c.want, "\n")
		}
		ok := len(lines) == len(wants)
		for i := range wants {
			for part := range strings.SplitSeq(wants[i], " / ") {
				ok = ok && strings.Contains(lines[i], part)
			}
		}
		if !ok {
			t.Errorf("%s against %s (%s):\n  %s\nwant\n  %s", c.facility, c.region, c.class, strings.Join(lines, "\n  "), c.want)
		}
	}
}
