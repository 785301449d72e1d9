package channel_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/test/peers/faults"
	"github.com/agogsaas/holdfast/test/peers/pagerduty"
)

const (
	pdKey   = "R0ABCDEFGHIJKLMNOPQRSTUVWXYZ0123"
	pdOther = "R1ABCDEFGHIJKLMNOPQRSTUVWXYZ0123"
)

func newPagerDuty(t *testing.T, c *clock) (*pagerduty.Peer, *channel.PagerDutySender) {
	t.Helper()
	o := pagerduty.Options{Keys: []string{pdKey, pdOther}}
	if c != nil {
		o.Now = c.Now
	}
	p := pagerduty.New(o)
	base := serve(t, func(string) http.Handler { return p })
	return p, channel.NewPagerDuty(channel.PagerDutyConfig{BaseURL: base}, texts(t))
}

func TestPagerDutyAlertGoesThroughItsStates(t *testing.T) {
	t.Parallel()
	p, s := newPagerDuty(t, nil)
	for _, step := range []struct {
		event channel.Event
		want  pagerduty.State
	}{{channel.Trigger, pagerduty.Triggered}, {channel.Trigger, pagerduty.Triggered}, {channel.Update, pagerduty.Acknowledged}, {channel.Resolve, pagerduty.Resolved}} {
		mustSend(t, s, message(channel.PagerDuty, step.event, pdKey), channel.Accepted)
		if a := p.Alerts(); len(a) != 1 || a[0].State != step.want || a[0].Pages != 1 {
			t.Fatalf("after %s: %+v", step.event, a)
		}
	}
	a := p.Alerts()[0]
	if !strings.Contains(a.Summary, "Los Angeles") || a.Severity != "critical" || a.DedupKey != "holdfast/us-east/17" {
		t.Errorf("%+v", a)
	}
	if p.Dropped() != 0 || len(p.Open()) != 0 {
		t.Errorf("dropped %d, open %v", p.Dropped(), p.Open())
	}
}

func TestAReminderKeepsThePagerDutyAlertOpen(t *testing.T) {
	t.Parallel()
	p, s := newPagerDuty(t, nil)
	mustSend(t, s, message(channel.PagerDuty, channel.Trigger, pdKey), channel.Accepted)
	m := message(channel.PagerDuty, channel.Update, pdKey)
	m.Incident.AckedBy = ""
	mustSend(t, s, m, channel.Accepted)
	if a := p.Alerts()[0]; a.State != pagerduty.Triggered || a.Triggers != 2 {
		t.Errorf("%+v", a)
	}
}

func TestALateTriggerDoesNotOpenWhatIsOver(t *testing.T) {
	t.Parallel()
	p, s := newPagerDuty(t, nil)
	mustSend(t, s, message(channel.PagerDuty, channel.Trigger, pdKey), channel.Accepted)
	mustSend(t, s, message(channel.PagerDuty, channel.Resolve, pdKey), channel.Accepted)
	m := message(channel.PagerDuty, channel.Trigger, pdKey) // it was held up
	m.Incident.Resolved = time.Now()
	mustSend(t, s, m, channel.Accepted)
	if open := p.Open(); len(open) != 0 {
		t.Errorf("orphans: %+v", open)
	}
}

func TestAPagerDutyTestLeavesNothingOpen(t *testing.T) {
	t.Parallel()
	p, s := newPagerDuty(t, nil)
	p.Next(faults.HTTP{}, faults.HTTP{Status: 500})
	_, err := s.Send(soon(t), message(channel.PagerDuty, channel.Test, pdKey))
	wantError(t, err, temporary, pdKey)
	mustSend(t, s, message(channel.PagerDuty, channel.Test, pdKey), channel.Accepted)
	if open := p.Open(); len(open) != 0 || len(p.Alerts()) != 1 || p.Alerts()[0].Severity != "info" {
		t.Errorf("%+v", p.Alerts())
	}
}

