package channel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/hint"
)

const someDelivery = "6f1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"

func links(t *testing.T, public string) *Links {
	t.Helper()
	l, err := NewLinks(public, filepath.Join(t.TempDir(), "links.key"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestALinkSaysWhatItIsForAndCannotBeChanged(t *testing.T) {
	t.Parallel()
	l := links(t, "https://holdfast.example.com/")
	expires := time.Now().Add(time.Hour).Truncate(time.Minute)
	u, err := l.URL(ToAcknowledge, someDelivery, expires)
	if err != nil {
		t.Fatal(err)
	}
	token, ok := strings.CutPrefix(u, "https://holdfast.example.com/ack/")
	if !ok || len(u) > 100 {
		t.Fatalf("%q", u)
	}
	got, err := l.read(token)
	if err != nil || got.purpose != ToAcknowledge || got.delivery != someDelivery || !got.expires.Equal(expires) {
		t.Fatalf("%+v, %v", got, err)
	}
	// Each bit counts.
	for i := range token {
		for _, c := range []byte("AQgw_-7z") {
			other := []byte(token)
			if other[i] == c {
				continue
			}
			other[i] = c
			if _, err := l.read(string(other)); err == nil {
				t.Fatalf("accepted with %c at %d", c, i)
			}
		}
	}
	if _, err := links(t, "https://holdfast.example.com").read(token); err == nil {
		t.Error("a link of another region is accepted")
	}
	if u, err := links(t, "").URL(ToAcknowledge, someDelivery, expires); u != "" || err != nil {
		t.Errorf("a region without an address makes %q, %v", u, err)
	}
	if _, err := l.URL(ToAcknowledge, "17", expires); err == nil {
		t.Error("a link for no delivery was made")
	}
}

func TestTheKeyOfLinksIsMadeOnceAndKeptFromOthers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "links.key")
	first, err := NewLinks("https://a.example", path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	second, err := NewLinks("https://a.example", path)
	if err != nil {
		t.Fatal(err)
	}
	token, err := first.token(ToFallback, someDelivery, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.read(token); err != nil {
		t.Error("a restart made the links void")
	}
	if err := os.WriteFile(path, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewLinks("", path); err == nil || !strings.Contains(hint.Of(err), path) || strings.Contains(err.Error(), "short") {
		t.Errorf("%v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := NewLinks("", path); err == nil {
		t.Error("a key that others may read is used")
	}
}

func FuzzLink(f *testing.F) {
	l := &Links{base: "https://a.example", key: make([]byte, linkKeyBytes)}
	token, err := l.token(ToAcknowledge, someDelivery, time.Unix(1_800_000_000, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add("")
	f.Add(strings.Repeat("A", len(token)))
	f.Fuzz(func(t *testing.T, s string) {
		got, err := l.read(s)
		if err != nil {
			return
		}
		// What is accepted is what we would write.
		again, err := l.token(got.purpose, got.delivery, got.expires)
		if err != nil || again != s {
			t.Errorf("%q is read as %+v, which is written %q (%v)", s, got, again, err)
		}
	})
}
