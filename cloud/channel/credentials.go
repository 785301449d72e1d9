package channel

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/internal/hint"
)

const (
	verifyEvery  = time.Hour
	verifyAgain  = time.Minute // what may pass by itself
	verifyWithin = 30 * time.Second
)

// Credentials knows which of the region's own ones do not work. It is safe for concurrent use.
type Credentials struct {
	Chat   *Chat
	Twilio *Twilio // nil: there is none
	Log    *slog.Logger

	every time.Duration // default verifyEvery; tests shorten it
	mu    sync.Mutex
	wrong map[Kind]error // guarded by mu
}

// Wrong returns why a channel that is set up does not work, and what to do; nil when nothing is known.
func (c *Credentials) Wrong(k Kind) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wrong[k]
}

// Watch tries all of them at start and each hour, until ctx is done, without telling
// anybody: a password that was changed at the provider would else be noticed by the
// first alert that does not arrive. It logs what is wrong when that changes.
func (c *Credentials) Watch(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.watch(ctx, []Kind{Email, Slack}, c.Chat.Verify) })
	if t := c.Twilio; t != nil {
		g.Go(func() error {
			return c.watch(ctx, []Kind{SMS, Voice}, func(ctx context.Context) map[Kind]error {
				wrong, err := t.Verify(ctx)
				if err != nil {
					return t.everywhere(err)
				}
				return wrong
			})
		})
	}
	return g.Wait()
}

func (c *Credentials) watch(ctx context.Context, kinds []Kind, verify func(context.Context) map[Kind]error) error {
	for {
		within, cancel := context.WithTimeout(ctx, verifyWithin)
		wrong := verify(within)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		wait := cmp.Or(c.every, verifyEvery)
		for _, k := range kinds {
			c.keep(k, wrong[k])
			// A password that is wrong is not tried each minute: accounts are locked for that.
			if wrong[k] != nil && !IsPermanent(wrong[k]) {
				wait = verifyAgain
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func (c *Credentials) keep(k Kind, now error) {
	c.mu.Lock()
	was := c.wrong[k]
	if c.wrong == nil {
		c.wrong = map[Kind]error{}
	}
	c.wrong[k] = now
	c.mu.Unlock()
	switch {
	case now == nil && was != nil:
		c.Log.Info("a channel works as it is set up", "channel", string(k))
	case now != nil && (was == nil || was.Error() != now.Error()):
		c.Log.Error("a channel does not work as it is set up", "channel", string(k), "err", now, "advice", hint.Of(now))
	}
}
