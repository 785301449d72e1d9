package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/test/rig/relay"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// echo answers on UDP and TCP with what it was sent.
func echo(t *testing.T) (udp, tcp string) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		b := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			if _, err := pc.WriteTo(b[:n], from); err != nil {
				return
			}
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c) // ends with the test
	}()
	t.Cleanup(func() {
		_ = pc.Close()
		_ = ln.Close()
		<-done
		<-done
	})
	return pc.LocalAddr().String(), ln.Addr().String()
}

// passes says whether a message comes back within the patience.
func passes(t *testing.T, c net.Conn, text string, patience time.Duration) bool {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(text))
	_, err := io.ReadFull(c, b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return err == nil && string(b) == text
}

func TestCutDropsBothWaysUntilRestored(t *testing.T) {
	t.Parallel()
	p, err := checkout(t).prepare()
	if err != nil {
		t.Fatal(err)
	}
	d := &demo{place: p, log: slog.New(slog.DiscardHandler), edges: map[string]*site.Edge{}, shifts: map[string]*shift{}, cutAt: map[string]time.Time{}}
	d.parts = run.New(d.log)
	t.Cleanup(func() {
		if err := d.parts.Stop(5 * time.Second); err != nil {
			t.Error(err)
		}
	})
	udp, tcp := echo(t)
	e := &site.Edge{}
	for network, at := range map[string]struct {
		target string
		relay  **relay.Relay
	}{"udp": {udp, &e.Tunnel}, "tcp": {tcp, &e.MQTT}} {
		r, err := relay.New(relay.Config{Network: network, Listen: "127.0.0.1:0", Target: at.target})
		if err != nil {
			t.Fatal(err)
		}
		*at.relay = r
		d.parts.Go(network, r.Run)
	}
	d.edges["la"] = e
	if err := d.control(); err != nil {
		t.Fatal(err)
	}
	tunnel, err := net.Dial("udp", e.Tunnel.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer tunnel.Close()
	mqtt, err := net.Dial("tcp", e.MQTT.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer mqtt.Close()
	if !passes(t, tunnel, "one", 10*time.Second) || !passes(t, mqtt, "one", 10*time.Second) {
		t.Fatal("nothing passes before the cut")
	}

	if f := switchOver(t, p, "/cut/la", http.StatusOK); !f.Cut || f.CutAt == nil {
		t.Errorf("cut: %+v", f)
	}
	switchOver(t, p, "/cut/la", http.StatusOK) // twice does no harm
	if passes(t, tunnel, "two", 300*time.Millisecond) {
		t.Error("the tunnel's packets pass while the link is cut")
	}
	if passes(t, mqtt, "two", 300*time.Millisecond) {
		t.Error("the heartbeat's bytes pass while the link is cut")
	}
	s, err := askStatus(t.Context(), p)
	if err != nil || len(s.Facilities) != 1 || !s.Facilities[0].Cut || s.Facilities[0].Dropped == 0 {
		t.Errorf("status: %+v, %v", s, err)
	}

	if f := switchOver(t, p, "/restore/la", http.StatusOK); f.Cut || f.CutAt != nil {
		t.Errorf("restore: %+v", f)
	}
	if !passes(t, tunnel, "three", 10*time.Second) {
		t.Error("the tunnel's packets do not pass after the cut")
	}
	b := make([]byte, 3)
	if err := mqtt.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(mqtt, b); err != nil || string(b) != "two" {
		t.Errorf("TCP loses nothing over a cut: %q, %v", b, err)
	}
	switchOver(t, p, "/cut/nowhere", http.StatusNotFound)
}

// switchOver asks the control socket, as holdfastctl does.
func switchOver(t *testing.T, p place, path string, want int) (f facilityStatus) {
	t.Helper()
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", p.file("control.sock"))
	}}}
	resp, err := hc.Post("http://demo"+path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		t.Fatalf("%s: %s", path, resp.Status)
	}
	if want == http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(&f); err != nil {
			t.Fatal(err)
		}
	}
	return f
}
