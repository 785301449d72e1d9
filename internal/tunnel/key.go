package tunnel

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
)

// PublicKey names a peer: a Curve25519 public key. Its text form is the
// standard base64 that every WireGuard tool prints.
type PublicKey [32]byte

// PrivateKey is a Curve25519 private key. Formatting and logging never show
// it; Reveal does, for the file that keeps it.
type PrivateKey [32]byte

// PresharedKey is an optional symmetric secret mixed into the handshake. The
// zero value means none.
type PresharedKey [32]byte

// GenerateKey makes a private key from the system's random source.
func GenerateKey() (PrivateKey, error) {
	var k PrivateKey
	if _, err := rand.Read(k[:]); err != nil {
		return PrivateKey{}, fmt.Errorf("make a tunnel key: %w", err)
	}
	k[0] &= 248
	k[31] = (k[31] & 127) | 64
	return k, nil
}

// ParsePrivateKey reads the text that Reveal wrote.
func ParsePrivateKey(s string) (PrivateKey, error) {
	var k PrivateKey
	if err := parseKey(k[:], s); err != nil {
		return PrivateKey{}, fmt.Errorf("parse tunnel private key: %w", err)
	}
	return k, nil
}

// ParsePublicKey reads the base64 text of a public key.
func ParsePublicKey(s string) (PublicKey, error) {
	var k PublicKey
	if err := parseKey(k[:], s); err != nil {
		return PublicKey{}, fmt.Errorf("parse tunnel public key: %w", err)
	}
	return k, nil
}

func parseKey(dst []byte, s string) error {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return fmt.Errorf("not base64: %w", err)
	}
	if len(b) != len(dst) {
		return fmt.Errorf("has %d bytes, want %d", len(b), len(dst))
	}
	copy(dst, b)
	return nil
}

// Public is the public half of the key. It is zero for the zero key.
func (k PrivateKey) Public() PublicKey {
	if k.IsZero() {
		return PublicKey{}
	}
	// NewPrivateKey refuses only a wrong length, which the type excludes.
	priv, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil {
		return PublicKey{}
	}
	return PublicKey(priv.PublicKey().Bytes())
}

// Reveal is the key's base64 text, for the file that keeps it (mode 0600) and
// for nothing else.
func (k PrivateKey) Reveal() string { return base64.StdEncoding.EncodeToString(k[:]) }

// IsZero reports whether no key was set.
func (k PrivateKey) IsZero() bool { return k == PrivateKey{} }

// String hides the key.
func (k PrivateKey) String() string { return "(private key)" }

// GoString hides the key from %#v.
func (k PrivateKey) GoString() string { return k.String() }

// LogValue hides the key from logs.
func (k PrivateKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// String hides the key.
func (k PresharedKey) String() string { return "(preshared key)" }

// GoString hides the key from %#v.
func (k PresharedKey) GoString() string { return k.String() }

// LogValue hides the key from logs.
func (k PresharedKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// IsZero reports whether no key was set.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// String is the key's base64 text.
func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// MarshalText writes the base64 text.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the base64 text.
func (k *PublicKey) UnmarshalText(b []byte) error {
	p, err := ParsePublicKey(string(b))
	if err != nil {
		return err
	}
	*k = p
	return nil
}

func hexKey(b [32]byte) string { return hex.EncodeToString(b[:]) }

func parseHexKey(s string) (PublicKey, error) {
	var k PublicKey
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(k) {
		return k, fmt.Errorf("not a key in hexadecimal: %d characters", len(s))
	}
	copy(k[:], b)
	return k, nil
}
