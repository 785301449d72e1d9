package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Parse is Load for data that is already in memory; name stands for the file in
// error messages.
//
// Its steps: parse the text into nodes; walk nodes and struct side by side and
// set what fits; ask the structs to validate themselves; report everything.
func Parse(name string, data []byte, into any) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("configuration must be read into a pointer to a struct, not %T", into)
	}
	r := &reader{nodes: make(map[string]ast.Node), bad: make(map[string]bool)}
	if root := r.parse(data); root != nil {
		r.decode("", root, v.Elem())
	}
	// A text that is not YAML says nothing about the settings.
	if !r.unreadable {
		r.validate("", v.Elem())
	}
	if len(r.problems) == 0 {
		return nil
	}
	sortProblems(r.problems)
	return &Error{File: name, Problems: r.problems, lines: strings.Split(string(data), "\n")}
}

// reader collects what one file says and what is wrong with it.
type reader struct {
	problems   []Problem
	nodes      map[string]ast.Node // what the file has, by path
	bad        map[string]bool     // paths with a problem already
	unreadable bool
}

func (r *reader) parse(data []byte) (root ast.Node) {
	// The parser is known to panic on some malformed texts.
	defer func() {
		if p := recover(); p != nil {
			r.unreadable = true
			r.problems = append(r.problems, Problem{Text: fmt.Sprintf("is not YAML: %v", p)})
			root = nil
		}
	}()
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.unreadable = true
		p := Problem{Text: "is not YAML: " + err.Error()}
		if syntax, ok := errors.AsType[yaml.Error](err); ok {
			p.Text = "is not YAML: " + syntax.GetMessage()
			p.Line, p.Column = position(syntax.GetToken())
		}
		r.problems = append(r.problems, p)
		return nil
	}
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		switch doc.Body.(type) {
		case *ast.CommentGroupNode, *ast.CommentNode:
			continue
		}
		if root != nil {
			r.report("", doc.Body, "there is more than one document in the file; remove the --- lines")
			return root
		}
		root = doc.Body
	}
	return root
}

func (r *reader) report(path string, at ast.Node, format string, args ...any) {
	p := Problem{Path: path, Text: fmt.Sprintf(format, args...)}
	if at != nil {
		p.Line, p.Column = position(start(at))
	}
	r.bad[path] = true
	r.problems = append(r.problems, p)
}

// start returns the token where a reader would look for a node. A mapping's own
// token is its first colon.
func start(n ast.Node) *token.Token {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return n.GetToken()
}

func position(t *token.Token) (line, column int) {
	if t == nil || t.Position == nil {
		return 0, 0
	}
	return t.Position.Line, t.Position.Column
}

// validate asks every struct at or below v, and gives its problems their place
// in the file. A setting that could not be read is not judged a second time.
func (r *reader) validate(path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			r.validate(path, v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			r.validate(fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	case reflect.Map:
		for iter := v.MapRange(); iter.Next(); {
			r.validate(join(path, iter.Key().String()), iter.Value())
		}
	case reflect.Struct:
		r.ask(path, v)
		for _, f := range fields(v.Type()) {
			r.validate(join(path, f.key), v.Field(f.index))
		}
	}
}

func (r *reader) ask(path string, v reflect.Value) {
	val, ok := v.Interface().(Validator)
	if !ok {
		ptr := reflect.New(v.Type()) // map values have no address
		ptr.Elem().Set(v)
		if val, ok = ptr.Interface().(Validator); !ok {
			return
		}
	}
	for _, p := range val.Validate() {
		at := join(path, p.Path)
		if p.Path == "" || strings.HasPrefix(p.Path, "[") {
			at = path + p.Path
		}
		if !r.bad[at] {
			r.report(at, r.nodes[at], "%s", p.Text)
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
