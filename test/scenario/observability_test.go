package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/agogsaas/holdfast/cloud/alert"
	"github.com/agogsaas/holdfast/cloud/broker"
	"github.com/agogsaas/holdfast/cloud/fleet"
	"github.com/agogsaas/holdfast/cloud/hub"
	"github.com/agogsaas/holdfast/cloud/ingest"
	"github.com/agogsaas/holdfast/cloud/router"
	"github.com/agogsaas/holdfast/internal/pgcluster"
)

// What is for other people's Prometheus and Grafana, from here.
const (
	deployDir   = "../../deploy"
	metricsPage = "../../docs/observability.md"
)

var updateMetrics = flag.Bool("update", false, "write the table of metrics in docs/observability.md anew")

// TestRulesBoardAndManualSayWhatIsMeasured compares them with what a region and a
// box at work really export.
func TestRulesBoardAndManualSayWhatIsMeasured(t *testing.T) {
	t.Parallel()
	seed, _ := seeded(t)
	s := startSite(t)
	la := addEdge(t, s, "la")
	addFloor(t, s, la)
	var done atomic.Int64
	crew := floorCrew(la, 1, seed, &done)
	work(t, crew, 5)
	var m measured
	eventually(t, func(ctx context.Context) (err error) {
		m, err = measure(ctx, s.URL(), la.URL())
		return err
	})

	t.Run("names", func(t *testing.T) {
		for _, f := range m.all {
			problems, err := promlint.NewWithMetricFamilies([]*dto.MetricFamily{f.proto()}).Lint()
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range problems {
				t.Errorf("%s: %s", p.Metric, p.Text)
			}
		}
	})
	t.Run("manual", func(t *testing.T) {
		wantTable(t, m)
		wantNames(t, m)
	})
	t.Run("rules", func(t *testing.T) { wantRules(t, m) })
	var panels []string
	t.Run("board", func(t *testing.T) { panels = wantBoard(t, m) })
	t.Run("prometheus", func(t *testing.T) {
		p := startPrometheus(t, s.Ports.HTTP, la.HTTP)
		p.wantAnswers(t, m, panels)
		p.wantAlerts(t, "HoldfastWatchdog")
		la.Cut()
		p.wantAlerts(t, "HoldfastFacilityOffline eu-central la", "HoldfastWatchdog")
		la.Restore()
		p.wantAlerts(t, "HoldfastWatchdog")
	})
}

// family is a metric as it is exported.
type family struct {
	name, help string
	kind       dto.MetricType
	labels     []string
	values     map[string][]string // of its labels, at the scrape
	on         []string            // region, box
}

// proto is the family as promlint takes it.
func (f *family) proto() *dto.MetricFamily {
	m := &dto.Metric{}
	for _, l := range f.labels {
		m.Label = append(m.Label, &dto.LabelPair{Name: &l})
	}
	return &dto.MetricFamily{Name: &f.name, Help: &f.help, Type: &f.kind, Metric: []*dto.Metric{m}}
}

// measured is all that is exported, by name.
type measured struct {
	all    map[string]*family
	values map[string][]string // of all labels
}

// sometimes reports whether a metric is there only while there is something to say.
func (f *family) sometimes() bool { return strings.Contains(f.help, "absent") }

// measure scrapes both programs. It is an error while something is missing that
// ought to be there always.
func measure(ctx context.Context, region, box string) (measured, error) {
	m := measured{map[string]*family{}, map[string][]string{}}
	if err := m.scrape(ctx, "region", region); err != nil {
		return m, err
	}
	if err := m.declared(); err != nil {
		return m, err
	}
	return m, m.scrape(ctx, "box", box)
}

func (m *measured) scrape(ctx context.Context, on, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(resp.Body)
	if err != nil {
		return fmt.Errorf("read %s's metrics: %w", on, err)
	}
	for name, d := range families {
		f := &family{name: name, help: d.GetHelp(), kind: d.GetType(), values: map[string][]string{}, on: []string{on}}
		for _, x := range d.GetMetric() {
			for _, l := range x.GetLabel() {
				if !slices.Contains(f.labels, l.GetName()) {
					f.labels = append(f.labels, l.GetName())
				}
				f.values[l.GetName()] = append(f.values[l.GetName()], l.GetValue())
				m.values[l.GetName()] = append(m.values[l.GetName()], l.GetValue())
			}
		}
		slices.Sort(f.labels)
		if other := m.all[name]; other != nil {
			if other.help != f.help || other.kind != f.kind || !slices.Equal(other.labels, f.labels) {
				return fmt.Errorf("%s is another thing in the region and on a box", name)
			}
			f.on = append(other.on, on)
		}
		m.all[name] = f
	}
	return nil
}

