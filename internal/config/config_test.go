package config_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/hint"
)

// edge is a configuration with one setting of every kind.
type edge struct {
	Tenant   string            `doc:"The customer's id."`
	Facility string            `doc:"The facility's id."`
	Listen   netip.AddrPort    `doc:"Where the pages are served."`
	Queue    queue             `doc:"What waits for the link."`
	Channels []channel         `doc:"Who is told."`
	Labels   map[string]string `doc:"Free labels that the fleet page shows, for example the rack or the name of the person who looks after the box."`
	Ratio    float64
	Metered  bool
	Port     uint16
	Offset   int8
	DSN      *string `yaml:"dsn" doc:"An existing database."`
	Patience time.Duration
	Skipped  string `yaml:"-"`
	private  int
}

type queue struct {
	Max    config.Bytes    `yaml:"max" doc:"How much may wait on disk."`
	Fsync  bool            `yaml:"fsync"`
	Expire config.Duration `yaml:"expire"`
}

func (q queue) Validate() []config.Problem {
	if q.Max < 64<<20 {
		return []config.Problem{{Path: "max", Text: "must be at least 64 MiB"}}
	}
	return nil
}

type channel struct {
	Kind string
	To   []string
}

func (c *channel) Validate() []config.Problem {
	if c.Kind == "" {
		return []config.Problem{{Text: "needs a kind"}}
	}
	return nil
}

func (e *edge) Validate() []config.Problem {
	if e.Tenant == "" {
		return []config.Problem{{Path: "tenant", Text: "must be set"}}
	}
	return nil
}

func defaults() edge {
	return edge{
		Tenant:   "foo",
		Facility: "la",
		Listen:   netip.MustParseAddrPort("127.0.0.1:4010"),
		Queue:    queue{Max: 8 << 30, Expire: config.Duration(90 * 24 * time.Hour)},
		Ratio:    0.5,
		Port:     8080,
		Patience: 90 * time.Second,
		private:  1,
	}
}

func TestFileReplacesOnlyWhatItNames(t *testing.T) {
	t.Parallel()
	got := defaults()
	path := filepath.Join(t.TempDir(), "edge.yaml")
	write(t, path, 0o600, `
# The box in the hall.
facility: 007
listen: "127.0.0.1:9"
queue:
  max: 1.5 GiB
  fsync: true
channels:
  - kind: sms
    to: ["+49 1", b]
  - kind: mail
labels: {rack: a3}
port: 65535
offset: -128
dsn: host=/run/postgresql
patience: 2m
`)
	if err := config.Load(path, &got); err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Facility = "007"
	want.Listen = netip.MustParseAddrPort("127.0.0.1:9")
	want.Queue = queue{Max: 3 << 29, Fsync: true, Expire: want.Queue.Expire}
	want.Channels = []channel{{"sms", []string{"+49 1", "b"}}, {Kind: "mail"}}
	want.Labels = map[string]string{"rack": "a3"}
	want.Port, want.Offset, want.Patience = 65535, -128, 2*time.Minute
	dsn := "host=/run/postgresql"
	want.DSN = &dsn
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEmptyFileMeansTheDefaults(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "\n\n", "# nothing yet\n", "---\n"} {
		got := defaults()
		if err := config.Parse("edge.yaml", []byte(text), &got); err != nil || !reflect.DeepEqual(got, defaults()) {
			t.Errorf("%q: %v, %+v", text, err, got)
		}
	}
}

