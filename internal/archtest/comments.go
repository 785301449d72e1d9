package archtest

import (
	"fmt"
	"go/token"
	"path"
	"regexp"
	"strings"
)

// roomName finds the packages that an In: or Out: line speaks of.
var roomName = regexp.MustCompile(`\b(?:edge|cloud|internal|proto|test)/[a-z0-9_/-]+[a-z0-9](?:\.go)?`)

// Comments reports packages that do not say what they are, where their work
// comes from and where it goes, or that speak of a package which is not there.
func (h *House) Comments() []Finding {
	var out []Finding
	there := make(map[string]bool)
	for _, r := range h.Rooms {
		for p := r.Path; p != "."; p = path.Dir(p) {
			there[p] = true
		}
		for _, f := range r.Files {
			there[f.Path] = true
		}
	}
	for _, r := range h.Rooms {
		bad := func(format string, args ...any) {
			out = append(out, Finding{token.Position{Filename: r.Path}, fmt.Sprintf(format, args...)})
		}
		told := make(map[string]bool)
		switch want := "Package " + r.Name + " "; {
		case r.Doc == "":
			bad("the package has no comment; give it one that ends with an In: and an Out: line")
			continue
		case r.Name != "main" && !strings.HasPrefix(r.Doc, want):
			bad("the package comment must begin with %q", want)
		case r.Name == "main" && !strings.HasPrefix(r.Doc, "Command "):
			bad("the package comment must begin with %q and the program's name", "Command")
		}
		if r.In == "" || r.Out == "" {
			bad("the package comment must say where its work comes from and where it goes, in lines In: and Out:")
		}
		for _, name := range roomName.FindAllString(r.In+" "+r.Out, -1) {
			if !there[name] && !told[name] {
				told[name] = true
				bad("the package comment speaks of %s, which is not there", name)
			}
		}
	}
	return out
}
