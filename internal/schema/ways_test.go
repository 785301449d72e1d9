package schema_test

import (
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/schema"
	"github.com/agogsaas/holdfast/proto"
)

func TestBothWaysNeedMoreOfATable(t *testing.T) {
	t.Parallel()
	const fact = `CREATE TABLE t (id uuid PRIMARY KEY, facility_id text NOT NULL, price int, g int GENERATED ALWAYS AS (price) STORED)`
	master := func(tenant string) proto.SyncedTable { return proto.SyncedTable{Class: "master", TenantColumn: tenant} }
	policy := func(class, policy string, columns ...string) proto.SyncedTable {
		return proto.SyncedTable{Class: class, FacilityColumn: "facility_id", Policy: policy, CloudColumns: columns}
	}
	for _, tc := range []struct {
		name, ddl    string
		table        proto.SyncedTable // public.t unless said
		side         schema.Side
		text, remedy string // "" is suitable
	}{
		{name: "master", ddl: `CREATE TABLE t (id int PRIMARY KEY)`, table: master("")},
		{name: "master in the region", ddl: `CREATE TABLE t (id int PRIMARY KEY)`, table: master(""), side: schema.Region},
		{name: "master of a tenant", ddl: `CREATE TABLE t (id int PRIMARY KEY, tenant text NOT NULL)`, table: master("tenant"), side: schema.Region},
		{name: "a box need not know the tenant", ddl: `CREATE TABLE t (id int PRIMARY KEY)`, table: master("tenant")},
		{name: "master without key", ddl: `CREATE TABLE t (id int)`, table: master(""), text: "no primary key", remedy: "ADD PRIMARY KEY"},
		{name: "master that publishes no deletes", ddl: `CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING`, table: master(""), side: schema.Region, text: "REPLICA IDENTITY NOTHING", remedy: "DEFAULT"},
		{name: "no such tenant column", ddl: `CREATE TABLE t (id int PRIMARY KEY)`, table: master("tenant"), side: schema.Region, text: "has no column tenant", remedy: `ADD "tenant" text`},
		{name: "tenant may be null", ddl: `CREATE TABLE t (id int PRIMARY KEY, tenant text)`, table: master("tenant"), side: schema.Region, text: "may be NULL", remedy: "SET NOT NULL"},
		{name: "tenant is a number", ddl: `CREATE TABLE t (id int PRIMARY KEY, tenant int NOT NULL)`, table: master("tenant"), side: schema.Region, text: "cannot hold a tenant's name", remedy: "Use text"},
		{name: "master in a schema each", ddl: `CREATE TABLE t (id int PRIMARY KEY)`, table: proto.SyncedTable{Class: "master", RegionSchema: "{facility}"}, text: "one table of the region", remedy: "--tenant-column"},
		{name: "fact of a tenant", ddl: fact, table: proto.SyncedTable{Class: "fact", FacilityColumn: "facility_id", TenantColumn: "price"}, text: "belong to facilities", remedy: "--class master"},

		{name: "cloud wins", ddl: fact, table: policy("fact", "cloud")},
		{name: "cloud owns a column", ddl: fact, table: policy("fact", "columns", "price")},
		{name: "no such policy", ddl: fact, table: policy("fact", "latest"), text: `"latest" is no policy`, remedy: "edge, cloud or columns"},
		{name: "event with a policy", ddl: fact, table: policy("event", "cloud"), text: "never changed on both sides", remedy: "Leave --policy away"},
		{name: "master with a policy", ddl: fact, table: proto.SyncedTable{Class: "master", Policy: "cloud"}, text: "the region alone", remedy: "Leave --policy away"},
		{name: "no columns named", ddl: fact, table: policy("fact", "columns"), text: "does not say which", remedy: "--cloud-columns"},
		{name: "columns without the policy", ddl: fact, table: policy("fact", "edge", "price"), text: "policy is not columns", remedy: "--policy columns"},
		{name: "no such column", ddl: fact, table: policy("fact", "columns", "Price"), text: "has no column Price", remedy: "upper case counts"},
		{name: "twice", ddl: fact, table: policy("fact", "columns", "price", "price"), text: "named twice", remedy: "once"},
		{name: "key column", ddl: fact, table: policy("fact", "columns", "id"), text: "part of the key", remedy: "Leave it out"},
		{name: "facility column", ddl: fact, table: policy("fact", "columns", "facility_id"), text: "whose row it is", remedy: "Leave it out"},
		{name: "generated column", ddl: fact, table: policy("fact", "columns", "g"), text: "is generated", remedy: "Leave it out"},

		{name: "the region sees to the old owner", ddl: fact, table: policy("fact", "edge"), side: schema.Region},
		{name: "an identity without the owner", ddl: fact + `; ALTER TABLE t REPLICA IDENTITY USING INDEX t_pkey`, table: policy("fact", "edge"), side: schema.Region, text: "does not say in which facility_id", remedy: "REPLICA IDENTITY FULL"},
		{name: "a box needs no owner", ddl: fact + `; ALTER TABLE t REPLICA IDENTITY USING INDEX t_pkey`, table: policy("fact", "edge")},
		{name: "an identity with the owner", ddl: fact + `; CREATE UNIQUE INDEX i ON t (id, facility_id); ALTER TABLE t REPLICA IDENTITY USING INDEX i`, table: policy("fact", "edge"), side: schema.Region},
		{name: "partitions without the owner", ddl: `CREATE TABLE t (id uuid PRIMARY KEY, facility_id text NOT NULL) PARTITION BY HASH (id)`, table: policy("fact", "edge"), side: schema.Region, text: "is partitioned", remedy: `"facility_id" into its primary key`},
		{name: "an identity without the tenant", ddl: `CREATE TABLE t (id int PRIMARY KEY, tenant text NOT NULL); ALTER TABLE t REPLICA IDENTITY USING INDEX t_pkey`, table: master("tenant"), side: schema.Region, text: "does not say in which tenant", remedy: "REPLICA IDENTITY FULL"},

		{
			name: "conflicts", ddl: `CREATE SCHEMA holdfast; CREATE TABLE holdfast.conflict (id uuid PRIMARY KEY, facility_id text NOT NULL)`,
			table: proto.SyncedTable{Schema: "holdfast", Name: "conflict", Class: "event", FacilityColumn: "facility_id"},
		},
		{
			name: "conflicts as something else", ddl: `CREATE SCHEMA holdfast; CREATE TABLE holdfast.conflict (id uuid PRIMARY KEY, facility_id text NOT NULL)`,
			table: proto.SyncedTable{Schema: "holdfast", Name: "conflict", Class: "fact", FacilityColumn: "facility_id"}, text: "belongs to Holdfast", remedy: "own tables",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			db.Exec(t, tc.ddl)
			s := tc.table
			if s.Schema == "" {
				s.Schema, s.Name = "public", "t"
			}
			problems, _, err := schema.Lint(t.Context(), db.Conn(t), s, tc.side)
			if err != nil {
				t.Fatal(err)
			}
			if tc.text == "" {
				if len(problems) > 0 {
					t.Fatalf("refused: %+v", problems)
				}
				return
			}
			for _, p := range problems {
				if strings.Contains(p.Text, tc.text) && strings.Contains(p.Remedy, tc.remedy) {
					return
				}
			}
			t.Fatalf("problems %+v, want %q, %q", problems, tc.text, tc.remedy)
		})
	}
}