// The stand-in must be as strict as PagerDuty, or the tests above say nothing.
func TestAnotherKeyResolvesNothing(t *testing.T) {
	t.Parallel()
	p, s := newPagerDuty(t, nil)
	mustSend(t, s, message(channel.PagerDuty, channel.Trigger, pdKey), channel.Accepted)
	mustSend(t, s, message(channel.PagerDuty, channel.Resolve, pdOther), channel.Accepted)
	if len(p.Open()) != 1 || p.Dropped() != 1 {
		t.Errorf("open %v, dropped %d", p.Open(), p.Dropped())
	}
}

func TestPagerDutyTakesMoreThanItsLimit(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Now()}
	p, s := newPagerDuty(t, c)
	for range 120 {
		mustSend(t, s, message(channel.PagerDuty, channel.Trigger, pdKey), channel.Accepted)
	}
	_, err := s.Send(soon(t), message(channel.PagerDuty, channel.Resolve, pdKey))
	wantError(t, err, later, pdKey)
	c.pass(time.Minute)
	mustSend(t, s, message(channel.PagerDuty, channel.Resolve, pdKey), channel.Accepted)
	if len(p.Open()) != 0 {
		t.Error("it was not resolved")
	}
}

func TestPagerDutyErrorsAreClassified(t *testing.T) {
	t.Parallel()
	p, s := newPagerDuty(t, nil)
	for _, tc := range []struct {
		fault faults.HTTP
		want  outcome
	}{
		{faults.HTTP{Status: 500}, temporary},
		{faults.HTTP{Status: 503, RetryAfter: 3 * time.Second}, later},
		{faults.HTTP{Status: 400, Body: `{"status":"invalid event","message":"Event object is invalid","errors":["Invalid routing key ` + pdKey + `"]}`}, permanent},
		{faults.HTTP{Status: 403}, permanent},
		{faults.HTTP{Cut: true, Took: true}, temporary},
	} {
		p.Next(tc.fault)
		_, err := s.Send(soon(t), message(channel.PagerDuty, channel.Trigger, pdKey))
		wantError(t, err, tc.want, pdKey)
	}
	// What broke after it took effect is the same alert when it is sent again.
	mustSend(t, s, message(channel.PagerDuty, channel.Trigger, pdKey), channel.Accepted)
	if a := p.Alerts(); len(a) != 1 || a[0].Pages != 1 {
		t.Errorf("%+v", a)
	}
}

func TestPagerDutyEventFitsHoweverMuchThereIsToSay(t *testing.T) {
	t.Parallel()
	p, s := newPagerDuty(t, nil)
	m := message(channel.PagerDuty, channel.Trigger, pdKey)
	m.Incident.Summary = strings.Repeat("long ", 1000)
	for range 1000 {
		m.Incident.Evidence = append(m.Incident.Evidence, strings.Repeat("evidence ", 200))
	}
	mustSend(t, s, m, channel.Accepted)
	if len(p.Open()) != 1 {
		t.Error("it did not arrive")
	}
}

func TestPagerDutyKeyIsCheckedByItsForm(t *testing.T) {
	t.Parallel()
	_, s := newPagerDuty(t, nil)
	if err := s.Check(soon(t), pdKey, nil); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "R0ABC", pdKey + "0", strings.Replace(pdKey, "A", "-", 1)} {
		wantError(t, s.Check(soon(t), bad, nil), permanent, bad)
		_, err := s.Send(soon(t), message(channel.PagerDuty, channel.Trigger, bad))
		wantError(t, err, permanent, bad)
	}
}

func TestWhatIsToldAnewCallsPeopleAgainAtPagerDuty(t *testing.T) {
	t.Parallel()
	p, s := newPagerDuty(t, nil)
	for _, event := range []channel.Event{channel.Trigger, channel.Update} { // somebody has it, and forgets it
		mustSend(t, s, message(channel.PagerDuty, event, pdKey), channel.Accepted)
	}
	again := message(channel.PagerDuty, channel.Trigger, pdKey)
	again.Again = true
	mustSend(t, s, again, channel.Accepted)
	if open := p.Open(); len(open) != 1 || open[0].State != pagerduty.Triggered || len(p.Alerts()) != 2 {
		t.Errorf("%+v", p.Alerts())
	}
	mustSend(t, s, message(channel.PagerDuty, channel.Resolve, pdKey), channel.Accepted)
	if open := p.Open(); len(open) != 0 {
		t.Errorf("orphans: %+v", open)
	}
}
