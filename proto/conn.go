package proto

import "fmt"

// ConnMaxBytes is the longest Conn message, encoded.
const ConnMaxBytes = 1024

// ConnState is what a Conn message says.
type ConnState uint8

// The states.
const (
	ConnBirth ConnState = 1 // connected
	ConnWill  ConnState = 2 // last will: the broker lost the connection
	ConnBye   ConnState = 3 // about to disconnect on purpose
)

// String is the state in one word.
func (c ConnState) String() string {
	switch c {
	case ConnBirth:
		return "birth"
	case ConnWill:
		return "will"
	case ConnBye:
		return "bye"
	}
	return "unknown"
}

// Conn says that a box's connection to the broker began or ended. It is a
// hint: only the region's own deadline decides that a facility is offline.
type Conn struct {
	Schema   uint   `cbor:"0,keyasint" json:"schema"`
	Tenant   string `cbor:"1,keyasint" json:"tenant"`
	Facility string `cbor:"2,keyasint" json:"facility"`
	BootID   BootID `cbor:"3,keyasint" json:"boot_id"`
	// Session is the session epoch: a will of an older session is stale.
	Session uint64 `cbor:"4,keyasint" json:"session"`
	// Connection counts the connections of this session, from 1. A will is
	// written when its connection begins, so a will whose number is below
	// that of the latest birth is stale too.
	Connection uint64    `cbor:"5,keyasint" json:"connection"`
	State      ConnState `cbor:"6,keyasint" json:"state"`
	// Reason is why, for people: "stopping", "restarting for an update".
	Reason string       `cbor:"7,keyasint,omitempty" json:"reason,omitempty"`
	WallMs int64        `cbor:"8,keyasint" json:"wall_ms"`
	Clock  ClockQuality `cbor:"9,keyasint" json:"clock"`
	// BackSeconds is when the box expects to be back after a bye; 0 is unknown.
	BackSeconds uint32 `cbor:"10,keyasint,omitempty" json:"back_seconds,omitempty"`
	// Agent is the agent's version.
	Agent string `cbor:"11,keyasint,omitempty" json:"agent,omitempty"`
}

// Encode returns the message's bytes, at most ConnMaxBytes.
func (c Conn) Encode() ([]byte, error) {
	c.Schema = schemaNow
	c.Reason, c.Agent = cut(c.Reason, longTextBytes), cut(c.Agent, shortTextMax)
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("encode conn: %w", err)
	}
	return encode("conn", c, ConnMaxBytes)
}

// DecodeConn reads what Encode wrote, or a newer build's message.
func DecodeConn(data []byte) (Conn, error) {
	var c Conn
	if err := decode("conn", data, &c, ConnMaxBytes); err != nil {
		return Conn{}, err
	}
	if err := c.check(); err != nil {
		return Conn{}, fmt.Errorf("decode conn: %w", err)
	}
	return c, nil
}

func (c Conn) check() error {
	if c.State < ConnBirth || c.State > ConnBye {
		return fmt.Errorf("state %d is not birth, will or bye", c.State)
	}
	return checkWho(c.Schema, c.Tenant, c.Facility)
}
