package channel_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
)

// texts are those that come with the build.
func texts(t testing.TB) *channel.Texts {
	t.Helper()
	x, err := channel.NewTexts("")
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// serve starts a server for a handler that must know its address.
func serve(t testing.TB, make func(base string) http.Handler) string {
	t.Helper()
	var h http.Handler
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }))
	t.Cleanup(s.Close)
	h = make(s.URL)
	return s.URL
}

// secretFile keeps a secret as the configuration wants it.
func secretFile(t testing.TB, secret string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// message is about a made-up incident.
func message(kind channel.Kind, event channel.Event, to string) channel.Message {
	m := channel.Example(kind, event)
	m.To = to
	return m
}

// soon is a context for one call.
func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// mustSend sends a message that is to be taken.
func mustSend(t testing.TB, s channel.Sender, m channel.Message, want channel.State) channel.Result {
	t.Helper()
	r, err := s.Send(soon(t), m)
	if err != nil {
		t.Fatalf("send %s: %v", m.Event, err)
	}
	if r.State != want {
		t.Fatalf("send %s: state %s, want %s", m.Event, r.State, want)
	}
	return r
}

// outcome is how an error is to be classified.
type outcome int

const (
	temporary outcome = iota
	later             // temporary, with a time
	permanent
)

func wantError(t testing.TB, err error, want outcome, secrets ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	retry, hasTime := errors.AsType[*channel.RetryError](err)
	switch got := channel.IsPermanent(err); {
	case got != (want == permanent):
		t.Errorf("permanent: %t: %v", got, err)
	case hasTime != (want == later):
		t.Errorf("has a time: %t: %v", hasTime, err)
	case hasTime && retry.After <= 0:
		t.Errorf("asked to come again after %s", retry.After)
	}
	for _, s := range secrets {
		if s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("the error holds the secret %q: %v", s, err)
		}
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within ten seconds: %s", what)
		case <-tick.C:
		}
	}
}
