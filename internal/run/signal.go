package run

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// UntilSignal returns a context that is done when the process is asked to stop
// (SIGINT or SIGTERM). From then on a second signal kills at once, so that
// nobody is locked in by a step that hangs. Call stop when the context is no
// longer needed.
func UntilSignal(parent context.Context) (ctx context.Context, stop context.CancelFunc) {
	ctx, stop = signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // restores the default: the next signal kills
	return ctx, stop
}
