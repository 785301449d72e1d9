package proto

import (
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// enrolMessages are the messages of enrolment by the rule in enrol.cddl.
var enrolMessages = map[string]struct {
	vector string
	typ    any
	decode func([]byte) error
}{
	"enrol-request": {"request.hex", EnrolRequest{}, func(b []byte) error { _, err := DecodeEnrolRequest(b); return err }},
	"renew-request": {"renew.hex", RenewRequest{}, func(b []byte) error { _, err := DecodeRenewRequest(b); return err }},
	"enrol-answer":  {"answer.hex", EnrolAnswer{}, func(b []byte) error { _, err := DecodeEnrolAnswer(b); return err }},
	"enrol-problem": {"problem.hex", EnrolProblem{}, func(b []byte) error { _, err := DecodeEnrolProblem(b); return err }},
	"token":         {"token.txt", EnrolToken{}, nil},
}

func enrolVector(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "enrol", file))
	if err != nil {
		t.Fatal(err)
	}
	var raw []byte
	if token, ok := strings.CutPrefix(strings.TrimSpace(string(text)), tokenPrefix); ok {
		raw, err = base64.RawURLEncoding.DecodeString(token)
		raw = raw[:max(0, len(raw)-4)] // without the checksum
	} else {
		raw, err = hex.DecodeString(token)
	}
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestEnrolMessagesMatchTheirCDDL(t *testing.T) {
	t.Parallel()
	rules := loadCDDL(t, "enrol.cddl")
	for rule, m := range enrolMessages {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			whole, ok := generic(t, enrolVector(t, m.vector)).(map[any]any)
			if !ok {
				t.Fatal("not a map")
			}
			if err := rules.check(rule, whole); err != nil {
				t.Error(err)
			}
			for n, member := range rules.members(t, rule) {
				value, there := whole[n]
				if !there {
					t.Errorf("key %d is in no frozen message", n)
					continue
				}
				delete(whole, n)
				if matches := rules.check(rule, whole) == nil; matches != member.optional {
					t.Errorf("without key %d it matches: %t", n, matches)
				}
				// What the CDDL allows a box or a region to say is read.
				if m.decode != nil && member.optional {
					raw, err := encode(rule, whole, EnrolAnswerMaxBytes)
					if err == nil {
						err = m.decode(raw)
					}
					if err != nil {
						t.Errorf("without key %d: %v", n, err)
					}
				}
				whole[n] = true
				if rules.check(rule, whole) == nil {
					t.Errorf("it matches with a bool for key %d", n)
				}
				whole[n] = value
			}
		})
	}
}

// The structs and the CDDL name the same keys, and a key that may be left out
// is optional.
func TestMessagesHaveTheKeysOfTheirCDDL(t *testing.T) {
	t.Parallel()
	enrol, stream := loadCDDL(t, "enrol.cddl"), loadCDDL(t, "stream.cddl")
	for rule, m := range enrolMessages {
		enrol.compare(t, rule, reflect.TypeOf(m.typ))
	}
	for typ, sample := range streamSamples() {
		if v := reflect.TypeOf(sample); v.Kind() == reflect.Pointer { // a frame is its bytes
			stream.compare(t, streamRules[typ], v.Elem())
		}
	}
	// The list of the stream's types.
	named := map[StreamType]string{}
	for _, m := range regexp.MustCompile(`\[(\d+), ([a-z-]+)\]`).FindAllStringSubmatch(stream["message"], -1) {
		n, err := strconv.ParseUint(m[1], 10, 8)
		if err != nil {
			t.Fatal(err)
		}
		named[StreamType(n)] = m[2]
	}
	if !reflect.DeepEqual(named, streamRules) {
		t.Errorf("the rule message lists %v, the stream speaks %v", named, streamRules)
	}
}

var cborKey = regexp.MustCompile(`^(\d+),keyasint(,omitempty)?$`)

func (r cddlRules) compare(t *testing.T, rule string, typ reflect.Type) {
	t.Helper()
	members := r.members(t, rule)
	for i := range typ.NumField() {
		f := typ.Field(i)
		tag := cborKey.FindStringSubmatch(f.Tag.Get("cbor"))
		if tag == nil {
			t.Errorf("%s.%s has no key", typ, f.Name)
			continue
		}
		n, err := strconv.ParseUint(tag[1], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		m, there := members[n]
		if !there {
			t.Errorf("%s.%s has key %d, which the rule %s lacks", typ, f.Name, n, rule)
			continue
		}
		delete(members, n)
		if tag[2] != "" && !m.optional {
			t.Errorf("%s.%s may be left out, key %d of %s may not", typ, f.Name, n, rule)
		}
		elem := f.Type
		for elem.Kind() == reflect.Pointer || elem.Kind() == reflect.Slice {
			elem = elem.Elem()
		}
		if inner := strings.Trim(m.typ, "[]*+ "); elem.Kind() == reflect.Struct && elem.NumField() > 0 {
			r.compare(t, inner, elem)
		}
	}
	for n := range members {
		t.Errorf("key %d of %s is in no field of %s", n, rule, typ)
	}
}
