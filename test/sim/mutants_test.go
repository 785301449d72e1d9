package sim

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mutant is the engine with one thing broken on purpose, and the seeds that
// have been found to notice.
type mutant struct {
	name string
	edit
	more []edit
	from uint64
	say  *regexp.Regexp // what the simulator says of it, in part
}

// edit replaces a text that must be in the file once.
type edit struct {
	file     string // from the module's root
	old, new string
}

// wrongVersion is what the simulator says when a row is not what it must be, or
// what did not stand is not told.
var wrongVersion = regexp.MustCompile("the books say|did not stand|differs")

var mutants = []mutant{
	{
		name: "does not wait for capture before it decides", from: 1, say: wrongVersion,
		edit: edit{"internal/apply/facts.go", "\terr := x.facts.local.Settled(short)\n", "\tvar err error\n\t_ = short\n"},
	},
	{
		name: "takes everything of the box for seen", from: 1, say: wrongVersion,
		edit: edit{"edge/unseen/unseen.go", "\tif !ok || !seen.Before(tail) {\n", "\tif true || !ok {\n"},
	},
	{
		name: "takes nothing of the box for seen", from: 1,
		edit: edit{"edge/unseen/unseen.go", "\ttail, _, ok := x.q.Tail()\n\tif !ok || !seen", "\ttail, _, ok := x.q.Tail()\n\tseen = change.Position{Epoch: 1 << 32}\n\tif !ok || !seen"},
	},
	{
		name: "sends back what came from the other side", from: 1,
		edit: edit{"internal/capture/transactions.go", "\tif s.txTagged {\n\t\treturn\n\t}\n", "\tif true {\n\t\treturn\n\t}\n"},
	},
	{
		name: "acknowledges what no disk has", from: 15,
		// What the region has not decoded is held at the box whatever was
		// acknowledged, so that takes two.
		more: []edit{
			{"test/sim/edge.go", "\te.queue.Hold(change.Position{})\n", ""},
			{"test/sim/edge.go", "e.queue.Hold(seen); ", ""},
		},
		edit: edit{"internal/apply/applier.go", "\ta.cfg.OnApplied(p)\n", "\ta.cfg.OnApplied(p)\n\ta.cfg.OnDurable(p.Position)\n\tif true {\n\t\treturn // and never flushes\n\t}\n"},
	},
	{
		name: "has the facility's version stand whatever the policy is", from: 1, say: wrongVersion,
		edit: edit{"internal/apply/decide.go", "\t\tif policy == PolicyCloud || policy == PolicyColumns && slices", "\t\tif false && slices"},
	},
}

// mutantSeeds is how many seeds a mutant is given to live.
const mutantSeeds = 30

// TestEachMutantDies builds the simulator against an engine with one promise
// taken out and runs it: it must find that something is wrong.
func TestEachMutantDies(t *testing.T) {
	t.Parallel()
	for _, m := range mutants {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			t.Parallel() // most of a mutant's time is waiting for it to come to rest
			told, err := simulate(t, build(t, append([]edit{m.edit}, m.more...)...), m.from, mutantSeeds, "-sim.patience=8s", "-sim.lanes=1")
			if err == nil {
				t.Fatalf("it lived through %d seeds:\n%s", mutantSeeds, told)
			}
			if !strings.Contains(told, "run it again: make sim") || m.say != nil && !m.say.MatchString(told) {
				t.Fatalf("it died of something else:\n%s", told)
			}
		})
	}
}

// simulate runs seeds in a program of their own, and returns what it said.
func simulate(t *testing.T, bin string, from, seeds uint64, more ...string) (told string, err error) {
	t.Helper()
	args := []string{
		"-test.run=TestBothSidesComeOutAsTheBooksSay", "-test.timeout=10m", fmt.Sprintf("-sim.from=%d", from), fmt.Sprintf("-sim.seeds=%d", seeds), "-sim.lanes=2",
	}
	out, err := exec.CommandContext(t.Context(), bin, append(args, more...)...).CombinedOutput()
	return "\n" + string(out), err
}

// build compiles this package's tests, with a mutant's files in place of the
// engine's and without the race detector.
func build(t *testing.T, edits ...edit) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	for i, e := range edits {
		file := filepath.Join(root, filepath.FromSlash(e.file))
		from := file
		if broken, twice := replace[file]; twice {
			from = broken
		}
		src, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(src), e.old); n != 1 {
			t.Fatalf("%s has the text of the mutant %d times, not once; change the mutant with the engine", e.file, n)
		}
		replace[file] = filepath.Join(dir, fmt.Sprintf("broken%d.go", i))
		if err := os.WriteFile(replace[file], []byte(strings.Replace(string(src), e.old, e.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "sim.test")
	compile := exec.CommandContext(t.Context(), "go", "test", "-c", "-ldflags=-w", "-overlay="+list, "-o", bin, "./test/sim")
	compile.Dir = root
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("build the simulator: %v\n%s", err, out)
	}
	return bin
}
