package scenario_test

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/prometheus/client_golang/prometheus"
)

// relay carries TCP connections to a broker, until it is told not to.
type relay struct {
	to       string
	listener net.Listener
	frozen   atomic.Bool
	wg       sync.WaitGroup

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]struct{}
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{to: to, listener: l, conns: map[net.Conn]struct{}{}}
	r.wg.Go(r.accept)
	t.Cleanup(func() {
		_ = l.Close()
		r.cut()
		r.wg.Wait()
	})
	return r
}

func (r *relay) addr() string { return r.listener.Addr().String() }

func (r *relay) accept() {
	for {
		in, err := r.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", r.to)
		if err != nil || !r.keep(in, out) {
			_ = in.Close()
			if out != nil {
				_ = out.Close()
			}
			continue
		}
		r.wg.Go(func() { r.carry(in, out) })
		r.wg.Go(func() { r.carry(out, in) })
	}
}

func (r *relay) keep(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return false
	}
	for _, c := range conns {
		r.conns[c] = struct{}{}
	}
	return true
}

func (r *relay) carry(from, to net.Conn) {
	_, _ = io.Copy(to, onlyWhile{from, &r.frozen})
	if r.frozen.Load() {
		return // the other side is to believe that all is well
	}
	_ = from.Close()
	_ = to.Close()
}

// onlyWhile reads until it is frozen.
type onlyWhile struct {
	net.Conn
	frozen *atomic.Bool
}

func (o onlyWhile) Read(p []byte) (int, error) {
	n, err := o.Conn.Read(p)
	if o.frozen.Load() {
		return 0, io.EOF
	}
	return n, err
}

// cut ends all connections with a reset and lets no new one through.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = true
	for c := range r.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
	clear(r.conns)
}

func (r *relay) mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = false
}

// freeze swallows everything while the connections seem to live.
func (r *relay) freeze() {
	r.frozen.Store(true)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = true
}

// messages is how many messages of a kind met a fate, by the fleet's metrics.
func (r *region) messages(t *testing.T, kind, result string) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	if err := reg.Register(r.Fleet); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "holdfast_fleet_messages_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if label(m, "kind") == kind && label(m, "result") == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
