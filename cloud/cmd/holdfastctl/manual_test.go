package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/api/apitest"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/cloud/oncall"
	"github.com/agogsaas/holdfast/internal/archtest"
)

// blocks is what a page of the manual has between fences of one kind.
func blocks(page, kind string) []string {
	var out []string
	for i, part := range strings.Split(page, "```") {
		if rest, ok := strings.CutPrefix(part, kind+"\n"); ok && i%2 == 1 {
			out = append(out, rest)
		}
	}
	return out
}

// shellWords splits a command line as a shell does, as far as the manual needs it.
func shellWords(line string) []string {
	var out []string
	word, quoted, some := "", false, false
	for _, c := range line {
		switch {
		case c == '\'':
			quoted, some = !quoted, true
		case c == '#' && !quoted && !some:
			return out
		case c == ' ' && !quoted:
			if some {
				out = append(out, word)
			}
			word, some = "", false
		default:
			word, some = word+string(c), true
		}
	}
	if some {
		out = append(out, word)
	}
	return out
}

// Whoever sets up a region types what the manual says.
func TestTheManualsCommandsForAlertsWork(t *testing.T) {
	t.Parallel()
	root, err := archtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(root, "docs", "alerts.md"))
	if err != nil {
		t.Fatal(err)
	}
	r := apitest.Start(t)
	if _, err := oncall.Seed(t.Context(), r.DB); err != nil {
		t.Fatal(err)
	}
	s := signedIn(t, r.URL, r.Operator.Token)
	s.ok("facility", "add", "la", "--name", "Los Angeles", "--time-zone", "America/Los_Angeles")
	s.ok("contacts", "add", "Cleo Park", "--tenant", "foo")
	s.ok("contacts", "add", "Night desk", "--tenant", "foo")
	home := s.env["HOME"]
	s.writes("slack.url", "https://hooks.slack.com/services/T000/B000/abcdefghijklmnop")
	s.writes("plant.yaml", blocks(string(raw), "yaml")[0])
	r.Below.Hold(detect.Finding{Kind: detect.Offline, Facility: "la", Severity: detect.Critical, Since: time.Now(), Summary: "nothing is heard of Los Angeles"})
	r.Alert()
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- deliverSMS(t, r, stop) }()

	// What is a number or a date of its own there is another one here.
	nextYear := fmt.Sprint(time.Now().Year() + 1)
	ours := strings.NewReplacer("incidents show 17", "incidents show 1", "ack 17", "ack 1", "maintenance end 3", "maintenance end 1",
		"'2026-12-", "'"+nextYear+"-12-", "slack.url", filepath.Join(home, "slack.url"), "plant.yaml", filepath.Join(home, "plant.yaml"))
	n := 0
	for _, block := range blocks(string(raw), "sh") {
		for line := range strings.SplitSeq(strings.ReplaceAll(block, "\\\n", " "), "\n") {
			words := shellWords(ours.Replace(line))
			if len(words) == 0 {
				continue
			}
			n++
			into := ""
			if k := len(words) - 2; k > 0 && words[k] == ">" {
				into, words = words[k+1], words[:k]
			}
			if words[0] != "holdfastctl" {
				t.Fatalf("%q is not ours", line)
			}
			out := s.ok(words[1:]...)
			if into != "" {
				if err := os.WriteFile(into, []byte(out), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if strings.HasPrefix(line, "holdfastctl oncall") {
				wants(t, out, "nobody is told: no policy of tenant foo concerns it", "nobody is told: policy operations reaches nobody now")
			}
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n < 24 {
		t.Errorf("the manual has only %d commands", n)
	}
	wants(t, s.ok("oncall"), "Somebody is told when any of 1 facility goes offline")
	sms := false
	for _, m := range r.Provider.Sent() {
		sms = sms || m.Kind == channel.SMS && m.Event == channel.Test
	}
	if !sms {
		t.Error("no test was sent")
	}
}
