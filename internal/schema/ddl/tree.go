package ddl

import (
	"encoding/json"
	"fmt"
	"strings"
)

// tree is as much of PostgreSQL's parse tree as the rules look at. Nodes that
// may be of several kinds stay raw until a rule asks.
type tree struct {
	Statements []statement `json:"stmts"`
}

type statement struct {
	Node     node `json:"stmt"`
	Location int  `json:"stmt_location"`
	Len      int  `json:"stmt_len"` // 0: to the end
}

// extent is where the statement begins, without the blanks and comments before
// it, and its text.
func (s statement) extent(sql string) (int, string) {
	end := len(sql)
	if s.Len > 0 {
		end = min(s.Location+s.Len, end)
	}
	text := sql[min(s.Location, end):end]
	for {
		trimmed := strings.TrimLeft(text, " \t\r\n;")
		switch {
		case strings.HasPrefix(trimmed, "--"):
			_, trimmed, _ = strings.Cut(trimmed, "\n")
		case strings.HasPrefix(trimmed, "/*"):
			trimmed = afterComment(trimmed)
		default:
			return end - len(trimmed), trimmed
		}
		text = trimmed
	}
}

// afterComment drops the comment that text begins with; comments nest.
func afterComment(text string) string {
	depth := 0
	for i := 0; i+1 < len(text); i++ {
		switch text[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
		}
		if depth == 0 {
			return text[i+1:]
		}
	}
	return ""
}

// node is a JSON object with one key, the node's kind.
type node map[string]json.RawMessage

// kind is the node's kind and its content.
func (n node) kind() (string, json.RawMessage) {
	for k, raw := range n {
		return k, raw
	}
	return "", nil
}

func decodeTree(text string) (*tree, error) {
	var t tree
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return nil, &ParseError{1, 1, fmt.Sprintf("the parser's answer is not understood: %v", err)}
	}
	return &t, nil
}

// as decodes a node's content. What is missing stays zero; the parser's output
// is of one version, so that a mismatch is a mistake here and caught by tests.
func as[T any](raw json.RawMessage) T {
	var v T
	_ = json.Unmarshal(raw, &v)
	return v
}

type rangeVar struct {
	Schema      string `json:"schemaname"`
	Name        string `json:"relname"`
	Persistence string `json:"relpersistence"`
	Location    int    `json:"location"`
}

type typeName struct {
	Names       []node `json:"names"`
	Typmods     []node `json:"typmods"`
	ArrayBounds []node `json:"arrayBounds"`
	Location    int    `json:"location"`
}

type columnDef struct {
	Name        string    `json:"colname"`
	Type        *typeName `json:"typeName"`
	Constraints []node    `json:"constraints"`
	Using       node      `json:"raw_default"` // of ALTER … TYPE
	Location    int       `json:"location"`
}

type constraint struct {
	Kind      string    `json:"contype"`
	Name      string    `json:"conname"`
	Raw       node      `json:"raw_expr"`
	Keys      []node    `json:"keys"`
	FKAttrs   []node    `json:"fk_attrs"`
	PKTable   *rangeVar `json:"pktable"`
	PKAttrs   []node    `json:"pk_attrs"`
	IndexName string    `json:"indexname"`
	Location  int       `json:"location"`
}

type alterCmd struct {
	Kind     string `json:"subtype"`
	Name     string `json:"name"`
	Def      node   `json:"def"`
	Behavior string `json:"behavior"`
}

// texts are the strings of a list of String nodes.
func texts(list []node) []string {
	var out []string
	for _, n := range list {
		if kind, raw := n.kind(); kind == "String" {
			out = append(out, as[struct {
				Value string `json:"sval"`
			}](raw).Value)
		}
	}
	return out
}

// calls are the names of the functions that are called anywhere in a node.
func calls(raw json.RawMessage) []string {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return nil
	}
	var names []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if call, ok := v["FuncCall"].(map[string]any); ok {
				text, err := json.Marshal(call["funcname"])
				if parts := texts(as[[]node](text)); err == nil && len(parts) > 0 {
					names = append(names, parts[len(parts)-1])
				}
			}
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(v)
	return names
}

// constant reports whether an expression has the same value whenever and
// wherever it is computed.
func constant(n node) bool {
	kind, raw := n.kind()
	switch kind {
	case "A_Const":
		text := as[struct {
			S struct {
				Value string `json:"sval"`
			} `json:"sval"`
		}](raw).S.Value
		switch strings.ToLower(strings.TrimSpace(text)) {
		case "now", "today", "tomorrow", "yesterday": // as a date, these are the clock's
			return false
		}
		return true
	case "TypeCast":
		return constant(as[struct {
			Arg node `json:"arg"`
		}](raw).Arg)
	case "A_ArrayExpr":
		for _, e := range as[struct {
			Elements []node `json:"elements"`
		}](raw).Elements {
			if !constant(e) {
				return false
			}
		}
		return true
	case "A_Expr":
		e := as[struct {
			Left  node `json:"lexpr"`
			Right node `json:"rexpr"`
		}](raw)
		return (len(e.Left) == 0 || constant(e.Left)) && constant(e.Right)
	}
	return false
}
