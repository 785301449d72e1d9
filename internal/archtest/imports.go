package archtest

import (
	"strconv"
	"strings"
)

// banned imports: what to use instead, and who may use them all the same.
var banned = []struct {
	path, why string
	except    []string
}{
	{"github.com/stretchr/testify", "tests compare with if and report with t.Errorf", nil},
	{"github.com/pkg/errors", "use fmt.Errorf with %w", nil},
	{"log", "use log/slog", nil},
	{"math/rand", "use math/rand/v2, or crypto/rand for secrets", nil},
	// The wire's types and the change frame are the only CBOR there is: a third
	// place would be a format that no vector freezes.
	{"github.com/fxamacker/cbor", "what crosses a wire is in proto, the change frame in internal/change", []string{"proto", "internal/change"}},
}

// Imports reports imports that the plan does not allow. Tests follow it as well,
// except for the ones below test/, which put both sides together.
func (h *House) Imports() []Finding {
	var out []Finding
	for _, r := range h.Rooms {
		for _, f := range r.Files {
			for _, imp := range f.AST.Imports {
				target, err := strconv.Unquote(imp.Path.Value)
				if err != nil {
					continue
				}
				if why := wrongImport(r.Path, target, f.Test); why != "" {
					out = append(out, Finding{h.Fset.Position(imp.Pos()), "must not import " + target + ": " + why})
				}
			}
		}
	}
	return out
}

func wrongImport(from, target string, test bool) string {
	if room, ok := strings.CutPrefix(target, Module+"/"); ok {
		switch to := wing(room); wing(from) {
		case "edge", "cloud":
			if (to == "edge" || to == "cloud") && to != wing(from) {
				return "edge and cloud know each other only through proto and internal"
			}
		case "internal", "proto":
			if to == "edge" || to == "cloud" {
				return wing(from) + " knows neither edge nor cloud"
			}
		}
		if wing(room) == "test" && wing(from) != "test" && !test {
			return "what is below test/ tests the whole and is nobody's part"
		}
		if forTests(room) && !test && !forTests(from) {
			return "it is for tests"
		}
		return ""
	}
	if (target == "testing" || strings.HasPrefix(target, "testing/")) && !test && !forTests(from) {
		return "the programs do not carry the test framework; helpers of tests are in a package named …test"
	}
	for _, b := range banned {
		if !covers(b.path, target) {
			continue
		}
		for _, e := range b.except {
			if within(from, e) {
				return ""
			}
		}
		return b.why
	}
	return ""
}

// forTests reports whether a room only serves tests: all below test/, and packages
// with a name such as pgtest.
func forTests(room string) bool {
	for name := range strings.SplitSeq(room, "/") {
		if strings.HasSuffix(name, "test") {
			return true
		}
	}
	return false
}

// covers reports whether a ban on path means target: any version and package
// of somebody's module, but of the standard library just the package itself.
func covers(path, target string) bool {
	if strings.Contains(wing(path), ".") {
		return within(target, path)
	}
	return target == path
}

// wing returns the first element of a path: edge, cloud, internal, proto, test.
func wing(p string) string {
	first, _, _ := strings.Cut(p, "/")
	return first
}

// within reports whether p is dir or below it.
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, dir+"/")
}
