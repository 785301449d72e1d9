package proto

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net/url"
	"strings"
)

// tokenPrefix marks an enrolment token, so that people and scanners for leaked
// secrets know what they see. The digit is the format.
const tokenPrefix = "hf1_"

// TokenMaxBytes is the longest token text.
const TokenMaxBytes = 1024

// tokenURLMaxBytes is the longest address of an enrolment service.
const tokenURLMaxBytes = 512

// Bytes32 is a key or a SHA-256.
type Bytes32 [32]byte

// UnmarshalCBOR reads a byte string of exactly 32 bytes.
func (b *Bytes32) UnmarshalCBOR(data []byte) error { return fixedBytes(b[:], data) }

// Equal compares in constant time.
func (b Bytes32) Equal(o Bytes32) bool { return subtle.ConstantTimeCompare(b[:], o[:]) == 1 }

// EnrolToken is everything that a new box must know to enrol, in one line of
// text: where, whom to trust, and the secret that lets it in once.
type EnrolToken struct {
	Schema uint `cbor:"0,keyasint"`
	// Secret is random; the region keeps only its SHA-256.
	Secret Bytes32 `cbor:"1,keyasint"`
	// CAPin is the SHA-256 of the public key (SPKI, DER) of the region's
	// certificate authority. Nothing else makes a server the right one.
	CAPin Bytes32 `cbor:"2,keyasint"`
	// URL is the enrolment service: https://host:port, without a path.
	URL    string `cbor:"3,keyasint"`
	Region string `cbor:"4,keyasint"`
}

// errTokenCut is what most broken tokens are: not copied whole.
var errTokenCut = errors.New("the token is damaged: copy it again, whole, from the first hf1_ to the last character")

// Text is the token as people copy it. It is a secret until it has been used
// or has expired.
func (t EnrolToken) Text() (string, error) {
	t.Schema = schemaNow
	if err := t.check(); err != nil {
		return "", fmt.Errorf("make token: %w", err)
	}
	b, err := encode("token", t, TokenMaxBytes*3/4-8)
	if err != nil {
		return "", err
	}
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b), nil
}

// ParseToken reads what Text wrote. White space and line breaks in it, as mail
// programs and terminals leave them, are ignored.
func ParseToken(text string) (EnrolToken, error) {
	if len(text) > 2*TokenMaxBytes {
		return EnrolToken{}, errTokenCut
	}
	text = strings.Join(strings.Fields(text), "")
	body, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return EnrolToken{}, errors.New("this is not an enrolment token: one begins with hf1_ and is printed by holdfastctl facility add")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(b) < 4 {
		return EnrolToken{}, errTokenCut
	}
	b, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.ChecksumIEEE(b) != sum {
		return EnrolToken{}, errTokenCut
	}
	var t EnrolToken
	if err := decode("token", b, &t, TokenMaxBytes); err != nil {
		return EnrolToken{}, err
	}
	if err := t.check(); err != nil {
		return EnrolToken{}, fmt.Errorf("decode token: %w", err)
	}
	return t, nil
}

func (t EnrolToken) check() error {
	if t.Schema == 0 {
		return errors.New("the schema number is missing")
	}
	if t.Secret == (Bytes32{}) || t.CAPin == (Bytes32{}) {
		return errors.New("the secret or the pin is missing")
	}
	if err := CheckID(t.Region); err != nil {
		return fmt.Errorf("region: %w", err)
	}
	return CheckServiceURL(t.URL)
}

// CheckServiceURL returns an error unless u is https://host[:port] and no more.
func CheckServiceURL(u string) error {
	if len(u) > tokenURLMaxBytes {
		return fmt.Errorf("the address has %d characters, at most %d are allowed", len(u), tokenURLMaxBytes)
	}
	p, err := url.Parse(u)
	if err != nil || p.Scheme != "https" || p.Hostname() == "" || p.User != nil || (p.Path != "" && p.Path != "/") || p.RawQuery != "" || p.Fragment != "" {
		return fmt.Errorf("the address %q is not https://host:port", u)
	}
	return nil
}

// String hides the secret.
func (t EnrolToken) String() string { return "(enrolment token for region " + t.Region + ")" }

// GoString hides the secret from %#v.
func (t EnrolToken) GoString() string { return t.String() }

// LogValue hides the secret from logs.
func (t EnrolToken) LogValue() slog.Value { return slog.StringValue(t.String()) }
