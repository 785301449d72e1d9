package schema

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/proto"
)

// Side is which of the two databases is asked.
type Side int

// The sides.
const (
	// Edge is where the rows are written and captured.
	Edge Side = iota
	// Region is where they are applied.
	Region
)

// The classes of tables.
const (
	classFact   = "fact"
	classEvent  = "event"
	classMaster = "master"
)

// Lint says why a table cannot be synced as t says, and what to do about each
// reason; none means that it can. The table is nil if there is none. An error
// means that the database could not be asked. conn must not be in a transaction.
func Lint(ctx context.Context, conn *pgx.Conn, t proto.SyncedTable, side Side) ([]proto.Problem, *Table, error) {
	found, err := LintAll(ctx, conn, []proto.SyncedTable{t}, side)
	if err != nil {
		return nil, nil, err
	}
	return found[0].Problems, found[0].Table, nil
}

// Linted is what Lint says of a table.
type Linted struct {
	Problems []proto.Problem
	Table    *Table
}

// LintAll is Lint for many tables, in their order.
func LintAll(ctx context.Context, conn *pgx.Conn, list []proto.SyncedTable, side Side) ([]Linted, error) {
	// Where each facility's rows have a schema of their own its name in the region
	// depends on the facility; apply makes sure of it.
	elsewhere := func(t proto.SyncedTable) bool { return side == Region && ownSchema(t) }
	var names []Name
	for _, t := range list {
		if !elsewhere(t) {
			names = append(names, Name{t.Schema, t.Name})
		}
	}
	found, err := ReadAll(ctx, conn, names...)
	if err != nil {
		return nil, err
	}
	all := make([]Linted, len(list))
	for i, t := range list {
		table := found[Name{t.Schema, t.Name}]
		switch {
		case elsewhere(t):
			all[i].Problems = classProblems(t)
		case table == nil:
			all[i].Problems = append(classProblems(t), missing(t, side))
		default:
			all[i] = Linted{Check(table, t, side), table}
		}
	}
	return all, nil
}

func missing(t proto.SyncedTable, side Side) proto.Problem {
	where := "the facility's database"
	if side == Region {
		where = "the region's database"
	}
	return proto.Problem{
		Text:   fmt.Sprintf("there is no table %s in %s", t.ID(), where),
		Remedy: "Create it there first, with the same columns. Names are written as in the catalog: upper case counts.",
	}
}

// ownSchema is true when each facility's rows have a schema of their own.
func ownSchema(t proto.SyncedTable) bool { return strings.Contains(t.RegionSchema, "{facility}") }

func classProblems(t proto.SyncedTable) []proto.Problem {
	switch t.Class {
	case classFact, classEvent, classMaster:
		return append(placeProblems(t), policyProblems(t)...)
	}
	return []proto.Problem{{Text: fmt.Sprintf("%q is no class of tables", t.Class), Remedy: "Use fact, event or master."}}
}

// Check is Lint for a table that was read.
func Check(table *Table, t proto.SyncedTable, side Side) []proto.Problem {
	problems := classProblems(t)
	if p := relationProblems(table, t); len(p) > 0 {
		return append(problems, p...) // the rest would only confuse
	}
	problems = append(problems, keyProblems(table, t, side)...)
	problems = append(problems, columnProblems(table)...)
	switch {
	case t.Class == classMaster:
		problems = append(problems, tenantProblems(table, t, side)...)
	case !ownSchema(t):
		problems = append(problems, facilityProblems(table, t)...)
	}
	problems = append(problems, ownerProblems(table, t)...)
	problems = append(problems, movesProblems(table, t, side)...)
	if table.RowSecurity {
		problems = append(problems, proto.Problem{
			Text:   fmt.Sprintf("row security hides rows of %s from Holdfast's role", table.ID()),
			Remedy: "Give the role BYPASSRLS: ALTER ROLE … BYPASSRLS.",
		})
	}
	return problems
}

