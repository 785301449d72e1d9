package alert

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
)

// message makes what a delivery says. All attempts at one say the same: who has
// acknowledged is in the messages that are about that, or in all of them when it is
// asked for as it is now.
func (a *Alerter) message(ctx context.Context, j job, asItIs bool) (channel.Message, error) {
	m := channel.Message{
		Delivery: j.ID, Event: j.Event, Kind: j.Channel, Settings: j.Settings, Contact: j.Contact, Again: j.Again,
		Incident: channel.Incident{
			Kind: j.Kind, Severity: j.Severity, Tenant: j.Tenant, Facility: j.Facility, Name: cmp.Or(j.Name, j.Facility), Region: a.c.Region,
			Summary: j.Summary, Since: j.Since, TimeZone: cmp.Or(j.Zone, "UTC"), Evidence: j.Evidence,
			Actions: channel.Actions(detect.Kind(j.Kind), j.Facility, a.c.Support),
		},
	}
	if j.Address != nil {
		m.To = *j.Address
	}
	i := &m.Incident
	if j.Incident == nil {
		i.Kind, i.Severity = "test", string(detect.Info)
		i.Summary = "This is a test. Nothing is wrong."
		i.DedupKey = dedupKey(a.c.Region, "test/"+j.ID)
	} else {
		i.ID, i.DedupKey = *j.Incident, dedupKey(a.c.Region, strconv.FormatInt(*j.Incident, 10))
		if a.c.Links.Incident != nil {
			i.URL = a.c.Links.Incident(i.ID)
		}
	}
	if j.Incident != nil && j.Facility == "" {
		parts, err := a.store.parts(ctx, *j.Incident, j.Of)
		if err != nil {
			return m, err
		}
		affect(i, parts, j.Of, a.c.Support)
	}
	if j.Event == channel.Trigger && j.Audience == Customer && (j.Regional || j.Of != "") {
		i.Summary += " (many facilities of the region are affected; we are working on it)"
	}
	if j.Resolved != nil { // also of a trigger: no provider may open again what is over
		i.Resolved = *j.Resolved
	}
	if j.Event == channel.Update || asItIs {
		i.AckedBy = j.AckedBy
	}
	if (j.Event == channel.Trigger || j.Event == channel.Test) && a.c.Links.Ack != nil {
		i.AckURL = a.c.Links.Ack(j.ID)
	}
	if j.Offer != "" && j.Event == channel.Trigger && a.c.Links.Offer != nil {
		i.Offer, i.OfferURL = a.c.Links.Offer(j.ID, j.Offer)
	}
	return m, nil
}

// affect writes the facilities of a region's incident into what is told of it.
// Operations get the list; a customer hears of his own facilities, and of a
// single one as if there were no others.
func affect(i *channel.Incident, parts []part, of, support string) {
	open := slices.DeleteFunc(slices.Clone(parts), func(p part) bool { return p.Over })
	if len(open) == 0 { // they are back: the message is about those that were
		open = parts
	}
	for _, p := range open {
		i.Affected = append(i.Affected, p.Name)
	}
	if of == "" || len(open) == 0 {
		return
	}
	p := open[0]
	i.Of = i.Kind
	i.Tenant, i.Kind, i.Since, i.TimeZone = of, p.Kind, p.Since, cmp.Or(p.Zone, "UTC")
	i.Actions = channel.Actions(detect.Kind(p.Kind), p.Facility, support)
	if len(open) == 1 {
		i.Facility, i.Name, i.Summary, i.Evidence, i.Affected = p.Facility, p.Name, p.Summary, p.Evidence, nil
		return
	}
	i.Name = fmt.Sprintf("%d facilities", len(open))
	i.Summary = fmt.Sprintf("%d of your facilities are affected", len(open))
	i.Evidence = nil
}

// dedupKey is by what a provider knows all messages of one incident; at most 255 bytes.
func dedupKey(region, id string) string {
	return fmt.Sprintf("holdfast/%.100s/%s", region, id)
}
