package proto

import (
	"errors"
	"fmt"
)

// EnrolCode says why an enrolment or renewal was refused. Codes are never
// reused; a box takes one that it does not know by the status of the answer.
type EnrolCode uint16

// The codes.
const (
	EnrolBadRequest  EnrolCode = 1  // the message is not one
	EnrolUnknown     EnrolCode = 2  // no such token: foreign, mistyped, or withdrawn
	EnrolUsed        EnrolCode = 3  // another box has used the token
	EnrolExpired     EnrolCode = 4  // the token is too old
	EnrolWrongRegion EnrolCode = 5  // the token is for another region
	EnrolClockOff    EnrolCode = 6  // the box's clock is far ahead
	EnrolKeyTaken    EnrolCode = 7  // one of the box's keys belongs to an enrolled box
	EnrolRevoked     EnrolCode = 8  // the box was thrown out or replaced
	EnrolNotKnown    EnrolCode = 9  // renewal for a key that was never enrolled
	EnrolRemoved     EnrolCode = 10 // the facility was removed
	EnrolSlowDown    EnrolCode = 11 // too many requests from this address
	EnrolUnavailable EnrolCode = 12 // the region cannot answer now
)

// Retry reports whether asking again later, without a person's help, can
// succeed.
func (c EnrolCode) Retry() bool { return c == EnrolSlowDown || c == EnrolUnavailable }

// EnrolProblem is a refusal, with what to do about it. It is an error.
type EnrolProblem struct {
	Schema uint      `cbor:"0,keyasint"`
	Code   EnrolCode `cbor:"1,keyasint"`
	// Text says what is wrong, Remedy what a person can do.
	Text   string `cbor:"2,keyasint"`
	Remedy string `cbor:"3,keyasint,omitempty"`
	// RetrySeconds is how long to wait before asking again, if that may help.
	RetrySeconds uint32 `cbor:"4,keyasint,omitempty"`
	// WallMs is the region's clock, milliseconds since 1970.
	WallMs int64 `cbor:"5,keyasint,omitempty"`
}

// Error is the text.
func (p *EnrolProblem) Error() string { return p.Text }

// Encode returns the message's bytes, at most EnrolProblemMaxBytes.
func (p EnrolProblem) Encode() ([]byte, error) {
	p.Schema = schemaNow
	p.Text, p.Remedy = cut(p.Text, longTextBytes), cut(p.Remedy, longTextBytes)
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("encode enrolment problem: %w", err)
	}
	return encode("enrolment problem", p, EnrolProblemMaxBytes)
}

// DecodeEnrolProblem reads what Encode wrote, or a newer build's message.
func DecodeEnrolProblem(data []byte) (EnrolProblem, error) {
	var p EnrolProblem
	if err := decode("enrolment problem", data, &p, EnrolProblemMaxBytes); err != nil {
		return EnrolProblem{}, err
	}
	if err := p.check(); err != nil {
		return EnrolProblem{}, fmt.Errorf("decode enrolment problem: %w", err)
	}
	return p, nil
}

func (p EnrolProblem) check() error {
	if p.Schema == 0 {
		return errors.New("the schema number is missing")
	}
	if p.Code == 0 || p.Text == "" {
		return errors.New("the code or the text is missing")
	}
	if len(p.Text) > longTextBytes || len(p.Remedy) > longTextBytes {
		return fmt.Errorf("a text is longer than %d bytes", longTextBytes)
	}
	return nil
}
