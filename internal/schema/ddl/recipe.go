package ddl

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Recipes: expand where rows arrive, then where they are written; contract the
// other way round. Between the two everybody works.

// arrived is when the side where rows arrive may follow the side that writes them.
func arrived(t *target) string {
	if t.sender() == Region {
		return "Once what the region wrote before has arrived there (holdfastctl sync status FACILITY, under \"Way down\"):"
	}
	return "Once every facility has done so and has sent what it wrote before (holdfastctl fleet shows no queue):"
}

func addColumnSQL(t *target, column, typ string) string {
	return fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s;", t.sql(), quote(column), typ)
}

func dropColumnRecipe(t *target, column string) []Step {
	c := quote(column)
	drop := fmt.Sprintf("ALTER TABLE %s DROP COLUMN %s;", t.sql(), c)
	return []Step{
		{People, "Ship applications that neither read nor write " + column + ", to all facilities.", ""},
		{t.receiver(), "Let rows come without it.", fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL;", t.sql(), c)},
		{t.sender(), "Drop it where rows are written.", drop},
		{t.receiver(), arrived(t), drop},
	}
}

func notNullRecipe(t *target, column string) []Step {
	c, name := quote(column), quote(t.name+"_"+column+"_not_null")
	check := fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s IS NOT NULL) NOT VALID;", t.sql(), name, c)
	set := fmt.Sprintf("ALTER TABLE %[1]s VALIDATE CONSTRAINT %[2]s;\nALTER TABLE %[1]s ALTER COLUMN %[3]s SET NOT NULL;\nALTER TABLE %[1]s DROP CONSTRAINT %[2]s;", t.sql(), name, c)
	return []Step{
		{People, "Ship applications that always write " + column + ".", ""},
		{t.sender(), "Take no new rows without it.", check},
		{t.sender(), "Fill it in the rows that are there; they are synced. Put the right value in the place of DEFAULT.", fmt.Sprintf("UPDATE %s SET %s = DEFAULT WHERE %s IS NULL;", t.sql(), c, c)},
		{t.sender(), "Make it NOT NULL without a long lock.", set},
		{t.receiver(), arrived(t), check + "\n" + set},
	}
}

