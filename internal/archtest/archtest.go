// Package archtest holds the house to its plan: who may import whom, that each
// package says where it stands, what ARCHITECTURE.md says about it, and a few
// habits that a reviewer would otherwise have to look for.
//
// It reads the source files only, so it needs no build and takes a second.
//
// In:  `make test`; cmd/rooms, which rewrites ARCHITECTURE.md's table.
// Out: nothing; it reports what breaks a rule, with its file and line.
package archtest

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Module is the import path of the house.
const Module = "github.com/agogsaas/holdfast"

// House is all Go packages of the module.
type House struct {
	Fset  *token.FileSet
	Rooms []*Room // by path
}

// Room is one package: one folder.
type Room struct {
	Path    string // slash-separated, relative to the module's root
	Name    string // of the package
	Line    string // what it is, the first sentence of its comment
	In, Out string
	Doc     string  // the whole package comment
	Files   []*File // by name
}

// File is one Go file.
type File struct {
	Path string // relative to the module's root
	Test bool
	AST  *ast.File
}

// Finding is one place that breaks a rule.
type Finding struct {
	Pos  token.Position
	Text string
}

func (f Finding) String() string {
	if f.Pos.Line == 0 {
		return fmt.Sprintf("%s: %s", f.Pos.Filename, f.Text)
	}
	return fmt.Sprintf("%s:%d: %s", f.Pos.Filename, f.Pos.Line, f.Text)
}

// Root returns the module's root: the nearest folder at or above the working
// directory that has a go.mod.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod at or above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

// Load reads all Go files that belong to a build on this system.
func Load(root string) (*House, error) {
	h := &House{Fset: token.NewFileSet()}
	rooms := make(map[string]*Room)
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != root && skipFolder(d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		if ok, err := build.Default.MatchFile(filepath.Dir(name), d.Name()); err != nil || !ok {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return h.add(rooms, filepath.ToSlash(rel), src)
	})
	if err != nil {
		return nil, fmt.Errorf("read the house: %w", err)
	}
	h.finish(rooms)
	return h, nil
}

func skipFolder(name string) bool {
	return name == "node_modules" || name == "testdata" || name == "bin" || name[0] == '.' || name[0] == '_'
}

func (h *House) add(rooms map[string]*Room, file string, src []byte) error {
	tree, err := parser.ParseFile(h.Fset, file, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	dir := path.Dir(file)
	if rooms[dir] == nil {
		rooms[dir] = &Room{Path: dir}
	}
	rooms[dir].Files = append(rooms[dir].Files, &File{Path: file, Test: strings.HasSuffix(file, "_test.go"), AST: tree})
	return nil
}

func (h *House) finish(rooms map[string]*Room) {
	for _, r := range rooms {
		for _, f := range r.Files {
			if !f.Test {
				r.Name = f.AST.Name.Name
				// Of several comments the one that says where the room stands counts.
				if text := f.AST.Doc.Text(); r.Doc == "" || strings.Contains(text, "\nIn:") {
					r.Doc = text
				}
			}
		}
		if r.Name == "" {
			continue // tests only: they stand in nobody's way
		}
		r.Line = firstSentence(r.Doc)
		r.In, r.Out = inOut(r.Doc)
		h.Rooms = append(h.Rooms, r)
	}
	slices.SortFunc(h.Rooms, func(a, b *Room) int { return strings.Compare(a.Path, b.Path) })
}

// firstSentence returns what follows "Package name" in the comment's first sentence.
func firstSentence(text string) string {
	s := new(doc.Package).Synopsis(text)
	for _, word := range []string{"Package ", "Command "} {
		if rest, ok := strings.CutPrefix(s, word); ok {
			_, s, _ = strings.Cut(rest, " ")
		}
	}
	return strings.TrimSuffix(s, ".")
}

// inOut returns what the In: and Out: lines of a package comment say. A line
// that begins with neither continues the one before; an empty one ends it.
func inOut(text string) (in, out string) {
	var at *string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "In:"); ok {
			at, line = &in, rest
		} else if rest, ok := strings.CutPrefix(line, "Out:"); ok {
			at, line = &out, rest
		}
		if line == "" {
			at = nil
		}
		if at != nil {
			*at = strings.TrimSpace(*at + " " + strings.TrimSpace(line))
		}
	}
	return in, out
}
