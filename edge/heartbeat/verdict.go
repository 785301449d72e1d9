package heartbeat

import (
	"math/bits"
	"slices"

	"github.com/agogsaas/holdfast/proto"
)

const (
	gib              = 1 << 30
	hotMilliCelsius  = 80_000
	nearFullPercent  = 80
	diskLowPercent   = 10
	memoryLowPercent = 5
)

// faults are what the facts say is wrong, each once, in rising order.
func faults(s proto.Status, more []proto.FaultCode) []proto.FaultCode {
	out := slices.Clone(more)
	add := func(wrong bool, code proto.FaultCode) {
		if wrong {
			out = append(out, code)
		}
	}
	add(s.Database.State == "down", proto.FaultDatabaseDown)
	add(s.Database.Slot == "missing" || s.Database.Slot == "lost", proto.FaultSlotMissing)
	if limit := s.Queue.LimitBytes; limit > 0 {
		full := s.Queue.Bytes >= limit
		add(full, proto.FaultQueueFull)
		add(!full && s.Queue.Bytes >= limit/100*nearFullPercent, proto.FaultQueueNearFull)
	}
	for _, d := range s.Disks {
		low := d.TotalBytes > 0 && (d.FreeBytes < d.TotalBytes/100*diskLowPercent && d.FreeBytes < 10*gib || d.FreeBytes < gib)
		add(low && d.Role == "state", proto.FaultStateDiskLow)
		add(low && d.Role == "data", proto.FaultDataDiskLow)
	}
	add(s.MilliCelsius != nil && *s.MilliCelsius >= hotMilliCelsius, proto.FaultHot)
	add(s.Clock == proto.ClockUnsynced, proto.FaultClockUnsynced)
	add(s.Tunnel.State == "down", proto.FaultTunnelDown)
	add(s.Load.MemoryTotalBytes > 0 && s.Load.MemoryAvailableBytes < s.Load.MemoryTotalBytes/100*memoryLowPercent, proto.FaultMemoryLow)
	add(s.Watchdog != nil && s.Watchdog.State == proto.WatchdogUnarmed, proto.FaultWatchdogOff)
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), 16)]
}

// health is the worst that the faults mean. A clock that nobody keeps in step
// and a watchdog that nobody has armed are worth knowing, but everything works.
func health(codes []proto.FaultCode) proto.Health {
	worst := proto.HealthOK
	for _, c := range codes {
		switch c {
		case proto.FaultDatabaseDown, proto.FaultSlotMissing, proto.FaultQueueFull, proto.FaultStateDiskLow, proto.FaultDataDiskLow:
			return proto.HealthFailing
		case proto.FaultClockUnsynced, proto.FaultWatchdogOff:
		default:
			worst = proto.HealthDegraded
		}
	}
	return worst
}

// rough is a forecast to a power of two of a quarter of an hour: it is worth
// telling again when it has halved or doubled.
func rough(seconds *uint64) *uint64 {
	if seconds == nil {
		return nil
	}
	step := uint64(bits.Len64(*seconds / 900))
	return &step
}

// material is the part of a status document that is worth sending it for. The
// rest changes all the time, and the heartbeat has the most of it.
func material(s proto.Status) proto.Status {
	s.MonoMs, s.WallMs = 0, 0
	s.Load = proto.Load{}
	s.Tunnel = proto.Tunnel{State: s.Tunnel.State}
	s.Database = proto.Database{State: s.Database.State, Slot: s.Database.Slot}
	const steps = 20
	filled := uint64(0)
	if s.Queue.LimitBytes > 0 {
		filled = s.Queue.Bytes / max(1, s.Queue.LimitBytes/steps)
	}
	s.Queue = proto.Queue{Bytes: filled, LimitBytes: s.Queue.LimitBytes, Epoch: s.Queue.Epoch, FullSeconds: rough(s.Queue.FullSeconds)}
	s.Stalls = slices.Clone(s.Stalls)
	for i := range s.Stalls {
		s.Stalls[i].Seconds, s.Stalls[i].Work = 0, 0
	}
	s.Disks = slices.Clone(s.Disks)
	for i, d := range s.Disks {
		s.Disks[i].FreeBytes = d.FreeBytes / max(1, d.TotalBytes/steps)
	}
	if s.MilliCelsius != nil {
		fives := *s.MilliCelsius / 5000
		s.MilliCelsius = &fives
	}
	return s
}
