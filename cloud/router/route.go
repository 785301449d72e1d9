package router

import (
	"bytes"
	"slices"
	"strings"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/proto"
)

// kind is how wide a bucket is.
type kind uint8

const (
	forFacility kind = iota
	forTenant
	forAll
)

// destination is a bucket.
type destination struct {
	kind kind
	id   string
}

func (d destination) bucket() string {
	switch d.kind {
	case forFacility:
		return facilityBucket(d.id)
	case forTenant:
		return tenantBucket(d.id)
	}
	return everybody
}

// route is where the rows of one of the region's tables go.
type route struct {
	table  proto.SyncedTable // as the facilities know it
	schema string            // where it is in the region
	master bool
	// facility is set when all rows are one facility's; else column says whose
	// a row is, and without one it is everybody's.
	facility, column string
	// beside: the column is not of the table's key. It comes with the key all the
	// same, and the facilities know nothing of that.
	beside bool
}

// routes says it of all tables. It does not change; a newer one replaces it.
type routes struct {
	byID    map[string]*route // by the region's schema.name
	tenants map[string]string // of each facility
	// single is true when all facilities are of one tenant.
	single bool
}

// newRoutes lists the region's tables that are sent down: master and fact
// tables, with a schema for each facility as many as there are facilities.
func newRoutes(tables []proto.SyncedTable, facilities []Facility) *routes {
	r := &routes{byID: map[string]*route{}, tenants: map[string]string{}}
	r.single = true
	for _, f := range facilities {
		r.tenants[f.ID] = f.Tenant
		r.single = r.single && f.Tenant == facilities[0].Tenant
	}
	for _, t := range tables {
		pattern := t.RegionSchema
		if pattern == "" {
			pattern = "{schema}"
		}
		switch t.Class {
		case "master":
			r.add(&route{table: t, schema: strings.ReplaceAll(pattern, "{schema}", t.Schema), master: true, column: t.TenantColumn})
		case "fact":
			if !strings.Contains(pattern, "{facility}") {
				r.add(&route{table: t, schema: strings.ReplaceAll(pattern, "{schema}", t.Schema), column: t.FacilityColumn})
				continue
			}
			for _, f := range facilities {
				schema := strings.NewReplacer("{schema}", t.Schema, "{facility}", f.ID).Replace(pattern)
				r.add(&route{table: t, schema: schema, facility: f.ID})
			}
		}
	}
	return r
}

func (r *routes) add(t *route) { r.byID[t.schema+"."+t.table.Name] = t }

// of returns the route of a table for one facility, nil if it gets none of it.
func (r *routes) of(t proto.SyncedTable, facility string) *route {
	for _, e := range r.byID {
		if e.table.ID() == t.ID() && (e.facility == "" || e.facility == facility) {
			return e
		}
	}
	return nil
}

// way is a route for a table as it stands in a captured frame.
type way struct {
	*route
	sent change.Table // as the facilities know it
	col  int          // where the route's column is in a row, -1 if nowhere
	key  int          // where it is in a key, -1 if nowhere
	cut  bool         // it is there for the route only
	// single is that of routes.
	single bool
}

// wayOf returns nil for a table that is not sent.
func (r *routes) wayOf(t *change.Table) *way {
	e := r.byID[t.ID()]
	if e == nil {
		return nil
	}
	w := &way{route: e, sent: *t, col: -1, key: -1, single: r.single}
	w.sent.Schema, w.sent.Name = e.table.Schema, e.table.Name
	if e.column == "" {
		return w
	}
	for i := range t.Columns {
		if t.Columns[i].Name == e.column {
			w.col = i
		}
	}
	if w.col >= 0 && t.Columns[w.col].Key {
		w.key = slices.Index(t.KeyColumns(), w.col)
	}
	if w.key >= 0 && e.beside {
		w.cut = true
		w.sent.Columns = slices.Clone(t.Columns)
		w.sent.Columns[w.col].Key = false
	}
	return w
}

// trim returns the change with the key that the facilities know.
func (w *way) trim(c *change.Change) *change.Change {
	if !w.cut || c.Key == nil {
		return c
	}
	d := *c
	d.Key = slices.Delete(slices.Clone(c.Key), w.key, w.key+1)
	if c.Op != change.Update {
		return &d
	}
	same := true
	for i, k := range w.sent.KeyColumns() {
		same = same && bytes.Equal(d.Key[i], c.Row[k])
	}
	if same {
		d.Key = nil
	}
	return &d
}

// maxIDBytes bounds the name of a facility or a tenant.
const maxIDBytes = 63

// to returns whom a row belongs to by the value of the route's column. ok is
// false for a value that can be nobody's.
func (w *way) to(value []byte) (destination, bool) {
	k := forFacility
	if w.master {
		k = forTenant
	}
	switch {
	case value == nil && w.master:
		return destination{kind: forAll}, true
	case len(value) == 0 || len(value) > maxIDBytes || bytes.IndexByte(value, 0) >= 0:
		return destination{}, false
	}
	return destination{k, string(value)}, true
}

// destinations returns where a change goes, and where the row was before if
// that is somewhere else. Of a row whose owner the change does not name,
// everybody is told: whoever does not have it ignores it. That is so only of
// changes from before the WAL told the owner (capture.TellOwner), and where the
// table has another replica identity; no key is told to another tenant.
func (w *way) destinations(c *change.Change) (now destination, ok bool, old *destination) {
	switch {
	case w.facility != "":
		return destination{forFacility, w.facility}, true, nil
	case w.column == "" || w.col < 0:
		return destination{kind: forAll}, w.master, nil
	}
	switch c.Op {
	case change.Insert, change.Update:
		if slices.Contains(c.Absent, w.col) {
			return destination{}, false, nil
		}
		now, ok = w.to(c.Row[w.col])
		if c.Key != nil && w.key >= 0 && !bytes.Equal(c.Key[w.key], c.Row[w.col]) {
			if before, was := w.to(c.Key[w.key]); was {
				old = &before
			}
		}
		return now, ok, old
	case change.Delete:
		if w.key >= 0 {
			now, ok = w.to(c.Key[w.key])
			return now, ok, nil
		}
	}
	return destination{kind: forAll}, w.single || c.Op != change.Delete, nil
}
