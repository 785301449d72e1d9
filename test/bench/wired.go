package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/edge/heartbeat"
	"github.com/agogsaas/holdfast/internal/tunnel"
	"github.com/agogsaas/holdfast/proto"
	"github.com/agogsaas/holdfast/test/rig/relay"
)

// wired is a box with the agent's own heartbeat and one end of a real tunnel,
// both through relays of its own. It has no database and no sync stream.
type wired struct {
	*box
	mqtt, udp *relay.Relay
	tun       *tunnel.Tunnel
}

// wire connects boxes until ctx is done; wait returns when all have ended.
func (l *lab) wire(ctx context.Context, boxes []*box) (all []*wired, wait func(), err error) {
	roots, err := l.roots()
	if err != nil {
		return nil, nil, err
	}
	hub, err := l.hubKey()
	if err != nil {
		return nil, nil, err
	}
	var wg sync.WaitGroup
	for _, b := range boxes {
		w := &wired{box: b}
		all = append(all, w)
		if err := errors.Join(w.lay(ctx, &wg, l), w.dig(ctx, &wg, hub), w.speak(ctx, &wg, l, &tls.Config{
			RootCAs: roots, Certificates: []tls.Certificate{b.cert}, MinVersion: tls.VersionTLS12, ServerName: "127.0.0.1",
		})); err != nil {
			return all, wg.Wait, err
		}
	}
	return all, wg.Wait, nil
}

// lay puts the relays between the box and the region.
func (w *wired) lay(ctx context.Context, wg *sync.WaitGroup, l *lab) error {
	for _, r := range []struct {
		at      **relay.Relay
		network string
		port    int
	}{{&w.mqtt, "tcp", l.site.Ports.MQTT}, {&w.udp, "udp", l.site.Ports.WireGuard}} {
		made, err := relay.New(relay.Config{Network: r.network, Listen: "127.0.0.1:0", Target: fmt.Sprintf("127.0.0.1:%d", r.port), Seed: uint64(w.no)})
		if err != nil {
			return err
		}
		*r.at = made
		wg.Go(func() { _ = made.Run(ctx) }) // it ends with ctx
	}
	return nil
}

// dig opens the tunnel. Its network stack refuses what the region asks for, which
// is the answer.
func (w *wired) dig(ctx context.Context, wg *sync.WaitGroup, hub tunnel.PublicKey) (err error) {
	if w.udp == nil {
		return nil
	}
	w.tun, err = tunnel.New(tunnel.Config{PrivateKey: w.key, Addresses: []netip.Prefix{netip.PrefixFrom(proto.FacilityAddress(w.number), 128)}, Profile: tunnel.Edge})
	if err != nil {
		return err
	}
	wg.Go(func() {
		_ = w.tun.Run(ctx) // it ends with ctx
		_ = w.tun.Close()
	})
	return w.tun.SetPeer(tunnel.Peer{
		PublicKey: hub, Endpoint: w.udp.Addr(), AllowedIPs: []netip.Prefix{netip.PrefixFrom(proto.HubAddress, 128)}, KeepaliveInterval: tunnel.DefaultKeepalive,
	})
}

// speak runs the agent's heartbeat.
func (w *wired) speak(ctx context.Context, wg *sync.WaitGroup, l *lab, conf *tls.Config) error {
	if w.mqtt == nil {
		return nil
	}
	dir := filepath.Join(l.dir, "boxes", w.facility)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make a box's folder: %w", err)
	}
	h, err := heartbeat.New(heartbeat.Config{
		Tenant: w.tenant, Facility: w.facility, Enrolment: 1, URL: "mqtts://" + w.mqtt.Addr(),
		TLS: func() (*tls.Config, error) { return conf, nil }, StateDir: dir, DataDir: dir, Hardware: "bench", IgnoreWatchdog: true, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	wg.Go(func() { _ = h.Run(ctx) }) // it ends with ctx
	return nil
}

// cut pulls the cable: every packet vanishes, and nobody is told.
func (w *wired) cut() error { w.mqtt.Cut(); w.udp.Cut(); return nil }

// die is what is seen of a process that is killed: the connection is reset, and
// then nobody is there.
func (w *wired) die() error {
	w.mqtt.Cut()
	w.udp.Cut()
	w.mqtt.Reset()
	return nil
}

func (w *wired) restore() error { w.mqtt.Restore(); w.udp.Restore(); return nil }

// spoil makes the line as a bad one is.
func (w *wired) spoil(f relay.Faults) error {
	return errors.Join(w.mqtt.SetFaults(f), w.udp.SetFaults(f))
}

// online waits until the region hears all of the facilities, with tunnels.
func (l *lab) online(ctx context.Context, n int, limit time.Duration) error {
	return l.until(ctx, limit, func(ctx context.Context) (bool, error) {
		fleet, err := l.site.API.Fleet(ctx)
		if err != nil {
			return false, err
		}
		there := 0
		for _, f := range fleet.Facilities {
			if f.State == v1.StateOnline {
				there++
			}
		}
		if there < n {
			return false, pause(ctx, time.Second)
		}
		return true, nil
	})
}
