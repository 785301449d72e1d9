package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/test/rig/procs"
)

// peer is a real Prometheus with the configuration and the rules that we ship.
type peer struct{ url string }

// startPrometheus has one scrape a region and a box each second.
func startPrometheus(t *testing.T, region, box int) peer {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("there is no Prometheus; scripts/setup --for test installs it")
	}
	text, err := os.ReadFile(filepath.Join(deployDir, "prometheus/prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := filepath.Abs(filepath.Join(deployDir, "prometheus/holdfast.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	dir, port := t.TempDir(), pgtest.Port(t)
	config := filepath.Join(dir, "prometheus.yml")
	ours := strings.NewReplacer("- holdfast.rules.yml", "- "+rules, "15s", "1s",
		"127.0.0.1:8080", fmt.Sprintf("127.0.0.1:%d", region), "la.plant.example.com:4010", fmt.Sprintf("127.0.0.1:%d", box))
	if err := os.WriteFile(config, []byte(ours.Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	p := peer{fmt.Sprintf("http://127.0.0.1:%d", port)}
	procs.Start(t, procs.Spec{
		Name: "prometheus", Path: program, Ready: p.url + "/-/ready",
		Args: []string{"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"), fmt.Sprintf("--web.listen-address=127.0.0.1:%d", port), "--log.level=warn"},
	})
	return p
}

// get asks Prometheus's own API.
func (p peer) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Error string
		Data  json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("read Prometheus's answer: %w", err)
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return json.Unmarshal(answer.Data, into)
}

// wantAnswers asks what the board asks. What is always exported must be answered
// with something.
func (p peer) wantAnswers(t *testing.T, m measured, exprs []string) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		for _, e := range exprs {
			var got struct{ Result []json.RawMessage }
			if err := p.get(ctx, "/api/v1/query?query="+url.QueryEscape(e), &got); err != nil {
				return fmt.Errorf("%s: %w", e, err)
			}
			if len(got.Result) == 0 && !m.mayBeEmpty(e) {
				return fmt.Errorf("there is nothing to see: %s", e)
			}
		}
		return nil
	})
}

// mayBeEmpty reports whether an expression asks for what is not there on a good day.
func (m measured) mayBeEmpty(expr string) bool {
	return strings.HasSuffix(expr, "> 0") || slices.ContainsFunc(words.FindAllStringSubmatch(expr, -1), func(w []string) bool {
		f := m.family(w[1])
		return f != nil && f.sometimes()
	})
}

// wantAlerts waits until these alerts fire and no others.
func (p peer) wantAlerts(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		var all struct {
			Groups []struct {
				Rules []struct {
					Name, Health, LastError string
					Alerts                  []struct {
						State  string
						Labels map[string]string
					}
				}
			}
		}
		if err := p.get(ctx, "/api/v1/rules", &all); err != nil {
			return err
		}
		var firing []string
		for _, g := range all.Groups {
			for _, r := range g.Rules {
				if r.Health != "ok" {
					return fmt.Errorf("%s is %s: %s", r.Name, r.Health, r.LastError)
				}
				for _, a := range r.Alerts {
					if a.State == "firing" {
						firing = append(firing, strings.TrimSpace(r.Name+" "+a.Labels["region"]+" "+a.Labels["facility"]))
					}
				}
			}
		}
		if slices.Sort(firing); !slices.Equal(firing, want) {
			return fmt.Errorf("it fires %q, want %q", firing, want)
		}
		return nil
	})
}