var descParts = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: "((?:[^"\\]|\\.)*)", unit: "[^"]*", constLabels: \{\}, variableLabels: \{([^}]*)\}\}$`)

// declared compares the region's scrape with what its rooms declare, and adds what
// they say only sometimes.
func (m *measured) declared() error {
	declared := map[string]bool{"holdfast_build_info": true, "holdfast_database_up": true}
	descs := make(chan *prometheus.Desc, 200)
	for _, c := range []prometheus.Collector{(*hub.Hub)(nil), (*broker.Broker)(nil), (*fleet.Fleet)(nil), (*ingest.Ingest)(nil), (*router.Router)(nil), (*alert.Alerter)(nil)} {
		c.Describe(descs)
	}
	close(descs)
	for d := range descs {
		p := descParts.FindStringSubmatch(d.String())
		if p == nil {
			return fmt.Errorf("cannot read %s", d)
		}
		declared[p[1]] = true
		f := &family{name: p[1], help: p[2], kind: dto.MetricType_GAUGE, values: map[string][]string{}, on: []string{"region"}}
		if p[3] != "" {
			f.labels = strings.Split(p[3], ",")
			slices.Sort(f.labels)
		}
		if strings.HasSuffix(f.name, "_total") {
			f.kind = dto.MetricType_COUNTER
		}
		switch got := m.all[f.name]; {
		case got == nil && !f.sometimes():
			return fmt.Errorf("the region does not export %s", f.name)
		case got == nil:
			m.all[f.name] = f
		case !slices.Equal(got.labels, f.labels):
			return fmt.Errorf("%s has the labels %v and declares %v", f.name, got.labels, f.labels)
		}
	}
	for name := range m.all {
		if strings.HasPrefix(name, "holdfast_") && !declared[name] {
			return fmt.Errorf("%s is exported and not declared", name)
		}
	}
	return nil
}

// wantTable compares the manual's table with what is exported.
func wantTable(t *testing.T, m measured) {
	t.Helper()
	rows := []string{"| metric | kind | labels | of | what it says |", "|---|---|---|---|---|"}
	for _, f := range m.all {
		if strings.HasPrefix(f.name, "holdfast_") {
			rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s | %s |", f.name, strings.ToLower(f.kind.String()), strings.Join(f.labels, ", "), strings.Join(f.on, ", "), f.help))
		}
	}
	slices.Sort(rows[2:])
	text, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- metrics -->\n", "<!-- /metrics -->"
	head, rest, ok := strings.Cut(string(text), begin)
	old, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %s…%s", metricsPage, begin, end)
	}
	table := strings.Join(rows, "\n") + "\n"
	switch {
	case old == table:
	case *updateMetrics:
		if err := os.WriteFile(metricsPage, []byte(head+begin+table+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		for _, r := range difference(strings.Split(table, "\n"), strings.Split(old, "\n")) {
			t.Errorf("the manual lacks: %s", r)
		}
		for _, r := range difference(strings.Split(old, "\n"), strings.Split(table, "\n")) {
			t.Errorf("the manual has too much: %s", r)
		}
		t.Error("go test ./test/scenario -run TestRulesBoardAndManual -update writes the table anew")
	}
}

// wantNames finds metrics that a page of the manual names and nothing exports.
func wantNames(t *testing.T, m measured) {
	t.Helper()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 5 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	roles := []string{pgcluster.Capture, pgcluster.Apply, pgcluster.App, pgcluster.Monitor}
	names := regexp.MustCompile(`\bholdfast_\w+`)
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names.FindAllString(string(text), -1) {
			if m.family(name) == nil && m.all[name] == nil && !slices.Contains(roles, name) {
				t.Errorf("%s: nothing exports %s", page, name)
			}
		}
	}
}

func difference(a, b []string) (only []string) {
	for _, s := range a {
		if !slices.Contains(b, s) {
			only = append(only, s)
		}
	}
	return only
}

// jobs are the names that the scrape configuration gives.
func jobs(t *testing.T) (names []string) {
	t.Helper()
	var c struct {
		Scrape []struct {
			Job string `yaml:"job_name"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, filepath.Join(deployDir, "prometheus/prometheus.yml"), &c)
	for _, s := range c.Scrape {
		names = append(names, s.Job)
	}
	return names
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// wantRules checks the alert rules, and runs their own tests.
func wantRules(t *testing.T, m measured) {
	t.Helper()
	dir := filepath.Join(deployDir, "prometheus")
	promtool(t, dir, "check", "config", "--lint-fatal", "prometheus.yml")
	promtool(t, dir, "test", "rules", "holdfast.test.yml")
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr         string
				Labels, Annotations map[string]string
			}
		}
	}
	readYAML(t, filepath.Join(dir, "holdfast.rules.yml"), &file)
	tests, err := os.ReadFile(filepath.Join(dir, "holdfast.test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	known := jobs(t)
	n := 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			n++
			for _, err := range m.check(r.Expr, known) {
				t.Errorf("%s: %v", r.Alert, err)
			}
			_, link, _ := strings.Cut(r.Annotations["runbook_url"], "/docs/observability.md#")
			if link != strings.ToLower(r.Alert) || !strings.Contains(string(page), "\n### "+r.Alert+"\n") {
				t.Errorf("%s: the manual does not say what to do: its link leads to #%s", r.Alert, link)
			}
			if !slices.Contains([]string{"critical", "warning", "none"}, r.Labels["severity"]) || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s has no severity, summary or description", r.Alert)
			}
			if !strings.Contains(string(tests), `{labels: '{alertname="`+r.Alert+`"}', value: 1}`) {
				t.Errorf("%s: no test has it fire", r.Alert)
			}
		}
	}
	if n < 30 {
		t.Errorf("%d rules were read", n)
	}
}

