package proto

import (
	"errors"
	"fmt"
)

// AckResult is what became of a command.
type AckResult uint8

// The results. Each is final.
const (
	AckDone    AckResult = 1
	AckFailed  AckResult = 2 // it was tried
	AckRefused AckResult = 3 // not tried: unknown kind or bad arguments
	AckExpired AckResult = 4 // not tried: it came too late
)

// String is the result in one word.
func (r AckResult) String() string {
	switch r {
	case AckDone:
		return "done"
	case AckFailed:
		return "failed"
	case AckRefused:
		return "refused"
	case AckExpired:
		return "expired"
	}
	return "unknown"
}

// CommandAck answers a Command. A box that sees a command again answers again
// with the same result.
type CommandAck struct {
	Schema   uint      `cbor:"0,keyasint" json:"schema"`
	Tenant   string    `cbor:"1,keyasint" json:"tenant"`
	Facility string    `cbor:"2,keyasint" json:"facility"`
	ID       CommandID `cbor:"3,keyasint" json:"id"`
	Result   AckResult `cbor:"4,keyasint" json:"result"`
	Text     string    `cbor:"5,keyasint,omitempty" json:"text,omitempty"` // for people
	WallMs   int64     `cbor:"6,keyasint" json:"wall_ms"`
}

// Encode returns the message's bytes, at most CommandMaxBytes. A text that is
// too long is cut.
func (a CommandAck) Encode() ([]byte, error) {
	a.Schema = schemaNow
	a.Text = cut(a.Text, longTextBytes)
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("encode command ack: %w", err)
	}
	return encode("command ack", a, CommandMaxBytes)
}

// DecodeCommandAck reads what Encode wrote, or a newer build's message.
func DecodeCommandAck(data []byte) (CommandAck, error) {
	var a CommandAck
	if err := decode("command ack", data, &a, CommandMaxBytes); err != nil {
		return CommandAck{}, err
	}
	if err := a.check(); err != nil {
		return CommandAck{}, fmt.Errorf("decode command ack: %w", err)
	}
	return a, nil
}

func (a CommandAck) check() error {
	if a.ID == (CommandID{}) {
		return errors.New("the command's id is missing")
	}
	if a.Result < AckDone || a.Result > AckExpired {
		return fmt.Errorf("result %d is not known", a.Result)
	}
	return checkWho(a.Schema, a.Tenant, a.Facility)
}
