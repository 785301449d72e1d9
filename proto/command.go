package proto

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// CommandMaxBytes is the longest command or acknowledgement, encoded.
const CommandMaxBytes = 4096

// CommandID names one command. The region makes it at random; a box runs each
// id once.
type CommandID [16]byte

// String is the id in hex.
func (id CommandID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText is String.
func (id CommandID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalCBOR reads a byte string of exactly 16 bytes.
func (id *CommandID) UnmarshalCBOR(data []byte) error { return fixedBytes(id[:], data) }

// CommandStatus asks for the status document at once. It has no arguments and
// is answered by the document and an Ack.
const CommandStatus = "status"

// Command is what the region asks of a box. It travels at most once; the
// region repeats it until it has the Ack or it has expired.
type Command struct {
	Schema   uint      `cbor:"0,keyasint" json:"schema"`
	Tenant   string    `cbor:"1,keyasint" json:"tenant"`
	Facility string    `cbor:"2,keyasint" json:"facility"`
	ID       CommandID `cbor:"3,keyasint" json:"id"`
	Kind     string    `cbor:"4,keyasint" json:"kind"`
	IssuedMs int64     `cbor:"5,keyasint" json:"issued_ms"`
	// ExpiresMs is when the command must no longer be run, by the region's
	// wall clock. A box whose clock is not in step cannot judge it and runs
	// only commands of a kind that does no harm when late.
	ExpiresMs int64             `cbor:"6,keyasint" json:"expires_ms"`
	Args      map[string]string `cbor:"7,keyasint,omitempty" json:"args,omitempty"`
}

// Expired reports whether the command must no longer be run at now.
func (c Command) Expired(now time.Time) bool { return now.UnixMilli() >= c.ExpiresMs }

// Encode returns the message's bytes, at most CommandMaxBytes.
func (c Command) Encode() ([]byte, error) {
	c.Schema = schemaNow
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	return encode("command", c, CommandMaxBytes)
}

// DecodeCommand reads what Encode wrote, or a newer build's command.
func DecodeCommand(data []byte) (Command, error) {
	var c Command
	if err := decode("command", data, &c, CommandMaxBytes); err != nil {
		return Command{}, err
	}
	if err := c.check(); err != nil {
		return Command{}, fmt.Errorf("decode command: %w", err)
	}
	return c, nil
}

func (c Command) check() error {
	if err := checkWho(c.Schema, c.Tenant, c.Facility); err != nil {
		return err
	}
	if c.ID == (CommandID{}) {
		return errors.New("the command's id is missing")
	}
	if c.Kind == "" || len(c.Kind) > shortTextMax {
		return fmt.Errorf("the kind has %d bytes, 1 to %d are allowed", len(c.Kind), shortTextMax)
	}
	if c.ExpiresMs <= c.IssuedMs {
		return errors.New("the command expires before it was issued")
	}
	return checkAttrs(c.Args)
}
