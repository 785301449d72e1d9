package proto

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// The part of CDDL (RFC 8610) that this package's files are written in: maps
// with integer or typed keys, arrays of one type, ranges, .size, .gt and .regexp.

type cddlRules map[string]string

func loadCDDL(t *testing.T, files ...string) cddlRules {
	t.Helper()
	rules := cddlRules{}
	start := regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*)\s*=\s*`)
	comment := regexp.MustCompile(`(?m);[^\n"]*$`)
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text := comment.ReplaceAllString(string(raw), "")
		at := start.FindAllStringSubmatchIndex(text, -1)
		for i, m := range at {
			end := len(text)
			if i+1 < len(at) {
				end = at[i+1][0]
			}
			name := text[m[2]:m[3]]
			if rules[name] != "" {
				t.Fatalf("%s: rule %s is there twice", f, name)
			}
			rules[name] = strings.TrimSpace(text[m[1]:end])
		}
	}
	return rules
}

// check returns an error when v does not match the type.
func (r cddlRules) check(typ string, v any) error {
	typ = strings.TrimSpace(typ)
	switch {
	case strings.HasPrefix(typ, "{"):
		return r.checkMap(inner(typ), v)
	case strings.HasPrefix(typ, "["):
		return r.checkArray(inner(typ), v)
	case typ == "any":
		return nil
	case typ == "bool":
		if _, ok := v.(bool); !ok {
			return fmt.Errorf("%T is not a bool", v)
		}
		return nil
	case strings.HasPrefix(typ, `"`):
		s, ok := v.(string)
		if !ok || !slices.Contains(alternatives(typ), s) {
			return fmt.Errorf("%v is not one of %s", v, typ)
		}
		return nil
	}
	base, control, _ := strings.Cut(typ, " ")
	if rule, ok := r[base]; ok && control == "" {
		return r.check(rule, v)
	}
	return checkPrimitive(base, strings.TrimSpace(control), v)
}

func inner(typ string) string { return strings.TrimSpace(typ[1 : len(typ)-1]) }

var occurrence = regexp.MustCompile(`^(\d*)([*+])(\d*)\s*(.*)$`)

// checkArray checks an array of one type, with how often it may be there.
func (r cddlRules) checkArray(body string, v any) error {
	list, ok := v.([]any)
	of := occurrence.FindStringSubmatch(body)
	if !ok || of == nil {
		return fmt.Errorf("%T is not [%s]", v, body)
	}
	least, most := of[1], of[3]
	if of[2] == "+" {
		least = "1"
	}
	if least == "" {
		least = "0"
	}
	if most == "" {
		most = strconv.Itoa(math.MaxInt)
	}
	if !between(uint64(len(list)), least, most) {
		return fmt.Errorf("%d elements in [%s]", len(list), body)
	}
	for i, e := range list {
		if err := r.check(of[4], e); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
	}
	return nil
}

// member is what a rule says of one key.
type member struct {
	typ      string
	optional bool
}

// members lists the keys of a map's rule that are numbers.
func (r cddlRules) members(t *testing.T, rule string) map[uint64]member {
	t.Helper()
	if !strings.HasPrefix(r[rule], "{") {
		t.Fatalf("the rule %s is not a map", rule)
	}
	all := map[uint64]member{}
	for _, m := range splitMembers(inner(r[rule])) {
		key, typ, _ := strings.Cut(m, "=>")
		digits, optional := strings.CutPrefix(strings.TrimSpace(key), "?")
		if n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 64); err == nil {
			all[n] = member{strings.TrimSpace(typ), optional}
		}
	}
	return all
}

// checkMap checks each member, and that there is no entry that none allows.
func (r cddlRules) checkMap(body string, v any) error {
	m, ok := v.(map[any]any)
	if !ok {
		return fmt.Errorf("%T is not a map", v)
	}
	left := make(map[any]any, len(m))
	for k, e := range m {
		left[k] = e
	}
	for _, member := range splitMembers(body) {
		key, typ, ok := strings.Cut(member, "=>")
		if !ok {
			return fmt.Errorf("member %q is not key => type", member)
		}
		key = strings.TrimSpace(key)
		if keyType, many := strings.CutPrefix(key, "*"); many {
			for k, e := range left {
				if r.check(keyType, k) == nil && r.check(typ, e) == nil {
					delete(left, k)
				}
			}
			continue
		}
		digits, optional := strings.CutPrefix(key, "?")
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 64)
		if err != nil {
			return fmt.Errorf("member %q: %w", member, err)
		}
		e, there := left[n]
		if !there {
			if !optional {
				return fmt.Errorf("key %d is missing", n)
			}
			continue
		}
		if err := r.check(typ, e); err != nil {
			return fmt.Errorf("key %d: %w", n, err)
		}
		delete(left, n)
	}
	if len(left) > 0 {
		return fmt.Errorf("no member allows %v", left)
	}
	return nil
}

// splitMembers splits at commas that are not within brackets or quotes.
func splitMembers(body string) (members []string) {
	depth, quoted, from := 0, false, 0
	for i, c := range body {
		switch {
		case c == '"':
			quoted = !quoted
		case quoted:
		case strings.ContainsRune("{[(", c):
			depth++
		case strings.ContainsRune("}])", c):
			depth--
		case c == ',' && depth == 0:
			members, from = append(members, body[from:i]), i+1
		}
	}
	if rest := strings.TrimSpace(body[from:]); rest != "" {
		members = append(members, rest)
	}
	return members
}

