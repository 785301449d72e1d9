package channel

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/proto"
)

// mqttTimeout bounds the broker's acknowledgement.
const mqttTimeout = 10 * time.Second

// mqttRegion stands for the facility in the topics of the region itself. It is
// no facility's id, which begin with a letter or digit.
const mqttRegion = "_region"

// mqttLevel is one level of a topic.
var mqttLevel = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Publisher retains a message on the region's broker, and returns once the
// broker has acknowledged it (QoS 1).
type Publisher func(ctx context.Context, topic string, payload []byte) error

// MQTTSender tells programs that read the region's broker. The last word on each
// kind of incident is retained at
//
//	hf/v1/json/{tenant}/{facility}/{to}/{kind}
//
// where {to} is the method's address, mostly "incident". A resolved incident
// stays there as resolved, so that nobody reads an old alarm as a new one. What a
// customer is told of a region's incident has the level _region for the facility:
// which of his facilities are in it changes, and its end must be at the same place.
type MQTTSender struct {
	publish Publisher
	texts   *Texts
}

// NewMQTT makes one.
func NewMQTT(publish Publisher, texts *Texts) *MQTTSender { return &MQTTSender{publish, texts} }

// Send publishes the document. Whether somebody reads it is not known.
func (s *MQTTSender) Send(ctx context.Context, m Message) (Result, error) {
	topic, err := mqttTopic(m)
	if err != nil {
		return Result{}, Permanent(fmt.Errorf("mqtt: %w", err))
	}
	// Many read it: the links that acknowledge are not for them.
	raw, err := document(s.texts, m, false)
	if err != nil {
		return Result{}, Permanent(fmt.Errorf("mqtt: %w", err))
	}
	ctx, cancel := context.WithTimeout(ctx, mqttTimeout)
	defer cancel()
	if err := s.publish(ctx, topic, raw); err != nil {
		return Result{}, fmt.Errorf("mqtt: %w", err)
	}
	return Result{Provider: "mqtt", ProviderID: topic, State: Accepted}, nil
}

// Check looks at the topic's level.
func (s *MQTTSender) Check(_ context.Context, to string, _ map[string]string) error {
	return Permanent(checkLevel(to))
}

// checkLevel says what is wrong with a method's level of the topic; the ones of
// the facilities' mirrors are taken.
func checkLevel(to string) error {
	if !mqttLevel.MatchString(to) || to == "state" || to == "status" {
		return hint.Wrap(errors.New("this is not a level of a topic that is free"), "Enter incident, or another word of letters, digits, - and _.")
	}
	return nil
}

func mqttTopic(m Message) (string, error) {
	i := m.Incident
	tenant, facility, kind := i.Tenant, i.Facility, i.Kind
	switch {
	case i.Of != "":
		facility, kind = mqttRegion, i.Of
	case facility == "":
		tenant, facility = mqttRegion, i.Region
	}
	if m.Event == Test {
		kind = "test"
	}
	if err := checkLevel(m.To); err != nil {
		return "", err
	}
	for _, level := range []string{facility, kind} {
		if err := proto.CheckID(level); err != nil && level != mqttRegion {
			return "", err
		}
	}
	if tenant != mqttRegion {
		if err := proto.CheckTenant(tenant); err != nil {
			return "", err
		}
	}
	return proto.MirrorTopic(tenant, facility, m.To+"/"+kind), nil
}
