package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// serveStop is how long requests that are under way may take when the server stops.
const serveStop = 3 * time.Second

// Serve returns a part that serves HTTP on l until it is told to stop. Its
// limits suit pages and an API; handlers bound their own bodies.
func Serve(l net.Listener, h http.Handler, log *slog.Logger) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		srv := &http.Server{
			Handler:           h,
			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    32 << 10,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		}
		stopped := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(stopped)
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), serveStop)
			defer cancel()
			if srv.Shutdown(grace) != nil {
				_ = srv.Close() // what is still open is cut
			}
		})
		err := srv.Serve(l)
		if !stop() {
			<-stopped
		}
		if errors.Is(err, http.ErrServerClosed) {
			return ctx.Err()
		}
		return fmt.Errorf("serve http: %w", err)
	}
}
