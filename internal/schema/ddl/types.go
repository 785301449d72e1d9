package ddl

import (
	"fmt"
	"strings"

	"github.com/agogsaas/holdfast/internal/schema"
)

// text is the type as schema.ShortType writes it.
func (t *typeName) text() string {
	names := texts(t.Names)
	if len(names) > 1 && names[0] == "pg_catalog" {
		names = names[1:]
	}
	s := strings.Join(names, ".")
	if mods := t.mods(); len(mods) > 0 {
		s += "(" + strings.Join(mods, ",") + ")"
	}
	if len(t.ArrayBounds) > 0 {
		s += "[]"
	}
	return s
}

func (t *typeName) mods() []string {
	var out []string
	for _, n := range t.Typmods {
		kind, raw := n.kind()
		if kind != "A_Const" {
			return nil
		}
		out = append(out, fmt.Sprint(as[struct {
			I struct {
				Value int `json:"ival"`
			} `json:"ival"`
		}](raw).I.Value))
	}
	return out
}

// canonical reads a type as PostgreSQL or a person writes it; what is not a
// type stays as it is.
func canonical(text string) string {
	t, err := parse("SELECT NULL::" + text)
	if err != nil || len(t.Statements) != 1 {
		return text
	}
	_, raw := t.Statements[0].Node.kind()
	targets := as[struct {
		List []struct {
			Target struct {
				Value node `json:"val"`
			} `json:"ResTarget"`
		} `json:"targetList"`
	}](raw).List
	if len(targets) != 1 {
		return text
	}
	kind, cast := targets[0].Target.Value.kind()
	if kind != "TypeCast" {
		return text
	}
	to := as[struct {
		Type typeName `json:"typeName"`
	}](cast).Type
	return to.text()
}

// fits is a condition that says which values of a column fit into a narrower
// type; empty when there is none that is simple.
func fits(column, to string) string {
	name, mods := schema.SplitType(to)
	switch {
	case name == "varchar" && len(mods) == 1:
		return fmt.Sprintf("length(%s) <= %d", column, mods[0])
	case name == "int2":
		return column + " BETWEEN -32768 AND 32767"
	case name == "int4":
		return column + " BETWEEN -2147483648 AND 2147483647"
	}
	return ""
}
