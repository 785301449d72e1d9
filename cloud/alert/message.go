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

// message makes what a delivery says. All attempts at one say the same: what is
// acknowledged or over is in the messages that are about that, or in all of them
// when it is asked for as it is now.
func (a *Alerter) message(ctx context.Context, j job, asItIs bool) (channel.Message, error) {
	m := channel.Message{
		Delivery: j.ID, Event: j.Event, Kind: j.Channel, Settings: j.Settings, Contact: j.Contact,
		Incident: channel.Incident{
			Kind: j.Kind, Severity: j.Severity, Tenant: j.Tenant, Facility: j.Facility, Name: cmp.Or(j.Name, j.Facility), Region: a.c.Region,
			Summary: j.Summary, Since: j.Since, TimeZone: cmp.Or(j.Zone, "UTC"), Evidence: j.Evidence,
			Actions: actions[detect.Kind(j.Kind)],
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
		affect(i, parts, j.Of)
	}
	if j.Event == channel.Trigger && j.Audience == Customer && (j.Regional || j.Of != "") {
		i.Summary += " (many facilities of the region are affected; we are working on it)"
	}
	if j.Resolved != nil && (j.Event == channel.Resolve || asItIs) {
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
func affect(i *channel.Incident, parts []part, of string) {
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
	i.Tenant, i.Kind, i.Since, i.TimeZone = of, p.Kind, p.Since, cmp.Or(p.Zone, "UTC")
	i.Actions = actions[detect.Kind(p.Kind)]
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

// actions are what to do about a condition, in order.
var actions = map[detect.Kind][]string{
	detect.Offline: {
		"Check the internet at the facility: does anything else there reach it?",
		"Check that the box has power and its lights are on.",
		"Check the tunnel: the facility's firewall must let UDP out to the region.",
		"Call the facility, then its internet provider. Work there goes on without the internet.",
	},
	detect.TunnelDown: {
		"Check that the facility's firewall lets UDP out to the region.",
		"Restart the router at the facility; the box need not be restarted.",
	},
	detect.TelemetryDown: {
		"Check that the facility's firewall lets TCP 8883 out to the region.",
		"Data still flows: nobody at the facility need do anything.",
	},
	detect.Unstable: {
		"Ask the internet provider of the facility for losses on its line.",
		"Check cable and plug between the box and the router.",
	},
	detect.QueueFilling: {
		"Bring the facility's connection back before the queue is full.",
		"If that takes longer, free space on the box's disk.",
	},
	detect.DiskFilling: {
		"Free space on the box's disk, or put in a bigger one.",
	},
	detect.DatabaseDown: {
		"Look at the box's page: it says what the database's log says.",
		"Restart the box if its page does not answer.",
	},
	detect.NoProgress: {
		"Open the facility's page: it says which step stands still and why.",
	},
	detect.ClockOff: {
		"Check that the box reaches a time server.",
	},
	detect.Watchdog: {
		"Arm the box's hardware watchdog: until then it does not restart by itself when it hangs.",
	},
	detect.Certificate: {
		"Check that the box reaches the region: it renews its certificate by itself.",
		"Enrol the box anew if the certificate has run out.",
	},
	detect.ParkedRows: {
		"Open the list of parked changes: it says of each why it was refused and what helps.",
	},
	detect.Mismatch: {
		"Open the facility's comparison: it lists the rows that differ, and mends them on request.",
	},
	detect.Temperature: {
		"Check that air reaches the box and that nothing lies on it.",
	},
	detect.Blind: {
		"This is the region itself, not the facilities: check its broker, its database and its network.",
		"What the facilities are is not known until then; they are not reported as down.",
	},
	detect.Outage: {
		"Find what the facilities have in common: provider, city, tunnel port.",
		"Check the region's own network from outside.",
	},
	detect.Alerting: {
		"Open the page of the channels: it says what does not arrive.",
		"Until this is mended, look at the incidents' page yourself.",
	},
	detect.Drill: {
		"Nothing: this is the daily test of all channels.",
	},
}
