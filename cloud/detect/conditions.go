package detect

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agogsaas/holdfast/proto"
)

const (
	lookEvery = 8           // steps between two looks at a facility's conditions
	linkAfter = time.Minute // that one of the two ways is down, or is back
	stallOff  = 2 * time.Minute

	queueWarning, queueCritical = 24 * time.Hour, 4 * time.Hour
	certWarning, certCritical   = 14 * 24 * time.Hour, 3 * 24 * time.Hour

	hotWarning, hotCritical, hotLess = 80_000, 90_000, 5_000 // thousandths of a degree

	diskWarningPercent = 15
	diskWarningBytes   = 15 << 30
)

// rules are the conditions that follow from what a box tells and the region
// counts. A box that is silent stays what it last told.
//
// Each reads a moment. It is given how bad it counts as now, so that a limit is
// further away for who is past it; on and off are how long it must be worse, or better.
var rules = [...]struct {
	kind    Kind
	on, off time.Duration
	read    func(f *Facts, now time.Time, was Severity) reading
}{
	{QueueFilling, time.Minute, 5 * time.Minute, queueReading},
	{DiskFilling, time.Minute, 5 * time.Minute, diskReading},
	{DatabaseDown, 10 * time.Second, 30 * time.Second, databaseReading},
	{NoProgress, 0, stallOff, stallReading}, // the watchers have been patient already
	{ClockOff, clockOn, clockOver, clockReading},
	{WatchdogOff, 5 * time.Minute, time.Minute, watchdogReading}, // who feeds it may be restarted: nothing is at risk so soon
	{Certificate, 0, 30 * time.Second, certificateReading},
	{ParkedRows, time.Minute, time.Minute, parkedReading},
	{Mismatch, time.Minute, time.Minute, mismatchReading},
	{Temperature, 30 * time.Second, 2 * time.Minute, temperatureReading},
}

// look brings the conditions up to date. When it is the region's clock that is
// off, none of its facilities' is.
func (m *memory) look(f *Facts, now time.Time, ourClock bool) {
	m.told, m.looked = nil, earliest(f.BeatAt, f.StatusAt)
	for i, r := range rules {
		var l latch
		if m.conditions != nil {
			l = m.conditions[i]
		}
		got := r.read(f, now, l.severity)
		if ourClock && r.kind == ClockOff {
			got = reading{}
		}
		if got.severity == "" && m.conditions == nil {
			continue
		}
		l.step(now, got, r.on, r.off)
		*m.latch(i) = l
		m.told = l.finding(m.told, r.kind, f.ID)
	}
}

// latch is one of the conditions'. Most facilities never need any.
func (m *memory) latch(i int) *latch {
	if m.conditions == nil {
		m.conditions = make([]latch, len(rules))
	}
	return &m.conditions[i]
}

// lastPacket says no more than the hub knows, so that it agrees with since when.
func lastPacket(f *Facts) string {
	return fmt.Sprintf("Last packet through the tunnel: %s, or up to %s later.", clock(f.Tunnel.Add(-TunnelWithin)), lasting(TunnelWithin))
}

func tunnelReading(f *Facts, v Verdict) reading {
	if v.Degraded != PartTunnel {
		return reading{}
	}
	r := reading{Warning, f.title() + "'s tunnel is down, so nothing is synced. Its heartbeats arrive.", nil}
	if !f.Tunnel.IsZero() {
		r.evidence = []string{lastPacket(f)}
	}
	return r
}

func telemetryReading(f *Facts, v Verdict) reading {
	if v.Degraded != PartTelemetry {
		return reading{}
	}
	r := reading{Warning, f.title() + "'s heartbeats do not arrive. The tunnel works, so it syncs.", nil}
	if !f.Heard.IsZero() {
		r.evidence = []string{"Last heartbeat: " + clock(f.Heard) + "."}
	}
	return r
}

// has reports whether the box names a fault, in its last heartbeat if there was one.
func (f *Facts) has(c proto.FaultCode) bool {
	switch {
	case f.Beat.Seq != 0:
		return slices.Contains(f.Beat.Faults, c)
	case f.Status != nil:
		return slices.Contains(f.Status.Faults, c)
	}
	return false
}

func queueReading(f *Facts, now time.Time, was Severity) reading {
	if f.has(proto.FaultQueueFull) {
		return reading{Critical, f.title() + "'s queue is full: what is changed there waits in its database, whose disk fills instead.", queueEvidence(f)}
	}
	if f.Status != nil && f.Status.Queue.FullSeconds != nil {
		const most = 365 * 24 * 3600
		left := max(0, time.Duration(min(*f.Status.Queue.FullSeconds, most))*time.Second-now.Sub(f.StatusAt))
		severity := Severity("")
		switch {
		case left < easier(queueCritical, was == Critical):
			severity = Critical
		case left < easier(queueWarning, was != ""):
			severity = Warning
		}
		if severity != "" {
			return reading{severity, f.title() + "'s queue will be full in about " + lasting(left) + ".", queueEvidence(f)}
		}
	}
	if f.has(proto.FaultQueueNearFull) {
		return reading{Warning, f.title() + "'s queue is nearly full.", queueEvidence(f)}
	}
	return reading{}
}

