package alert

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/cloud/channel"
)

// hooks is a channel whose messages go where their addresses say, as webhooks do.
type hooks struct{}

func (hooks) Send(ctx context.Context, m channel.Message) (channel.Result, error) {
	return httpSender{m.To, channel.Delivered}.Send(ctx, m)
}

func (hooks) Check(context.Context, string, map[string]string) error { return nil }

// hook gives somebody of a tenant a webhook.
func (r *rig) hook(tenant, name, url string) (contact, method int64) {
	r.t.Helper()
	contact = r.contact(tenant, name, channel.Webhook)
	err := r.pool.QueryRow(r.t.Context(), `UPDATE holdfast.contact_method SET address = $2 WHERE contact = $1 RETURNING id`, contact, url).Scan(&method)
	if err != nil {
		r.t.Fatal(err)
	}
	return contact, method
}

// rounds begins to send all there is room for.
func (r *rig) rounds(k channel.Kind, g *errgroup.Group) {
	r.t.Helper()
	for more := true; more; {
		var err error
		if more, err = r.a.deliverers[k].round(r.t.Context(), g); err != nil {
			r.t.Fatal(err)
		}
	}
}

// One customer's server takes connections and never answers.
func TestAHostThatHangsHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.c.Senders[channel.Webhook] = hooks{}
	r.start()
	sick := newPeer(t)
	sick.says(func(taken, int) int { return hang })
	var people []int64
	for i := range 12 {
		contact, _ := r.hook("foo", fmt.Sprintf("sick%02d", i), fmt.Sprintf("%s/%d", sick.URL, i))
		people = append(people, contact)
	}
	r.policy(Customer, step{Contacts: people})
	r.holds(r.offline("la"))
	r.look()
	var g errgroup.Group
	defer func() { sick.CloseClientConnections(); _ = g.Wait() }()
	r.rounds(channel.Webhook, &g)
	eventually(t, "the host that hangs has what it gets at once", func() bool { return len(sick.got(channel.Trigger)) >= hostSlots })

	// Another's is due, less urgent than what waits.
	_, well := r.hook("bar", "well", r.peer.URL)
	if _, err := r.a.Test(t.Context(), well, "omar"); err != nil {
		t.Fatal(err)
	}
	r.rounds(channel.Webhook, &g)
	eventually(t, "the other's arrives", func() bool { return len(r.peer.got(channel.Test)) == 1 })
	if n := len(sick.got(channel.Trigger)); n != hostSlots {
		t.Errorf("%d are on their way to the host that hangs, want %d", n, hostSlots)
	}
}

// A host that fails is left alone, and nobody else's messages are held for it.
func TestAHostThatFailsIsLeftAloneByItself(t *testing.T) {
	t.Parallel()
	r := newRig(t, "la")
	r.c.Senders[channel.Webhook] = hooks{}
	r.start()
	sick := newPeer(t)
	sick.says(func(taken, int) int { return 503 })
	var people []int64
	for i := range 12 {
		contact, _ := r.hook("foo", fmt.Sprintf("sick%02d", i), fmt.Sprintf("%s/%d", sick.URL, i))
		people = append(people, contact)
	}
	for i := range 12 {
		contact, _ := r.hook("foo", fmt.Sprintf("well%02d", i), fmt.Sprintf("%s/%d", r.peer.URL, i))
		people = append(people, contact)
	}
	r.policy(Customer, step{Contacts: people})
	r.holds(r.offline("la"))
	r.turn()
	r.deliver()
	if n := len(r.peer.got(channel.Trigger)); n != 12 {
		t.Errorf("%d came where all is well, want 12", n)
	}
	if n := len(sick.took); n != 2*hostSlots {
		t.Errorf("the host that fails was asked %d times, want %d", n, 2*hostSlots)
	}
	host := strings.TrimPrefix(sick.URL, "http://")
	if n := r.count(`SELECT count(*) FROM holdfast.delivery WHERE state = 'held' AND held_reason LIKE '%because ' || $1 || ' fails: %'`, host); n < 12-2*hostSlots { // and those whose turn has come again
		t.Errorf("%d are held, want at least %d", n, 12-2*hostSlots)
	}
	all, err := r.a.ChannelStates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.Broken || (s.Problem != "") != (s.Channel == "webhook") || s.Problem != "" && !strings.HasPrefix(s.Problem, host+" fails: ") {
			t.Errorf("%+v", s)
		}
	}
	sick.says(nil)
	for range 3 {
		r.pass(breakMax)
		r.deliver()
	}
	if n := len(sick.got(channel.Trigger)); n != 12 {
		t.Errorf("%d came when it answers again, want 12", n)
	}
}
