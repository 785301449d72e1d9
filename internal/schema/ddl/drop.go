package ddl

import (
	"encoding/json"
	"fmt"
)

func (f *file) drop(raw json.RawMessage) {
	s := as[struct {
		Objects []node `json:"objects"`
		Kind    string `json:"removeType"`
		How     string `json:"behavior"`
	}](raw)
	cascade := s.How == "DROP_CASCADE"
	switch s.Kind {
	case "OBJECT_TABLE":
		for _, o := range s.Objects {
			f.dropTable(o)
		}
	case "OBJECT_SCHEMA", "OBJECT_TYPE", "OBJECT_DOMAIN", "OBJECT_EXTENSION":
		if !cascade {
			f.safe(0, "", "PostgreSQL refuses it while a table uses it", "")
			return
		}
		f.add(0, Finding{
			Verdict: Unsafe, What: "CASCADE drops whatever uses it, synced tables and columns too",
			Recipe: []Step{
				{People, "Drop the tables and columns that use it first, each by its own recipe: write them out and check that file.", ""},
				{Both, "Then drop it without CASCADE; PostgreSQL refuses if something was forgotten.", ""},
			},
		})
	case "OBJECT_PUBLICATION", "OBJECT_SUBSCRIPTION":
		name, _ := json.Marshal(map[string]string{"pubname": first(s.Objects)})
		f.replication(name)
	case "OBJECT_INDEX":
		f.safe(0, "", "an index less. Were it the table's REPLICA IDENTITY, its updates and deletes would no longer be sent", "")
	default:
		f.safe(0, "", "no table and no column", "")
	}
}

func first(list []node) string {
	if names := texts(list); len(names) > 0 {
		return names[0]
	}
	return ""
}

func (f *file) dropTable(o node) {
	_, raw := o.kind()
	parts := texts(as[struct {
		Items []node `json:"items"`
	}](raw).Items)
	if len(parts) == 0 {
		f.unknown(0, "", "a table without a name")
		return
	}
	r := rangeVar{Name: parts[len(parts)-1]}
	if len(parts) > 1 {
		r.Schema = parts[len(parts)-2]
	}
	t := f.find(r)
	if !t.synced {
		delete(f.tables, t.id())
		f.safe(0, t.id(), "a table that is not synced", "")
		return
	}
	f.add(0, Finding{
		Verdict: Unsafe, Table: t.id(), First: t.sender(), Recipe: dropTableRecipe(t),
		What: "its rows have no place on the side that has dropped it; they would be parked",
	})
}

func (f *file) rename(raw json.RawMessage) {
	s := as[struct {
		Kind     string   `json:"renameType"`
		Of       string   `json:"relationType"`
		Relation rangeVar `json:"relation"`
		Object   node     `json:"object"`
		Old      string   `json:"subname"`
		New      string   `json:"newname"`
	}](raw)
	switch s.Kind {
	case "OBJECT_COLUMN":
		t := f.find(s.Relation)
		if !t.synced || s.Of != "OBJECT_TABLE" {
			f.safe(s.Relation.Location, t.id(), "a column that is not synced", "")
			return
		}
		from := t.Types[s.Old]
		f.add(s.Relation.Location, Finding{
			Verdict: Unsafe, Table: t.id(), First: t.receiver(), Recipe: newColumnRecipe(t, s.Old, from, s.New),
			What: fmt.Sprintf("to the other side %s is a column that it does not have; rows would be parked", s.New),
		})
		if from != "" {
			t.Types[s.New] = from
			delete(t.Types, s.Old)
		}
	case "OBJECT_TABLE":
		t := f.find(s.Relation)
		to := f.find(rangeVar{Schema: t.schema, Name: s.New})
		f.moveTable(t, to, s.Relation.Location)
	case "OBJECT_SCHEMA":
		f.add(0, Finding{
			Verdict: Unsafe, What: "every table of the schema gets another name; a synced one of them would be missing on the other side",
			Recipe: []Step{{People, "Leave the schema; give the applications views under the new name.", ""}},
		})
	case "OBJECT_TYPE", "OBJECT_DOMAIN", "OBJECT_ATTRIBUTE":
		f.unknown(0, "", "whether a synced column has this type is not in this file; types are compared by name")
	default:
		f.safe(s.Relation.Location, "", "a name that rows do not carry", "")
	}
}

func (f *file) setSchema(raw json.RawMessage) {
	s := as[struct {
		Kind     string   `json:"objectType"`
		Relation rangeVar `json:"relation"`
		New      string   `json:"newschema"`
	}](raw)
	switch s.Kind {
	case "OBJECT_TABLE":
		t := f.find(s.Relation)
		f.moveTable(t, f.find(rangeVar{Schema: s.New, Name: t.name}), s.Relation.Location)
	case "OBJECT_TYPE", "OBJECT_DOMAIN", "OBJECT_EXTENSION":
		f.unknown(0, "", "whether a synced column has this type is not in this file; types are compared by name")
	default:
		f.safe(s.Relation.Location, "", "no table", "")
	}
}

func (f *file) moveTable(t, to *target, at int) {
	*to.Table = *t.Table // whatever follows is about the same rows
	if !t.synced {
		f.safe(at, t.id(), "a table that is not synced", "")
		return
	}
	f.add(at, Finding{
		Verdict: Unsafe, Table: t.id(), Recipe: renameTableRecipe(t, to), First: Both,
		What: fmt.Sprintf("the list of synced tables knows it as %s; under another name its changes are not sent, and rows of the other side would be parked", t.id()),
	})
}
