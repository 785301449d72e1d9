package proto

import (
	"crypto/sha256"
	"errors"
	"fmt"
)

// HeartbeatMaxBytes is the longest heartbeat, encoded.
const HeartbeatMaxBytes = 200

// faultsMax is how many faults one heartbeat can name.
const faultsMax = 16

// ClockQuality says how far a box's wall clock can be believed.
type ClockQuality uint8

// The qualities, from worst to best.
const (
	ClockUnknown  ClockQuality = iota // not asked, or the kernel does not say
	ClockUnsynced                     // running on its own since boot
	ClockSynced                       // the kernel says it is kept in step
)

// Health is a box's own verdict on itself.
type Health uint8

// The verdicts.
const (
	HealthOK       Health = iota
	HealthDegraded        // works, but something needs attention
	HealthFailing         // the facility's work is at risk
)

// String is the verdict in one word.
func (h Health) String() string {
	switch h {
	case HealthOK:
		return "ok"
	case HealthDegraded:
		return "degraded"
	case HealthFailing:
		return "failing"
	}
	return "unknown"
}

// Heartbeat says that a box is there, and the little that changes all the
// time. It is sent every few seconds and is never sent again: a newer one
// replaces it.
type Heartbeat struct {
	Schema uint `cbor:"0,keyasint" json:"schema"`
	// Who is WhoDigest of the facility. It must agree with the topic.
	Who Digest `cbor:"1,keyasint" json:"-"`
	// BootID is the kernel's random boot id.
	BootID BootID `cbor:"2,keyasint" json:"boot_id"`
	// Session is the session epoch (see SessionEpoch).
	Session uint64 `cbor:"3,keyasint" json:"session"`
	// Seq counts heartbeats of this session, from 1.
	Seq uint64 `cbor:"4,keyasint" json:"seq"`
	// MonoMs is milliseconds since boot, WallMs since 1970 by the box's clock.
	MonoMs uint64       `cbor:"5,keyasint" json:"mono_ms"`
	WallMs int64        `cbor:"6,keyasint" json:"wall_ms"`
	Clock  ClockQuality `cbor:"7,keyasint" json:"clock"`
	Health Health       `cbor:"8,keyasint" json:"health"`
	// StatusDigest is the StatusDigest of the last status document that was
	// published, zero before the first one. When it differs from what the
	// region has, the region asks for the document.
	StatusDigest Digest `cbor:"9,keyasint" json:"-"`
	// What waits for the region's acknowledgement; the oldest of it was
	// committed OldestSeconds ago.
	QueueTransactions uint64 `cbor:"10,keyasint" json:"queue_transactions"`
	QueueChanges      uint64 `cbor:"11,keyasint" json:"queue_changes"`
	QueueBytes        uint64 `cbor:"12,keyasint" json:"queue_bytes"`
	OldestSeconds     uint64 `cbor:"13,keyasint" json:"oldest_seconds"`
	// EverySeconds is the promised pace: the next one follows within this
	// time and a tenth.
	EverySeconds uint16 `cbor:"14,keyasint" json:"every_seconds"`
	// Faults are what is wrong now, each named once, in rising order.
	Faults []FaultCode `cbor:"15,keyasint,omitempty" json:"faults,omitempty"`
}

// WhoDigest is what a heartbeat carries in place of the tenant's and
// facility's names, which may be too long for it.
func WhoDigest(tenant, facility string) Digest {
	sum := sha256.Sum256([]byte(topicRoot + tenant + "/" + facility))
	return Digest(sum[:8])
}

// Encode returns the message's bytes, at most HeartbeatMaxBytes.
func (h Heartbeat) Encode() ([]byte, error) {
	h.Schema = schemaNow
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("encode heartbeat: %w", err)
	}
	return encode("heartbeat", h, HeartbeatMaxBytes)
}

// DecodeHeartbeat reads what Encode wrote, or a newer build's heartbeat.
func DecodeHeartbeat(data []byte) (Heartbeat, error) {
	var h Heartbeat
	if err := decode("heartbeat", data, &h, HeartbeatMaxBytes); err != nil {
		return Heartbeat{}, err
	}
	if err := h.check(); err != nil {
		return Heartbeat{}, fmt.Errorf("decode heartbeat: %w", err)
	}
	return h, nil
}

func (h Heartbeat) check() error {
	if h.Schema == 0 {
		return errNoSchema
	}
	if h.Seq == 0 {
		return errors.New("the sequence number is missing")
	}
	if h.EverySeconds == 0 || h.EverySeconds > 3600 {
		return fmt.Errorf("the pace of %d s is not between 1 and 3600", h.EverySeconds)
	}
	return checkFaults(h.Faults)
}

func checkFaults(faults []FaultCode) error {
	if len(faults) > faultsMax {
		return fmt.Errorf("%d faults, at most %d are allowed", len(faults), faultsMax)
	}
	for i := 1; i < len(faults); i++ {
		if faults[i] <= faults[i-1] {
			return errors.New("the faults are not in rising order")
		}
	}
	return nil
}

// errNoSchema means that key 0 is missing: the bytes are something else.
var errNoSchema = errors.New("the schema number is missing")
