package fleet

import "time"

// State is what a facility is taken to be.
type State string

// The states.
const (
	StateNew      State = "new"      // never heard of
	StateOnline   State = "online"   // heartbeat and tunnel
	StateDegraded State = "degraded" // one of the two
	StateOffline  State = "offline"  // neither
	StateUnknown  State = "unknown"  // this region cannot tell
)

// Limits of the rule. All times are the receiver's.
const (
	// heartbeatDeadline is how long a facility may be silent, at least; one
	// with a slower pace has two and a half beats.
	heartbeatDeadline = 15 * time.Second
	// leaveGrace is how long a box that has left may take to come back before
	// it counts as silent.
	leaveGrace = 2500 * time.Millisecond
	// tunnelDeadline is for a box that is heard otherwise: an idle tunnel has a
	// packet each 25 s, and two of them may be lost.
	tunnelDeadline = 80 * time.Second
	// tunnelDoubt is for a silent box that was not probed.
	tunnelDoubt = 40 * time.Second
)

// never is an age for what has not happened.
const never = time.Duration(1<<63 - 1)

// Evidence is all that the rule knows. Ages are counted by a monotonic clock
// of the receiver.
type Evidence struct {
	// Known is true when the facility was ever heard, be it by an earlier
	// process.
	Known bool
	// Listening is how long this process has been able to hear heartbeats;
	// 0 while it cannot.
	Listening time.Duration
	// Heartbeat is the age of the last heartbeat or birth that this process
	// heard, or never.
	Heartbeat time.Duration
	// Every is the pace that the box has promised; 0 is the standard one.
	Every time.Duration
	// Left is the age of a last will or goodbye that is newer than everything
	// else from the box, or never.
	Left time.Duration
	// Hub is true when the tunnel can be observed at all.
	Hub bool
	// Tunnel is the age of the last packet through the tunnel, or never.
	Tunnel time.Duration
	// ProbeFailed is true when the box did not answer through the tunnel
	// lately and was not heard there since.
	ProbeFailed bool
}

// Verdict is what follows from the evidence.
type Verdict struct {
	State State
	// Reason says why a facility is not online, for people; "" when it is.
	Reason            string
	Heartbeat, Tunnel bool
}

// Judge applies the rule. It depends on nothing but its argument.
func Judge(e Evidence) Verdict {
	deadline := max(heartbeatDeadline, e.Every*5/2)
	v := Verdict{Heartbeat: e.Heartbeat <= deadline}
	// Leaving is a hint: it only counts together with a tunnel that is silent too.
	if e.Hub && e.Left != never && e.Left >= leaveGrace {
		v.Heartbeat = false
	}
	v.Tunnel = tunnelWorks(e, v.Heartbeat)

	deaf := e.Listening <= deadline // too early, or not able, to miss a heartbeat
	switch {
	case v.Heartbeat && (v.Tunnel || !e.Hub):
		v.State = StateOnline
	case v.Heartbeat:
		v.State, v.Reason = StateDegraded, "Its tunnel is down. Heartbeats arrive."
	case !e.Known && e.Heartbeat == never && !v.Tunnel:
		v.State, v.Reason = StateNew, "It has not been heard of yet."
	case deaf && e.Left == never && e.Listening == 0:
		v.State, v.Reason = StateUnknown, "This region cannot hear heartbeats: its own connection to the broker is down."
	case deaf && e.Left == never:
		v.State, v.Reason = StateUnknown, "This region has only just begun to listen."
	case v.Tunnel:
		v.State, v.Reason = StateDegraded, "Its heartbeats do not arrive. The tunnel works."
	default:
		v.State, v.Reason = StateOffline, "Neither heartbeats nor the tunnel work."
		if !e.Hub {
			v.Reason = "Heartbeats do not arrive."
		}
	}
	return v
}

func tunnelWorks(e Evidence, heartbeat bool) bool {
	switch {
	case !e.Hub || e.Tunnel == never:
		return false
	case heartbeat:
		return e.Tunnel <= tunnelDeadline
	case e.ProbeFailed:
		return false
	}
	return e.Tunnel <= tunnelDoubt
}
