package channel

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/durable"
	"github.com/agogsaas/holdfast/internal/hint"
)

// Purpose is what a signed link is for.
type Purpose byte

// The purposes.
const (
	ToAcknowledge Purpose = 1
	ToFallback    Purpose = 2
)

// Links makes and reads the signed links in messages: whoever has one may do
// that one thing, without signing in, until it expires.
//
// A token is the base64url of
//
//	version 1 | purpose | delivery (16) | expiry (4, minutes since 1970) | MAC (16)
//
// where MAC is the beginning of the HMAC-SHA256 of what is before it.
type Links struct {
	base string // without a slash at its end; "" makes no links
	key  []byte
}

const (
	linkVersion  = 1
	linkKeyBytes = 32
	macBytes     = 16
	linkBytes    = 2 + 16 + 4 + macBytes
)

// errToken is said of any token that is not ours.
var errToken = errors.New("the link is not valid")

// NewLinks makes links below publicURL; "" makes none. The key is in the file at
// path and is made (mode 0600) when there is none. All processes of a region
// share it.
func NewLinks(publicURL, path string) (*Links, error) {
	key, err := config.ReadSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeLinkKey(path); err != nil {
			return nil, fmt.Errorf("keep the key of the links in messages: %w", err)
		}
		key, err = config.ReadSecret(path) // another process may have been first
	}
	if err != nil {
		return nil, fmt.Errorf("read the key of the links in messages: %w", err)
	}
	raw, err := hex.DecodeString(string(key))
	if err != nil || len(raw) != linkKeyBytes {
		return nil, hint.Wrap(fmt.Errorf("read the key of the links in messages: %s is not one", path),
			"Remove %s: a new one is made, and the links that were sent are void.", path)
	}
	return &Links{base: strings.TrimSuffix(publicURL, "/"), key: raw}, nil
}

// makeLinkKey makes the file whole or not at all, and leaves one that is there.
func makeLinkKey(path string) error {
	key := make([]byte, linkKeyBytes)
	_, _ = rand.Read(key) // never fails
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintln(f, hex.EncodeToString(key))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// URL returns the link of a delivery for a purpose; "" when the region has no
// public address.
func (l *Links) URL(p Purpose, delivery string, expires time.Time) (string, error) {
	if l.base == "" {
		return "", nil
	}
	token, err := l.token(p, delivery, expires)
	return l.base + "/ack/" + token, err
}

// linkFor is how long a link in a message is good for: longer than an incident
// is likely to be open.
const linkFor = 7 * 24 * time.Hour

// Ack returns the link that acknowledges what a delivery told of; "" when there
// is none.
func (l *Links) Ack(delivery string) string { return l.from(ToAcknowledge, delivery) }

// Offer returns what a step of a policy offers, in words, and its link. What is
// not known is not offered.
func (l *Links) Offer(delivery, offer string) (words, url string) {
	if offer != "fallback" {
		return "", ""
	}
	return "Work could go on in the cloud until the facility is back.", l.from(ToFallback, delivery)
}

func (l *Links) from(p Purpose, delivery string) string {
	u, err := l.URL(p, delivery, time.Now().Add(linkFor))
	if err != nil {
		return "" // no delivery of ours: its message goes out without
	}
	return u
}

func (l *Links) token(p Purpose, delivery string, expires time.Time) (string, error) {
	id, err := parseUUID(delivery)
	if err != nil {
		return "", err
	}
	b := append(make([]byte, 0, linkBytes), linkVersion, byte(p))
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(expires.Unix()/60))
	return base64.RawURLEncoding.EncodeToString(append(b, l.mac(b)...)), nil
}

func (l *Links) mac(b []byte) []byte {
	h := hmac.New(sha256.New, l.key)
	h.Write(b)
	return h.Sum(nil)[:macBytes]
}

// link is what a token says.
type link struct {
	purpose  Purpose
	delivery string
	expires  time.Time
}

// read returns what a token says, once it is known to be ours. That it has
// expired is the caller's to see.
func (l *Links) read(token string) (link, error) {
	if len(token) != base64.RawURLEncoding.EncodedLen(linkBytes) {
		return link{}, errToken
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil {
		return link{}, errToken
	}
	said, mac := b[:linkBytes-macBytes], b[linkBytes-macBytes:]
	if !hmac.Equal(mac, l.mac(said)) || said[0] != linkVersion {
		return link{}, errToken
	}
	return link{
		purpose: Purpose(said[1]), delivery: formatUUID([16]byte(said[2:18])),
		expires: time.Unix(int64(binary.BigEndian.Uint32(said[18:]))*60, 0),
	}, nil
}

func parseUUID(s string) (id [16]byte, err error) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, fmt.Errorf("%q is not a delivery", cut(s, 40))
	}
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 {
		return id, fmt.Errorf("%q is not a delivery", cut(s, 40))
	}
	return [16]byte(b), nil
}

func formatUUID(id [16]byte) string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
