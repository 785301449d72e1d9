package workspace

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestTheDescriptionTellsEachCallAndItsRole holds openapi.json against the
// table that the mux is filled from.
func TestTheDescriptionTellsEachCallAndItsRole(t *testing.T) {
	t.Parallel()
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		t.Fatal(err)
	}
	told := map[string]string{} // pattern: description
	takes := map[string][]string{}
	for path, item := range doc.Paths {
		for method, raw := range item {
			if method == "parameters" {
				continue
			}
			var op struct {
				Description string
				Parameters  []struct{ Name, In string }
			}
			if err := json.Unmarshal(raw, &op); err != nil {
				t.Fatal(err)
			}
			told[strings.ToUpper(method)+" "+path] = op.Description
			for _, p := range op.Parameters {
				if p.In == "query" {
					takes[strings.ToUpper(method)+" "+path] = append(takes[strings.ToUpper(method)+" "+path], p.Name)
				}
			}
		}
	}
	for _, c := range (&Workspace{}).calls() {
		if !strings.HasSuffix(told[c.pattern], "Needs role "+c.role.String()+".") {
			t.Errorf("%s needs role %s and is described as %q", c.pattern, c.role, told[c.pattern])
		}
		if slices.Sort(takes[c.pattern]); !slices.Equal(takes[c.pattern], c.query) {
			t.Errorf("%s takes %v and is described with %v", c.pattern, c.query, takes[c.pattern])
		}
		delete(told, c.pattern)
	}
	for pattern := range told {
		t.Errorf("%s is described and not there", pattern)
	}
}

// TestTheDescriptionTellsEachField holds its schemas against the types that are
// read and written, and their limits.
func TestTheDescriptionTellsEachField(t *testing.T) {
	t.Parallel()
	var doc struct {
		Components struct {
			Schemas map[string]schema `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		t.Fatal(err)
	}
	schemas := doc.Components.Schemas
	for name, want := range map[string][]string{
		"Order":    fieldsOf[Order](),
		"Line":     fieldsOf[Line](),
		"Item":     fieldsOf[Item](),
		"NewOrder": without(fieldsOf[orderInput](), "updated_at"), // there is no version yet
		// Who created an order does not change.
		"OrderChange": without(fieldsOf[orderInput](), "created_by"),
		"NewLine":     fieldsOf[lineInput](),
		"NewItem":     fieldsOf[itemInput](),
		"NewMovement": fieldsOf[movementInput](),
	} {
		if got := slices.Sorted(maps.Keys(schemas[name].Properties)); !slices.Equal(got, want) {
			t.Errorf("%s: described are %v, there are %v", name, got, want)
		}
	}
	var codes []string
	for _, s := range Statuses {
		codes = append(codes, s.Code)
	}
	limits := map[string]int{
		"number": 40, "sku": 40, "notes": notesMaxChars,
		"customer": shortMaxChars, "product": shortMaxChars, "created_by": shortMaxChars, "description": shortMaxChars,
		"name": shortMaxChars, "location": shortMaxChars, "reason": shortMaxChars, "worker": shortMaxChars,
	}
	for _, name := range []string{"NewOrder", "OrderChange", "NewLine", "NewItem", "NewMovement"} {
		for field, p := range schemas[name].Properties {
			switch {
			case field == "unit" && !slices.Equal(p.Enum, Units), field == "status" && !slices.Equal(p.Enum, codes):
				t.Errorf("%s: %s is one of %v", name, field, p.Enum)
			case p.MaxLength != limits[field]:
				t.Errorf("%s: %s has at most %d characters, described are %d", name, field, limits[field], p.MaxLength)
			case p.Maximum != 0 && p.Maximum != quantityMax:
				t.Errorf("%s: %s is at most %d", name, field, p.Maximum)
			}
		}
	}
}

type schema struct {
	Properties map[string]struct {
		Enum      []string
		MaxLength int
		Maximum   int
	}
}

// fieldsOf lists the JSON names of a struct's fields, sorted.
func fieldsOf[T any]() (names []string) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[T]()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func without(names []string, name string) []string {
	return slices.DeleteFunc(names, func(n string) bool { return n == name })
}
