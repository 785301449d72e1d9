package schema

import (
	"slices"
	"strconv"
	"strings"
)

// shortNames are PostgreSQL's own names of types whose standard name has blanks
// or is another.
var shortNames = map[string]string{
	"smallint": "int2", "integer": "int4", "bigint": "int8", "real": "float4", "double precision": "float8", "boolean": "bool",
	"character varying": "varchar", "character": "bpchar", "bit varying": "varbit",
	"timestamp without time zone": "timestamp", "timestamp with time zone": "timestamptz",
	"time without time zone": "time", "time with time zone": "timetz",
}

// ShortType is a type as the catalog's format_type writes it, by PostgreSQL's
// own name: varchar(20) for character varying(20).
func ShortType(formatted string) string {
	text, array := strings.CutSuffix(formatted, "[]")
	name, mods := text, ""
	if i, j := strings.IndexByte(text, '('), strings.IndexByte(text, ')'); i >= 0 && j > i {
		name, mods = text[:i]+text[j+1:], text[i:j+1] // timestamp(3) without time zone
	}
	if short, ok := shortNames[name]; ok {
		name = short
	}
	if array {
		return name + mods + "[]"
	}
	return name + mods
}

// SameType reports whether a column has the same type on both sides, as
// format_type writes it: by the same name, or, where each facility has a schema
// of its own in the region, by the name in the schema that place gives for the
// facility's.
func SameType(facility, region string, place func(schema string) string) bool {
	if facility == region {
		return true
	}
	fs, fn := splitSchema(facility)
	rs, rn := splitSchema(region)
	return fs != "" && rs != "" && fn == rn && place(fs) == rs
}

// splitSchema parts the schema off a formatted type; PostgreSQL's own types have
// none.
func splitSchema(formatted string) (schema, name string) {
	if !strings.HasPrefix(formatted, `"`) {
		schema, name, ok := strings.Cut(formatted, ".")
		if !ok || strings.ContainsAny(schema, `"( `) {
			return "", formatted
		}
		return schema, name
	}
	for i := 1; i < len(formatted); i++ {
		if formatted[i] != '"' {
			continue
		}
		if rest := formatted[i+1:]; strings.HasPrefix(rest, `"`) {
			i++ // a quote in the name
		} else if name, ok := strings.CutPrefix(rest, "."); ok {
			return strings.ReplaceAll(formatted[1:i], `""`, `"`), name
		} else {
			break
		}
	}
	return "", formatted
}

// SplitType is a short type's name and its modifiers.
func SplitType(t string) (name string, mods []int) {
	name, rest, ok := strings.Cut(t, "(")
	if !ok || !strings.HasSuffix(rest, ")") {
		return t, nil
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(rest, ")"), ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil {
			return t, nil
		}
		mods = append(mods, n)
	}
	return name, mods
}

// wholeNumbers are the integer types, smallest first.
var wholeNumbers = []string{"int2", "int4", "int8"}

// Widens reports whether each value of one type is the same value, and the same
// text, of the other. Both are short types. A float4 is not: 0.1 is another
// number as a float8.
func Widens(from, to string) bool {
	if from == to {
		return true
	}
	fn, fm := SplitType(from)
	tn, tm := SplitType(to)
	if i, j := slices.Index(wholeNumbers, fn), slices.Index(wholeNumbers, tn); i >= 0 && (j > i || tn == "numeric" && tm == nil) {
		return true
	}
	isText := func(n string) bool { return n == "text" || n == "varchar" }
	switch {
	case isText(fn) && isText(tn):
		return tm == nil || fm != nil && fm[0] <= tm[0]
	case fn != tn || fm == nil:
		return false
	case tm == nil:
		// Without a limit, but for bit and character, whose length 1 is not written.
		return slices.Contains([]string{"numeric", "timestamp", "timestamptz", "time", "timetz", "varbit"}, fn)
	case fn == "numeric" && len(fm) == 2 && len(tm) == 2:
		return tm[0] >= fm[0] && tm[1] == fm[1]
	case len(fm) == 1 && len(tm) == 1:
		return tm[0] >= fm[0] && slices.Contains([]string{"timestamp", "timestamptz", "time", "timetz", "varbit", "numeric"}, fn)
	}
	return false
}
