package sim

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// mutant is the engine with one thing broken on purpose, and the seeds that
// have been found to notice.
type mutant struct {
	name string // as the edits have it
	from uint64
	say  *regexp.Regexp // what the simulator says of it, in part
}

// wrongVersion is what the simulator says when a row is not what it must be, or
// what did not stand is not told.
var wrongVersion = regexp.MustCompile("the books say|did not stand|differs")

var mutants = []mutant{
	{name: "does not wait for capture before it decides", from: 1, say: wrongVersion},
	{name: "takes everything of the box for seen", from: 1, say: wrongVersion},
	{name: "takes nothing of the box for seen", from: 1},
	{name: "sends back what came from the other side", from: 1},
	{name: "acknowledges what no disk has", from: 15},
	{name: "has the facility's version stand whatever the policy is", from: 1, say: wrongVersion},
}

// edit replaces a text that must be in the file once. In the new one, broken says
// whether the engine is to be the mutant that is named.
type edit struct {
	file     string // from the module's root
	old, new string
}

// edits make the engine that can be each of the mutants.
var edits = []edit{
	{
		"internal/apply/facts.go", "\terr := x.facts.local.Settled(short)\n",
		"\tvar err error\n\tif !broken(`does not wait for capture before it decides`) {\n\t\terr = x.facts.local.Settled(short)\n\t}\n",
	},
	{
		"edge/unseen/unseen.go", "\tif !ok || !seen.Before(tail) {\n",
		"\tif broken(`takes nothing of the box for seen`) {\n\t\tseen = change.Position{Epoch: 1 << 32}\n\t}\n" +
			"\tif broken(`takes everything of the box for seen`) || !ok || !seen.Before(tail) {\n",
	},
	{
		"internal/capture/transactions.go", "\tif s.txTagged {\n\t\treturn\n\t}\n",
		"\tif s.txTagged || broken(`sends back what came from the other side`) {\n\t\treturn\n\t}\n",
	},
	{
		"internal/apply/applier.go", "\ta.cfg.OnApplied(p)\n",
		"\ta.cfg.OnApplied(p)\n\tif broken(`acknowledges what no disk has`) {\n\t\ta.cfg.OnDurable(p.Position)\n\t\treturn // and never flushes\n\t}\n",
	},
	// What the region has not decoded is held at the box whatever was acknowledged.
	{"test/sim/edge.go", "\te.queue.Hold(change.Position{})\n", "\tif !broken(`acknowledges what no disk has`) {\n\t\te.queue.Hold(change.Position{})\n\t}\n"},
	{"test/sim/edge.go", "{ e.queue.Hold(seen); local", "{\n\t\t\tif !broken(`acknowledges what no disk has`) {\n\t\t\t\te.queue.Hold(seen)\n\t\t\t}\n\t\t\tlocal"},
	{
		"internal/apply/decide.go", "if policy == PolicyCloud || policy == PolicyColumns && slices.Contains(sh.cloudColumns, c) {",
		"if !broken(`has the facility's version stand whatever the policy is`) && (policy == PolicyCloud || policy == PolicyColumns && slices.Contains(sh.cloudColumns, c)) {",
	},
}

// mutantEnv names the mutant that the program is; without it, it is none.
const mutantEnv = "HOLDFAST_SIM_MUTANT"

// mutantSeeds is how many seeds a mutant is given to live.
const mutantSeeds = 30

// TestEachMutantDies runs the simulator against an engine with one promise taken
// out: it must find that something is wrong.
func TestEachMutantDies(t *testing.T) {
	t.Parallel()
	bin := build(t)
	for _, m := range mutants {
		if !slices.ContainsFunc(edits, func(e edit) bool { return strings.Contains(e.new, "broken(`"+m.name+"`)") }) {
			t.Errorf("no edit makes the mutant that %s", m.name)
			continue
		}
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			t.Parallel() // most of a mutant's time is waiting for it to come to rest
			var told string
			var err error
			for _, patience := range []string{"8s", "1m"} { // a busy machine may not come to rest in 8 s
				if told, err = simulate(t, bin, m.name, m.from, mutantSeeds, "-sim.lanes=1", "-sim.patience="+patience); err == nil {
					t.Fatalf("it lived through %d seeds:\n%s", mutantSeeds, told)
				}
				if strings.Contains(told, "run it again: make sim") && (m.say == nil || m.say.MatchString(told)) {
					return
				}
			}
			t.Fatalf("it died of something else:\n%s", told)
		})
	}
}

// simulate runs seeds in a program of their own, and returns what it said.
func simulate(t *testing.T, bin, mutant string, from, seeds uint64, more ...string) (told string, err error) {
	t.Helper()
	args := []string{
		"-test.run=TestBothSidesComeOutAsTheBooksSay", "-test.timeout=25m", fmt.Sprintf("-sim.from=%d", from), fmt.Sprintf("-sim.seeds=%d", seeds), "-sim.lanes=2",
	}
	cmd := exec.CommandContext(t.Context(), bin, append(args, more...)...)
	cmd.Env = append(os.Environ(), mutantEnv+"="+mutant, "TMPDIR="+filepath.Dir(disk)) // it looks for room in memory itself
	out, err := cmd.CombinedOutput()
	return "\n" + string(out), err
}

// build returns this package's tests as a program that can be each of the mutants, and
// is none by itself. It is without the race detector, as make build compiles the engine.
func build(t *testing.T) string {
	t.Helper()
	bin, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

var compiled = sync.OnceValues(func() (string, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(disk, "mutants-")
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	write := func(file, text string) error {
		if replace[file] == "" {
			replace[file] = filepath.Join(dir, fmt.Sprintf("edited%d.go", len(replace)))
		}
		return os.WriteFile(replace[file], []byte(text), 0o600)
	}
	for _, e := range edits {
		file := filepath.Join(root, filepath.FromSlash(e.file))
		src, err := os.ReadFile(cmp.Or(replace[file], file))
		if err != nil {
			return "", err
		}
		if n := strings.Count(string(src), e.old); n != 1 {
			return "", fmt.Errorf("%s has the text of the mutant %d times, not once; change the mutant with the engine", e.file, n)
		}
		of := filepath.Dir(file)
		says := fmt.Sprintf("package %s\n\nimport \"os\"\n\nfunc broken(name string) bool { return os.Getenv(%q) == name }\n", filepath.Base(of), mutantEnv)
		if err := errors.Join(write(file, strings.Replace(string(src), e.old, e.new, 1)), write(filepath.Join(of, "broken.go"), says)); err != nil {
			return "", err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list, bin := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "sim.test")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return "", err
	}
	compile := exec.Command("go", "test", "-c", "-vet=off", "-trimpath", "-ldflags=-w", "-overlay="+list, "-o", bin, "./test/sim")
	compile.Dir = root
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the simulator: %w\n%s", err, out)
	}
	return bin, nil
})