func fillRecipe(t *target, column, typ, def string) []Step {
	c := quote(column)
	steps := []Step{
		{t.receiver(), "Add it without a default where rows arrive.", addColumnSQL(t, column, typ)},
		{t.sender(), "Then where they are written.", addColumnSQL(t, column, typ)},
	}
	if def == "" {
		return append(steps, Step{
			t.sender(), "Number the rows there, on one side only; they are synced. New rows need a number that no other facility gives: a UUID, or a range for each.",
			fmt.Sprintf("UPDATE %s SET %s = numbered.n FROM (SELECT ctid AS place, row_number() OVER () AS n FROM %s) numbered WHERE ctid = numbered.place;", t.sql(), c, t.sql()),
		})
	}
	return append(steps,
		Step{t.sender(), "For new rows.", fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s;", t.sql(), c, def)},
		Step{t.sender(), "For the rows that are there, in portions if there are many; they are synced.", fmt.Sprintf("UPDATE %s SET %s = DEFAULT WHERE %s IS NULL;", t.sql(), c, c)},
	)
}

// newColumnRecipe reaches another name or type by a second column beside the
// first. An empty typ is not known; an empty name makes one up.
func newColumnRecipe(t *target, column, typ, name string) []Step {
	if name == "" {
		name = column + "_new"
	}
	shown := typ
	if typ == "" {
		shown = "text /* the type of " + column + " */"
	}
	o, n, fn := quote(column), quote(name), quote(t.schema)+"."+quote(t.name+"_"+name+"_follows")
	follow := fmt.Sprintf(`CREATE FUNCTION %[1]s() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    NEW.%[3]s := coalesce(NEW.%[3]s, NEW.%[2]s);
    NEW.%[2]s := coalesce(NEW.%[2]s, NEW.%[3]s);
  ELSIF NEW.%[3]s IS DISTINCT FROM OLD.%[3]s THEN
    NEW.%[2]s := NEW.%[3]s;
  ELSE
    NEW.%[3]s := NEW.%[2]s;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER %[4]s BEFORE INSERT OR UPDATE ON %[5]s FOR EACH ROW EXECUTE FUNCTION %[1]s();`,
		fn, o, n, quote(t.name+"_"+name+"_follows"), t.sql())
	return append([]Step{
		{t.receiver(), "Add the new column beside the old one where rows arrive.", addColumnSQL(t, name, shown)},
		{t.sender(), "Then where they are written, and let the two follow each other.", addColumnSQL(t, name, shown) + "\n" + follow},
		{t.sender(), "Fill it, in portions if there are many rows; they are synced.", fmt.Sprintf("UPDATE %s SET %s = %s WHERE %s IS NULL AND %s IS NOT NULL;", t.sql(), n, o, n, o)},
		{People, "Ship applications that use " + name + " only.", ""},
		{t.sender(), "Let go of the old column.", fmt.Sprintf("DROP TRIGGER %s ON %s;\nDROP FUNCTION %s();", quote(t.name+"_"+name+"_follows"), t.sql(), fn)},
	}, dropColumnRecipe(t, column)[1:]...)
}

func narrowRecipe(t *target, column, to string) []Step {
	c, name := quote(column), quote(t.name+"_"+column+"_fits")
	change := fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE %s;", t.sql(), c, to)
	return []Step{
		{t.sender(), "Take no new values that will not fit.", fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s) NOT VALID;", t.sql(), name, fits(c, to))},
		{t.sender(), "Find the rows that do not fit and mend them; they are synced.", fmt.Sprintf("SELECT * FROM %s WHERE NOT (%s);", t.sql(), fits(c, to))},
		{t.sender(), "Make it narrower where rows are written.", fmt.Sprintf("ALTER TABLE %[1]s VALIDATE CONSTRAINT %[2]s;\n%[3]s\nALTER TABLE %[1]s DROP CONSTRAINT %[2]s;", t.sql(), name, change)},
		{t.receiver(), arrived(t), change},
	}
}

func uniqueRecipe(t *target, columns []string) []Step {
	if len(columns) == 0 {
		return []Step{
			{t.sender(), "Make it where rows are written, after mending the rows that break it; they are synced.", ""},
			{t.receiver(), arrived(t) + " make it there too. It must hold over all facilities together.", ""},
		}
	}
	var quoted []string
	for _, c := range columns {
		quoted = append(quoted, quote(c))
	}
	list := strings.Join(quoted, ", ")
	name := quote(t.name + "_" + strings.Join(columns, "_") + "_key")
	all := list
	if t.FacilityColumn != "" && t.Class != "master" {
		all = quote(t.FacilityColumn) + ", " + list
	}
	return []Step{
		{t.sender(), "Find the rows that break it and mend them; they are synced.", fmt.Sprintf("SELECT %s, count(*) FROM %s GROUP BY %s HAVING count(*) > 1;", list, t.sql(), list)},
		{t.sender(), "Make it where rows are written.", fmt.Sprintf("CREATE UNIQUE INDEX CONCURRENTLY %s ON %s (%s);", name, t.sql(), list)},
		{t.receiver(), arrived(t) + " then it can hold there too. Two facilities may use the same value, so the facility is part of it.", fmt.Sprintf("CREATE UNIQUE INDEX CONCURRENTLY %s ON %s (%s);", name, t.sql(), all)},
	}
}

func checkRecipe(t *target, c constraint, f *file) []Step {
	name := c.Name
	if name == "" {
		name = t.name + "_check"
	}
	condition := f.clause(c.Location)
	if condition == "" {
		condition = "(true /* the condition */)"
	}
	add := fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK %s NOT VALID;", t.sql(), quote(name), condition)
	validate := fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s;", t.sql(), quote(name))
	return []Step{
		{t.sender(), "Take no new rows that fail it.", add},
		{t.sender(), "Find the rows that fail and mend them; they are synced.", fmt.Sprintf("SELECT * FROM %s WHERE NOT %s;", t.sql(), condition)},
		{t.sender(), "It holds for all rows now.", validate},
		{t.receiver(), arrived(t), add + "\n" + validate},
	}
}

// clause is the first thing in parentheses after a place.
func (f *file) clause(at int) string {
	if at < 0 || at >= len(f.sql) {
		return ""
	}
	text := f.sql[at:]
	begin, depth, quoted := strings.IndexByte(text, '('), 0, false
	if begin < 0 {
		return ""
	}
	for i := begin; i < len(text); i++ {
		switch ch := text[i]; {
		case ch == '\'':
			quoted = !quoted
		case quoted:
		case ch == '(':
			depth++
		case ch == ')':
			if depth--; depth == 0 {
				return text[begin : i+1]
			}
		}
	}
	return ""
}

func foreignRecipe(t *target, c constraint, columns []string) []Step {
	name := c.Name
	if name == "" {
		name = t.name + "_" + strings.Join(columns, "_") + "_fkey"
	}
	var from, to []string
	for _, n := range columns {
		from = append(from, quote(n))
	}
	for _, n := range texts(c.PKAttrs) {
		to = append(to, quote(n))
	}
	other := ""
	if c.PKTable != nil {
		other = quote(c.PKTable.Name)
		if c.PKTable.Schema != "" {
			other = quote(c.PKTable.Schema) + "." + other
		}
	}
	if len(to) > 0 {
		other += " (" + strings.Join(to, ", ") + ")"
	}
	add := fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s FOREIGN KEY (%s) REFERENCES %s NOT VALID;", t.sql(), quote(name), strings.Join(from, ", "), other)
	return []Step{
		{People, "Sync the table that it refers to as well, or give it to both sides by other means.", ""},
		{t.sender(), "Where rows are written it guards new ones.", add},
		{t.sender(), "Mend the rows that fail, then:", fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s;", t.sql(), quote(name))},
		{t.receiver(), "Leave it out, or add it without validating: rows that arrive are not checked against it, since their order is the sender's.", add},
	}
}

func keyRecipe(t *target) []Step {
	return []Step{
		{People, "Stop syncing the table: holdfastctl tables remove " + t.sql() + ". No row is deleted.", ""},
		{Both, "Change the key on both sides, to the same columns.", ""},
		{People, "Sync it again: holdfastctl tables add " + t.sql() + ". Its rows are sent anew and compared by the new key.", ""},
	}
}

func truncateRecipe(t *target) []Step {
	if t.Class == "event" {
		return []Step{{Facilities, "Prune at the facilities; the region keeps the history.", "TRUNCATE " + t.sql() + ";"}}
	}
	s := Step{t.sender(), "Delete what is to go, where it is written; the other side follows.", "DELETE FROM " + t.sql() + ";"}
	if t.FacilityColumn != "" && t.sender() == Facilities {
		s.SQL = fmt.Sprintf("DELETE FROM %s WHERE %s = 'la';", t.sql(), quote(t.FacilityColumn))
	}
	return []Step{s, {People, "Leave it out of a migration that both sides run.", ""}}
}

func enumRecipe(typ, old, to string) []Step {
	lit := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	return []Step{
		{Region, "Add the new value beside the old one.", fmt.Sprintf("ALTER TYPE %s ADD VALUE %s;", typ, lit(to))},
		{Facilities, "Then at the facilities.", fmt.Sprintf("ALTER TYPE %s ADD VALUE %s;", typ, lit(to))},
		{People, "Ship applications that write " + to + " and understand both; then UPDATE the rows that have " + old + ", at the facilities only. The old value stays in the type.", ""},
	}
}

func dropTableRecipe(t *target) []Step {
	return []Step{
		{People, "Ship applications that no longer use it, to all facilities, and let their queues run empty.", ""},
		{People, "Stop syncing it: holdfastctl tables remove " + t.sql(), ""},
		{t.sender(), "Drop it where rows are written.", "DROP TABLE " + t.sql() + ";"},
		{t.receiver(), "Then where they arrived, when nobody needs them.", "DROP TABLE " + t.sql() + ";"},
	}
}

func renameTableRecipe(t, to *target) []Step {
	return []Step{
		{Both, "Keep the table, and give the applications the new name as a view, which takes writes too.", fmt.Sprintf("CREATE VIEW %s AS SELECT * FROM %s;", to.sql(), t.sql())},
		{People, "If the name must go: make a new table on both sides, register it, copy the rows at the facilities, move the applications, then drop the old one by its recipe.", ""},
	}
}

func partitionRecipe(t *target, c alterCmd, raw json.RawMessage) []Step {
	r := as[struct {
		Name rangeVar `json:"name"`
	}](raw).Name
	part := quote(r.Name)
	if r.Schema != "" {
		part = quote(r.Schema) + "." + part
	}
	if c.Kind == "AT_AttachPartition" {
		return []Step{
			{t.sender(), "Make an empty partition, and insert the rows through the root, so that they are sent.", fmt.Sprintf("INSERT INTO %s SELECT * FROM %s;", t.sql(), part)},
			{People, "An empty partition can be attached as it is.", ""},
		}
	}
	return []Step{
		{t.sender(), "If the rows are to go on both sides, delete them through the root first, so that this is sent; then detach.", fmt.Sprintf("DELETE FROM %s WHERE tableoid = '%s'::regclass;", t.sql(), strings.ReplaceAll(part, "'", "''"))},
		{People, "To prune at the facility only, make the table an event table: the region keeps what is pruned.", ""},
	}
}
