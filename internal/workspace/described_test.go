package workspace_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/workspace"
)

// description is openapi.json as its readers see it.
type description map[string]any

// at follows keys and references.
func (d description) at(from any, keys ...string) any {
	for _, k := range keys {
		m, _ := d.resolve(from).(map[string]any)
		from = m[k]
	}
	return d.resolve(from)
}

func (d description) resolve(v any) any {
	m, _ := v.(map[string]any)
	if to, ok := m["$ref"].(string); ok {
		return d.at(map[string]any(d), strings.Split(strings.TrimPrefix(to, "#/"), "/")...)
	}
	return v
}

// misfits lists what of a value its schema does not say, and the other way round.
func (d description) misfits(where string, v, schema any) (out []string) {
	s, _ := d.resolve(schema).(map[string]any)
	props, required := map[string]any{}, []any{}
	for _, part := range append(list(s["allOf"]), s) {
		p, _ := d.resolve(part).(map[string]any)
		for k, x := range asMap(p["properties"]) {
			props[k] = x
		}
		required = append(required, list(p["required"])...)
	}
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			described, ok := props[k]
			if more := s["additionalProperties"]; !ok && more != nil {
				described, ok = more, true
			}
			if !ok {
				out = append(out, where+"."+k+" is not described")
				continue
			}
			out = append(out, d.misfits(where+"."+k, x, described)...)
		}
		for _, k := range required {
			if _, ok := v[k.(string)]; !ok {
				out = append(out, fmt.Sprintf("%s.%s is missing", where, k))
			}
		}
	case []any:
		for _, x := range v {
			out = append(out, d.misfits(where+"[]", x, s["items"])...)
		}
	default:
		kinds := map[string]string{"string": "string", "float64": "integer", "bool": "boolean"}
		if got := kinds[fmt.Sprintf("%T", v)]; got != s["type"] {
			out = append(out, fmt.Sprintf("%s is %v, described as %v", where, v, s["type"]))
		}
		if enum := list(s["enum"]); enum != nil && !slices.Contains(enum, v) {
			out = append(out, fmt.Sprintf("%s is %v, not one of %v", where, v, enum))
		}
	}
	return out
}

func asMap(v any) map[string]any { m, _ := v.(map[string]any); return m }
func list(v any) []any           { l, _ := v.([]any); return l }

