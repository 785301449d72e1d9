// Command holdfastctl is the operator's command line for a Holdfast region.
// It talks to the region's HTTP API and to nothing else, except for the demo
// commands, which talk to the demo that runs in this checkout.
//
// In:  a person or a script.
// Out: cloud/api, over HTTP; the demo's control socket.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv,
	}, os.Args[1:])
	stop()
	os.Exit(code)
}
