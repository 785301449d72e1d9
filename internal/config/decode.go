package config

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"
)

// field is one setting of a struct.
type field struct {
	key, doc string
	index    int
}

// fields lists the settings of a struct type in their order.
func fields(t reflect.Type) []field {
	var fs []field
	for i := range t.NumField() {
		f := t.Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if !f.IsExported() || key == "-" {
			continue
		}
		if key == "" {
			key = snake(f.Name)
		}
		fs = append(fs, field{key: key, doc: f.Tag.Get("doc"), index: i})
	}
	return fs
}

// snake turns QueueMaxBytes into queue_max_bytes and TLSPort into tls_port.
func snake(name string) string {
	var b strings.Builder
	rs := []rune(name)
	for i, r := range rs {
		if unicode.IsUpper(r) && i > 0 &&
			(!unicode.IsUpper(rs[i-1]) || i+1 < len(rs) && unicode.IsLower(rs[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// decode sets v, which can be set, to what n says, and reports what does not fit.
func (r *reader) decode(path string, n ast.Node, v reflect.Value) {
	r.nodes[path] = n
	switch n := n.(type) {
	case *ast.NullNode:
		r.report(path, n, "has no value; give it one or remove the key")
		return
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MappingKeyNode:
		r.report(path, n, "uses a YAML anchor, alias, tag or ?; write the value itself")
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if text, ok := r.scalar(path, n); ok {
			if err := u.UnmarshalText([]byte(text)); err != nil {
				r.report(path, n, "%v", err)
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		if !v.IsNil() {
			p.Elem().Set(v.Elem())
		}
		v.Set(p)
		r.decode(path, n, p.Elem())
	case reflect.Struct:
		r.decodeStruct(path, n, v)
	case reflect.Slice:
		r.decodeSlice(path, n, v)
	case reflect.Map:
		r.decodeMap(path, n, v)
	default:
		if text, ok := r.scalar(path, n); ok {
			if err := setScalar(v, n, text); err != nil {
				r.report(path, n, "%v", err)
			}
		}
	}
}

func (r *reader) decodeStruct(path string, n ast.Node, v reflect.Value) {
	byKey := make(map[string]field)
	var known []string
	for _, f := range fields(v.Type()) {
		byKey[f.key] = f
		known = append(known, f.key)
	}
	r.entries(path, n, func(at, key string, keyNode, value ast.Node) {
		if f, ok := byKey[key]; ok {
			r.decode(at, value, v.Field(f.index))
			return
		}
		if like := nearest(key, known); like != "" {
			r.report(at, keyNode, "is not a setting; did you mean %s?", like)
			return
		}
		r.report(at, keyNode, "is not a setting; known here: %s", strings.Join(known, ", "))
	})
}

func (r *reader) decodeMap(path string, n ast.Node, v reflect.Value) {
	if v.Type().Key().Kind() != reflect.String {
		r.report(path, n, "cannot be read: %s is not supported", v.Type())
		return
	}
	// What the file says replaces the default; the two are not merged.
	m := reflect.MakeMap(v.Type())
	r.entries(path, n, func(at, key string, _, value ast.Node) {
		elem := reflect.New(v.Type().Elem()).Elem()
		r.decode(at, value, elem)
		m.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), elem)
	})
	v.Set(m)
}

func (r *reader) decodeSlice(path string, n ast.Node, v reflect.Value) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		r.report(path, n, "must be a list, one item a line beginning with a dash")
		return
	}
	s := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, item := range seq.Values {
		r.decode(fmt.Sprintf("%s[%d]", path, i), item, s.Index(i))
	}
	v.Set(s)
}

// entries calls each for the keys of a mapping, each key once.
func (r *reader) entries(path string, n ast.Node, each func(at, key string, keyNode, value ast.Node)) {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		r.report(path, n, "must be settings of the form key: value")
		return
	}
	seen := make(map[string]int)
	for _, mv := range values {
		if mv.Key.IsMergeKey() {
			r.report(path, mv, "uses a YAML merge key; write the values themselves")
			continue
		}
		key := mv.Key.GetToken().Value
		if s, ok := mv.Key.(*ast.StringNode); ok {
			key = s.Value
		}
		at := join(path, key)
		if line, twice := seen[key]; twice {
			r.report(at, mv.Key, "is set twice, first in line %d", line)
			continue
		}
		seen[key], _ = position(mv.Key.GetToken())
		each(at, key, mv.Key, mv.Value)
	}
}

// scalar returns the text of a single value as it was written.
func (r *reader) scalar(path string, n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	r.report(path, n, "must be a single value")
	return "", false
}

func setScalar(v reflect.Value, n ast.Node, text string) error {
	if v.Type() == reflect.TypeFor[time.Duration]() {
		return (*Duration)(v.Addr().Interface().(*time.Duration)).UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			return fmt.Errorf("must be true or false, not %q", text)
		}
		v.SetBool(b.Value)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(text, 10, 64)
		if err != nil || v.OverflowInt(i) {
			limit := int64(1)<<(v.Type().Bits()-1) - 1
			return fmt.Errorf("must be a whole number from %d to %d, not %q", -limit-1, limit, text)
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		u, err := strconv.ParseUint(text, 10, 64)
		if err != nil || v.OverflowUint(u) {
			return fmt.Errorf("must be a whole number from 0 to %d, not %q", ^uint64(0)>>(64-v.Type().Bits()), text)
		}
		v.SetUint(u)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || v.OverflowFloat(f) {
			return fmt.Errorf("must be a number, not %q", text)
		}
		v.SetFloat(f)
	default:
		return fmt.Errorf("cannot be read: %s is not supported", v.Type())
	}
	return nil
}