// TestEveryCallAnswersAsDescribed asks the real API for every status that the
// description has, and compares.
func TestEveryCallAnswersAsDescribed(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	p := newPlant(t, pool, "la")
	const root = "/api/workspace/v1"
	want(t, "a stranger reads the description", p.ask("hf_x", "GET", root+"/openapi.json", "", "", "").status, http.StatusUnauthorized)
	page := p.ask(p.look, "GET", root+"/openapi.json", "", "", "")
	want(t, "a viewer reads the description", page.status, http.StatusOK)
	var d description
	page.into(t, &d)

	// What is left of the statuses that are described; 503 is for a database that is gone.
	left := map[string]bool{}
	for path, item := range asMap(d["paths"]) {
		for method, op := range asMap(item) {
			for status := range asMap(asMap(op)["responses"]) {
				if status != "503" {
					left[strings.ToUpper(method)+" "+path+" "+status] = true
				}
			}
		}
	}
	ids := map[string]string{"order": "00000000-0000-4000-8000-000000000000", "item": "00000000-0000-4000-8000-000000000000"}
	expect := func(token, method, path, body, key string, status int) answer {
		t.Helper()
		address := strings.NewReplacer("{order}", ids["order"], "{item}", ids["item"]).Replace(path)
		path, _, _ = strings.Cut(strings.NewReplacer("{order}", "{id}", "{item}", "{id}").Replace(path), "?")
		call := fmt.Sprintf("%s %s%s %d", method, root, path, status)
		a := p.ask(token, method, root+address, "application/json", body, key)
		if a.status != status {
			t.Errorf("%s: it answered %d: %s", call, a.status, a.body)
			return a
		}
		delete(left, call)
		kind := "application/json"
		if status >= 400 {
			kind = "application/problem+json"
		}
		schema := d.at(d["paths"], root+path, strings.ToLower(method), "responses", fmt.Sprint(status), "content", kind, "schema")
		if schema == nil {
			t.Errorf("%s is not described", call)
			return a
		}
		var v any
		a.into(t, &v)
		for _, m := range d.misfits(call, v, schema) {
			t.Error(m)
		}
		return a
	}

	gone := ids["order"]
	order := `{"customer":"Acme","product":"Box","quantity":5,"due_date":"2026-11-30","unit":"pcs","status":"new","notes":"n","number":"N1","created_by":"eve"}`
	var o workspace.Order
	expect(p.worker, "POST", "/orders", order, "k", 201).into(t, &o)
	expect(p.worker, "POST", "/orders", order, "k", 200)
	line := `{"description":"Cut","quantity":12.5,"unit":"sheets"}`
	var item workspace.Item
	expect(p.worker, "POST", "/inventory", `{"sku":"A","name":"Film","quantity":10,"unit":"rolls","reorder_level":"4.5","location":"B2"}`, "k", 201).into(t, &item)
	expect(p.worker, "POST", "/inventory", `{"sku":"A","name":"Film","quantity":10,"unit":"rolls","reorder_level":"4.5","location":"B2"}`, "k", 200)
	move := `{"delta":-1.5,"reason":"Used","worker":"ben"}`
	expect(p.worker, "GET", "/orders/{order}", "", "", 404)
	expect(p.worker, "PATCH", "/orders/{order}", `{}`, "", 404)
	expect(p.worker, "POST", "/orders/{order}/lines", line, "", 404)
	expect(p.worker, "POST", "/inventory/{item}/adjust", move, "", 404)
	ids["order"], ids["item"] = o.ID, item.ID

	var first, again workspace.Line
	expect(p.worker, "POST", "/orders/{order}/lines", line, "k", 201).into(t, &first)
	expect(p.worker, "POST", "/orders/{order}/lines", line, "k", 200).into(t, &again)
	if first.Position != 1 || first != again {
		t.Errorf("the line is %+v, and once more %+v", first, again)
	}
	expect(p.worker, "PATCH", "/orders/{order}", `{"status":"planned","due_date":""}`, "", 200)
	expect(p.worker, "PATCH", "/orders/{order}", `{"notes":"x","updated_at":"2020-01-01T00:00:00Z"}`, "", 409)
	expect(p.look, "GET", "/orders/{order}", "", "", 200)
	expect(p.look, "GET", "/orders?limit=1&status=open&q=acme", "", "", 200)
	expect(p.look, "GET", "/orders?limit=0&status=eaten&after="+gone, "", "", 422)
	expect(p.look, "GET", "/orders/{order}?lines=1", "", "", 422)
	expect(p.look, "GET", "/inventory?lwo=1", "", "", 422)
	expect(p.look, "GET", "/inventory?low=1", "", "", 200)
	expect(p.look, "GET", "/inventory?q=film", "", "", 200)
	expect(p.worker, "POST", "/inventory/{item}/adjust", move, "", 200)
	for _, w := range []struct{ method, path string }{
		{"POST", "/orders"}, {"PATCH", "/orders/{order}"}, {"POST", "/orders/{order}/lines"}, {"POST", "/inventory"}, {"POST", "/inventory/{item}/adjust"},
	} {
		expect(p.worker, w.method, w.path, `{"colour":"red"}`, "", 400)
		expect(p.worker, w.method, w.path, `{"customer":"`+strings.Repeat("x", 70000)+`"}`, "", 413)
		expect(p.look, w.method, w.path, `{}`, "", 403)
	}
	expect(p.worker, "POST", "/orders", `{}`, "", 422)
	expect(p.worker, "PATCH", "/orders/{order}", `{"quantity":0,"created_by":"eve"}`, "", 422)
	expect(p.worker, "POST", "/orders/{order}/lines", `{}`, "", 422)
	expect(p.worker, "POST", "/inventory", `{}`, "", 422)
	expect(p.worker, "POST", "/inventory/{item}/adjust", `{"delta":-99,"reason":"Used"}`, "", 422)
	for call := range left {
		f := strings.Fields(call)
		if f[2] == "401" {
			expect("hf_x", f[0], strings.NewReplacer(root, "", "/orders/{id}", "/orders/{order}", "/inventory/{id}", "/inventory/{item}").Replace(f[1]), "{}", "", 401)
		}
	}
	for call := range left {
		t.Errorf("described, but it could not be had: %s", call)
	}
}
