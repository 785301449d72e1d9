package schema

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/proto"
)

// Difference is one way in which a table's columns at a facility are not those
// in the region.
type Difference struct {
	Column           string
	Facility, Region string // its types; "" where there is no such column
	// Warning is true when rows cannot cross as they are; else both sides go on
	// well, as in the middle of a migration.
	Warning      bool
	Text, Remedy string
}

// Describe is the table's columns as they are told to the other side.
func (t *Table) Describe() []proto.TableColumn {
	list := make([]proto.TableColumn, 0, len(t.Columns))
	for i := range t.Columns {
		c := &t.Columns[i]
		list = append(list, proto.TableColumn{
			Name: c.Name, Type: c.FullType, Key: c.Key, Generated: c.Generated,
			Required: c.NotNull && c.Default == "" && c.Identity == "" && !c.Generated,
		})
	}
	return list
}

// Compare says how the columns of a table at a facility differ from those of
// the region's table, those that stop rows first.
func Compare(facilityID string, facility []proto.TableColumn, region *Table, s proto.SyncedTable) []Difference {
	d := differ{down: s.Class == classMaster, table: region.quoted(), at: pgx.Identifier{s.Schema, s.Name}.Sanitize()}
	d.place = func(schema string) string {
		return strings.NewReplacer("{schema}", schema, "{facility}", facilityID).Replace(cmp.Or(s.RegionSchema, "{schema}"))
	}
	here := region.Describe()
	find := func(list []proto.TableColumn, name string) *proto.TableColumn {
		if i := slices.IndexFunc(list, func(c proto.TableColumn) bool { return c.Name == name }); i >= 0 {
			return &list[i]
		}
		return nil
	}
	for i := range facility {
		d.column(&facility[i], find(here, facility[i].Name))
	}
	for i := range here {
		if find(facility, here[i].Name) == nil {
			d.column(nil, &here[i])
		}
	}
	slices.SortStableFunc(d.list, func(a, b Difference) int {
		return cmp.Compare(index(b.Warning), index(a.Warning))
	})
	return d.list
}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

type differ struct {
	// down is true when the region writes the rows and the facility receives them.
	down      bool
	table, at string // names for SQL, in the region and at the facility
	// place is the region's schema for one of the facility's.
	place func(schema string) string
	list  []Difference
}

// column compares one column; nil is a side that does not have it.
func (d *differ) column(facility, region *proto.TableColumn) {
	sender, receiver, from, to, table := facility, region, "the facility", "the region", d.table
	if d.down {
		sender, receiver, from, to, table = region, facility, "the region", "the facility", d.at
	}
	out := Difference{Column: name(facility, region)}
	column := pgx.Identifier{out.Column}.Sanitize()
	if facility != nil {
		out.Facility = facility.Type
	}
	if region != nil {
		out.Region = region.Type
	}
	switch {
	case receiver == nil && sender.Generated:
		return // it is not sent
	case receiver == nil:
		out.Warning = true
		out.Text = fmt.Sprintf("%s does not have the column %s, which %s sends", to, out.Column, from)
		out.Remedy = fmt.Sprintf("In %s: ALTER TABLE %s ADD COLUMN %s %s;", to, table, column, sender.Type)
	case sender == nil && receiver.Required:
		out.Warning = true
		out.Text = fmt.Sprintf("%s requires the column %s, which %s does not have", to, out.Column, from)
		out.Remedy = fmt.Sprintf("In %s, until %s has it: ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL;", to, from, table, column)
	case sender == nil:
		out.Text = fmt.Sprintf("%s does not have the column %s yet; it is empty in rows from there", from, out.Column)
	case receiver.Generated && !sender.Generated:
		out.Warning = true
		out.Text = fmt.Sprintf("%s computes the column %s, which %s sends", to, out.Column, from)
		out.Remedy = fmt.Sprintf("In %s: ALTER TABLE %s ALTER COLUMN %s DROP EXPRESSION;", to, table, column)
	case sender.Generated && !receiver.Generated:
		out.Warning = receiver.Required
		out.Text = fmt.Sprintf("%s computes the column %s and does not send it; %s stores it", from, out.Column, to)
		out.Remedy = fmt.Sprintf("Make it a generated column in %s too.", to)
	case ShortType(sender.Type) != ShortType(receiver.Type) && !SameType(facility.Type, region.Type, d.place):
		if Widens(ShortType(sender.Type), ShortType(receiver.Type)) {
			out.Text = fmt.Sprintf("the column %s is wider in %s; all values of %s fit", out.Column, to, from)
			break
		}
		out.Warning = true
		out.Text = fmt.Sprintf("the column %s is %s in %s and %s in %s: values may not fit", out.Column, sender.Type, from, receiver.Type, to)
		out.Remedy = fmt.Sprintf("In %s: ALTER TABLE %s ALTER COLUMN %s TYPE %s;", to, table, column, sender.Type)
	case sender.Key && !receiver.Key:
		out.Text = fmt.Sprintf("the column %s tells rows apart in %s only", out.Column, from)
	default:
		return // the region's key may have more columns, such as the facility's
	}
	d.list = append(d.list, out)
}

func name(a, b *proto.TableColumn) string {
	if a != nil {
		return a.Name
	}
	return b.Name
}
