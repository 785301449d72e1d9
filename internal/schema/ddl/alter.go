package ddl

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/agogsaas/holdfast/internal/schema"
)

// calm are the commands of ALTER TABLE that rows do not notice.
var calm = []string{
	"AT_DropNotNull", "AT_ColumnDefault", "AT_SetStatistics", "AT_SetOptions", "AT_ResetOptions", "AT_SetStorage", "AT_SetCompression",
	"AT_ValidateConstraint", "AT_AlterConstraint", "AT_ChangeOwner", "AT_ClusterOn", "AT_DropCluster", "AT_SetLogged", "AT_SetAccessMethod", "AT_SetTableSpace",
	"AT_SetRelOptions", "AT_ResetRelOptions", "AT_EnableTrig", "AT_EnableTrigAll", "AT_EnableTrigUser", "AT_DisableTrig", "AT_DisableTrigAll", "AT_DisableTrigUser",
	"AT_EnableAlwaysTrig", "AT_EnableReplicaTrig", "AT_EnableRule", "AT_DisableRule", "AT_EnableAlwaysRule", "AT_EnableReplicaRule",
	"AT_DisableRowSecurity", "AT_NoForceRowSecurity", "AT_AddIdentity", "AT_SetIdentity", "AT_DropIdentity", "AT_DetachPartitionFinalize", "AT_DropInherit",
}

func (f *file) alterTable(raw json.RawMessage) {
	s := as[struct {
		Relation rangeVar `json:"relation"`
		Object   string   `json:"objtype"`
		Commands []struct {
			Cmd alterCmd `json:"AlterTableCmd"`
		} `json:"cmds"`
	}](raw)
	switch s.Object {
	case "OBJECT_TABLE":
	case "OBJECT_TYPE":
		f.unknown(0, "", "a composite type changes: whether a synced column has it is not in this file")
		return
	default:
		f.safe(0, "", "not a table", "")
		return
	}
	for _, c := range s.Commands {
		t := f.find(s.Relation)
		f.alter(t, c.Cmd, s.Relation.Location)
	}
}

func (f *file) alter(t *target, c alterCmd, at int) {
	kind, def := c.Def.kind()
	var col columnDef
	if kind == "ColumnDef" {
		col = as[columnDef](def)
		if col.Location > 0 {
			at = col.Location
		}
	}
	if kind == "Constraint" {
		at = max(at, as[constraint](def).Location)
	}
	if !t.synced {
		if c.Kind == "AT_AddColumn" && col.Type != nil {
			t.Types[col.Name] = col.Type.text()
		}
		if c.Kind == "AT_AlterColumnType" && col.Type != nil {
			t.Types[c.Name] = col.Type.text()
		}
		f.safe(at, t.id(), "a table that is not synced", "")
		return
	}
	unsafe := func(what, first string, recipe []Step) {
		f.add(at, Finding{Verdict: Unsafe, Table: t.id(), What: what, First: first, Recipe: recipe})
	}
	switch c.Kind {
	case "AT_AddColumn":
		f.addColumn(t, col, at)
	case "AT_DropColumn":
		delete(t.Types, c.Name)
		unsafe(fmt.Sprintf("rows that still carry %s have no place on the side that has dropped it; they would be parked", c.Name), t.receiver(), dropColumnRecipe(t, c.Name))
	case "AT_AlterColumnType":
		f.alterType(t, c.Name, col, at)
	case "AT_SetNotNull":
		unsafe(fmt.Sprintf("rows without %s may still come from the other side; they would be parked", c.Name), t.sender(), notNullRecipe(t, c.Name))
	case "AT_AddConstraint":
		f.addConstraint(t, as[constraint](def), nil, at)
	case "AT_DropConstraint":
		if c.Name == t.name+"_pkey" {
			unsafe("without the primary key nothing tells the rows apart", "", keyRecipe(t))
			return
		}
		f.safe(at, t.id(), "a constraint less: first where rows arrive, so that none is refused there. Were it the primary key, nothing would tell the rows apart", t.receiver())
	case "AT_ReplicaIdentity":
		f.identity(t, def, at)
	case "AT_SetUnLogged":
		unsafe("changes of an unlogged table are not in the WAL, so nothing of it would be sent", "",
			[]Step{{People, "Leave the table logged. To stop syncing it first: holdfastctl tables remove " + t.sql(), ""}})
	case "AT_EnableRowSecurity", "AT_ForceRowSecurity":
		unsafe("row security may hide rows from Holdfast's role", Both, []Step{
			{Both, "Let Holdfast's role see all rows, if it is not a superuser; its name is in the error of holdfastctl tables add.", "ALTER ROLE holdfast BYPASSRLS;"},
			{Both, "Then enable it.", "ALTER TABLE " + t.sql() + " ENABLE ROW LEVEL SECURITY;"},
		})
	case "AT_AttachPartition", "AT_DetachPartition":
		unsafe("the rows of a partition that is attached or detached are not carried: the two sides would differ", "", partitionRecipe(t, c, def))
	case "AT_AddInherit":
		unsafe("a table in an inheritance tree cannot be synced", "", []Step{{People, "Use declarative partitioning.", ""}})
	case "AT_DropExpression", "AT_SetExpression":
		unsafe(fmt.Sprintf("a computed column is not sent: %s would be missing on one side or refused on the other", c.Name), t.receiver(), newColumnRecipe(t, c.Name, t.Types[c.Name], ""))
	default:
		if slices.Contains(calm, c.Kind) {
			first := ""
			if c.Kind == "AT_DropNotNull" {
				first = t.receiver()
			}
			f.safe(at, t.id(), "rows go on fitting on both sides", first)
			return
		}
		f.unknown(at, t.id(), "this command ("+c.Kind+") is not known here")
	}
}

