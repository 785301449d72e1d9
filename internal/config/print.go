package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml"
)

// docWidth is the column at which the comments are wrapped.
const docWidth = 80

// Print writes the settings that v, a struct or a pointer to one, holds as YAML
// that Load reads, with the `doc` tags as comments. Of a struct that holds the
// defaults it makes the manual of the file. Nil pointers have no value: their
// keys are written as comments.
func Print(w io.Writer, v any) error {
	rv := reflect.ValueOf(v)
	for rv.Kind() == reflect.Pointer {
		rv = rv.Elem()
	}
	if rv.Kind() != reflect.Struct {
		return fmt.Errorf("print configuration: %T is not a struct", v)
	}
	p := &printer{}
	p.structLines(rv, 0, true)
	if p.err != nil {
		return fmt.Errorf("print configuration: %w", p.err)
	}
	_, err := io.WriteString(w, strings.TrimLeft(p.b.String(), "\n"))
	return err
}

type printer struct {
	b   strings.Builder
	err error
}

func (p *printer) line(depth int, format string, args ...any) {
	p.b.WriteString(strings.TrimRight(strings.Repeat("  ", depth)+fmt.Sprintf(format, args...), " ") + "\n")
}

func (p *printer) structLines(v reflect.Value, depth int, docs bool) {
	for _, f := range fields(v.Type()) {
		if docs && f.doc != "" {
			p.b.WriteString("\n")
			for _, l := range wrap(f.doc, docWidth-2*depth-2) {
				p.line(depth, "# %s", l)
			}
		}
		p.entry(f.key, v.Field(f.index), depth, docs)
	}
}

// entry writes "key: value", with the value below the key if it has parts.
func (p *printer) entry(key string, v reflect.Value, depth int, docs bool) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			p.line(depth, "# %s:", key)
			return
		}
		v = v.Elem()
	}
	if text, ok := p.scalar(v); ok {
		p.line(depth, "%s: %s", key, text)
		return
	}
	p.line(depth, "%s:", key)
	p.parts(v, depth+1, docs)
}

func (p *printer) parts(v reflect.Value, depth int, docs bool) {
	switch v.Kind() {
	case reflect.Struct:
		p.structLines(v, depth, docs)
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			p.entry(quote(k.String()), v.MapIndex(k), depth, false)
		}
	case reflect.Slice:
		for i := range v.Len() {
			p.item(v.Index(i), depth)
		}
	}
}

// item writes one element of a list: its first line begins with the dash.
func (p *printer) item(v reflect.Value, depth int) {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if text, ok := p.scalar(v); ok {
		p.line(depth, "- %s", text)
		return
	}
	sub := &printer{}
	sub.parts(v, depth+1, false)
	p.err = cmpErr(p.err, sub.err)
	indent := strings.Repeat("  ", depth)
	p.b.WriteString(indent + "- " + strings.TrimPrefix(sub.b.String(), indent+"  "))
}

// scalar returns v in one line, if it is of a kind that is written so.
func (p *printer) scalar(v reflect.Value) (string, bool) {
	if d, ok := v.Interface().(time.Duration); ok {
		return Duration(d).String(), true
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		p.err = cmpErr(p.err, err)
		return quote(string(text)), true
	}
	switch v.Kind() {
	case reflect.String:
		return quote(v.String()), true
	case reflect.Slice:
		return "[]", v.Len() == 0
	case reflect.Map:
		return "{}", v.Len() == 0
	case reflect.Struct:
		return "{}", len(fields(v.Type())) == 0
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		return fmt.Sprint(v.Interface()), true
	}
	p.err = cmpErr(p.err, fmt.Errorf("%s is not supported", v.Type()))
	return "", true
}

func cmpErr(first, next error) error {
	if first != nil {
		return first
	}
	return next
}

// quote returns s as YAML in one line, with quotes only where they are needed.
func quote(s string) string {
	plain := strings.IndexFunc(s, func(r rune) bool { return r == '\uFFFD' || !unicode.IsPrint(r) }) < 0
	if out, err := yaml.Marshal(s); err == nil && plain {
		return strings.TrimSuffix(string(out), "\n")
	}
	out, _ := json.Marshal(s) // a string cannot fail
	return string(out)
}

// wrap breaks text into lines of at most width columns, at spaces.
func wrap(text string, width int) []string {
	var lines []string
	for word := range strings.FieldsSeq(text) {
		if n := len(lines); n > 0 && len(lines[n-1])+1+len(word) <= width {
			lines[n-1] += " " + word
			continue
		}
		lines = append(lines, word)
	}
	return lines
}
