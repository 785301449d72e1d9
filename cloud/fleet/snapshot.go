package fleet

import (
	"cmp"
	"slices"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/proto"
)

// Detail is all that is known of one facility.
type Detail struct {
	v1.FacilityStatus
	// Since is when the state became what it is.
	Since  time.Time       `json:"since"`
	Status *proto.Status   `json:"status,omitempty"` // last document; nil before the first
	Beat   proto.Heartbeat `json:"beat"`             // last heartbeat; Seq 0 before the first
	// Left says how the box left when it said so: "bye" with its reason, or
	// "will"; empty while it is there.
	Left       string `json:"left,omitempty"`
	LeftReason string `json:"left_reason,omitempty"`
	// Rx and Tx are bytes from and to the facility through the tunnel.
	Rx uint64 `json:"rx_bytes"`
	Tx uint64 `json:"tx_bytes"`
	// Epoch and Seq are the last transaction that was applied since the region
	// started; 0 before the first.
	Epoch      uint64        `json:"epoch"`
	Seq        uint64        `json:"seq"`
	Throughput v1.Throughput `json:"throughput"`
	History    []Point       `json:"history"` // an hour, oldest first
	Events     []proto.Event `json:"events"`  // newest last
}

// Snapshot returns all facilities, ordered by id.
func (f *Fleet) Snapshot() []v1.FacilityStatus {
	now := time.Now()
	f.mu.Lock()
	out := make([]v1.FacilityStatus, 0, len(f.facilities))
	for fac := range f.eachLocked() {
		out = append(out, f.viewLocked(fac, now))
	}
	f.mu.Unlock()
	slices.SortFunc(out, func(a, b v1.FacilityStatus) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Summary is one facility as Snapshot has it.
func (f *Fleet) Summary(id string) (v1.FacilityStatus, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fac, ok := f.facilities[id]
	if !ok {
		return v1.FacilityStatus{}, false
	}
	return f.viewLocked(fac, time.Now()), true
}

// Facility returns all that is known of one.
func (f *Fleet) Facility(id string) (Detail, bool) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	fac, ok := f.facilities[id]
	if !ok {
		return Detail{}, false
	}
	d := Detail{
		FacilityStatus: f.viewLocked(fac, now), Since: fac.verdict.Since.Round(0), Beat: fac.Beat,
		Rx: fac.link.Rx, Tx: fac.link.Tx, Epoch: fac.applied.epoch, Seq: fac.applied.seq,
		Throughput: fac.applied.throughput(now), History: fac.history.list(&f.moments), Events: slices.Clone(fac.events),
		Status: fac.Status, // never changed once it is here, only replaced
	}
	if !fac.Left.IsZero() {
		d.Left, d.LeftReason = fac.leftState.String(), fac.LeftWords
	}
	return d, true
}

// Throughput is what was applied of a facility's stream lately.
func (f *Fleet) Throughput(id string) v1.Throughput {
	f.mu.Lock()
	defer f.mu.Unlock()
	fac, ok := f.facilities[id]
	if !ok {
		return v1.Throughput{}
	}
	return fac.applied.throughput(time.Now())
}

func (a *applied) throughput(now time.Time) v1.Throughput {
	t := v1.Throughput{Transactions: a.transactions, Changes: a.changes}
	t.TransactionRate, t.ChangeRate = a.rates(now)
	return t
}

// viewLocked adds what comes from elsewhere.
func (f *Fleet) viewLocked(fac *facility, now time.Time) v1.FacilityStatus {
	v := fac.view(now)
	if until := f.work[fac.ID]; until.After(now) {
		v.MaintenanceUntil = wall(until)
	}
	return v
}

func (fac *facility) view(now time.Time) v1.FacilityStatus {
	v := v1.FacilityStatus{
		ID: fac.ID, Tenant: fac.tenant, Name: fac.Name, TimeZone: fac.timeZone,
		State: string(fac.verdict.State), Reason: fac.verdict.Reason,
		Heartbeat: fac.verdict.Heartbeat, Tunnel: fac.verdict.Tunnel, Stream: fac.Streaming,
		LastHeardAt: wall(fac.Heard), TunnelAt: wall(fac.Tunnel), BootID: fac.boot,
	}
	v.Degraded, v.Since = string(fac.verdict.Degraded), wall(fac.verdict.Since)
	if fac.verdict.State != StateNew {
		for _, e := range []struct {
			name  string
			there bool
		}{{"heartbeat", v.Heartbeat}, {"tunnel", v.Tunnel}, {"stream", v.Stream}} {
			if !e.there {
				v.Missing = append(v.Missing, e.name)
			}
		}
	}
	if fac.Beat.Seq != 0 {
		v.ReportedAt = wall(fac.BeatAt)
		v.Queue.Transactions, v.Queue.Bytes = int64(fac.Beat.QueueTransactions), int64(fac.Beat.QueueBytes)
		v.Queue.OldestUnsentAt = oldest(fac.Beat.QueueTransactions, fac.Beat.OldestSeconds, fac.BeatAt)
	} else if s := fac.Status; s != nil {
		v.ReportedAt = wall(fac.StatusAt)
		v.Queue.Transactions, v.Queue.Bytes = int64(s.Queue.Transactions), int64(s.Queue.Bytes)
		v.Queue.OldestUnsentAt = oldest(s.Queue.Transactions, s.Queue.OldestSeconds, fac.StatusAt)
	}
	if lag := fac.lag(now); lag >= 0 {
		v.Lag = &lag
	}
	v.Stalled, v.Parked, v.Differing = fac.stalled(), fac.Parked, fac.Differing
	if s := fac.Status; s != nil {
		v.Queue.LimitBytes, v.Queue.FillRate = int64(s.Queue.LimitBytes), int64(s.Queue.FillBytesPerSecond)
		if full := s.Queue.FullSeconds; full != nil {
			const century = 100 * 365 * 24 * 3600
			v.Queue.FullAt = wall(fac.StatusAt.Add(time.Duration(min(*full, century)) * time.Second))
		}
		v.Database, v.AgentVersion = s.Database.State, s.Versions.Agent
		if s.MilliCelsius != nil {
			celsius := float64(*s.MilliCelsius) / 1000
			v.Temperature = &celsius
		}
		if s.Watchdog != nil {
			v.Watchdog = s.Watchdog.State
		}
		if d, ok := tightest(s.Disks); ok {
			free, total := int64(d.FreeBytes), int64(d.TotalBytes)
			v.DiskFree, v.DiskTotal = &free, &total
		}
	}
	return v
}

func wall(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.Round(0)
	return &t
}

func oldest(transactions, seconds uint64, at time.Time) *time.Time {
	if transactions == 0 {
		return nil
	}
	const century = 100 * 365 * 24 * 3600
	return wall(at.Add(-time.Duration(min(seconds, century)) * time.Second))
}

// tightest is the disk with the smallest part free.
func tightest(disks []proto.Disk) (best proto.Disk, ok bool) {
	for _, d := range disks {
		if d.TotalBytes == 0 {
			continue
		}
		if !ok || float64(d.FreeBytes)/float64(d.TotalBytes) < float64(best.FreeBytes)/float64(best.TotalBytes) {
			best, ok = d, true
		}
	}
	return best, ok
}
