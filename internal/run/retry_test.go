package run_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agogsaas/holdfast/internal/run"
)

var errDown = errors.New("region does not answer")

func TestRetrySpeaksOnceAtFailureAndOnceAtRecovery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		calls := 0
		err := run.Retry(t.Context(), log, run.Backoff{}, func(context.Context) error {
			if calls++; calls < 20 {
				return errDown
			}
			return nil
		})
		if err != nil {
			t.Fatalf("Retry: %v", err)
		}
		if n := strings.Count(out.String(), "\n"); n != 2 {
			t.Errorf("%d lines logged, want 2:\n%s", n, &out)
		}
		if !strings.Contains(out.String(), `msg="working again" attempt=20`) {
			t.Errorf("the recovery is not told:\n%s", &out)
		}
	})
}

func TestRetryWaitsLongerUpToTheLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := run.Backoff{Min: time.Second, Max: 8 * time.Second}
		last, n := time.Now(), 0
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		err := run.Retry(ctx, quiet, b, func(context.Context) error {
			wait := time.Since(last)
			want := min(time.Second<<max(n-1, 0), 8*time.Second)
			if n > 0 && (wait < want/2 || wait > want) {
				t.Errorf("wait %d was %s, want between %s and %s", n, wait, want/2, want)
			}
			last, n = time.Now(), min(n+1, 30)
			return errDown
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Retry: %v, want the context's error", err)
		}
	})
}

func TestPermanentErrorEndsTheAttempts(t *testing.T) {
	t.Parallel()
	revoked := errors.New("device is revoked")
	wrapped := fmt.Errorf("connect: %w", run.Permanent(revoked))
	if err := run.Retry(t.Context(), quiet, run.Backoff{}, func(context.Context) error { return wrapped }); err != revoked {
		t.Errorf("Retry: %v, want %v", err, revoked)
	}
	err := run.Loop(t.Context(), quiet, run.Backoff{}, func(context.Context, func()) error { return wrapped })
	if err != revoked {
		t.Errorf("Loop: %v, want %v", err, revoked)
	}
	if run.Permanent(nil) != nil {
		t.Error("Permanent(nil) is an error")
	}
}

func TestLoopStartsOverWithAShortWaitAfterASessionThatWorked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		sessions, ended := 0, time.Now()
		b := run.Backoff{Min: time.Second, Max: time.Hour}
		err := run.Loop(ctx, quiet, b, func(ctx context.Context, up func()) error {
			sessions++
			switch {
			case sessions <= 8: // cannot connect
				return errDown
			case sessions == 9: // connects, then breaks
				up()
				ended = time.Now()
				return errDown
			case sessions == 10: // ends by itself
				if wait := time.Since(ended); wait > time.Second {
					t.Errorf("waited %s after a session that had worked, want at most 1s", wait)
				}
				return nil
			}
			cancel()
			return ctx.Err()
		})
		if !errors.Is(err, context.Canceled) || sessions != 11 {
			t.Errorf("Loop: %v after %d sessions, want a cancelled context after 11", err, sessions)
		}
	})
}
