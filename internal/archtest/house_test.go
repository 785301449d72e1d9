package archtest

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

var house = sync.OnceValues(func() (*House, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	return Load(root)
})

func TestHouseFollowsItsRules(t *testing.T) {
	t.Parallel()
	h, err := house()
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Rooms) < 5 {
		t.Fatalf("only %d packages were found", len(h.Rooms))
	}
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, f := range rule(h) {
				t.Error(f)
			}
		})
	}
}

var rules = map[string]func(*House) []Finding{
	"imports":       (*House).Imports,
	"comments":      (*House).Comments,
	"sql":           (*House).BuiltSQL,
	"goroutines":    (*House).Goroutines,
	"habits":        (*House).TestHabits,
	"keys of a log": (*House).LogKeys,
	"replacements":  (*House).Replacements,
}

func TestArchitectureSaysWhatThePackagesSay(t *testing.T) {
	t.Parallel()
	h, err := house()
	if err != nil {
		t.Fatal(err)
	}
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := h.Table(string(text))
	if err != nil {
		t.Fatalf("ARCHITECTURE.md: %v", err)
	}
	if want != string(text) {
		t.Error("the table of rooms in ARCHITECTURE.md is not what the package comments say; run make architecture")
	}
}