func (f *file) addColumn(t *target, col columnDef, at int) {
	if col.Type == nil {
		f.unknown(at, t.id(), "a column without a type")
		return
	}
	typ := col.Type.text()
	t.Types[col.Name] = typ
	var notNull, generated, changing, identity, hasDefault bool
	var others []constraint
	for _, n := range col.Constraints {
		_, raw := n.kind()
		switch c := as[constraint](raw); c.Kind {
		case "CONSTR_NOTNULL":
			notNull = true
		case "CONSTR_DEFAULT":
			hasDefault, changing = true, !constant(c.Raw)
		case "CONSTR_GENERATED":
			generated = true
		case "CONSTR_IDENTITY":
			identity = true
		case "CONSTR_CHECK", "CONSTR_UNIQUE", "CONSTR_PRIMARY", "CONSTR_FOREIGN", "CONSTR_EXCLUSION":
			others = append(others, c)
		}
	}
	if strings.HasSuffix(typ, "serial") || strings.HasPrefix(typ, "serial") {
		identity = true
	}
	switch {
	case generated:
		f.safe(at, t.id(), "a column that each side computes for itself; it is not sent", "")
	case identity:
		f.add(at, Finding{
			Verdict: Unsafe, Table: t.id(), First: t.receiver(), Recipe: fillRecipe(t, col.Name, plainType(typ), ""),
			What: fmt.Sprintf("each side numbers the rows that are there by itself, so %s would differ", col.Name),
		})
	case changing:
		f.add(at, Finding{
			Verdict: Unsafe, Table: t.id(), First: t.receiver(), Recipe: fillRecipe(t, col.Name, typ, f.defaultText(col)),
			What: fmt.Sprintf("each side computes the default of %s for the rows that are there by itself, so they would differ", col.Name),
		})
	case notNull && !hasDefault:
		f.add(at, Finding{
			Verdict: Unsafe, Table: t.id(), First: t.receiver(),
			Recipe: append([]Step{
				{t.receiver(), "Add it without NOT NULL where rows arrive.", addColumnSQL(t, col.Name, typ)},
				{t.sender(), "Then where they are written, and let the applications fill it.", addColumnSQL(t, col.Name, typ)},
			}, notNullRecipe(t, col.Name)...),
			What: fmt.Sprintf("rows without %s may still come from the other side; they would be parked", col.Name),
		})
	default:
		f.safe(at, t.id(), fmt.Sprintf("a new column %s that rows may lack: add it %s, before anybody writes it", col.Name, order(t)), t.receiver())
	}
	for _, c := range others {
		f.addConstraint(t, c, []string{col.Name}, max(at, c.Location))
	}
}

// plainType is the type under a serial.
func plainType(typ string) string {
	switch typ {
	case "serial", "serial4":
		return "integer"
	case "bigserial", "serial8":
		return "bigint"
	case "smallserial", "serial2":
		return "smallint"
	}
	return typ
}

func order(t *target) string { return "in the " + t.receiver() + " first, then in the " + t.sender() }

