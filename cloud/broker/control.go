package broker

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/agogsaas/holdfast/internal/mqttclient"
)

const (
	controlTopic    = "$CONTROL/dynamic-security/v1"
	controlResponse = controlTopic + "/response"
	// controlBatch is how many boxes are told to the broker at once; the
	// message must stay below the broker's limit of packetMaxBytes.
	controlBatch = 20
)

// control changes the rules of a running broker.
type control struct {
	client *mqttclient.Client
	log    *slog.Logger

	// changing is held while the broker's list and known are changed.
	changing sync.Mutex
	known    map[string]Device // boxes that the broker knows, by ID
	count    atomic.Int64      // len(known), for those who must not wait

	mu      sync.Mutex
	waiting map[string]chan reply // by correlation
}

type reply struct {
	Command     string `json:"command"`
	Error       string `json:"error"`
	Correlation string `json:"correlationData"`
}

// newControl prepares the connection. Connected is called after each connect.
func newControl(url, account, password string, log *slog.Logger, connected func(context.Context) error) (*control, error) {
	c := &control{log: log, known: make(map[string]Device), waiting: make(map[string]chan reply)}
	var err error
	c.client, err = mqttclient.New(mqttclient.Config{
		URL: url, Username: account, ClientID: account + "-" + rand.Text()[:8],
		Password:      func() (string, error) { return password, nil },
		WaitMin:       waitAfterStart,
		WaitMax:       10 * waitAfterStart,
		Subscriptions: []mqttclient.Subscription{{Filter: controlResponse, QoS: 1, Handle: c.answer}},
		Connected: func(ctx context.Context, _ uint64) {
			if err := connected(ctx); err != nil && ctx.Err() == nil {
				log.Warn("broker's list of boxes is stale", "err", err)
			}
		},
		Log: slog.New(slog.DiscardHandler), // the watch over the process says enough
	})
	return c, err
}

func (c *control) run(ctx context.Context) {
	_ = c.client.Run(ctx) // only ever ctx's error
}

func (c *control) connected() bool { return c.client.State().Connected }

// started says which boxes a broker that is about to start was told of.
func (c *control) started(devices []Device) {
	c.changing.Lock()
	defer c.unlock()
	c.known = byID(devices)
}

func (c *control) unlock() {
	c.count.Store(int64(len(c.known)))
	c.changing.Unlock()
}

func (c *control) boxes() int64 { return c.count.Load() }

func byID(devices []Device) map[string]Device {
	m := make(map[string]Device, len(devices))
	for _, d := range devices {
		m[d.ID()] = d
	}
	return m
}

func (c *control) allow(ctx context.Context, d Device) error {
	c.changing.Lock()
	defer c.unlock()
	if _, ok := c.known[d.ID()]; ok {
		return nil
	}
	if err := c.do(ctx, creation(d)); err != nil {
		return err
	}
	c.known[d.ID()] = d
	return nil
}

func (c *control) revoke(ctx context.Context, d Device) error {
	c.changing.Lock()
	defer c.unlock()
	if err := c.do(ctx, deletion(d)); err != nil {
		return err
	}
	delete(c.known, d.ID())
	return nil
}

// resync tells the broker the difference between want and what it knows.
func (c *control) resync(ctx context.Context, want []Device) error {
	c.changing.Lock()
	defer c.unlock()
	wanted := byID(want)
	var gone, fresh []Device
	for id, d := range c.known {
		if _, ok := wanted[id]; !ok {
			gone = append(gone, d)
		}
	}
	for id, d := range wanted {
		if _, ok := c.known[id]; !ok {
			fresh = append(fresh, d)
		}
	}
	for len(gone) > 0 {
		n := min(controlBatch, len(gone))
		if err := c.do(ctx, deletion(gone[:n]...)); err != nil {
			return err
		}
		for _, d := range gone[:n] {
			delete(c.known, d.ID())
		}
		gone = gone[n:]
	}
	for len(fresh) > 0 {
		n := min(controlBatch, len(fresh))
		if err := c.do(ctx, creation(fresh[:n]...)); err != nil {
			return err
		}
		for _, d := range fresh[:n] {
			c.known[d.ID()] = d
		}
		fresh = fresh[n:]
	}
	return nil
}

type command map[string]any

func creation(devices ...Device) (cmds []command) {
	for _, d := range devices {
		role := deviceRole(d)
		cmds = append(cmds,
			command{"command": "createRole", "rolename": role.Name, "acls": role.ACLs},
			command{"command": "createClient", "username": d.ID(), "roles": deviceClient(d).Roles})
	}
	return cmds
}

func deletion(devices ...Device) (cmds []command) {
	for _, d := range devices {
		// Deleting the client also ends its connections.
		cmds = append(cmds,
			command{"command": "deleteClient", "username": d.ID()},
			command{"command": "deleteRole", "rolename": d.ID()})
	}
	return cmds
}

// do sends commands and waits for all answers. What exists already, or is
// already gone, is no error.
func (c *control) do(ctx context.Context, cmds []command) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	answers := make(chan reply, len(cmds))
	c.mu.Lock()
	for _, cmd := range cmds {
		key := rand.Text()
		cmd["correlationData"] = key
		c.waiting[key] = answers
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, cmd := range cmds {
			delete(c.waiting, cmd["correlationData"].(string))
		}
	}()
	payload, err := json.Marshal(map[string]any{"commands": cmds})
	if err != nil {
		return fmt.Errorf("write commands: %w", err)
	}
	if err := c.client.Publish(ctx, mqttclient.Message{Topic: controlTopic, Payload: payload, QoS: 1}); err != nil {
		return err
	}
	var errs []error
	for range cmds {
		select {
		case r := <-answers:
			if r.Error != "" && !harmless(r) {
				errs = append(errs, fmt.Errorf("%s: the broker says %q", r.Command, r.Error))
			}
		case <-ctx.Done():
			return fmt.Errorf("wait for the broker's answer: %w", ctx.Err())
		}
	}
	return errors.Join(errs...)
}

func harmless(r reply) bool {
	return strings.HasPrefix(r.Command, "create") && strings.Contains(r.Error, "already exists") ||
		strings.HasPrefix(r.Command, "delete") && strings.Contains(r.Error, "not found")
}

// answer hands the broker's answers to who waits for them.
func (c *control) answer(m mqttclient.Received) {
	var body struct {
		Responses []reply `json:"responses"`
	}
	if err := json.Unmarshal(m.Payload, &body); err != nil {
		c.log.Warn("broker's answer is unreadable", "err", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range body.Responses {
		if ch, ok := c.waiting[r.Correlation]; ok {
			delete(c.waiting, r.Correlation)
			ch <- r // has room for one answer to each command
		}
	}
}
