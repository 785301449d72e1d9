package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/proto"
)

const (
	commandsWaiting  = 16 // more are dropped: the region repeats them
	commandsRemember = 256
	commandTimeout   = time.Minute
)

// ErrRefused is wrapped by a command's function that did not try.
var ErrRefused = errors.New("refused")

// CommandFunc runs one command and returns words for people. An error that
// wraps ErrRefused says that nothing was tried.
type CommandFunc func(ctx context.Context, args map[string]string) (text string, err error)

// commands runs what the region asks, each id once.
type commands struct {
	h    *Heartbeat
	work chan proto.Command

	mu    sync.Mutex
	funcs map[string]CommandFunc
	done  map[proto.CommandID]proto.CommandAck // zero result while it runs
	order []proto.CommandID                    // of done, oldest first
}

func (c *commands) init(h *Heartbeat) {
	c.h = h
	c.work = make(chan proto.Command, commandsWaiting)
	c.done = make(map[proto.CommandID]proto.CommandAck)
	c.funcs = map[string]CommandFunc{
		proto.CommandStatus: func(context.Context, map[string]string) (string, error) {
			h.SendStatus()
			return "the document follows", nil
		},
	}
}

// Handle sets what is done for commands of a kind. Call it before Run.
func (h *Heartbeat) Handle(kind string, fn CommandFunc) {
	h.commands.mu.Lock()
	defer h.commands.mu.Unlock()
	h.commands.funcs[kind] = fn
}

// receive takes a command from the broker. It must not wait.
func (c *commands) receive(m mqttclient.Received) {
	if m.Retained {
		return // commands are for those who are there when they are given
	}
	cmd, err := proto.DecodeCommand(m.Payload)
	if err != nil {
		c.h.log.Warn("command refused", "err", err)
		return
	}
	if cmd.Tenant != c.h.cfg.Tenant || cmd.Facility != c.h.cfg.Facility {
		c.h.log.Warn("command refused", "err", fmt.Errorf("it is for %s of %s", cmd.Facility, cmd.Tenant))
		return
	}
	select {
	case c.work <- cmd:
	default:
	}
}

func (c *commands) running(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case cmd := <-c.work:
			ack := c.once(ctx, cmd)
			payload, err := ack.Encode()
			if err == nil {
				err = c.h.publish(ctx, mqttclient.Message{Topic: c.h.topic(proto.KindAck), Payload: payload, QoS: 1})
			}
			if err != nil && ctx.Err() == nil {
				c.h.log.Debug("command's answer not sent", "err", err)
			}
		}
	}
}

// once runs a command unless it was run before, and returns its answer.
func (c *commands) once(ctx context.Context, cmd proto.Command) proto.CommandAck {
	c.mu.Lock()
	ack, seen := c.done[cmd.ID]
	fn := c.funcs[cmd.Kind]
	c.mu.Unlock()
	if seen {
		return ack
	}
	ack = proto.CommandAck{Tenant: cmd.Tenant, Facility: cmd.Facility, ID: cmd.ID, Result: proto.AckDone}
	switch {
	case clock() == proto.ClockSynced && cmd.Expired(time.Now()):
		ack.Result = proto.AckExpired
	case fn == nil:
		ack.Result, ack.Text = proto.AckRefused, fmt.Sprintf("this version does not know the command %q", cmd.Kind)
	default:
		ctx, cancel := context.WithTimeout(ctx, commandTimeout)
		defer cancel()
		text, err := fn(ctx, cmd.Args)
		ack.Text = text
		if err != nil {
			ack.Result, ack.Text = proto.AckFailed, err.Error()
			if errors.Is(err, ErrRefused) {
				ack.Result = proto.AckRefused
			}
		}
	}
	ack.WallMs = time.Now().UnixMilli()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done[cmd.ID] = ack
	c.order = append(c.order, cmd.ID)
	if len(c.order) > commandsRemember {
		delete(c.done, c.order[0])
		c.order = slices.Delete(c.order, 0, 1)
	}
	return ack
}