// defaultText is the default as it was written, from the word DEFAULT to the
// end of the clause.
func (f *file) defaultText(col columnDef) string {
	begin, end := -1, f.begin+len(f.text)
	for _, n := range col.Constraints {
		_, raw := n.kind()
		c := as[constraint](raw)
		if c.Kind == "CONSTR_DEFAULT" {
			begin = c.Location + len("DEFAULT")
		} else if begin >= 0 && c.Location > begin {
			end = min(end, c.Location)
		}
	}
	if begin < 0 || begin >= end || end > len(f.sql) {
		return ""
	}
	text := f.sql[begin:end]
	// A comma at this depth begins the next command.
	depth := 0
	for i, r := range text {
		switch r {
		case '(', '[':
			depth++
		case ')', ']':
			depth--
		case ',', ';':
			if depth == 0 {
				return strings.TrimSpace(text[:i])
			}
		}
	}
	return strings.TrimSpace(text)
}

func (f *file) alterType(t *target, column string, col columnDef, at int) {
	to := col.Type.text()
	from, known := t.Types[column]
	t.Types[column] = to
	plain := len(col.Using) == 0 || usesColumn(col.Using, column)
	switch {
	case !known:
		f.unknown(at, t.id(), fmt.Sprintf("whether %s takes all that it took before depends on the type it has now: let the region be reached, or name the files before this one with --base", column))
	case plain && schema.Widens(from, to):
		f.safe(at, t.id(), fmt.Sprintf("%s becomes wider (%s to %s); the table may be rewritten and locked meanwhile", column, from, to), t.receiver())
	case schema.Widens(to, from) && fits(column, to) != "":
		f.add(at, Finding{
			Verdict: Unsafe, Table: t.id(), First: t.sender(), Recipe: narrowRecipe(t, column, to),
			What: fmt.Sprintf("%s becomes narrower (%s to %s); rows from the other side may not fit and would be parked", column, from, to),
		})
	default:
		f.add(at, Finding{
			Verdict: Unsafe, Table: t.id(), First: t.receiver(), Recipe: newColumnRecipe(t, column, to, ""),
			What: fmt.Sprintf("%s becomes another type (%s to %s): in between the sides disagree about what its values are", column, from, to),
		})
	}
}

// usesColumn is true for USING that only casts the column itself.
func usesColumn(n node, column string) bool {
	kind, raw := n.kind()
	switch kind {
	case "TypeCast":
		return usesColumn(as[struct {
			Arg node `json:"arg"`
		}](raw).Arg, column)
	case "ColumnRef":
		return slices.Equal(texts(as[struct {
			Fields []node `json:"fields"`
		}](raw).Fields), []string{column})
	}
	return false
}

func (f *file) addConstraint(t *target, c constraint, columns []string, at int) {
	add := func(what, first string, recipe []Step) {
		f.add(at, Finding{Verdict: Unsafe, Table: t.id(), What: what, First: first, Recipe: recipe})
	}
	if len(columns) == 0 {
		columns = texts(c.Keys)
	}
	switch c.Kind {
	case "CONSTR_UNIQUE", "CONSTR_EXCLUSION":
		add("a new constraint refuses rows that the other side may still send; they would be parked", t.sender(), uniqueRecipe(t, columns))
	case "CONSTR_PRIMARY":
		add("the primary key tells rows apart, and must do so in the same way on both sides", "", keyRecipe(t))
	case "CONSTR_CHECK":
		add("rows that the other side may still send can fail the check; they would be parked", t.sender(), checkRecipe(t, c, f))
	case "CONSTR_FOREIGN":
		if len(c.FKAttrs) > 0 {
			columns = texts(c.FKAttrs)
		}
		add("the rows that it refers to may come later, or be deleted on the other side; nothing checks that for rows that arrive", t.sender(), foreignRecipe(t, c, columns))
	default:
		f.unknown(at, t.id(), "this constraint ("+c.Kind+") is not known here")
	}
}

func (f *file) identity(t *target, raw json.RawMessage, at int) {
	switch as[struct {
		Kind string `json:"identity_type"`
	}](raw).Kind {
	case "f":
		f.safe(at, t.id(), "updates and deletes say more of the row", "")
	case "n":
		f.add(at, Finding{Verdict: Unsafe, Table: t.id(), What: "without a replica identity updates and deletes do not say which row they mean", Recipe: keyRecipe(t)})
	default:
		f.unknown(at, t.id(), "the columns that tell rows apart may change; they must be the same on both sides")
	}
}
