package sim

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mutant is the engine with one thing broken on purpose, and the seeds that
// have been found to notice.
type mutant struct {
	name string
	file string // from the module's root
	old  string // must be there once
	new  string
	from uint64
	say  string // what the simulator says of it, in part
}

var mutants = []mutant{
	{
		name: "does not wait for capture before it decides", file: "internal/apply/facts.go",
		old: "\terr := x.facts.local.Settled(short)\n", new: "\tvar err error\n", from: 1, say: "the books say",
	},
	{
		name: "takes everything of the box for seen", file: "edge/unseen/unseen.go",
		old: "\tif !ok || !seen.Before(tail) {\n", new: "\tif true {\n", from: 1, say: "the books say",
	},
	{
		name: "takes nothing of the box for seen", file: "edge/unseen/unseen.go",
		old: "\ttail, _, ok := x.q.Tail()\n\tif !ok || !seen", new: "\ttail, _, ok := x.q.Tail()\n\tseen = change.Position{Epoch: 1 << 32}\n\tif !ok || !seen", from: 1, say: "the books say",
	},
	{
		name: "sends back what came from the other side", file: "internal/capture/transactions.go",
		old: "\tif s.txTagged {\n\t\treturn\n\t}\n", new: "\tif true {\n\t\treturn\n\t}\n", from: 1, say: "",
	},
	{
		name: "acknowledges what no disk has", file: "internal/apply/applier.go",
		old: "\ta.cfg.OnApplied(p)\n", new: "\ta.cfg.OnApplied(p)\n\ta.cfg.OnDurable(p.Position)\n\tif true {\n\t\treturn // and never flushes\n\t}\n", from: 1, say: "is in the region 0 times",
	},
}

// mutantSeeds is how many seeds a mutant is given to live.
const mutantSeeds = 30

// TestEachMutantDies builds the simulator against an engine with one promise
// taken out and runs it: it must find that something is wrong.
func TestEachMutantDies(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			bin := m.build(t, root)
			cmd := exec.CommandContext(t.Context(), bin, "-test.run=TestBothSidesComeOutAsTheBooksSay", "-test.timeout=10m",
				fmt.Sprintf("-sim.from=%d", m.from), fmt.Sprintf("-sim.seeds=%d", mutantSeeds), "-sim.lanes=2", "-sim.patience=8s")
			cmd.Dir = filepath.Join(root, "test", "sim")
			out, err := cmd.CombinedOutput()
			told := "\n" + string(out)
			if err == nil {
				t.Fatalf("it lived through %d seeds:\n%s", mutantSeeds, told)
			}
			if !strings.Contains(told, "run it again: make sim") || !strings.Contains(told, m.say) {
				t.Fatalf("it died of something else:\n%s", told)
			}
		})
	}
}

// build compiles this package's tests with the mutant's file in place of the
// engine's.
func (m *mutant) build(t *testing.T, root string) string {
	t.Helper()
	file := filepath.Join(root, filepath.FromSlash(m.file))
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(src), m.old); n != 1 {
		t.Fatalf("%s has the text of the mutant %d times, not once; change the mutant with the engine", m.file, n)
	}
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.go")
	if err := os.WriteFile(broken, []byte(strings.Replace(string(src), m.old, m.new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{file: broken}})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "sim.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay="+list, "-o", bin, "./test/sim")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the mutant: %v\n%s", err, out)
	}
	return bin
}
