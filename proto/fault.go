package proto

import "fmt"

// FaultCode names one thing that is wrong with a box. Codes are never reused.
type FaultCode uint16

// The faults that this build knows.
const (
	FaultDatabaseDown   FaultCode = 1  // the local PostgreSQL does not answer
	FaultSlotMissing    FaultCode = 2  // the replication slot is gone or invalid
	FaultCaptureStalled FaultCode = 3  // changes are not being read from the WAL
	FaultQueueFull      FaultCode = 4  // the queue is at its byte limit
	FaultQueueNearFull  FaultCode = 5  // the queue is over 80 % of its limit
	FaultQueueDamaged   FaultCode = 6  // a damaged frame was found and is being healed
	FaultStateDiskLow   FaultCode = 7  // under 10 % or 1 GiB free where the agent keeps its state
	FaultDataDiskLow    FaultCode = 8  // the same where the database is
	FaultHot            FaultCode = 9  // the hottest sensor is at 80 °C or more
	FaultClockUnsynced  FaultCode = 10 // the wall clock is not kept in step
	FaultTunnelDown     FaultCode = 11 // no handshake with the region's hub for 3 minutes
	FaultParked         FaultCode = 12 // changes from the region wait for a cause to go away
	FaultMemoryLow      FaultCode = 13 // under 5 % of memory is available
	FaultStalled        FaultCode = 14 // a stage has work and makes no progress; see the status document
	FaultLeftOut        FaultCode = 15 // rows that cannot be sent were left out; see their tables in the status document
	FaultWatchdogOff    FaultCode = 16 // the machine has a hardware watchdog, and nobody has armed it
)

var faultNames = map[FaultCode]string{
	FaultDatabaseDown:   "database_down",
	FaultSlotMissing:    "slot_missing",
	FaultCaptureStalled: "capture_stalled",
	FaultQueueFull:      "queue_full",
	FaultQueueNearFull:  "queue_near_full",
	FaultQueueDamaged:   "queue_damaged",
	FaultStateDiskLow:   "state_disk_low",
	FaultDataDiskLow:    "data_disk_low",
	FaultHot:            "hot",
	FaultClockUnsynced:  "clock_unsynced",
	FaultTunnelDown:     "tunnel_down",
	FaultParked:         "parked",
	FaultMemoryLow:      "memory_low",
	FaultStalled:        "stalled",
	FaultLeftOut:        "left_out",
	FaultWatchdogOff:    "watchdog_off",
}

// String is the fault's name; a code from a newer build is shown by number.
func (c FaultCode) String() string {
	if s, ok := faultNames[c]; ok {
		return s
	}
	return fmt.Sprintf("fault_%d", uint16(c))
}

// MarshalText writes the name, for JSON.
func (c FaultCode) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (c *FaultCode) UnmarshalText(text []byte) error {
	for code, name := range faultNames {
		if name == string(text) {
			*c = code
			return nil
		}
	}
	if _, err := fmt.Sscanf(string(text), "fault_%d", (*uint16)(c)); err != nil {
		return fmt.Errorf("%q is not a fault", text)
	}
	return nil
}