// relationProblems are about what kind of thing it is.
func relationProblems(t *Table, s proto.SyncedTable) []proto.Problem {
	one := func(text, remedy string) []proto.Problem {
		return []proto.Problem{{Text: t.ID() + " " + text, Remedy: remedy}}
	}
	switch {
	case strings.HasPrefix(t.Schema, "pg_") || t.Schema == "information_schema":
		return one("belongs to PostgreSQL", "Sync the application's own tables only.")
	case s.System() && !systemTable(s):
		return one("belongs to Holdfast", "Sync the application's own tables only.")
	case t.Kind == "v" || t.Kind == "m":
		return one("is a view", "Register the tables that it reads.")
	case t.Kind == "f":
		return one("is a foreign table", "Register it where its rows are stored.")
	case t.Kind != "r" && t.Kind != "p":
		return one("is not a table", "Register an ordinary or a partitioned table.")
	case t.Root != "":
		return one("is a partition", "Register the partitioned table "+t.Root+"; all its partitions go with it.")
	case t.Inherits:
		return one("is part of an inheritance tree", "Use declarative partitioning, or end it with ALTER TABLE … NO INHERIT.")
	case t.Persistence == "t":
		return one("is temporary", "Its rows end with their session; register a permanent table.")
	case t.Persistence == "u":
		return one("is unlogged, so its changes are not in the WAL", "ALTER TABLE "+t.quoted()+" SET LOGGED;")
	}
	return nil
}

func (t *Table) quoted() string { return pgx.Identifier{t.Schema, t.Name}.Sanitize() }

// keyProblems are about what tells rows apart.
func keyProblems(t *Table, s proto.SyncedTable, side Side) []proto.Problem {
	if s.Class == classEvent && len(t.Key) == 0 {
		return nil // append-only rows need none
	}
	captured := capturedAt(s, side)
	switch {
	case captured && t.IdentityLost:
		return []proto.Problem{{
			Text:   "the index that REPLICA IDENTITY of " + t.ID() + " named was dropped, so PostgreSQL publishes neither its updates nor its deletes",
			Remedy: "ALTER TABLE " + t.quoted() + " REPLICA IDENTITY DEFAULT; to use the primary key, or name another unique index with REPLICA IDENTITY USING INDEX.",
		}}
	case len(t.Key) == 0:
		return []proto.Problem{{
			Text:   t.ID() + " has no primary key, so nothing tells its rows apart",
			Remedy: "ALTER TABLE " + t.quoted() + " ADD PRIMARY KEY (…); or register it as event if its rows are only ever added.",
		}}
	case t.KeyDeferrable:
		return []proto.Problem{{
			Text:   "the primary key of " + t.ID() + " is deferrable, which PostgreSQL cannot use to tell rows apart",
			Remedy: "Make it NOT DEFERRABLE: drop the constraint and add it again without DEFERRABLE.",
		}}
	case captured && t.Identity == "n" && s.Class != classEvent:
		return []proto.Problem{{
			Text:   t.ID() + " has REPLICA IDENTITY NOTHING, so its updates and deletes say nothing of the row",
			Remedy: "ALTER TABLE " + t.quoted() + " REPLICA IDENTITY DEFAULT;",
		}}
	}
	var problems []proto.Problem
	for _, name := range t.Key {
		c := t.Column(name)
		if c != nil && !c.Ordered() {
			problems = append(problems, proto.Problem{
				Text:   fmt.Sprintf("column %s of the key of %s has type %s, whose order may differ between databases", name, t.ID(), c.Type),
				Remedy: "Use one of PostgreSQL's own types in the key: text, uuid, bigint…",
			})
		}
		if c != nil && c.Generated {
			problems = append(problems, proto.Problem{
				Text:   fmt.Sprintf("the key of %s contains the generated column %s, which is not sent", t.ID(), name),
				Remedy: "Use a key of stored columns, and set it with REPLICA IDENTITY USING INDEX if it is not the primary key.",
			})
		}
	}
	return problems
}

