package heartbeat

import (
	"context"
	"slices"
	"time"

	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/internal/version"
	"github.com/agogsaas/holdfast/proto"
)

// collect is everything that the box knows of itself now. It does not wait.
func (h *Heartbeat) collect() proto.Status {
	db := h.databaseNow()
	s := proto.Status{
		Tenant: h.cfg.Tenant, Facility: h.cfg.Facility, BootID: h.boot, Session: h.session,
		MonoMs: uint64(h.machine.uptime() / time.Millisecond), WallMs: time.Now().UnixMilli(), Clock: clock(),
		BootedMs: h.booted.UnixMilli(), StartedMs: h.started.UnixMilli(),
		Versions: proto.Versions{
			Agent: version.String(), Kernel: h.machine.kernel(), Postgres: db.Version, Hardware: h.cfg.Hardware,
		},
		Database: db.Database, Load: h.machine.load(), Tables: h.tablesNow(), Tunnel: proto.Tunnel{State: "off"},
	}
	if s.Versions.Hardware == "" {
		s.Versions.Hardware = h.machine.hardware()
	}
	for role, dir := range map[string]string{"state": h.cfg.StateDir, "data": h.cfg.DataDir} {
		if d, ok := disk(role, dir); ok {
			s.Disks = append(s.Disks, d)
		}
	}
	if len(s.Disks) == 2 && s.Disks[0].Role > s.Disks[1].Role {
		s.Disks[0], s.Disks[1] = s.Disks[1], s.Disks[0]
	}
	if t, ok := h.machine.milliCelsius(); ok {
		s.MilliCelsius = &t
	}
	s.Watchdog = h.machine.watchdog()
	if h.cfg.Facts.Queue != nil {
		s.Queue = h.cfg.Facts.Queue()
	}
	if h.cfg.Facts.Tunnel != nil {
		s.Tunnel = h.cfg.Facts.Tunnel()
	}
	if h.cfg.Facts.Stalls != nil {
		s.Stalls = h.cfg.Facts.Stalls()
	}
	var more []proto.FaultCode
	if h.cfg.Facts.Faults != nil {
		more = h.cfg.Facts.Faults()
	}
	s.Faults = faults(s, more)
	if h.cfg.IgnoreWatchdog {
		s.Faults = slices.DeleteFunc(s.Faults, func(c proto.FaultCode) bool { return c == proto.FaultWatchdogOff })
	}
	s.Health = health(s.Faults)
	return s
}

// Status is what the box would say of itself now, for its own screen.
func (h *Heartbeat) Status() proto.Status { return h.collect() }

// sentStatus is what was last published on a connection, and when.
type sentStatus struct {
	at       time.Time
	material string
}

// sendStatus publishes the document when it is due, and returns what was last
// published. Force means now, but never twice within a second.
func (h *Heartbeat) sendStatus(ctx context.Context, last sentStatus, force bool) sentStatus {
	age := time.Since(last.at)
	if force && age < time.Second || !force && age < h.pace.change {
		return last
	}
	s := h.collect()
	rough, err := material(s).Encode()
	if err != nil {
		h.log.Warn("status document not written", "err", err)
		return last
	}
	if !force && string(rough) == last.material && age < h.pace.status {
		return last
	}
	payload, err := s.Encode()
	if err != nil {
		h.log.Warn("status document not written", "err", err)
		return last
	}
	if err := h.publish(ctx, mqttclient.Message{Topic: h.topic(proto.KindStatus), Payload: payload, QoS: 1}); err != nil {
		return last // the next heartbeat's digest shows the region what it lacks
	}
	h.mu.Lock()
	h.digest = proto.StatusDigest(payload)
	h.mu.Unlock()
	return sentStatus{time.Now(), string(rough)}
}
