package config_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/config"
)

const printed = `# The customer's id.
tenant: foo

# The facility's id.
facility: la

# Where the pages are served.
listen: 127.0.0.1:4010

# What waits for the link.
queue:

  # How much may wait on disk.
  max: 8 GiB
  fsync: false
  expire: 90d

# Who is told.
channels:
  - kind: sms
    to:
      - +49 1
      - "two\nlines"
  - kind: mail
    to: []

# Free labels that the fleet page shows, for example the rack or the name of the
# person who looks after the box.
labels:
  "3": "true"
  rack: "a: #3"
ratio: 0.5
metered: false
port: 8080
offset: 0

# An existing database.
# dsn:
patience: 1m30s
`

func full() edge {
	c := defaults()
	c.Channels = []channel{{"sms", []string{"+49 1", "two\nlines"}}, {Kind: "mail", To: []string{}}}
	c.Labels = map[string]string{"rack": "a: #3", "3": "true"}
	return c
}

func TestPrintIsTheManual(t *testing.T) {
	t.Parallel()
	c := full()
	var out bytes.Buffer
	if err := config.Print(&out, &c); err != nil {
		t.Fatal(err)
	}
	if out.String() != printed {
		t.Errorf("got\n%s\nwant\n%s", &out, printed)
	}
}

func TestWhatPrintWritesLoadReads(t *testing.T) {
	t.Parallel()
	got := defaults()
	if err := config.Parse("edge.yaml", []byte(printed), &got); err != nil {
		t.Fatal(err)
	}
	if want := full(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestPrintRefusesWhatLoadCannotRead(t *testing.T) {
	t.Parallel()
	for _, v := range []any{3, struct{ C chan int }{}, struct{ L []func() }{[]func(){nil}}} {
		if err := config.Print(&bytes.Buffer{}, v); err == nil {
			t.Errorf("%T was printed", v)
		}
	}
}

// FuzzParse feeds the reader arbitrary files: it must not panic, must place its
// problems inside the file, and must read back what it prints of an accepted one.
func FuzzParse(f *testing.F) {
	f.Add([]byte(printed))
	f.Add([]byte("queue: {max: 1 GiB, max: 2}\nchannels: [{to: a}]\n? x\n: y\n"))
	f.Add([]byte("a: &a [*a]\n<<: *a\n--- !t\n...\n%YAML 9\n"))
	f.Add([]byte("tenant: |\n  x\n y\nfacility: >-\n  \"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := defaults()
		if err := config.Parse("f.yaml", data, &c); err != nil {
			e, ok := err.(*config.Error)
			if !ok || len(e.Problems) == 0 {
				t.Fatalf("not a list of problems: %v", err)
			}
			if len(e.Error()) > 1000*(len(data)+10) {
				t.Errorf("%d bytes of error for %d bytes of file", len(e.Error()), len(data))
			}
			return
		}
		var out bytes.Buffer
		if err := config.Print(&out, c); err != nil {
			t.Fatal(err)
		}
		again := defaults()
		if err := config.Parse("again.yaml", out.Bytes(), &again); err != nil {
			t.Fatalf("what was printed is refused: %v\n%s", err, &out)
		}
		var second bytes.Buffer
		if err := config.Print(&second, again); err != nil {
			t.Fatal(err)
		}
		if out.String() != second.String() {
			t.Errorf("printed\n%s\nread back as\n%s", &out, &second)
		}
	})
}

func FuzzBytes(f *testing.F) {
	for _, s := range []string{"8 GiB", "1.5gb", "0", "9223372036854775807", "1e3", "-1", ".", "7 B"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var b, again config.Bytes
		if err := b.UnmarshalText([]byte(s)); err != nil {
			return
		}
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b || b < 0 {
			t.Errorf("%q became %d, printed %q, read %d (%v)", s, b, b, again, err)
		}
	})
}

func TestSizesAndDurations(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"8 GiB": "8 GiB", "8gib": "8 GiB", "1 kB": "1 kB", "0": "0", "1048576": "1 MiB", "1.5 KiB": "1536", "2 TB": "2 TB",
		"": "error", "GiB": "error", "8 G": "error", "1.3 B": "error", "-1": "error", "9 EiB": "error", "9000000 TiB": "error", "1..2": "error", "1/2": "error", "1e3": "error",
	} {
		var b config.Bytes
		got := "error"
		if err := b.UnmarshalText([]byte(in)); err == nil {
			got = b.String()
		}
		if got != want {
			t.Errorf("size %q is %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"5s": "5s", "250ms": "250ms", "60m": "1h", "90m": "1h30m", "0": "0s", "24h": "1d", "90d": "90d", "36h": "36h", "10m0s": "10m", "-5s": "-5s",
		"": "error", "5": "error", "d": "error", "200000d": "error", "soon": "error", "1d5h": "error",
	} {
		var d config.Duration
		got := "error"
		if err := d.UnmarshalText([]byte(in)); err == nil {
			got = d.String()
		}
		if got != want {
			t.Errorf("duration %q is %s, want %s", in, got, want)
		}
	}
	text := strings.Join([]string{config.Bytes(1 << 40).String(), config.Duration(1).String()}, " ")
	if text != "1 TiB 1ns" {
		t.Errorf("got %q", text)
	}
}
