package proto

import (
	"errors"
	"fmt"
)

// EventMaxBytes is the longest event, encoded.
const EventMaxBytes = 4096

// attrsMax is how many attributes an event, and how many arguments a command
// may have.
const attrsMax = 16

// Severity is how much an event matters.
type Severity uint8

// The severities.
const (
	SeverityInfo Severity = iota
	SeverityWarning
	SeverityError
)

// Event is something that happened on a box and that a person may want to read
// later. The region may see it twice, and tells by (facility, session, seq).
type Event struct {
	Schema   uint   `cbor:"0,keyasint" json:"schema"`
	Tenant   string `cbor:"1,keyasint" json:"tenant"`
	Facility string `cbor:"2,keyasint" json:"facility"`
	BootID   BootID `cbor:"3,keyasint" json:"boot_id"`
	Session  uint64 `cbor:"4,keyasint" json:"session"`
	Seq      uint64 `cbor:"5,keyasint" json:"seq"` // counts events of the session, from 1
	// MonoMs is milliseconds since boot: it puts the event in its place when
	// WallMs cannot be believed.
	MonoMs   uint64            `cbor:"6,keyasint" json:"mono_ms"`
	WallMs   int64             `cbor:"7,keyasint" json:"wall_ms"`
	Clock    ClockQuality      `cbor:"8,keyasint" json:"clock"`
	Kind     string            `cbor:"9,keyasint" json:"kind"` // e.g. "queue_healed"
	Severity Severity          `cbor:"10,keyasint" json:"severity"`
	Text     string            `cbor:"11,keyasint" json:"text"`
	Attrs    map[string]string `cbor:"12,keyasint,omitempty" json:"attrs,omitempty"`
}

// Encode returns the message's bytes, at most EventMaxBytes. A text that is
// too long is cut.
func (e Event) Encode() ([]byte, error) {
	e.Schema = schemaNow
	e.Text = cut(e.Text, longTextBytes)
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return encode("event", e, EventMaxBytes)
}

// DecodeEvent reads what Encode wrote, or a newer build's event.
func DecodeEvent(data []byte) (Event, error) {
	var e Event
	if err := decode("event", data, &e, EventMaxBytes); err != nil {
		return Event{}, err
	}
	if err := e.check(); err != nil {
		return Event{}, fmt.Errorf("decode event: %w", err)
	}
	return e, nil
}

func (e Event) check() error {
	if err := checkWho(e.Schema, e.Tenant, e.Facility); err != nil {
		return err
	}
	if e.Seq == 0 {
		return errors.New("the sequence number is missing")
	}
	if e.Kind == "" || len(e.Kind) > shortTextMax {
		return fmt.Errorf("the kind has %d bytes, 1 to %d are allowed", len(e.Kind), shortTextMax)
	}
	return checkAttrs(e.Attrs)
}

func checkAttrs(attrs map[string]string) error {
	if len(attrs) > attrsMax {
		return fmt.Errorf("%d attributes, at most %d are allowed", len(attrs), attrsMax)
	}
	return nil
}
