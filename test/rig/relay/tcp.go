package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	chunkBytes  = 32 << 10
	chunksMax   = 256 // under way in one direction of a connection: 8 MiB
	dialTimeout = 5 * time.Second
)

func (r *Relay) runTCP(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			if ctx.Err() != nil || isClosed(err) {
				return nil
			}
			return fmt.Errorf("accept: %w", err)
		}
		wait.Go(func() { r.serve(ctx, conn.(*net.TCPConn)) })
	}
}

// serve carries one connection. The kernel has accepted it already, so under
// a cut the dialler finds it open but silent.
func (r *Relay) serve(ctx context.Context, in *net.TCPConn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Cancelling ends what waits for a gate, a due time or a read, and lets
	// both peers see a reset.
	defer r.track(in, cancel)()
	defer context.AfterFunc(ctx, func() { abort(in) })()
	defer in.Close()
	if r.links[Up].gate(ctx) != nil {
		return
	}
	d := net.Dialer{Timeout: dialTimeout}
	c, err := d.DialContext(ctx, "tcp", r.cfg.Target)
	if err != nil {
		abort(in)
		return
	}
	out := c.(*net.TCPConn)
	defer context.AfterFunc(ctx, func() { abort(out) })()
	defer out.Close()

	var wait sync.WaitGroup
	wait.Go(func() { r.carry(ctx, r.links[Up], in, out) })
	wait.Go(func() { r.carry(ctx, r.links[Down], out, in) })
	wait.Wait()
}

// abort closes with a reset instead of an orderly end.
func abort(c *net.TCPConn) {
	c.SetLinger(0) // on a closed connection there is nothing left to do
	c.Close()
}

type chunk struct {
	data []byte
	due  time.Time
	err  error // how the stream ended, with no data
}

// carry moves one direction. Reading goes on while chunks wait for their time,
// so that a delay does not cost throughput.
func (r *Relay) carry(ctx context.Context, l *link, from, to *net.TCPConn) {
	ctx, cancel := context.WithCancel(ctx)
	chunks := make(chan chunk, chunksMax)
	var wait sync.WaitGroup
	wait.Go(func() { read(ctx, l, from, chunks) })
	err := write(ctx, l, to, chunks)
	cancel()
	if errors.Is(err, io.EOF) {
		to.CloseWrite() // the other direction may go on
	} else {
		abort(from)
		abort(to)
	}
	wait.Wait()
}

func read(ctx context.Context, l *link, from io.Reader, chunks chan<- chunk) {
	var last time.Time
	for {
		// While cut, what the peer sends stays in its own buffers.
		if l.gate(ctx) != nil {
			return
		}
		buf := make([]byte, chunkBytes)
		n, err := from.Read(buf)
		due, hold := time.Now(), time.Duration(0)
		if n > 0 {
			due, hold = l.planChunk(n, due)
		}
		if due.Before(last) { // a stream keeps its order
			due = last
		}
		last = due
		for _, c := range []chunk{{data: buf[:n], due: due}, {err: err, due: due}} {
			if len(c.data) == 0 && c.err == nil {
				continue
			}
			select {
			case chunks <- c:
			case <-ctx.Done():
				return
			}
		}
		if err != nil || rest(ctx, hold) != nil {
			return
		}
	}
}

func rest(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write returns io.EOF after an orderly end of the stream.
func write(ctx context.Context, l *link, to io.Writer, chunks <-chan chunk) error {
	for {
		var c chunk
		select {
		case c = <-chunks:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := rest(ctx, time.Until(c.due)); err != nil {
			return err
		}
		if err := l.gate(ctx); err != nil {
			return err
		}
		if c.err != nil {
			return c.err
		}
		if _, err := to.Write(c.data); err != nil {
			return err
		}
		l.passed(len(c.data))
	}
}