func checkPrimitive(base, control string, v any) error {
	bad := fmt.Errorf("%v (%T) is not %s %s", v, v, base, control)
	if lo, hi, ok := strings.Cut(base, ".."); ok {
		n, isInt := v.(uint64)
		if !isInt || !between(n, lo, hi) {
			return bad
		}
		return nil
	}
	var size int
	switch base {
	case "uint":
		n, ok := v.(uint64)
		if over, is := strings.CutPrefix(control, ".gt "); is {
			if least, err := strconv.ParseUint(over, 10, 64); !ok || err != nil || n <= least {
				return bad
			}
			return nil
		}
		if bytes, is := strings.CutPrefix(control, ".size "); is {
			if size, err := strconv.Atoi(bytes); !ok || err != nil || size < 8 && n >= 1<<(8*size) {
				return bad
			}
			return nil
		}
		if !ok || control != "" {
			return bad
		}
		return nil
	case "int":
		switch v.(type) {
		case uint64, int64:
			return nil
		}
		return bad
	case "tstr":
		s, ok := v.(string)
		if !ok {
			return bad
		}
		if pattern, ok := strings.CutPrefix(control, ".regexp "); ok {
			if !regexp.MustCompile("^(?:" + strings.Trim(pattern, `" `) + ")$").MatchString(s) {
				return bad
			}
			return nil
		}
		size = len(s)
	case "bstr":
		b, ok := v.([]byte)
		if !ok {
			return bad
		}
		size = len(b)
	default:
		return fmt.Errorf("type %q is not known", base)
	}
	want, ok := strings.CutPrefix(control, ".size ")
	if !ok {
		if control != "" {
			return fmt.Errorf("control %q is not known", control)
		}
		return nil
	}
	lo, hi, isRange := strings.Cut(strings.Trim(want, "() "), "..")
	if !isRange {
		hi = lo
	}
	if !between(uint64(size), lo, hi) {
		return bad
	}
	return nil
}

func between(n uint64, lo, hi string) bool {
	a, err1 := strconv.ParseUint(lo, 10, 64)
	b, err2 := strconv.ParseUint(hi, 10, 64)
	return err1 == nil && err2 == nil && a <= n && n <= b
}

func messageRules(t *testing.T) cddlRules {
	t.Helper()
	files := []string{"common.cddl"}
	for kind := range codecs {
		files = append(files, kind+".cddl")
	}
	return loadCDDL(t, files...)
}

func generic(t *testing.T, raw []byte) any {
	t.Helper()
	var v any
	mode, err := cbor.DecOptions{IntDec: cbor.IntDecConvertNone}.DecMode()
	if err != nil {
		t.Fatal(err)
	}
	if err := mode.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestFrozenVectorsMatchTheirCDDL(t *testing.T) {
	t.Parallel()
	rules := messageRules(t)
	for name := range vectors() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw := frozen(t, name)
			rule := codecs[kindOf(name)].rule
			if err := rules.check(rule, generic(t, raw)); err != nil {
				t.Errorf("%s.cddl: %v", kindOf(name), err)
			}
			// The check must be able to fail: without any one of its keys the
			// message still matches only if that key is optional.
			m, ok := generic(t, raw).(map[any]any)
			if !ok {
				t.Fatal("not a map")
			}
			delete(m, uint64(0))
			if rules.check(rule, m) == nil {
				t.Error("a message without its schema number matches")
			}
			m[uint64(0)] = "one"
			if rules.check(rule, m) == nil {
				t.Error("a message with a text for its schema number matches")
			}
			m[uint64(0)], m[uint64(math.MaxUint32)] = uint64(2), "of a newer version"
			if err := rules.check(rule, m); err != nil {
				t.Errorf("a newer version's message: %v", err)
			}
		})
	}
}

func TestEachCDDLFileIsReadable(t *testing.T) {
	t.Parallel()
	used := regexp.MustCompile(`[a-z][a-z0-9-]+`)
	basic := map[string]bool{"uint": true, "int": true, "tstr": true, "bstr": true, "bool": true, "any": true, "size": true, "gt": true, "regexp": true}
	quoted := regexp.MustCompile(`"[^"]*"`)
	for _, rules := range []cddlRules{messageRules(t), loadCDDL(t, "enrol.cddl"), loadCDDL(t, "stream.cddl")} {
		for name, body := range rules {
			for _, word := range used.FindAllString(quoted.ReplaceAllString(body, ""), -1) {
				if !basic[word] && rules[word] == "" {
					t.Errorf("rule %s speaks of %s, which is not there", name, word)
				}
			}
		}
	}
	if files, _ := filepath.Glob("*.cddl"); len(files) != len(codecs)+3 { // common, enrol and stream
		t.Errorf("%d CDDL files, not all of which are read", len(files))
	}
}

// alternatives reads a CDDL choice between texts, such as "a" / "b".
func alternatives(typ string) []string {
	var out []string
	for part := range strings.SplitSeq(typ, "/") {
		part = strings.TrimSpace(part)
		if len(part) < 2 || part[0] != '"' || part[len(part)-1] != '"' {
			return nil
		}
		out = append(out, part[1:len(part)-1])
	}
	return out
}
