package mqttclient

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/hint"
)

func TestBadURLsAreRefused(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"http://host:1":           "unknown scheme",
		"host:1883":               "unknown scheme",
		"mqtts://":                "no host",
		"mqtts://me:secret@h:1":   "holds a user name",
		"mqtts://%zz":             "broker URL",
		"tcp://127.0.0.1:1883":    "",
		"mqtts://broker:8883":     "",
		"wss://broker:443/mqtt":   "",
		"tls://broker:8883":       "",
		"ws://broker:8080/socket": "",
	} {
		_, err := New(Config{URL: url})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
		if err != nil && strings.Contains(err.Error()+hint.Of(err), "secret") {
			t.Errorf("%s: the error tells the password", url)
		}
	}
}

func TestWaitsAreSpreadAndBounded(t *testing.T) {
	t.Parallel()
	for failures := 1; failures < 80; failures++ {
		bound := min(time.Second<<min(failures-1, 20), 30*time.Second)
		var low, high bool
		for range 200 {
			d := fullJitter(time.Second, 30*time.Second, failures)
			if d < 0 || d > bound {
				t.Fatalf("wait %s after %d failures, at most %s", d, failures, bound)
			}
			low, high = low || d < bound/2, high || d > bound/2
		}
		if !low || !high {
			t.Errorf("waits after %d failures are not spread", failures)
		}
	}
}

func TestPublishWithoutConnectionSaysSo(t *testing.T) {
	t.Parallel()
	c, err := New(Config{URL: "tcp://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(t.Context(), Message{Topic: "x"}); !errors.Is(err, ErrNotConnected) {
		t.Errorf("Publish: %v", err)
	}
}

// TestStopDoesNotWaitForASilentServer connects to something that accepts and then
// is silent, as a half dead broker does.
func TestStopDoesNotWaitForASilentServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		accepted <- conn
		_, _ = io.Copy(io.Discard, conn)
	})
	c, err := New(Config{URL: "tcp://" + l.Addr().String(), ClientID: "x", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	wg.Go(func() { done <- c.Run(ctx) })
	silent := <-accepted
	began := time.Now()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("stopping took %s", took)
	}
	if s := c.State(); s.Connected || s.Connections != 0 {
		t.Errorf("state %+v", s)
	}
	_, _ = silent.Close(), l.Close()
	wg.Wait()
}
