package channel

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/test/peers/slack"
)

// TestATokenThatIsRevokedWhileTheRegionRunsIsNoticed revokes and restores the
// token of Slack's bot.
func TestATokenThatIsRevokedWhileTheRegionRunsIsNoticed(t *testing.T) {
	t.Parallel()
	var now atomic.Pointer[slack.Peer]
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { now.Load().ServeHTTP(w, r) }))
	t.Cleanup(provider.Close)
	with := func(token string) { now.Store(slack.New(slack.Options{BaseURL: provider.URL, BotToken: token})) }
	const token = "xoxb-the-token"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	c := &Credentials{
		Chat: NewChat(Config{Slack: SlackConfig{BaseURL: provider.URL, BotToken: file}}, texts(t), nil),
		Log:  slog.New(slog.NewTextHandler(&log, nil)), every: time.Millisecond,
	}
	with(token)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Watch(ctx) }()
	wait := func(wrong bool) {
		t.Helper()
		over, tick := time.After(2*time.Minute), time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for (c.Wrong(Slack) != nil) != wrong {
			select {
			case <-over:
				t.Fatalf("wrong: %v, want %t", c.Wrong(Slack), wrong)
			case <-tick.C:
			}
		}
	}
	with("xoxb-another")
	wait(true)
	if h := hint.Of(c.Wrong(Slack)); !strings.Contains(h, "alerts.slack.bot_token_file") {
		t.Errorf("it does not say what to do: %q", h)
	}
	with(token)
	wait(false)
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if said := log.String(); strings.Count(said, "level=ERROR") != 1 || strings.Count(said, "level=INFO") != 1 || strings.Contains(said, token) {
		t.Errorf("each change is to be logged once:\n%s", said)
	}
}
