package alert

import (
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/cloud/channel"
)

// prices lets the deliverers ask for what is due, and returns how often the
// provider has been asked so far.
func (r *rig) prices() int {
	r.t.Helper()
	for _, k := range channels {
		var g errgroup.Group
		if err := r.a.deliverers[k].prices(r.t.Context(), &g); err != nil {
			r.t.Fatal(err)
		}
		_ = g.Wait()
	}
	r.peer.mu.Lock()
	defer r.peer.mu.Unlock()
	return r.peer.asked
}

func (p *peer) bill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.billed = true
}

func newChargedRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, "la")
	r.c.Senders[channel.SMS] = charged{httpSender{r.peer.URL, channel.Accepted}}
	r.start()
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.SMS, channel.Email)}})
	r.holds(r.offline("la"))
	r.turn()
	return r
}

func TestWhatAMessageCostIsAskedForUntilItIsKnown(t *testing.T) {
	t.Parallel()
	r := newChargedRig(t)
	if n := r.prices(); n != 0 {
		t.Fatalf("asked %d times at once", n)
	}
	if d := r.incident("la"); d.Unpriced != 1 || d.Cost != 7500 { // the mail's, which the peer tells at once
		t.Errorf("before: %+v", d.Incident)
	}
	r.pass(70 * time.Second)
	if n := r.prices(); n != 1 {
		t.Fatalf("asked %d times after a minute", n)
	}
	if d := r.delivery("anna/sms", channel.Trigger); d.Cost != 0 || d.CostUnit != "" {
		t.Errorf("a price that is not known is %d %s", d.Cost, d.CostUnit)
	}
	r.peer.bill()
	r.pass(130 * time.Second)
	if n := r.prices(); n != 2 {
		t.Fatalf("asked %d times after three minutes", n)
	}
	if d := r.delivery("anna/sms", channel.Trigger); d.Cost != 7500 || d.CostUnit != "USD" || d.State != "accepted" {
		t.Errorf("%+v", d)
	}
	if d := r.incident("la"); d.Unpriced != 0 || d.Cost != 15000 || d.CostUnit != "USD" {
		t.Errorf("after: %+v", d.Incident)
	}
	r.pass(time.Hour)
	if n := r.prices(); n != 2 {
		t.Errorf("asked %d times for what is known", n)
	}
}

func TestAPriceThatNeverComesIsGivenUp(t *testing.T) {
	t.Parallel()
	r := newChargedRig(t)
	n := 0
	for range 60 {
		r.pass(time.Minute)
		n = r.prices()
	}
	if want := len(r.a.timing.prices); n != want {
		t.Errorf("asked %d times, want %d", n, want)
	}
	if d := r.incident("la"); d.Unpriced != 1 {
		t.Errorf("%+v", d.Incident)
	}
}

// The provider is left alone while it fails, and is asked when it works again.
func TestNoPriceIsAskedForWhileTheProviderFails(t *testing.T) {
	t.Parallel()
	r := newChargedRig(t)
	b := &r.a.deliverers[channel.SMS].lane("").breaker
	for m := range breakAfter {
		b.failed(r.a.moment(), int64(m), "it is away")
	}
	r.pass(70 * time.Second)
	if n := r.prices(); n != 0 {
		t.Errorf("asked %d times", n)
	}
	b.worked()
	r.pass(pricesEvery)
	if n := r.prices(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}
