package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/agogsaas/holdfast/internal/tunnel"
)

// tunnelChild is the first argument of the hub's process.
const tunnelChild = "tunnel-child"

const (
	tunnelFor    = 5 * time.Second
	tunnelWarmUp = time.Second
)

var (
	hubAddr  = netip.MustParseAddr("fd48:6f6c:6466::1")
	edgeAddr = netip.MustParseAddr("fd48:6f6c:6466:1::1")
	hubPort  = netip.AddrPortFrom(hubAddr, 7400)
)

// benchTunnel sends one TCP stream from an edge's tunnel in this process to a
// hub's in another.
func benchTunnel(ctx context.Context, l *lab) ([]Figure, error) {
	var rates, perCPU []float64
	for range l.rounds {
		rate, each, err := oneStream(ctx)
		if err != nil {
			return nil, err
		}
		rates, perCPU = append(rates, rate), append(perCPU, each)
	}
	return []Figure{atLeast(0.15, Figure{
		ID: "tunnel_gib_s", What: "one TCP stream through the tunnel, two processes on loopback",
		Measured: median(rates), Unit: "GiB/s",
		Peer: fmt.Sprintf("median of %s; both ends share the cores, and carry %s GiB for each second of processor time; load average %s", list(rates), list(perCPU), loadAverage()),
	})}, nil
}

// oneStream returns GiB per second, and per second of processor time.
func oneStream(ctx context.Context) (rate, perCPU float64, err error) {
	key, err := tunnel.GenerateKey()
	if err != nil {
		return 0, 0, err
	}
	edge, err := tunnel.New(tunnel.Config{PrivateKey: key, Profile: tunnel.Edge, Addresses: []netip.Prefix{netip.PrefixFrom(edgeAddr, 128)}})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, edge.Close()) }()
	cmd := exec.CommandContext(ctx, os.Args[0], tunnelChild)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, 0, fmt.Errorf("start the hub: %w", err)
	}
	defer func() {
		_ = cmd.Process.Kill() // it serves until then
		_ = cmd.Wait()
	}()
	if _, err := fmt.Fprintln(in, edge.PublicKey()); err != nil {
		return 0, 0, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return 0, 0, fmt.Errorf("hear of the hub: %w", err)
	}
	pub, port, _ := strings.Cut(strings.TrimSpace(line), " ")
	hub, err := tunnel.ParsePublicKey(pub)
	if err != nil {
		return 0, 0, err
	}
	err = edge.SetPeer(tunnel.Peer{PublicKey: hub, Endpoint: net.JoinHostPort("127.0.0.1", port), AllowedIPs: []netip.Prefix{netip.PrefixFrom(hubAddr, 128)}})
	if err != nil {
		return 0, 0, err
	}
	c, err := edge.DialContext(ctx, "tcp", hubPort.String())
	if err != nil {
		return 0, 0, fmt.Errorf("dial through the tunnel: %w", err)
	}
	defer c.Close()
	if _, err := push(c, tunnelWarmUp); err != nil {
		return 0, 0, err
	}
	cpu := func() (time.Duration, error) {
		a, err := cpuTime(os.Getpid())
		b, err2 := cpuTime(cmd.Process.Pid)
		return a + b, errors.Join(err, err2)
	}
	before, err := cpu()
	if err != nil {
		return 0, 0, err
	}
	if rate, err = push(c, tunnelFor); err != nil {
		return 0, 0, err
	}
	after, err := cpu()
	return rate, rate * tunnelFor.Seconds() / (after - before).Seconds(), err
}

// push writes for as long as it is told and returns GiB/s.
func push(c net.Conn, d time.Duration) (float64, error) {
	buf := make([]byte, 128<<10)
	began, n := time.Now(), 0
	for time.Since(began) < d {
		m, err := c.Write(buf)
		if err != nil {
			return 0, fmt.Errorf("write through the tunnel: %w", err)
		}
		n += m
	}
	return float64(n) / (1 << 30) / time.Since(began).Seconds(), nil
}

// tunnelServe is the hub's process: it discards what comes. It reads the
// edge's key and prints its own and its port.
func tunnelServe() error {
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return err
	}
	edge, err := tunnel.ParsePublicKey(strings.TrimSpace(line))
	if err != nil {
		return err
	}
	key, err := tunnel.GenerateKey()
	if err != nil {
		return err
	}
	hub, err := tunnel.New(tunnel.Config{PrivateKey: key, Profile: tunnel.Hub, Addresses: []netip.Prefix{netip.PrefixFrom(hubAddr, 128)}})
	if err != nil {
		return err
	}
	defer hub.Close()
	if err := hub.SetPeer(tunnel.Peer{PublicKey: edge, AllowedIPs: []netip.Prefix{netip.PrefixFrom(edgeAddr, 128)}}); err != nil {
		return err
	}
	listener, err := hub.Listen(hubPort)
	if err != nil {
		return err
	}
	fmt.Println(hub.PublicKey(), hub.Port())
	c, err := listener.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 128<<10))
	return err
}
