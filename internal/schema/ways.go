package schema

import (
	"fmt"
	"slices"

	"github.com/agogsaas/holdfast/proto"
)

// systemTable reports whether the entry is exactly one of Holdfast's own, which
// its migrations register; nobody may sync other tables of its schema, or these
// in another way.
func systemTable(t proto.SyncedTable) bool {
	return t.ID() == proto.ConflictTable && t.Class == classEvent && t.FacilityColumn == "facility_id" && !ownSchema(t)
}

// capturedAt reports whether the side reads the table's changes from its WAL:
// event rows go up, master rows down, fact rows both ways.
func capturedAt(t proto.SyncedTable, side Side) bool {
	switch t.Class {
	case classEvent:
		return side == Edge
	case classMaster:
		return side == Region
	}
	return true
}

// placeProblems are about where rows live and whom they go to.
func placeProblems(t proto.SyncedTable) []proto.Problem {
	var problems []proto.Problem
	switch {
	case t.Class == classMaster && ownSchema(t):
		problems = append(problems, proto.Problem{
			Text:   "a master table is one table of the region for all facilities, not one for each",
			Remedy: "Leave --region-schema away; route rows to tenants with --tenant-column.",
		})
	case t.Class != classMaster && t.TenantColumn != "":
		problems = append(problems, proto.Problem{
			Text:   fmt.Sprintf("the rows of a table of class %s belong to facilities, not to tenants", t.Class),
			Remedy: "Leave --tenant-column away, or register the table with --class master.",
		})
	}
	return problems
}

// policyProblems are about whose version stands.
func policyProblems(t proto.SyncedTable) []proto.Problem {
	one := func(text, remedy string) []proto.Problem { return []proto.Problem{{Text: text, Remedy: remedy}} }
	switch {
	case !slices.Contains([]string{"", proto.PolicyEdge, proto.PolicyCloud, proto.PolicyColumns}, t.Policy):
		return one(fmt.Sprintf("%q is no policy", t.Policy), "Use edge, cloud or columns.")
	case t.Class == classMaster && t.Policy != "" && t.Policy != proto.PolicyEdge:
		return one("a master table needs no policy: the region alone writes it", "Leave --policy away.")
	case t.Class == classEvent && t.Policy != "" && t.Policy != proto.PolicyEdge:
		return one("an event table needs no policy: its rows are never changed on both sides", "Leave --policy away.")
	case t.Policy == proto.PolicyColumns && len(t.CloudColumns) == 0:
		return one("the policy columns does not say which columns are the cloud's", "Name them: --cloud-columns price,discount.")
	case t.Policy != proto.PolicyColumns && len(t.CloudColumns) > 0:
		return one("columns of the cloud are named, and the policy is not columns", "Use --policy columns, or leave --cloud-columns away.")
	}
	return nil
}

// ownerProblems are about the columns that the cloud owns.
func ownerProblems(t *Table, s proto.SyncedTable) []proto.Problem {
	var problems []proto.Problem
	add := func(text, remedy string) { problems = append(problems, proto.Problem{Text: text, Remedy: remedy}) }
	for i, name := range s.CloudColumns {
		c := t.Column(name)
		switch {
		case c == nil:
			add(fmt.Sprintf("%s has no column %s, which is to be the cloud's", t.ID(), name), "Names are written as in the catalog: upper case counts.")
		case slices.Contains(s.CloudColumns[:i], name):
			add(fmt.Sprintf("column %s is named twice", name), "Name each column of the cloud once.")
		case c.Key:
			add(fmt.Sprintf("column %s is part of the key of %s, which belongs to both sides", name, t.ID()), "Leave it out of --cloud-columns.")
		case name == s.FacilityColumn:
			add(fmt.Sprintf("column %s says whose row it is, and cannot be the cloud's alone", name), "Leave it out of --cloud-columns.")
		case c.Generated:
			add(fmt.Sprintf("column %s of %s is generated, and generated columns are not sent", name, t.ID()), "Leave it out of --cloud-columns.")
		}
	}
	return problems
}

// movesProblems are about rows that the region removes, or moves to another
// facility or tenant: its WAL must say whose they were. Where the replica identity
// is the default, the router sees to it (capture.TellOwner).
func movesProblems(t *Table, s proto.SyncedTable, side Side) []proto.Problem {
	column := s.FacilityColumn
	if s.Class == classMaster {
		column = s.TenantColumn
	}
	if side == Edge || s.Class == classEvent || column == "" || len(t.Key) == 0 || slices.Contains(t.Key, column) {
		return nil
	}
	text := fmt.Sprintf("the region's WAL does not say in which %s a row of %s was before it is removed or gets another", column, t.ID())
	switch {
	case t.Kind == "p":
		return []proto.Problem{{Text: text + ", because the table is partitioned", Remedy: fmt.Sprintf("Put %s into its primary key.", quote(column))}}
	case t.Identity == "i":
		return []proto.Problem{{
			Text:   text + ", because the index of its replica identity lacks the column",
			Remedy: fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY FULL; or name an index that has the column.", t.quoted()),
		}}
	}
	return nil
}

// tenantProblems are about which tenant a master row belongs to. The region
// asks by that column; a facility only receives what is its own.
func tenantProblems(t *Table, s proto.SyncedTable, side Side) []proto.Problem {
	if s.TenantColumn == "" || side == Edge {
		return nil
	}
	const other = "or leave --tenant-column away: then every facility of the region gets all rows."
	c := t.Column(s.TenantColumn)
	if c == nil {
		return []proto.Problem{{
			Text:   fmt.Sprintf("%s has no column %s, which is to say which tenant a row belongs to", t.ID(), s.TenantColumn),
			Remedy: fmt.Sprintf("ALTER TABLE %s ADD %s text NOT NULL DEFAULT '<tenant>'; %s", t.quoted(), quote(s.TenantColumn), other),
		}}
	}
	var problems []proto.Problem
	add := func(text, remedy string) { problems = append(problems, proto.Problem{Text: text, Remedy: remedy}) }
	if !c.NotNull {
		add(fmt.Sprintf("column %s of %s may be NULL, so a row may belong to no tenant", c.Name, t.ID()),
			fmt.Sprintf("ALTER TABLE %s ALTER %s SET NOT NULL;", t.quoted(), quote(c.Name)))
	}
	if c.Generated {
		add(fmt.Sprintf("column %s of %s is generated, and generated columns are not sent", c.Name, t.ID()), "Make it an ordinary column, "+other)
	}
	if !textual(c) {
		add(fmt.Sprintf("column %s of %s has type %s and cannot hold a tenant's name", c.Name, t.ID(), c.Type), "Use text, "+other)
	}
	return problems
}
