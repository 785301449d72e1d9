package scenario

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
)

// A reading of PromQL that is enough to find names: promtool knows whether it is
// PromQL at all.
var (
	groupings = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	ranges    = regexp.MustCompile(`\[[^\]]*\]`)
	words     = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\(|\{[^}]*\})?`)
	matchers  = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	operators = []string{"and", "or", "unless", "bool", "offset"}
	// target are the labels that Prometheus adds to what it scrapes.
	target = []string{"job", "instance", "region"}
)

// check looks for names in an expression that nothing exports: of metrics, labels,
// and values of labels.
func (m measured) check(expr string, jobs []string) (wrong []error) {
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	grouped := groupings.FindAllStringSubmatch(expr, -1)
	expr = ranges.ReplaceAllString(groupings.ReplaceAllString(expr, " "), " ")
	labels := slices.Clone(target)
	for _, w := range words.FindAllStringSubmatch(expr, -1) {
		if w[2] == "(" || slices.Contains(operators, w[1]) {
			continue
		}
		f := m.family(w[1])
		if f == nil {
			bad("nothing exports %s", w[1])
			continue
		}
		own := append(slices.Clone(target), f.labels...)
		labels = append(labels, own...)
		if f.kind == dto.MetricType_HISTOGRAM {
			labels = append(labels, "le")
		}
		for _, x := range matchers.FindAllStringSubmatch(w[2], -1) {
			if !slices.Contains(own, x[1]) {
				bad("%s has no label %s", f.name, x[1])
				continue
			}
			values := f.values[x[1]]
			if f.sometimes() {
				values = m.values[x[1]]
			}
			if x[1] == "job" {
				values = jobs
			}
			for one := range strings.SplitSeq(x[3], "|") {
				like, err := regexp.Compile("^(?:" + one + ")$")
				if err != nil || !slices.ContainsFunc(values, like.MatchString) && one != ".*" {
					bad("%s has no %s that is %s", f.name, x[1], one)
				}
			}
		}
	}
	for _, g := range grouped {
		for l := range strings.SplitSeq(g[1], ",") {
			if l = strings.TrimSpace(l); !slices.Contains(labels, l) {
				bad("none of its metrics has the label %s", l)
			}
		}
	}
	return wrong
}

// family finds a metric by the name of one of its series.
func (m measured) family(name string) *family {
	if name == "up" { // Prometheus makes it
		return &family{name: name}
	}
	if f := m.all[name]; f != nil && f.kind != dto.MetricType_HISTOGRAM {
		return f
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		f := m.all[strings.TrimSuffix(name, suffix)]
		if f != nil && strings.HasSuffix(name, suffix) && (f.kind == dto.MetricType_HISTOGRAM || f.kind == dto.MetricType_SUMMARY && suffix != "_bucket") {
			return f
		}
	}
	return nil
}

func TestAWrongNameInAnExpressionIsFound(t *testing.T) {
	t.Parallel()
	m := measured{
		all: map[string]*family{
			"hf_state":   {name: "hf_state", labels: []string{"state"}, values: map[string][]string{"state": {"on", "off"}}},
			"hf_seconds": {name: "hf_seconds", kind: dto.MetricType_HISTOGRAM},
			"hf_rare":    {name: "hf_rare", help: "absent otherwise", labels: []string{"state"}},
		},
		values: map[string][]string{"state": {"on", "off"}},
	}
	for expr, want := range map[string]int{
		`max by (region, state) (hf_state{region=~".*", state=~"on|off"}) > 0 and up{job="b"} == 1`: 0,
		`histogram_quantile(0.9, sum by (le) (rate(hf_seconds_bucket[5m])))`:                        0,
		`hf_rare{state="off"} unless on (state) hf_state`:                                           0,
		`hf_stat`:                           1,
		`rate(hf_seconds[5m])`:              1,
		`hf_state_bucket`:                   1,
		`hf_state{stat="on"}`:               1,
		`hf_state{state="of"}`:              1,
		`hf_state{state=~"on|of"}`:          1,
		`hf_rare{state="of"}`:               1,
		`up{job="c"}`:                       1,
		`sum by (stat) (hf_state)`:          1,
		`sum by (le) (hf_state) or hf_stat`: 2,
	} {
		if got := m.check(expr, []string{"a", "b"}); len(got) != want {
			t.Errorf("%s: %v, want %d", expr, got, want)
		}
	}
}
