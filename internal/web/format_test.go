package web

import (
	"strings"
	"testing"
	"time"
)

func TestDurationsAreSaidAsPeopleSayThem(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0:                               "0 ms",
		6400 * time.Microsecond:         "6.4 ms",
		59 * time.Second:                "59 s",
		47*time.Minute + 3*time.Second:  "47 min",
		6 * time.Hour:                   "6 h",
		6*time.Hour + 5*time.Minute:     "6 h 5 min",
		49*time.Hour + 59*time.Minute:   "2 d 1 h",
		-3 * time.Second:                "-3 s",
		999*time.Millisecond + 7*1000*1: "999 ms",
	} {
		if got := Span(d); got != want {
			t.Errorf("%d ns: %q, want %q", d, got, want)
		}
	}
	if got := Count(1234567); got != "1\u202f234\u202f567" {
		t.Errorf("count %q", got)
	}
	if got := Bytes(96 << 10); got != "96.0 KiB" {
		t.Errorf("bytes %q", got)
	}
}

func TestTimesCarryTheirZone(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("PST", -8*3600)
	html := string(TimeHTML(time.Date(2026, 11, 2, 3, 4, 5, 0, time.UTC), zone))
	if !strings.Contains(html, "2026-11-01 19:04 PST") || !strings.Contains(html, `datetime="2026-11-02T03:04:05Z"`) {
		t.Error(html)
	}
}

func FuzzLocalPath(f *testing.F) {
	for _, s := range []string{"/", "//x", "/\\x", "https://x", "/a?b=c", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := localPath(s)
		if p[0] != '/' || (len(p) > 1 && (p[1] == '/' || p[1] == '\\')) || strings.ContainsAny(p, "\r\n") {
			t.Fatalf("%q leads to %q", s, p)
		}
	})
}
