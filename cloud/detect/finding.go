package detect

import "time"

// Kind names a condition. It is stored with incidents, and people's policies
// name it: it stays as it is.
type Kind string

// The conditions of a facility.
const (
	Offline       Kind = "offline"
	TunnelDown    Kind = "tunnel_down"    // heartbeats arrive, the tunnel does not work
	TelemetryDown Kind = "telemetry_down" // the tunnel works, heartbeats do not arrive
	Unstable      Kind = "unstable"       // it comes and goes
	QueueFilling  Kind = "queue_filling"
	DiskFilling   Kind = "disk_filling"
	DatabaseDown  Kind = "database_down"
	NoProgress    Kind = "no_progress"
	ClockOff      Kind = "clock_off"
	WatchdogOff   Kind = "watchdog_off"
	Certificate   Kind = "certificate"
	ParkedRows    Kind = "parked_rows"
	Mismatch      Kind = "mismatch"
	Temperature   Kind = "temperature"
)

// The conditions of the region itself; all but Outage are told to operations only.
const (
	Blind    Kind = "blind"    // it is us
	Outage   Kind = "outage"   // many of its facilities at once
	Alerting Kind = "alerting" // the alerter does not do its work
	Drill    Kind = "drill"    // the daily synthetic incident
)

// Severity is how much a finding matters.
type Severity string

// The severities.
const (
	Info     Severity = "info"
	Warning  Severity = "warning"  // somebody should look: a ticket
	Critical Severity = "critical" // somebody must act: a page
)

// Finding is a condition that holds now.
type Finding struct {
	Kind     Kind
	Facility string // "" for the region itself
	Severity Severity
	Since    time.Time // when it began; backdated to the last thing heard
	Summary  string    // one line, for people
	Evidence []string  // what is known, one line each
	// Of is the region's condition that this is a part of; "" for none.
	// Operations are told of that one, the facility's own people of this.
	Of Kind
	// Unsure is true while it may be over in a moment: it reads better already, or
	// nobody has looked since the region could not. Nobody else is told meanwhile.
	Unsure bool
}

// Word is all that is judged at a moment.
type Word struct {
	At       time.Time
	Findings []Finding
	// Held is true while nothing may be concluded about facilities: their
	// incidents neither open nor resolve. Why is for people.
	Held bool
	Why  string
	// Deaf is true while this process hears none of the facilities that were ever
	// heard: they may be connected to another one's broker.
	Deaf bool
	// Fresh is true while it hears its own canaries, and has not listened for long
	// enough to take any facility that it does not hear for silent.
	Fresh bool
	// HeldOf lists facilities that alone cannot be judged now.
	HeldOf map[string]bool
	// Returning lists facilities that are offline and heard again: that may be over
	// in a moment, so nobody else is told meanwhile.
	Returning map[string]bool
}
