package apply

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/schema"
)

// Class says whose rows a table holds and how they change.
type Class string

// The classes of synced tables.
const (
	// Fact rows belong to one facility, which inserts, updates and deletes them.
	Fact Class = "fact"
	// Event rows are history: they are added and never removed. A facility may
	// prune its own; deletes and truncates are not applied at the receiver.
	Event Class = "event"
	// Master rows belong to the tenant and come from the region.
	Master Class = "master"
)

// Table is one entry of the registry: a table of the application and where its
// rows live at the receiver.
type Table struct {
	Schema, Name string
	Class        Class
	// FacilityColumn names the column that says whose row it is. It may be
	// empty only if TargetSchema contains {facility}.
	FacilityColumn string
	// TargetSchema is where the rows live at the receiver: a pattern in which
	// {schema} is the sender's schema and {facility} the facility. Empty means
	// {schema}. On the way down tables arrive by their name at the facility, and
	// only their columns' types by where they are in the region.
	TargetSchema string
	// Policy says on the way down whose version of a fact row stands when both
	// sides changed it without knowing of each other; empty is PolicyEdge.
	Policy Policy
	// CloudColumns are the columns that PolicyColumns leaves to the sender.
	CloudColumns []string
	// Unread is set on the way down while Local does not know what was changed here
	// of a fact table: it is not captured, or was not until now. What comes is parked
	// meanwhile, so that it is not written over that. In a database that was put back
	// the sender's rows come first: then it is not parked, and nothing is removed.
	Unread *Unread
}

// Unread is why what was changed of a table here is not known, and what to do.
type Unread struct {
	Why, Remedy string
	// Soon: nobody has to do anything. Key ranges wait for it, and the stream with
	// them; otherwise they are passed over, and the table is asked for again.
	Soon bool
}

// Policy is whose version stands in a conflict.
type Policy string

// The policies.
const (
	PolicyEdge    Policy = "edge"
	PolicyCloud   Policy = "cloud"
	PolicyColumns Policy = "columns" // some columns are the cloud's, the others the edge's
)

// place is where changes arrive.
type place struct {
	facility  string
	direction Direction
}

// schema returns the receiver's schema for the facility's rows.
func (p place) schema(t *Table) string {
	if p.direction == Down {
		return t.Schema
	}
	return p.region(t, t.Schema)
}

// name is the receiver's table for the facility's rows.
func (p place) name(t *Table) schema.Name { return schema.Name{Schema: p.schema(t), Name: t.Name} }

// region returns the region's schema for one of the facility's.
func (p place) region(t *Table, schema string) string {
	return strings.NewReplacer("{schema}", schema, "{facility}", p.facility).Replace(cmp.Or(t.TargetSchema, "{schema}"))
}

// sameType reports whether the sender's type is the receiver's, perhaps in the
// schema that the facility has in the region.
func (p place) sameType(t *Table, sent, here string) bool {
	facility, region := sent, here
	if p.direction == Down {
		facility, region = here, sent
	}
	return schema.SameType(facility, region, func(s string) string { return p.region(t, s) })
}

// check returns an error when the entry would mix the rows of facilities. On
// the way down there is one facility only.
func (p place) check(t *Table) error {
	if p.direction == Down {
		return nil
	}
	return t.Check()
}

// Check returns an error when the entry would mix the rows of facilities.
func (t *Table) Check() error {
	switch t.Class {
	case Fact, Event, Master:
	default:
		return fmt.Errorf("table %s.%s has the class %q", t.Schema, t.Name, t.Class)
	}
	if t.Class == Master {
		return nil
	}
	if t.FacilityColumn == "" && !strings.Contains(t.TargetSchema, "{facility}") {
		return hint.Wrap(fmt.Errorf("table %s.%s has no facility column", t.Schema, t.Name),
			"Name the column that holds the facility's id, or give each facility a schema of its own with a target schema such as {schema}_{facility}.")
	}
	return nil
}

// Registry is the set of synced tables at one moment. It does not change; a
// newer one replaces it.
type Registry struct {
	// Version grows with each change of the registry.
	Version int64
	tables  map[string]Table
	removed map[string]bool
}

// NewRegistry returns a registry of the given tables. The changes of removed
// tables (schema.name) that are still on their way are passed over; those of a
// table that is in neither list hold the stream up.
func NewRegistry(version int64, tables []Table, removed ...string) *Registry {
	r := &Registry{Version: version, tables: make(map[string]Table, len(tables)), removed: make(map[string]bool, len(removed))}
	for _, id := range removed {
		r.removed[id] = true
	}
	for _, t := range tables {
		r.tables[t.Schema+"."+t.Name] = t
	}
	return r
}

// Table returns the entry of the sender's table schema.name.
func (r *Registry) Table(schema, name string) (Table, bool) {
	t, ok := r.tables[schema+"."+name]
	return t, ok
}

// names are the receiver's tables that all facilities have.
func (r *Registry) names(at place) []schema.Name {
	list := make([]schema.Name, 0, len(r.tables))
	for _, t := range r.tables {
		if !strings.Contains(t.TargetSchema, "{facility}") {
			list = append(list, at.name(&t))
		}
	}
	return list
}

// passedOver reports whether the table is not synced any more.
func (r *Registry) passedOver(schema, name string) bool {
	id := schema + "." + name
	_, synced := r.tables[id]
	return !synced && r.removed[id]
}

// unread returns an error for a table of which what was changed here is not known.
func (r *Registry) unread(schema, name string) error {
	t, ok := r.Table(schema, name)
	if !ok || t.Unread == nil {
		return nil
	}
	return misfit{ReasonUnread, tableError(schema+"."+name, t.Unread.Why, "%s", t.Unread.Remedy)}
}

// Len is the number of tables.
func (r *Registry) Len() int { return len(r.tables) }
