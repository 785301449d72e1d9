package ddl

import (
	"encoding/json"
	"fmt"
	"strings"
)

// harmless are statements that change neither rows nor the shape of tables.
var harmless = map[string]string{
	"CreateSchemaStmt": "a new schema", "CreateSeqStmt": "a new sequence; give each facility a range of its own, sequences are not synced",
	"AlterSeqStmt": "a sequence, which is not synced", "ViewStmt": "a view", "RefreshMatViewStmt": "a view's rows, which are not synced",
	"CreateEnumStmt": "a new type", "CompositeTypeStmt": "a new type", "CreateDomainStmt": "a new type", "CreateRangeStmt": "a new type",
	"CreateFunctionStmt": "a function; it is only judged where it is called", "AlterFunctionStmt": "a function",
	"CreateTrigStmt": "a trigger; it does not fire for rows that arrive from the other side unless it is ENABLE REPLICA or ALWAYS",
	"RuleStmt":       "a rule; it does not act on rows that arrive from the other side",
	"CommentStmt":    "a comment", "GrantStmt": "rights", "GrantRoleStmt": "rights", "AlterDefaultPrivilegesStmt": "rights",
	"CreateRoleStmt": "a role", "AlterRoleStmt": "a role", "AlterRoleSetStmt": "a role", "AlterOwnerStmt": "an owner",
	"CreateExtensionStmt": "an extension; it must exist on both sides before a synced table uses its types",
	"AlterExtensionStmt":  "an extension", "VariableSetStmt": "a setting of the session", "VariableShowStmt": "a setting", "TransactionStmt": "a transaction",
	"ReindexStmt": "indexes", "ClusterStmt": "the order on disk; the table is locked meanwhile", "VacuumStmt": "upkeep", "LockStmt": "a lock",
	"CreateStatsStmt": "statistics", "AlterStatsStmt": "statistics", "PrepareStmt": "a prepared statement", "DeallocateStmt": "a prepared statement",
	"DefineStmt": "an object that is no table", "CreateCastStmt": "a cast", "CreateOpClassStmt": "an operator class", "CreateOpFamilyStmt": "an operator family",
	"ListenStmt": "a message", "NotifyStmt": "a message", "UnlistenStmt": "a message", "DiscardStmt": "the session", "ExplainStmt": "a plan", "CheckPointStmt": "upkeep",
	"CreatePLangStmt": "a language", "CreateTableSpaceStmt": "a place on disk", "CreateFdwStmt": "foreign data", "CreateForeignServerStmt": "foreign data",
	"CreateUserMappingStmt": "foreign data", "CreateForeignTableStmt": "a foreign table, which is not synced", "ImportForeignSchemaStmt": "foreign tables, which are not synced",
}

// quiet are functions that may be called without anybody knowing what they do:
// they are PostgreSQL's and change no row.
var quiet = map[string]bool{
	"set_config": true, "current_setting": true, "setval": true, "now": true, "version": true, "pg_sleep": true,
	"count": true, "coalesce": true, "max": true, "min": true, "sum": true, "pg_advisory_lock": true, "pg_advisory_unlock": true, "pg_advisory_xact_lock": true,
}

func (f *file) statement(n node) {
	kind, raw := n.kind()
	switch kind {
	case "AlterTableStmt":
		f.alterTable(raw)
	case "RenameStmt":
		f.rename(raw)
	case "AlterObjectSchemaStmt":
		f.setSchema(raw)
	case "DropStmt":
		f.drop(raw)
	case "TruncateStmt":
		f.truncate(raw)
	case "CreateStmt":
		f.create(raw)
	case "CreateTableAsStmt":
		t := f.find(as[struct {
			Into struct {
				Rel rangeVar `json:"rel"`
			} `json:"into"`
		}](raw).Into.Rel)
		t.Class = ""
		f.safe(0, t.id(), "a new table; it is not synced until it is registered", "")
	case "IndexStmt":
		f.index(raw)
	case "AlterEnumStmt":
		f.alterEnum(raw)
	case "AlterDomainStmt":
		f.alterDomain(raw)
	case "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "CopyStmt":
		f.rows(kind, raw)
	case "SelectStmt":
		f.selects(raw)
	case "DoStmt":
		f.unknown(0, "", "what a DO block does is only known when it runs: write its statements out, or read it against the rules in docs/tables.md")
	case "CallStmt", "ExecuteStmt":
		f.unknown(0, "", "what it runs is not in this file")
	case "CreatePolicyStmt":
		f.safe(0, "", "a policy; it counts once row security is enabled, and must not hide rows from Holdfast's role", "")
	case "AlterPublicationStmt", "CreatePublicationStmt", "CreateSubscriptionStmt", "AlterSubscriptionStmt", "DropSubscriptionStmt":
		f.replication(raw)
	case "VariableSetStmt":
		f.setting(raw)
	case "CreateSchemaStmt":
		f.safe(0, "", "a new schema", "")
		for _, e := range as[struct {
			Elements []node `json:"schemaElts"`
		}](raw).Elements {
			f.statement(e)
		}
	default:
		what, ok := harmless[kind]
		if !ok {
			f.unknown(0, "", "this kind of statement ("+kind+") is not known here")
			return
		}
		f.safe(0, "", what, "")
	}
}