func queueEvidence(f *Facts) []string {
	if f.Status == nil {
		return nil
	}
	q := f.Status.Queue
	out := []string{fmt.Sprintf("%s of %s are used.", size(q.Bytes), size(q.LimitBytes))}
	if q.FillBytesPerSecond > 0 {
		out = append(out, "It fills with "+size(q.FillBytesPerSecond*3600)+" an hour.")
	}
	return out
}

// easier is a limit, half as much again for who is already past it.
func easier(limit time.Duration, past bool) time.Duration {
	if past {
		return limit * 3 / 2
	}
	return limit
}

func diskReading(f *Facts, _ time.Time, was Severity) reading {
	if f.Status == nil {
		return reading{}
	}
	var r reading
	for _, d := range f.Status.Disks {
		percent, room := uint64(diskWarningPercent), uint64(diskWarningBytes)
		if was != "" {
			percent, room = percent+3, room+room/5
		}
		if d.TotalBytes > 0 && d.FreeBytes < d.TotalBytes/100*percent && d.FreeBytes < room {
			r.severity = Warning
		}
	}
	if f.has(proto.FaultStateDiskLow) || f.has(proto.FaultDataDiskLow) {
		r.severity = Critical
	}
	if r.severity == "" {
		return reading{}
	}
	for _, d := range f.Status.Disks {
		r.evidence = append(r.evidence, fmt.Sprintf("Disk for its %s: %s of %s are free.", d.Role, size(d.FreeBytes), size(d.TotalBytes)))
	}
	r.summary = f.title() + "'s disk is nearly full."
	return r
}

func databaseReading(f *Facts, _ time.Time, _ Severity) reading {
	if !f.has(proto.FaultDatabaseDown) {
		return reading{}
	}
	r := reading{Critical, f.title() + "'s PostgreSQL does not answer: nobody can work there.", nil}
	if s := f.Status; s != nil && s.Versions.Postgres != "" {
		r.evidence = []string{"PostgreSQL " + s.Versions.Postgres + "; the box itself is heard."}
	}
	return r
}

func stallReading(f *Facts, _ time.Time, _ Severity) reading {
	if len(f.Stalls) == 0 {
		return reading{}
	}
	return reading{Warning, f.title() + " makes no progress although there is work.", slices.Clone(f.Stalls)}
}

func watchdogReading(f *Facts, _ time.Time, _ Severity) reading {
	if !f.has(proto.FaultWatchdogOff) {
		return reading{}
	}
	r := reading{Warning, f.title() + "'s hardware watchdog is not armed: a box that hangs stays so until somebody restarts it.", nil}
	if s := f.Status; s != nil && s.Watchdog != nil {
		r.evidence = []string{"Its watchdog: " + s.Watchdog.String() + "."}
	}
	return r
}

func certificateReading(f *Facts, now time.Time, _ Severity) reading {
	if f.CertificateUntil.IsZero() {
		return reading{}
	}
	left := f.CertificateUntil.Sub(now)
	if left >= certWarning {
		return reading{}
	}
	evidence := []string{"It ends at " + clock(f.CertificateUntil) + ". Boxes renew theirs by themselves long before; this one has not."}
	switch {
	case left <= 0:
		return reading{Critical, f.title() + "'s certificate has ended: it cannot connect to the broker.", evidence}
	case left < certCritical:
		return reading{Critical, f.title() + "'s certificate ends in " + lasting(left) + ".", evidence}
	}
	return reading{Warning, f.title() + "'s certificate ends in " + lasting(left) + ".", evidence}
}

func parkedReading(f *Facts, _ time.Time, _ Severity) reading {
	if f.Parked <= 0 {
		return reading{}
	}
	return reading{Warning, f.title() + " has changes that a database refused. Everything else flows.", []string{plural(f.Parked, "change is", "changes are") + " parked."}}
}

func mismatchReading(f *Facts, _ time.Time, _ Severity) reading {
	if f.Differing <= 0 {
		return reading{}
	}
	return reading{Warning, f.title() + "'s rows and the region's differ.", []string{plural(f.Differing, "row differs", "rows differ") + ", as the last comparison of each table found."}}
}

func temperatureReading(f *Facts, _ time.Time, was Severity) reading {
	if f.Status == nil || f.Status.MilliCelsius == nil {
		return reading{}
	}
	at := *f.Status.MilliCelsius
	warning, critical := int64(hotWarning), int64(hotCritical)
	if was != "" {
		warning -= hotLess
	}
	if was == Critical {
		critical -= hotLess
	}
	var r reading
	switch {
	case at >= critical:
		r.severity = Critical
	case at >= warning:
		r.severity = Warning
	default:
		return r
	}
	r.summary = f.title() + "'s box is hot."
	r.evidence = []string{strings.TrimSuffix(fmt.Sprintf("%.1f", float64(at)/1000), ".0") + " degrees Celsius at its hottest sensor."}
	return r
}
