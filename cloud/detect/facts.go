package detect

import (
	"iter"
	"time"

	"github.com/agogsaas/holdfast/proto"
)

// Facts is what is known of one facility. All times are by the receiver's
// clock: what a box says of time is shown, and counts for nothing but ClockOff.
type Facts struct {
	ID, Name string

	// Heard is when the last heartbeat or birth came, be it to an earlier process;
	// zero: never. Here is true when this one heard it, Beats is how many
	// heartbeats it has heard.
	Heard  time.Time
	Here   bool
	Beats  uint64
	Rhythm Rhythm

	// Left is when a last will or a goodbye came that is newer than all else of
	// the box; zero while it is there. A goodbye may say why, and for how long.
	Left      time.Time
	Bye       bool
	LeftWords string
	Back      time.Duration

	// Tunnel is when the last packet came through the tunnel, up to TunnelWithin
	// earlier than it says; TunnelHere as Here. All of an application's traffic is
	// such packets. When the region gets to applying what they brought says
	// nothing about the facility: it may have been cut off long before.
	Tunnel     time.Time
	TunnelHere bool
	// Asked is when the last finished probe began, Unanswered whether it failed,
	// Answered when the last answer came.
	Asked, Answered time.Time
	Unanswered      bool
	// Streaming is true while its sync stream is connected: both sides have shaken hands.
	Streaming bool

	// What the box has told of itself. Beat.Seq is 0 before the first heartbeat,
	// Status nil before the first document.
	Beat     proto.Heartbeat
	BeatAt   time.Time
	Status   *proto.Status
	StatusAt time.Time

	// What the region counts.
	Stalls            []string // stages that make no progress, in words
	Parked, Differing int64
	CertificateUntil  time.Time // zero: it has none

	memory *memory // of the detector that has judged it
}

// Region is what is known of the region itself.
type Region struct {
	// Listening is since when heartbeats can be heard; zero while they cannot.
	Listening time.Time
	// Canaries has, for each canary, when the last message of it that arrived was
	// sent; zero before the first.
	Canaries []time.Time
	// Shut is since when nobody gets in to the broker as boxes do, and ShutWhy the
	// reason, for people; zero while somebody does. Whoever is in stays in.
	Shut    time.Time
	ShutWhy string
	// Unwritable is since when the database takes no writes; zero while it does.
	Unwritable time.Time
	// Hub is true when tunnels can be observed, Probes when they can be asked, and
	// Streams when it is known whose stream is connected.
	Hub, Probes, Streams bool
	// Stalls are the stages that stand still for all facilities together, in words.
	Stalls []string
}

// Snapshot is all that is known at a moment.
type Snapshot struct {
	Now        time.Time
	Region     Region
	Facilities iter.Seq[*Facts]
}

// TunnelWithin is how exact the hub knows when a packet came.
const TunnelWithin = 2 * time.Second

// tunnel is the last sign of life through the tunnel that this process knows of;
// it may have been a little later, never earlier.
func (f *Facts) tunnel() time.Time {
	if f.TunnelHere {
		return latest(f.Answered, f.Tunnel.Add(-TunnelWithin))
	}
	return f.Answered
}

// life is the last sign of life that this process knows of, zero when there was none.
func (f *Facts) life() time.Time {
	if f.Here {
		return latest(f.Heard, f.tunnel())
	}
	return f.tunnel()
}

// ever is the last sign of life that any process knows of.
func (f *Facts) ever() time.Time {
	t := latest(f.Heard, f.tunnel())
	if !f.TunnelHere {
		t = latest(t, f.Tunnel)
	}
	return t
}

// gone is true when a will or a goodbye came and no sign of life since.
func (f *Facts) gone(life time.Time) bool { return !f.Left.IsZero() && !life.After(f.Left) }

// away is true while a box that said goodbye may take its time.
func (f *Facts) away(now time.Time) bool { return f.Bye && now.Sub(f.Left) < min(f.Back, byeMax) }

func (f *Facts) title() string {
	if f.Name != "" {
		return f.Name
	}
	return f.ID
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func latest(times ...time.Time) (out time.Time) {
	for _, t := range times {
		if t.After(out) {
			out = t
		}
	}
	return out
}
