package archtest

import (
	"go/ast"
	"go/token"
	"strconv"
)

// Goroutines reports go statements outside internal/run whose function does not
// wait for them: nobody would notice that they hang, panic or outlive a test. One
// that does nothing but collect a child process and say so is fine: it ends with
// the child, and whoever stops the child waits for its word.
func (h *House) Goroutines() []Finding {
	var out []Finding
	for _, r := range h.Rooms {
		if r.Path == "internal/run" {
			continue
		}
		for _, f := range r.Files {
			for _, d := range f.AST.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || fn.Body == nil {
					continue
				}
				var started []token.Pos
				waits := false
				inspectOutsideGo(fn.Body, func(n ast.Node) {
					switch n := n.(type) {
					case *ast.GoStmt:
						if !collectsChild(n) {
							started = append(started, n.Pos())
						}
					case *ast.UnaryExpr:
						waits = waits || n.Op == token.ARROW
					case *ast.RangeStmt:
						// Ranging over a channel waits too; which it is only the types know.
						_, isName := n.X.(*ast.Ident)
						waits = waits || isName
					case *ast.CallExpr:
						sel, ok := n.Fun.(*ast.SelectorExpr)
						waits = waits || ok && sel.Sel.Name == "Wait"
					}
				})
				if waits {
					continue
				}
				for _, pos := range started {
					out = append(out, Finding{h.Fset.Position(pos), "starts a goroutine that this function does not wait for; use internal/run, or wait here"})
				}
			}
		}
	}
	return out
}

// collectsChild reports whether a go statement starts a function of at most three
// statements, of which one calls a Wait and one closes or sends on a channel.
func collectsChild(g *ast.GoStmt) bool {
	fn, ok := g.Call.Fun.(*ast.FuncLit)
	if !ok || len(fn.Body.List) > 3 {
		return false
	}
	waits, tells := false, false
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SendStmt:
			tells = true
		case *ast.CallExpr:
			if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Wait" {
				waits = true
			}
			if id, ok := n.Fun.(*ast.Ident); ok && id.Name == "close" {
				tells = true
			}
		}
		return true
	})
	return waits && tells
}

// inspectOutsideGo visits all nodes but those inside the functions that go
// statements start: what these wait for is not what their starter waits for.
func inspectOutsideGo(root ast.Node, visit func(ast.Node)) {
	ast.Inspect(root, func(n ast.Node) bool {
		if n == nil {
			return false
		}
		visit(n)
		g, isGo := n.(*ast.GoStmt)
		if isGo {
			for _, arg := range g.Call.Args {
				inspectOutsideGo(arg, visit)
			}
		}
		return !isGo
	})
}

// TestHabits reports tests that sleep on the real clock, which makes them slow
// or flaky, and tests that may skip themselves, which makes them silent.
func (h *House) TestHabits() []Finding {
	var out []Finding
	for _, r := range h.Rooms {
		for _, f := range r.Files {
			if !f.Test {
				continue
			}
			fake := imports(f, "testing/synctest")
			ast.Inspect(f.AST, func(n ast.Node) bool {
				c, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if isCall(c, "time", "Sleep") && !fake {
					out = append(out, Finding{h.Fset.Position(c.Pos()), "sleeps; wait for the condition with a deadline, or use testing/synctest"})
				}
				for _, t := range []string{"t", "tb", "b"} {
					if isCall(c, t, "Skip", "Skipf", "SkipNow") {
						out = append(out, Finding{h.Fset.Position(c.Pos()), "skips itself; what a test needs is installed by scripts/setup"})
					}
				}
				return true
			})
		}
	}
	return out
}

func imports(f *File, path string) bool {
	for _, imp := range f.AST.Imports {
		if p, err := strconv.Unquote(imp.Path.Value); err == nil && p == path {
			return true
		}
	}
	return false
}

// Replacements reports functions outside internal/durable that make a file beside
// another and put it in its place: each such one forgets another step.
func (h *House) Replacements() []Finding {
	var out []Finding
	for _, r := range h.Rooms {
		if r.Path == "internal/durable" {
			continue
		}
		for _, f := range r.Files {
			for _, d := range f.AST.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || fn.Body == nil || f.Test {
					continue
				}
				makes, renames := false, token.NoPos
				ast.Inspect(fn.Body, func(n ast.Node) bool {
					if c, ok := n.(*ast.CallExpr); ok {
						makes = makes || isCall(c, "os", "CreateTemp", "Create", "OpenFile", "WriteFile")
						if isCall(c, "os", "Rename") {
							renames = c.Pos()
						}
					}
					return true
				})
				if makes && renames.IsValid() {
					out = append(out, Finding{h.Fset.Position(renames), "replaces a file; use internal/durable"})
				}
			}
		}
	}
	return out
}

// LogKeys reports log lines that carry an error under a key other than err.
func (h *House) LogKeys() []Finding {
	var out []Finding
	for _, r := range h.Rooms {
		for _, f := range r.Files {
			ast.Inspect(f.AST, func(n ast.Node) bool {
				c, ok := n.(*ast.CallExpr)
				if !ok || !isLog(c) {
					return true
				}
				for i, a := range c.Args[:max(len(c.Args)-1, 0)] {
					lit, ok := a.(*ast.BasicLit)
					if !ok || i == 0 || lit.Kind != token.STRING {
						continue
					}
					switch key, _ := strconv.Unquote(lit.Value); key {
					case "error", "Error", "e", "cause":
						out = append(out, Finding{h.Fset.Position(a.Pos()), "logs with the key " + lit.Value + `; the key for errors is "err"`})
					}
				}
				return true
			})
		}
	}
	return out
}

func isLog(c *ast.CallExpr) bool {
	sel, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	switch sel.Sel.Name {
	case "Debug", "Info", "Warn", "Error", "DebugContext", "InfoContext", "WarnContext", "ErrorContext", "Log", "With":
		return true
	}
	return false
}
