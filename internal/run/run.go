// Package run keeps the parts of a program running until it is told to stop,
// and then stops them newest first.
//
// It is the only place that starts goroutines which outlive the function that
// started them. Elsewhere a function that starts goroutines also waits for
// them (sync.WaitGroup.Go, errgroup).
//
// In:  edge/edge.go, cloud/cloud.go and every long-lived part.
// Out: nothing; it calls back what it was given.
package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"sync"
	"time"
)

// Stack holds what a program has started, in the order in which it was
// started. Add to it the moment a thing exists; Wait, or Stop when the
// construction fails half way, undoes all of it in reverse.
//
// The methods may be called from several goroutines.
type Stack struct {
	log *slog.Logger

	// failed is closed when a part ends before it was told to.
	failed chan struct{}
	// stopped is closed when Stop has run to its end; err is valid from then on.
	stopped chan struct{}
	err     error

	mu       sync.Mutex
	steps    []*step // oldest first
	firstErr error   // why failed was closed
	stopping bool
}

// step is one thing to undo: a part that runs, or something to close.
type step struct {
	name   string
	cancel context.CancelFunc // parts only: tells it to stop
	close  func() error       // closers only
	done   chan struct{}      // parts only: closed when it has returned
	err    error              // parts only: what it returned; read after done
}

// New returns an empty stack. A nil log means slog.Default.
func New(log *slog.Logger) *Stack {
	if log == nil {
		log = slog.Default()
	}
	return &Stack{log: log, failed: make(chan struct{}), stopped: make(chan struct{})}
}

// Close calls fn when the stack unwinds past this point. On a stack that is
// stopping or stopped already, fn is called at once, so that nothing is left open.
func (s *Stack) Close(name string, fn func() error) {
	s.mu.Lock()
	if !s.stopping {
		s.steps = append(s.steps, &step{name: name, close: fn})
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	if err := guard(fn); err != nil {
		s.log.Warn("closing late", "part", name, "err", err)
	}
}

// Defer is Close for functions that cannot fail, such as a pool's Close.
func (s *Stack) Defer(name string, fn func()) {
	s.Close(name, func() error { fn(); return nil })
}

// Go starts fn in the background. fn must run until its context is cancelled,
// which happens when it is its turn to stop: after everything newer, before
// everything older. If fn returns before that, even with nil, or panics, Wait
// ends the program with an error that names the part.
//
// On a stack that is stopping or stopped already, fn is not started.
func (s *Stack) Go(name string, fn func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	st := &step{name: name, cancel: cancel, done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		cancel()
		return
	}
	s.steps = append(s.steps, st)
	go s.runPart(ctx, st, fn)
}

func (s *Stack) runPart(ctx context.Context, st *step, fn func(ctx context.Context) error) {
	defer close(st.done)
	// The label names the part in goroutine profiles and its children inherit it.
	pprof.Do(ctx, pprof.Labels("part", st.name), func(ctx context.Context) {
		st.err = guard(func() error { return fn(ctx) })
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	// While the stack unwinds an older part may end because a newer one has:
	// its error is reported when its turn comes, its nil is welcome.
	if s.stopping || s.firstErr != nil {
		return
	}
	s.firstErr = endedEarly(st.name, st.err)
	st.err = nil // reported already
	close(s.failed)
}

func endedEarly(name string, err error) error {
	if err == nil {
		return fmt.Errorf("part %s ended although nobody told it to", name)
	}
	return fmt.Errorf("part %s ended: %w", name, err)
}

// Wait returns after ctx is done, or a part has ended early, and everything
// has been stopped as described at Stop. It returns nil after an orderly stop.
func (s *Stack) Wait(ctx context.Context, grace time.Duration) error {
	select {
	case <-ctx.Done():
	case <-s.failed:
		s.mu.Lock()
		err := s.firstErr
		s.mu.Unlock()
		s.log.Error("stopping because a part ended", "err", err)
	case <-s.stopped:
	}
	return s.Stop(grace)
}

// Stop stops everything, newest first, waiting at most grace for each step. A
// step that takes longer is named in the error and left behind, and the next
// one is stopped. The error joins the part that ended early, if one did, with
// all that went wrong while stopping; a part that returns context.Canceled
// after it was told to stop has done nothing wrong.
//
// Stop may be called again, also while it runs: later calls wait for the first
// and return the same error.
func (s *Stack) Stop(grace time.Duration) error {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		<-s.stopped
		return s.err
	}
	s.stopping = true
	steps := slices.Clone(s.steps)
	s.mu.Unlock()

	var errs []error
	for _, st := range slices.Backward(steps) {
		began := time.Now()
		if err := s.stopStep(st, grace); err != nil {
			errs = append(errs, err)
			continue
		}
		s.log.Debug("stopped", "part", st.name, "took", time.Since(began))
	}
	s.mu.Lock()
	s.err = errors.Join(append([]error{s.firstErr}, errs...)...)
	s.mu.Unlock()
	close(s.stopped)
	return s.err
}

func (s *Stack) stopStep(st *step, grace time.Duration) error {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	done := st.done
	if st.close != nil {
		done = make(chan struct{})
		go func() {
			defer close(done)
			st.err = guard(st.close)
		}()
	} else {
		st.cancel()
	}
	select {
	case <-done:
	case <-timer.C:
		return fmt.Errorf("stop %s: still busy after %s, left behind", st.name, grace)
	}
	if st.err == nil || st.close == nil && errors.Is(st.err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("stop %s: %w", st.name, st.err)
}

// guard calls fn and turns a panic into an error that carries the stack.
func guard(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			if cause, ok := p.(error); ok {
				err = fmt.Errorf("panic: %w\n%s", cause, debug.Stack())
				return
			}
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return fn()
}