// setting follows the search path, so that names without a schema are found.
func (f *file) setting(raw json.RawMessage) {
	s := as[struct {
		Name string `json:"name"`
		Args []node `json:"args"`
	}](raw)
	f.safe(0, "", "a setting of the session", "")
	if s.Name != "search_path" {
		return
	}
	for _, a := range s.Args {
		_, c := a.kind()
		schema := as[struct {
			S struct {
				Value string `json:"sval"`
			} `json:"sval"`
		}](c).S.Value
		if schema != "" && schema != "$user" && schema != "pg_catalog" {
			f.schema = schema
			return
		}
	}
}

func (f *file) create(raw json.RawMessage) {
	s := as[struct {
		Relation  rangeVar `json:"relation"`
		Elements  []node   `json:"tableElts"`
		Parents   []node   `json:"inhRelations"`
		Partition node     `json:"partbound"`
		IfMissing bool     `json:"if_not_exists"`
	}](raw)
	for _, p := range s.Parents {
		_, r := p.kind()
		parent := f.find(as[rangeVar](r))
		if !parent.synced {
			continue
		}
		t := f.find(s.Relation)
		if len(s.Partition) > 0 {
			t.Class = ""
			f.safe(0, parent.id(), "a new partition of a synced table: each side is partitioned as it likes, rows go through "+parent.id(), "")
			return
		}
		f.add(0, Finding{
			Verdict: Unsafe, Table: parent.id(), What: "a child by INHERITS makes " + parent.id() + " part of an inheritance tree, which cannot be synced",
			Recipe: []Step{{Both, "Make a table of its own with the same columns, and register it too.", "CREATE TABLE " + t.sql() + " (LIKE " + parent.sql() + " INCLUDING ALL);"}},
		})
		return
	}
	was := f.tables[f.named(s.Relation)]
	t := f.find(s.Relation)
	if was == nil {
		t.Class = "" // new here, so nobody syncs it yet
	}
	for _, e := range s.Elements {
		if kind, c := e.kind(); kind == "ColumnDef" {
			if def := as[columnDef](c); def.Type != nil && was == nil {
				t.Types[def.Name] = def.Type.text()
			}
		}
	}
	f.safe(0, t.id(), "a new table; it is not synced until it is registered, which wants it on both sides", "")
}

func (f *file) named(r rangeVar) string {
	if r.Schema == "" {
		return f.schema + "." + r.Name
	}
	return r.Schema + "." + r.Name
}

func (f *file) index(raw json.RawMessage) {
	s := as[struct {
		Relation   rangeVar `json:"relation"`
		Unique     bool     `json:"unique"`
		Concurrent bool     `json:"concurrent"`
		Params     []node   `json:"indexParams"`
	}](raw)
	t := f.find(s.Relation)
	switch {
	case !t.synced:
		f.safe(0, t.id(), "an index of a table that is not synced", "")
	case s.Unique:
		var columns []string
		for _, p := range s.Params {
			_, e := p.kind()
			if name := as[struct {
				Name string `json:"name"`
			}](e).Name; name != "" {
				columns = append(columns, name)
			}
		}
		f.add(0, Finding{
			Verdict: Unsafe, Table: t.id(), First: t.sender(),
			What:   "a new unique index refuses rows that the other side may still send; they would be parked",
			Recipe: uniqueRecipe(t, columns),
		})
	case s.Concurrent:
		f.safe(0, t.id(), "an index", "")
	default:
		f.safe(0, t.id(), "an index; CREATE INDEX CONCURRENTLY would not block the table's writers meanwhile", "")
	}
}

