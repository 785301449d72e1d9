package apitest

import (
	"context"
	"fmt"
	"sync"

	"github.com/agogsaas/holdfast/cloud/channel"
)

// Provider stands for all providers of messages.
type Provider struct {
	mu      sync.Mutex
	problem error
	sent    []channel.Message
}

// Refuse is what is wrong with every address from now on, nil for nothing.
func (p *Provider) Refuse(err error) { p.mu.Lock(); p.problem = channel.Permanent(err); p.mu.Unlock() }

// Sent is what the providers took, oldest first.
func (p *Provider) Sent() []channel.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]channel.Message{}, p.sent...)
}

// Send implements channel.Sender.
func (p *Provider) Send(_ context.Context, m channel.Message) (channel.Result, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.problem != nil {
		return channel.Result{}, channel.Permanent(p.problem)
	}
	p.sent = append(p.sent, m)
	return channel.Result{Provider: "test", ProviderID: fmt.Sprintf("m%d", len(p.sent)), State: channel.Accepted}, nil
}

// Check implements channel.Sender.
func (p *Provider) Check(context.Context, string, map[string]string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problem
}

// senders is every channel but MQTT, which the region under test does not have.
func (p *Provider) senders() map[channel.Kind]channel.Sender {
	out := map[channel.Kind]channel.Sender{}
	for _, k := range []channel.Kind{channel.SMS, channel.Voice, channel.Email, channel.Teams, channel.Slack, channel.PagerDuty, channel.Webhook} {
		out[k] = p
	}
	return out
}
