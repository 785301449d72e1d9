package run

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait between attempts. The wait doubles from Min to
// Max; each is shortened by a random part of up to a half, so that a thousand
// boxes do not come back in the same instant.
type Backoff struct {
	Min time.Duration // default 200 ms
	Max time.Duration // default 30 s
}

// wait returns how long to wait after the n-th failure in a row, n from 1.
func (b Backoff) wait(n int) time.Duration {
	lo, hi := b.Min, b.Max
	if lo <= 0 {
		lo = 200 * time.Millisecond
	}
	if hi <= 0 {
		hi = 30 * time.Second
	}
	d := lo
	for i := 1; i < n && d < hi; i++ {
		d *= 2
	}
	d = min(d, hi)
	return d - rand.N(d/2+1)
}

// Permanent marks an error that no further attempt will cure: Retry and Loop
// return its cause at once.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ err error }

func (p *permanentError) Error() string { return p.err.Error() }
func (p *permanentError) Unwrap() error { return p.err }

// Retry calls fn until it returns nil, a Permanent error, or ctx is done, with
// a growing wait between the calls. It returns nil, the permanent error's
// cause, or ctx's error.
//
// It logs changes of state only: one line at the first failure and one when it
// works again. Attempts in between are logged at debug level.
func Retry(ctx context.Context, log *slog.Logger, b Backoff, fn func(ctx context.Context) error) error {
	t := trouble{log: log}
	for {
		err := fn(ctx)
		if err == nil {
			t.over()
			return nil
		}
		if err := t.pause(ctx, b, err); err != nil {
			return err
		}
	}
}

// Loop keeps a session alive until ctx is done: it calls fn again and again,
// with a growing wait between the calls. fn calls up when its session works
// (connected, signed in): that resets the wait and logs the recovery. A session
// that ends with nil is begun again after the shortest wait without a word.
//
// Loop returns ctx's error, or the cause of a Permanent error. Logging is as
// for Retry.
func Loop(ctx context.Context, log *slog.Logger, b Backoff, fn func(ctx context.Context, up func()) error) error {
	t := trouble{log: log}
	for {
		err := fn(ctx, t.over)
		if err == nil {
			t.over()
			if err := sleep(ctx, b.wait(1)); err != nil {
				return err
			}
			continue
		}
		if err := t.pause(ctx, b, err); err != nil {
			return err
		}
	}
}

// trouble counts the failures in a row and speaks at its begin and its end.
type trouble struct {
	log     *slog.Logger
	attempt int
	since   time.Time
}

func (t *trouble) pause(ctx context.Context, b Backoff, err error) error {
	if p, ok := errors.AsType[*permanentError](err); ok {
		return p.err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	t.attempt++
	wait := b.wait(t.attempt)
	level := slog.LevelDebug
	if t.attempt == 1 {
		level, t.since = slog.LevelWarn, time.Now()
	}
	t.log.Log(ctx, level, "not working, will try again", "attempt", t.attempt, "wait", wait, "err", err)
	return sleep(ctx, wait)
}

func (t *trouble) over() {
	if t.attempt == 0 {
		return
	}
	t.log.Info("working again", "attempt", t.attempt+1, "took", time.Since(t.since))
	t.attempt = 0
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
