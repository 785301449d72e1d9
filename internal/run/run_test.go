package run_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agogsaas/holdfast/internal/run"
)

const grace = 10 * time.Second

var quiet = slog.New(slog.DiscardHandler)

// diary notes what happened, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, s)
}

func (d *diary) want(t *testing.T, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, want) {
		t.Errorf("order was %q, want %q", d.lines, want)
	}
}

func (d *diary) part(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		d.note(name)
		return ctx.Err()
	}
}

func TestPartsStopNewestFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d diary
		s := run.New(quiet)
		s.Close("postgres", func() error { d.note("postgres"); return nil })
		s.Go("transfer", d.part("transfer"))
		s.Defer("slot", func() { d.note("slot") })
		s.Go("capture", d.part("capture"))

		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if err := s.Wait(ctx, grace); err != nil {
			t.Errorf("Wait: %v, want an orderly stop", err)
		}
		d.want(t, "capture", "slot", "transfer", "postgres")
	})
}

func TestPartThatEndsEarlyEndsTheProgramAndIsNamed(t *testing.T) {
	t.Parallel()
	cause := errors.New("disk on fire")
	for _, tc := range []struct {
		name string
		fn   func(context.Context) error
		want string
		is   error
	}{
		{"error", func(context.Context) error { return cause }, "part queue ended: disk on fire", cause},
		{"nil", func(context.Context) error { return nil }, "part queue ended although nobody told it to", nil},
		{"cancelled by another", func(context.Context) error { return context.Canceled }, "part queue ended: context canceled", context.Canceled},
		{"panic", func(context.Context) error { panic("index 7") }, "panic: index 7", nil},
		{"panic with an error", func(context.Context) error { panic(cause) }, "run_test.go", cause},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var d diary
				s := run.New(quiet)
				s.Close("postgres", func() error { d.note("postgres"); return nil })
				s.Go("queue", tc.fn)
				s.Go("capture", d.part("capture"))
				err := s.Wait(t.Context(), grace)
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("Wait: %v, want it to say %q", err, tc.want)
				}
				if tc.is != nil && !errors.Is(err, tc.is) {
					t.Errorf("Wait: %v has lost its cause", err)
				}
				d.want(t, "capture", "postgres")
			})
		})
	}
}

func TestStepThatHangsIsNamedAndTheOthersStillStop(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"part", "closer"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var d diary
				release := make(chan struct{})
				s := run.New(quiet)
				s.Close("postgres", func() error { d.note("postgres"); return nil })
				if kind == "part" {
					s.Go("transfer", func(context.Context) error { <-release; return nil })
				} else {
					s.Close("transfer", func() error { <-release; return nil })
				}
				s.Go("capture", d.part("capture"))
				began := time.Now()
				err := s.Stop(grace)
				if took := time.Since(began); took != grace {
					t.Errorf("Stop took %s, want the grace of %s", took, grace)
				}
				if err == nil || !strings.Contains(err.Error(), "stop transfer: still busy after 10s") {
					t.Errorf("Stop: %v, want the step that hangs to be named", err)
				}
				d.want(t, "capture", "postgres")
				close(release)
			})
		})
	}
}

func TestStopReportsEveryErrorAndIsIdempotent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one, two, three := errors.New("one"), errors.New("two"), errors.New("three")
		calls := 0
		s := run.New(quiet)
		s.Close("a", func() error { calls++; return one })
		s.Close("b", func() error { panic(two) })
		s.Go("c", func(ctx context.Context) error { <-ctx.Done(); return three })

		errs := make([]error, 8)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { errs[i] = s.Stop(grace) })
		}
		wg.Wait()
		for _, err := range append(errs, s.Wait(t.Context(), grace)) {
			for _, want := range []error{one, two, three} {
				if !errors.Is(err, want) {
					t.Errorf("Stop: %v, want it to contain %v", err, want)
				}
			}
		}
		if calls != 1 {
			t.Errorf("closed %d times, want once", calls)
		}
	})
}

func TestOlderPartMayEndBecauseANewerOneHas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		changes := make(chan int)
		s := run.New(quiet)
		s.Go("transfer", func(context.Context) error {
			for range changes {
			}
			return nil
		})
		s.Close("pause", func() error { synctest.Wait(); return nil })
		s.Go("capture", func(ctx context.Context) error {
			<-ctx.Done()
			close(changes)
			return nil
		})
		if err := s.Stop(grace); err != nil {
			t.Errorf("Stop: %v, want an orderly stop", err)
		}
	})
}

func TestNothingIsLeftOpenAfterStop(t *testing.T) {
	t.Parallel()
	s := run.New(quiet)
	if err := s.Stop(grace); err != nil {
		t.Fatalf("Stop of an empty stack: %v", err)
	}
	closed := false
	s.Close("late", func() error { closed = true; return nil })
	if !closed {
		t.Error("what was added after Stop was not closed")
	}
	s.Go("late part", func(context.Context) error { t.Error("a part was started after Stop"); return nil })
	if err := s.Wait(t.Context(), grace); err != nil {
		t.Errorf("Wait after Stop: %v", err)
	}
}

func TestSignalEndsTheContext(t *testing.T) {
	ctx, stop := run.UntilSignal(t.Context())
	defer stop()
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(2 * time.Minute):
		t.Fatal("SIGTERM did not end the context")
	}
}
