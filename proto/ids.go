package proto

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// idMaxBytes is the longest tenant or facility id.
const idMaxBytes = 63

// RegionClientID is the broker account of the region itself. No box can have
// it, because each ClientID contains a capital letter.
const RegionClientID = "holdfast-region"

// CheckID returns an error when id is not a tenant or facility id: 1 to 63
// small letters, digits, '-' and '_', beginning with a letter or digit.
func CheckID(id string) error {
	if id == "" {
		return errors.New("the id is empty")
	}
	if len(id) > idMaxBytes {
		return fmt.Errorf("the id has %d characters, at most %d are allowed", len(id), idMaxBytes)
	}
	for i := range len(id) {
		c := id[i]
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || c != '-' && c != '_') {
			return fmt.Errorf("the id %q may only have small letters, digits, '-' and '_', and begins with a letter or digit", id)
		}
	}
	return nil
}

// CheckTenant is CheckID for a tenant, which may not be called "json": that
// word takes the tenant's place in the topics of the JSON mirrors.
func CheckTenant(id string) error {
	if id == mirrorTenant {
		return fmt.Errorf("the id %q is reserved", id)
	}
	return CheckID(id)
}

// clientIDMaxBytes is the longest common name that X.509 allows (RFC 5280,
// ub-common-name).
const clientIDMaxBytes = 64

// ClientID names one box to the broker: it is the common name of the box's
// certificate and its MQTT client id. It has only letters, digits, '-' and
// '_', so that every broker accepts it, and at most 64 of them.
//
// The enrolment number is part of it: a box that replaces another has a name
// of its own, so the old one can be thrown out without touching the new one.
//
//	la-AT-foo-E3   the third box of facility la of tenant foo
//	X-9f86d081…    the same for names that would be too long
//
// No two boxes share a name: ids have no capital letters, so the separators
// cannot be part of an id. It is not meant to be parsed; topics carry the ids.
func ClientID(tenant, facility string, enrolment uint32) string {
	id := facility + "-AT-" + tenant + "-E" + strconv.FormatUint(uint64(enrolment), 10)
	if len(id) <= clientIDMaxBytes {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "X-" + hex.EncodeToString(sum[:16])
}

// SessionEpoch numbers the connections that a facility's boxes make to the
// broker, so that an old last will can be told from a new one. The enrolment
// is its upper half: a replaced box is always older than its replacement.
// Starts is how often the agent has been started on this box.
func SessionEpoch(enrolment, starts uint32) uint64 {
	return uint64(enrolment)<<32 | uint64(starts)
}