func (f *file) truncate(raw json.RawMessage) {
	for _, r := range as[struct {
		Relations []struct {
			R rangeVar `json:"RangeVar"`
		} `json:"relations"`
	}](raw).Relations {
		t := f.find(r.R)
		if !t.synced {
			f.safe(r.R.Location, t.id(), "it empties a table that is not synced", "")
			continue
		}
		what := "TRUNCATE at a facility also removes that facility's rows in the region, and in the region it removes those of all facilities"
		if t.Class == "event" {
			what = "TRUNCATE at a facility stays there, but in the region it removes the history of all facilities"
		}
		f.add(r.R.Location, Finding{Verdict: Unsafe, Table: t.id(), What: what, Recipe: truncateRecipe(t)})
	}
}

func (f *file) rows(kind string, raw json.RawMessage) {
	s := as[struct {
		Relation rangeVar `json:"relation"`
		IsFrom   bool     `json:"is_from"`
	}](raw)
	if kind == "CopyStmt" && !s.IsFrom || s.Relation.Name == "" {
		f.safe(0, "", "it reads only", "")
		return
	}
	t := f.find(s.Relation)
	if !t.synced {
		f.safe(s.Relation.Location, t.id(), "rows of a table that is not synced", "")
		return
	}
	f.unknown(s.Relation.Location, t.id(), fmt.Sprintf(
		"it changes rows, which are synced like any other change: run it on one side only (%s), and not as part of a migration that both sides run", t.sender()))
}

func (f *file) selects(raw json.RawMessage) {
	var strange []string
	for _, name := range calls(raw) {
		if !quiet[name] {
			strange = append(strange, name)
		}
	}
	if len(strange) > 0 {
		f.unknown(0, "", "what the function "+strings.Join(strange, ", ")+" does is not in this statement")
		return
	}
	if rel := as[struct {
		Into *struct {
			Rel rangeVar `json:"rel"`
		} `json:"intoClause"`
	}](raw).Into; rel != nil {
		t := f.find(rel.Rel)
		t.Class = ""
		f.safe(0, t.id(), "a new table; it is not synced until it is registered", "")
		return
	}
	f.safe(0, "", "it reads only", "")
}

func (f *file) replication(raw json.RawMessage) {
	name := as[struct {
		Publication string `json:"pubname"`
	}](raw).Publication
	if !strings.HasPrefix(name, "holdfast") {
		f.safe(0, "", "a publication or subscription that is not Holdfast's", "")
		return
	}
	f.add(0, Finding{
		Verdict: Unsafe, What: "the publication " + name + " is Holdfast's own: what is synced follows the list of tables",
		Recipe: []Step{{People, "Change the list instead: holdfastctl tables add and holdfastctl tables remove.", ""}},
	})
}

func (f *file) alterEnum(raw json.RawMessage) {
	s := as[struct {
		Old string `json:"oldVal"`
		New string `json:"newVal"`
	}](raw)
	if s.Old == "" {
		f.safe(0, "", "a new value of a type: first where rows arrive (facts and events: the region), before anybody writes it", Region)
		return
	}
	f.add(0, Finding{
		Verdict: Unsafe, First: Region, What: "rows with the value " + s.Old + " or " + s.New + " do not fit the side that lacks it; they would be parked",
		Recipe: enumRecipe(typeNames(raw), s.Old, s.New),
	})
}

func (f *file) alterDomain(raw json.RawMessage) {
	s := as[struct {
		Kind string `json:"subtype"` // C add constraint, O set not null, N drop not null, X drop constraint, T default, V validate
	}](raw)
	name := typeNames(raw)
	if s.Kind != "C" && s.Kind != "O" {
		f.safe(0, "", "a domain that takes more, or as much, as before", Region)
		return
	}
	f.add(0, Finding{
		Verdict: Unsafe, First: Facilities, What: "the domain " + name + " takes less than before; rows from the side that has not heard would be parked",
		Recipe: []Step{
			{People, "See to it that the applications at the facilities write only what it will take, and mend the rows that are there.", ""},
			{Facilities, "Run this statement at every facility.", ""},
			{Region, "Run it once no facility has older rows waiting (holdfastctl fleet).", ""},
		},
	})
}

// typeNames is the name of the type that a statement is about.
func typeNames(raw json.RawMessage) string {
	parts := texts(as[struct {
		Name []node `json:"typeName"`
	}](raw).Name)
	for i := range parts {
		parts[i] = quote(parts[i])
	}
	return strings.Join(parts, ".")
}
