package fleet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/proto"
)

// ErrNoFacility is returned for a facility that the region does not have.
var ErrNoFacility = errors.New("there is no such facility")

const (
	commandAgain = 2 * time.Second // until a command is repeated
	askTTL       = 30 * time.Second
)

// Command asks something of a facility's box and waits for its answer, at most
// until ttl has passed or ctx is done. The box does it once, however often the
// command is repeated on the way. An error means that it is not known whether
// the box has done it.
func (f *Fleet) Command(ctx context.Context, id, kind string, args map[string]string, ttl time.Duration) (proto.CommandAck, error) {
	ctx, cancel := context.WithTimeout(ctx, ttl)
	defer cancel()
	cmd, topic, err := f.newCommand(id, kind, args, ttl)
	if err != nil {
		return proto.CommandAck{}, err
	}
	payload, err := cmd.Encode()
	if err != nil {
		return proto.CommandAck{}, err
	}
	answer := make(chan proto.CommandAck, 1)
	f.mu.Lock()
	f.commands[cmd.ID] = answer
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.commands, cmd.ID)
	}()
	again := time.NewTicker(commandAgain)
	defer again.Stop()
	for {
		err := f.client.Publish(ctx, mqttclient.Message{Topic: topic, Payload: payload})
		select {
		case a := <-answer:
			return a, nil
		case <-again.C:
		case <-ctx.Done():
			return proto.CommandAck{}, fmt.Errorf("command %s to %s: no answer: %w", kind, id, errors.Join(ctx.Err(), err))
		}
	}
}

func (f *Fleet) newCommand(id, kind string, args map[string]string, ttl time.Duration) (proto.Command, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fac := f.facilities[id]
	if fac == nil {
		return proto.Command{}, "", ErrNoFacility
	}
	now := time.Now()
	cmd := proto.Command{
		Tenant: fac.tenant, Facility: id, Kind: kind, Args: args,
		IssuedMs: now.UnixMilli(), ExpiresMs: now.Add(ttl).UnixMilli(),
	}
	if _, err := rand.Read(cmd.ID[:]); err != nil {
		return proto.Command{}, "", fmt.Errorf("draw a command id: %w", err)
	}
	return cmd, proto.Topic(fac.tenant, id, proto.KindCommand), nil
}

// ask requests the status document and does not wait: the document itself is
// the answer, and the next heartbeat asks again.
func (f *Fleet) ask(ctx context.Context, id string) {
	cmd, topic, err := f.newCommand(id, proto.CommandStatus, nil, askTTL)
	if err != nil {
		return // removed meanwhile
	}
	payload, err := cmd.Encode()
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, publishTimeout)
		defer cancel()
		err = f.client.Publish(ctx, mqttclient.Message{Topic: topic, Payload: payload})
	}
	if err != nil {
		f.log.Debug("status document not asked for", "facility", id, "err", err)
	}
}