func TestAllProblemsAreReportedAtOnceWithTheirPlace(t *testing.T) {
	t.Parallel()
	c := defaults()
	err := config.Parse("edge.yaml", []byte(`tenant: ""
facilty: la
queue:
  max: 1 MiB
  expire: soon
  fsync: yes please
channels:
  - to: [a]
  - kind: sms
    to: b
port: 70000
port: 80
ratio: .inf
metered:
labels: [a]
speed: 3
listen: nowhere
`), &c)
	const want = `edge.yaml has 14 problems:
edge.yaml:1:9: tenant: must be set
  1 | tenant: ""
    |         ^
edge.yaml:2:1: facilty: is not a setting; did you mean facility?
  2 | facilty: la
    | ^
edge.yaml:4:8: queue.max: must be at least 64 MiB
  4 |   max: 1 MiB
    |        ^
edge.yaml:5:11: queue.expire: "soon" is not a duration; write a number with a unit, for example 250ms, 5s, 1h30m or 90d
  5 |   expire: soon
    |           ^
edge.yaml:6:10: queue.fsync: must be true or false, not "yes please"
  6 |   fsync: yes please
    |          ^
edge.yaml:8:5: channels[0]: needs a kind
  8 |   - to: [a]
    |     ^
edge.yaml:10:9: channels[1].to: must be a list, one item a line beginning with a dash
  10 |     to: b
     |         ^
edge.yaml:11:7: port: must be a whole number from 0 to 65535, not "70000"
  11 | port: 70000
     |       ^
edge.yaml:12:1: port: is set twice, first in line 11
  12 | port: 80
     | ^
edge.yaml:13:8: ratio: must be a number, not ".inf"
  13 | ratio: .inf
     |        ^
edge.yaml:14:9: metered: has no value; give it one or remove the key
  14 | metered:
     |         ^
edge.yaml:15:9: labels: must be settings of the form key: value
  15 | labels: [a]
     |         ^
edge.yaml:16:1: speed: is not a setting; known here: tenant, facility, listen, queue, channels, labels, ratio, metered, port, offset, dsn, patience
  16 | speed: 3
     | ^
edge.yaml:17:9: listen: not an ip:port
  17 | listen: nowhere
     |         ^`
	if err == nil || strings.ReplaceAll(err.Error(), `not an ip:port "nowhere"`, "not an ip:port") != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestProblemOfAMissingKeyHasNoLine(t *testing.T) {
	t.Parallel()
	var c edge
	err := config.Parse("edge.yaml", []byte("queue: {max: 1 GiB}\n"), &c)
	if err == nil || err.Error() != "edge.yaml: tenant: must be set" {
		t.Errorf("got %v", err)
	}
}

func TestCleverYAMLIsRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"tenant: &a foo\n":                            "edge.yaml:1:9: tenant: uses a YAML anchor",
		"tenant: !!str foo\n":                         "edge.yaml:1:9: tenant: uses a YAML anchor, alias, tag",
		"tenant: foo\n---\ntenant: bar\n":             "edge.yaml:3:1: there is more than one document",
		"queue: &q\n  max: 1 GiB\n":                   "queue: uses a YAML anchor",
		"just words\n":                                "edge.yaml:1:1: must be settings of the form key: value",
		"- a\n":                                       "edge.yaml:1:1: must be settings of the form key: value",
		"queue:\n  <<: {max: 1 GiB}\n":                "uses a YAML merge key",
		"tenant: [a\n":                                "is not YAML",
		"tenant: \"a\n":                               "is not YAML",
		"tenant:\n\tfacility: x\n":                    "edge.yaml:2:1: is not YAML",
		"tenant: a b: c\n":                            "is not YAML",
		"queue:\n  max: 1 GiB\n   fsync: true\n":      "edge.yaml:",
		"tenant: " + strings.Repeat("x", 300) + ": y": "…",
	} {
		c := defaults()
		if err := config.Parse("edge.yaml", []byte(text), &c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got\n%v\nwant it to say %q", text, err, want)
		}
	}
}

func TestUnreadableFileComesWithAdvice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	err := config.Load(filepath.Join(dir, "none.yaml"), &edge{})
	if !errors.Is(err, os.ErrNotExist) || hint.Of(err) == "" {
		t.Errorf("missing file: %v, hint %q", err, hint.Of(err))
	}
	big := filepath.Join(dir, "big.yaml")
	write(t, big, 0o600, strings.Repeat("#\n", 1<<19)+"##")
	if err := config.Load(big, &edge{}); err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Errorf("huge file: %v", err)
	}
	if err := config.Parse("x", nil, edge{}); err == nil {
		t.Error("a struct that cannot be filled was accepted")
	}
}

func write(t *testing.T, path string, mode os.FileMode, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
}
