// Package ddl says which statements of a migration are safe for a fleet, where
// the region and the facilities never change at the same moment, and for each
// that is not, how the same end is reached in steps that are.
//
// A statement is safe when rows keep flowing while one side has it and the other
// has not yet. What cannot be seen from the text (DO blocks, calls) is neither.
//
// In:  cloud/cmd/holdfastctl, with migration files.
// Out: nothing; it answers with findings.
package ddl

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/wasilibs/go-pgquery/parser"
)

// Verdict is what is thought of a statement.
type Verdict string

// The verdicts.
const (
	Safe    Verdict = "safe"
	Unsafe  Verdict = "unsafe"
	Unknown Verdict = "cannot tell"
)

// Sides of a Step, and who goes first.
const (
	Region     = "region"
	Facilities = "facilities"
	Both       = "both" // in any order
	People     = "people"
)

// Step is one step of a recipe.
type Step struct {
	// Where it is done: region, facilities (each of them), both, or people for
	// what no SQL does.
	Where string `json:"where"`
	What  string `json:"what"`
	SQL   string `json:"sql,omitempty"`
}

// Finding is what one command of a statement means for the fleet.
type Finding struct {
	File      string  `json:"file,omitempty"`
	Line      int     `json:"line"`
	Column    int     `json:"column"` // in characters, from 1
	Verdict   Verdict `json:"verdict"`
	Table     string  `json:"table,omitempty"`
	Statement string  `json:"statement"` // its beginning
	What      string  `json:"what"`      // what it does, and why that matters
	// First is the side that goes first; empty where it does not matter.
	First  string `json:"first,omitempty"`
	Recipe []Step `json:"recipe,omitempty"`
}

// ParseError says where a file is not SQL.
type ParseError struct {
	Line, Column int
	Text         string
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Text)
}

// Table is what is known of a table before the migration.
type Table struct {
	// Class is fact, event or master; empty for a table that is not synced.
	Class string
	// FacilityColumn says whose row it is; empty where nothing does.
	FacilityColumn string
	// Types are the columns with their types as PostgreSQL writes them; nil
	// when they are not known.
	Types map[string]string
}

// Checker judges migrations one after the other, each as if those before it had
// been carried out.
type Checker struct {
	tables map[string]*Table
	// all is true when every table that was not created here counts as synced.
	all bool
}

// New is a checker that knows the tables by "schema.name". With all, tables that
// it does not know count as synced too: the cautious answer when nobody can be asked.
func New(tables map[string]Table, all bool) *Checker {
	c := &Checker{tables: make(map[string]*Table, len(tables)), all: all}
	for id, t := range tables {
		types := make(map[string]string, len(t.Types))
		for column, text := range t.Types {
			types[column] = canonical(text)
		}
		t.Types = types
		c.tables[id] = &t
	}
	return c
}

// Learn takes in what a file that was carried out long ago says of tables and
// columns, and judges nothing.
func (c *Checker) Learn(sql string) error {
	known := c.tables
	c.tables = map[string]*Table{}
	defer func() {
		for id, t := range c.tables {
			old := known[id]
			switch {
			case old == nil && c.all:
				known[id] = &Table{Class: anyClass, Types: t.Types}
			case old == nil:
				known[id] = t
			case len(old.Types) == 0:
				old.Types = t.Types
			}
		}
		c.tables = known
	}()
	_, err := c.Check(sql)
	return err
}

// anyClass stands for a table that is synced in a way that nobody has told.
const anyClass = "any"

// Check judges one file. The error is a *ParseError.
func (c *Checker) Check(sql string) ([]Finding, error) {
	sql = upPart(sql)
	tree, err := parse(sql)
	if err != nil {
		return nil, err
	}
	f := &file{Checker: c, sql: sql, schema: "public"}
	for _, s := range tree.Statements {
		f.begin, f.text = s.extent(sql)
		f.statement(s.Node)
	}
	return f.findings, nil
}

func parse(sql string) (*tree, error) {
	text, err := parser.ParseToJSON(sql)
	if e, ok := errors.AsType[*parser.Error](err); ok {
		at := len(sql)
		if n := e.Cursorpos - 1; n >= 0 && n < utf8.RuneCountInString(sql) {
			at = len(string([]rune(sql)[:n]))
		}
		line, column := position(sql, at)
		return nil, &ParseError{line, column, e.Message}
	}
	if err != nil {
		return nil, &ParseError{1, 1, err.Error()}
	}
	return decodeTree(text)
}

// upPart blanks what goose would not run on the way up, so that positions stay.
// A file without its annotations is left as it is.
func upPart(sql string) string {
	var b strings.Builder
	down := false
	for line := range strings.Lines(sql) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "--"); ok {
			switch strings.ToLower(strings.Join(strings.Fields(rest), " ")) {
			case "+goose up":
				down = false
			case "+goose down":
				down = true
			}
		}
		if !down {
			b.WriteString(line)
			continue
		}
		for _, r := range line {
			if r != '\n' && r != '\r' {
				r = ' '
			}
			b.WriteRune(r)
		}
	}
	return b.String()
}

// position is the line and the column of a byte, both from 1.
func position(sql string, at int) (line, column int) {
	before := sql[:min(at, len(sql))]
	line = strings.Count(before, "\n") + 1
	return line, utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
}

// file is one run over one file.
type file struct {
	*Checker
	sql      string
	schema   string // first of the search path
	begin    int    // of the statement
	text     string // of it
	findings []Finding
}

const statementMax = 100 // characters of a statement that are shown

// add notes a finding at a byte of the file; 0 is the statement's begin.
func (f *file) add(at int, found Finding) {
	if at < f.begin {
		at = f.begin
	}
	found.Line, found.Column = position(f.sql, at)
	words := []rune(strings.Join(strings.Fields(f.text), " "))
	if len(words) > statementMax {
		words = append(words[:statementMax], '…')
	}
	found.Statement = string(words)
	f.findings = append(f.findings, found)
}

func (f *file) safe(at int, table, what, first string) {
	f.add(at, Finding{Verdict: Safe, Table: table, What: what, First: first})
}

func (f *file) unknown(at int, table, what string) {
	f.add(at, Finding{Verdict: Unknown, Table: table, What: what})
}

// target is a table of a statement.
type target struct {
	schema, name string
	*Table
	synced bool
}

func (t *target) id() string { return t.schema + "." + t.name }

// sql is the name as SQL needs it.
func (t *target) sql() string { return quote(t.schema) + "." + quote(t.name) }

// sender is the side that writes the rows, receiver the other one.
func (t *target) sender() string {
	if t.Class == "master" {
		return Region
	}
	return Facilities
}

func (t *target) receiver() string {
	if t.Class == "master" {
		return Facilities
	}
	return Region
}

// find is the table that a name means here.
func (f *file) find(r rangeVar) *target {
	t := &target{schema: r.Schema, name: r.Name}
	if t.schema == "" {
		t.schema = f.schema
	}
	if r.Persistence == "t" {
		t.schema = "pg_temp"
	}
	known := f.tables[t.id()]
	if known == nil {
		known = &Table{}
		if f.all && t.schema != "pg_temp" {
			known.Class = anyClass
		}
		f.tables[t.id()] = known
	}
	if known.Types == nil {
		known.Types = map[string]string{}
	}
	t.Table, t.synced = known, known.Class != ""
	return t
}

// quote writes a name as SQL needs it, plainly where that will do.
func quote(name string) string {
	for i, r := range name {
		if r >= 'a' && r <= 'z' || r == '_' || i > 0 && r >= '0' && r <= '9' {
			continue
		}
		return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
	}
	return name
}