// wantBoard checks the Grafana board, and returns its panels' expressions.
func wantBoard(t *testing.T, m measured) (panels []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deployDir, "grafana/holdfast.json"))
	if err != nil {
		t.Fatal(err)
	}
	type place struct{ X, Y, W, H int }
	type source struct{ UID string }
	var board struct {
		SchemaVersion int
		Panels        []struct {
			ID          int
			Type, Title string
			GridPos     place
			Datasource  source
			Targets     []struct {
				Expr       string
				Datasource source
			}
		}
		Templating struct {
			List []struct {
				Name, Type, Definition string
				Datasource             source
			}
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	if board.SchemaVersion < 39 || len(board.Panels) < 30 {
		t.Errorf("schema %d, %d panels", board.SchemaVersion, len(board.Panels))
	}
	known := jobs(t)
	variables := map[string]string{"__rate_interval": "5m"}
	labelValues := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	var exprs []string
	for _, v := range board.Templating.List {
		if v.Type == "datasource" {
			continue
		}
		q := labelValues.FindStringSubmatch(v.Definition)
		if q == nil || v.Datasource.UID != "${datasource}" {
			t.Errorf("variable %s: %s", v.Name, v.Definition)
			continue
		}
		variables[v.Name] = ".*"
		exprs = append(exprs, "count by ("+q[2]+") ("+q[1]+")")
	}
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	for _, p := range board.Panels {
		if p.Title == "" || ids[p.ID] {
			t.Errorf("panel %d %q has no title, or its number is given twice", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%q lies upon %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%q asks nobody", p.Title)
		}
		for _, q := range p.Targets {
			if q.Datasource.UID != "${datasource}" {
				t.Errorf("%q asks %q", p.Title, q.Datasource.UID)
			}
			exprs = append(exprs, q.Expr)
		}
	}
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var rules []rule
	for i, e := range exprs {
		e = os.Expand(e, func(name string) string {
			if variables[name] == "" {
				t.Errorf("there is no variable %s: %s", name, e)
			}
			return variables[name]
		})
		for _, err := range m.check(e, known) {
			t.Errorf("%v: %s", err, e)
		}
		rules = append(rules, rule{fmt.Sprintf("board:expression:%d", i), e})
		panels = append(panels, e)
	}
	out, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "board", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "board.yml"), out, 0o644); err != nil {
		t.Fatal(err)
	}
	promtool(t, dir, "check", "rules", "--lint-fatal", "board.yml")
	return panels
}

// promtool is Prometheus's own checker.
func promtool(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "promtool", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		t.Fatal("there is no promtool; scripts/setup --for test installs it")
	}
	if err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
