package proto

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind is the last level of a facility's topic.
type Kind string

// What a box publishes (up), and what it reads (down).
const (
	KindHeartbeat Kind = "hb"     // up: Heartbeat
	KindStatus    Kind = "status" // up: Status
	KindConn      Kind = "conn"   // up: Conn; also the last will's topic
	KindEvent     Kind = "event"  // up: Event
	KindAck       Kind = "ack"    // up: Ack

	KindDesired Kind = "desired" // down: reserved
	KindCommand Kind = "cmd"     // down: Command
)

// KindsUp and KindsDown are all kinds in each direction.
var (
	KindsUp   = []Kind{KindHeartbeat, KindStatus, KindConn, KindEvent, KindAck}
	KindsDown = []Kind{KindDesired, KindCommand}
)

const (
	topicRoot = "hf/v1/"
	// mirrorTenant takes the tenant's place in the topics of JSON mirrors, so
	// no tenant may be called that.
	mirrorTenant = "json"
)

// MirrorFilter matches every JSON mirror. Integrations may read it.
const MirrorFilter = topicRoot + mirrorTenant + "/#"

// Topic is where messages of one kind of one facility travel.
func Topic(tenant, facility string, k Kind) string {
	return topicRoot + tenant + "/" + facility + "/" + string(k)
}

// Filter matches messages of one kind of every facility. It does not match
// mirrors, which have one level more.
func Filter(k Kind) string { return Topic("+", "+", k) }

// MirrorTopic is where the JSON mirror of a facility's messages is retained.
// What is "state", "status" or "event".
func MirrorTopic(tenant, facility, what string) string {
	return topicRoot + mirrorTenant + "/" + tenant + "/" + facility + "/" + what
}

// MirrorOf is the facility whose mirror a topic is; ok is false for any other
// topic, such as one of the region itself.
func MirrorOf(topic string) (tenant, facility string, ok bool) {
	rest, ok := strings.CutPrefix(topic, topicRoot+mirrorTenant+"/")
	parts := strings.SplitN(rest, "/", 3)
	if !ok || len(parts) != 3 || CheckTenant(parts[0]) != nil || CheckID(parts[1]) != nil {
		return "", "", false
	}
	return parts[0], parts[1], true
}

// canaryTenant takes the tenant's place in the topics of the region's own canaries.
const canaryTenant = "canary"

// CanaryTopic is where one canary of a process of the region sings, to show that
// the broker still brings messages. The process has a name with capital letters,
// so no facility has it.
func CanaryTopic(process string, number int) string {
	return topicRoot + canaryTenant + "/" + process + "/" + strconv.Itoa(number)
}

// CanariesFilter matches the canaries of all processes.
const CanariesFilter = topicRoot + canaryTenant + "/#"

// CanaryFilter matches all canaries of a process.
func CanaryFilter(process string) string { return topicRoot + canaryTenant + "/" + process + "/+" }

// ParseTopic takes apart a topic that Topic made. It returns an error for
// anything else, mirrors included.
func ParseTopic(topic string) (tenant, facility string, k Kind, err error) {
	rest, ok := strings.CutPrefix(topic, topicRoot)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 {
		return "", "", "", fmt.Errorf("topic %q is not %stenant/facility/kind", topic, topicRoot)
	}
	if err := CheckTenant(parts[0]); err != nil {
		return "", "", "", fmt.Errorf("topic %q: tenant: %w", topic, err)
	}
	if err := CheckID(parts[1]); err != nil {
		return "", "", "", fmt.Errorf("topic %q: facility: %w", topic, err)
	}
	k = Kind(parts[2])
	for _, known := range append(KindsUp, KindsDown...) {
		if k == known {
			return parts[0], parts[1], k, nil
		}
	}
	return "", "", "", fmt.Errorf("topic %q: %q is not a kind of message", topic, parts[2])
}
