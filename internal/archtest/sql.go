package archtest

import (
	"go/ast"
	"go/token"
	"regexp"
	"strconv"
	"strings"
)

// sqlBuilders may make SQL text while the program runs. Everyone else writes it
// down and passes values as parameters.
var sqlBuilders = []string{
	"internal/capture", // publications and slots of the registered tables
	"internal/apply",   // statements for tables that are known at run time only
	"internal/schema",  // catalog reads and what follows from them
	"internal/queries",
	"internal/pgcluster", // CREATE ROLE and the like take no parameters
	"internal/pgtest",    // databases for tests
	"test",
}

// sqlText is how an SQL statement begins. It is only looked for at the begin of
// a text, where prose rarely looks like it.
var sqlText = regexp.MustCompile(`(?i)^\s*(select\s|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s|merge\s+into\s|copy\s+\S+\s+(from|to|\()|` +
	`truncate\s|with\s+\S+\s+as\s|(create|alter|drop)\s+(table|role|user|database|publication|subscription|schema|index|type|function|unlogged|temp)\s|grant\s+\S+\s+(on|to)\s|set\s+(local|session)\s|lock\s+table\s)`)

// BuiltSQL reports SQL text that is put together at run time outside the rooms
// which may: with fmt.Sprintf or with + of something that is not a constant.
func (h *House) BuiltSQL() []Finding {
	var out []Finding
	for _, r := range h.Rooms {
		if builder(r.Path) {
			continue
		}
		consts := constants(r)
		for _, f := range r.Files {
			if f.Test {
				continue
			}
			ast.Inspect(f.AST, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					if isCall(n, "fmt", "Sprintf", "Appendf", "Fprintf") && startsSQL(n.Args) {
						out = append(out, Finding{h.Fset.Position(n.Pos()), "builds SQL text with fmt; write the statement down and pass parameters"})
					}
				case *ast.BinaryExpr:
					if n.Op != token.ADD {
						return true
					}
					parts := operands(n)
					if startsSQL(parts[:1]) && !allConstant(parts, consts) {
						out = append(out, Finding{h.Fset.Position(n.Pos()), "builds SQL text with +; write the statement down and pass parameters"})
					}
					return false
				}
				return true
			})
		}
	}
	return out
}

func builder(room string) bool {
	for _, b := range sqlBuilders {
		if within(room, b) {
			return true
		}
	}
	return false
}

// constants returns the names of a package's constants.
func constants(r *Room) map[string]bool {
	names := make(map[string]bool)
	for _, f := range r.Files {
		ast.Inspect(f.AST, func(n ast.Node) bool {
			if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
				for _, s := range d.Specs {
					for _, name := range s.(*ast.ValueSpec).Names {
						names[name.Name] = true
					}
				}
			}
			return true
		})
	}
	return names
}

// operands flattens a + b + c.
func operands(e ast.Expr) []ast.Expr {
	switch b := e.(type) {
	case *ast.ParenExpr:
		return operands(b.X)
	case *ast.BinaryExpr:
		if b.Op == token.ADD {
			return append(operands(b.X), operands(b.Y)...)
		}
	}
	return []ast.Expr{e}
}

func allConstant(parts []ast.Expr, consts map[string]bool) bool {
	for _, p := range parts {
		switch p := p.(type) {
		case *ast.BasicLit:
		case *ast.Ident:
			if !consts[p.Name] {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// startsSQL reports whether one of the expressions is a literal that begins as
// an SQL statement does.
func startsSQL(exprs []ast.Expr) bool {
	for _, e := range exprs {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			continue
		}
		if s, err := strconv.Unquote(lit.Value); err == nil && sqlText.MatchString(stripComments(s)) {
			return true
		}
	}
	return false
}

func stripComments(s string) string {
	for strings.HasPrefix(strings.TrimSpace(s), "--") {
		_, s, _ = strings.Cut(s, "\n")
	}
	return s
}

// isCall reports whether c calls pkg.name for one of names.
func isCall(c *ast.CallExpr, pkg string, names ...string) bool {
	sel, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok || x.Name != pkg {
		return false
	}
	for _, n := range names {
		if sel.Sel.Name == n {
			return true
		}
	}
	return false
}