// columnProblems are about types whose values mean nothing elsewhere.
func columnProblems(t *Table) []proto.Problem {
	var problems []proto.Problem
	for _, c := range t.Columns {
		if c.Generated {
			continue
		}
		switch strings.TrimSuffix(c.Base, "[]") {
		case "xid", "xid8", "cid", "tid", "pg_snapshot", "txid_snapshot", "pg_node_tree", "aclitem", "pg_ndistinct", "pg_dependencies", "pg_mcv_list":
			problems = append(problems, proto.Problem{
				Text:   fmt.Sprintf("column %s of %s has type %s, whose values mean nothing in another database", c.Name, t.ID(), c.Type),
				Remedy: "Store it as text or bigint.",
			})
			continue
		}
		if c.Class == "p" {
			problems = append(problems, proto.Problem{
				Text:   fmt.Sprintf("column %s of %s has the unknown type %s", c.Name, t.ID(), c.Type),
				Remedy: "Use a type that can be stored in any database.",
			})
		}
	}
	return problems
}

// facilityProblems are about rows of many facilities in one table.
func facilityProblems(t *Table, s proto.SyncedTable) []proto.Problem {
	other := "or give each facility a schema of its own in the region: --region-schema '{facility}_{schema}'."
	if s.FacilityColumn == "" {
		return []proto.Problem{{
			Text:   "no column says which facility a row of " + t.ID() + " belongs to",
			Remedy: "Name it with --facility-column, " + other,
		}}
	}
	c := t.Column(s.FacilityColumn)
	if c == nil {
		return []proto.Problem{{
			Text:   fmt.Sprintf("%s has no column %s, which is to say whose row it is", t.ID(), s.FacilityColumn),
			Remedy: fmt.Sprintf("ALTER TABLE %s ADD %s text NOT NULL DEFAULT '<facility>'; %s", t.quoted(), quote(s.FacilityColumn), other),
		}}
	}
	var problems []proto.Problem
	add := func(text, remedy string) { problems = append(problems, proto.Problem{Text: text, Remedy: remedy}) }
	if !c.NotNull {
		add(fmt.Sprintf("column %s of %s may be NULL, so a row may belong to nobody", c.Name, t.ID()),
			fmt.Sprintf("ALTER TABLE %s ALTER %s SET NOT NULL;", t.quoted(), quote(c.Name)))
	}
	if c.Generated {
		add(fmt.Sprintf("column %s of %s is generated, and generated columns are not sent", c.Name, t.ID()),
			"Make it an ordinary column, "+other)
	}
	if !textual(c) {
		add(fmt.Sprintf("column %s of %s has type %s and cannot hold a facility's name", c.Name, t.ID(), c.Type),
			"Use text, "+other)
	}
	if len(t.Key) > 0 && !safeAcross(t, c.Name) {
		add(fmt.Sprintf("two facilities may give the same key (%s) of %s to different rows", strings.Join(t.Key, ", "), t.ID()),
			fmt.Sprintf("Put %s into the primary key, use uuid keys, %s", c.Name, other))
	}
	return problems
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// textual reports whether a column can be compared with a facility's name.
func textual(c *Column) bool {
	switch c.Base {
	case "text", "character varying", "bpchar", "name":
		return true
	}
	return c.Class == "e" || strings.HasSuffix(c.Base, ".citext")
}

// safeAcross reports whether facilities that know nothing of each other give
// out different keys: the facility is in it, or something random is.
func safeAcross(t *Table, facility string) bool {
	for _, name := range t.Key {
		c := t.Column(name)
		random := strings.Contains(strings.ToLower(c.Default), "uuid") || strings.Contains(strings.ToLower(c.Default), "ulid")
		if name == facility || c.Base == "uuid" || random && textual(c) {
			return true
		}
	}
	return false
}
