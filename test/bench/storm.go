package main

import (
	"context"
	"fmt"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
)

const (
	stormOf     = 1000
	stormWithin = 90 * time.Second
)

// benchStorm has a thousand facilities of one region fall silent in one moment.
// Their connections are reset, so that all of them are known at the same time as
// well: by their deadlines they would be known one after the other.
func benchStorm(ctx context.Context, l *lab) ([]Figure, error) {
	g, err := l.gather(ctx, stormOf, standardEvery, nil)
	if err != nil {
		return nil, err
	}
	defer g.stop()
	if err := pause(ctx, 4*standardEvery); err != nil {
		return nil, err
	}
	wrong, _, err := g.pages(ctx)
	if err != nil {
		return nil, err
	}
	if wrong > 0 {
		return nil, fmt.Errorf("%d facilities were taken for offline before anything happened", wrong)
	}
	silent := make([]int, stormOf)
	for i := range silent {
		silent[i] = i
	}
	at := time.Now()
	g.keepers.silence(true, silent...)
	for _, m := range g.crowd.members {
		m.die()
	}
	first, all, err := g.committed(ctx, at)
	if err != nil {
		return nil, err
	}
	var handed time.Time
	err = l.until(ctx, stormWithin, func(ctx context.Context) (bool, error) {
		handed = time.Now()
		for _, t := range g.told {
			if len(g.e.between(channel.Webhook, t.noted[channel.Webhook], at, handed)) == 0 {
				return false, pause(ctx, 50*time.Millisecond)
			}
		}
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("not all contacts were told: %w", err)
	}
	operations, double, err := g.storm(ctx, at)
	if err != nil {
		return nil, err
	}
	met := operations == 1 && double == 0
	f := atMost(2, Figure{
		ID: "storm_commit_s", What: fmt.Sprintf("%d facilities of a region silent at once: the first of them known → the messages to all their people committed", stormOf), Measured: all.Sub(first).Seconds(), Unit: "s",
		Peer: fmt.Sprintf("real MQTT connections with heartbeats each %s, real tunnels, a tenant, a contact and a policy of its own for each facility; operations got %d messages of what began it (1 is right), %d contacts more than one; "+
			"connections reset and tunnels silent: committed %.3g s after that, and the last contact's request at its provider after %.3g s; load average %s",
			standardEvery, operations, double, all.Sub(at).Seconds(), handed.Sub(at).Seconds(), loadAverage()),
	})
	f.Met = f.Met && met
	return []Figure{f}, nil
}

// committed waits until there is a message to each contact, and returns when the
// first incident was known and when the last message could be seen.
func (g *gathering) committed(ctx context.Context, since time.Time) (first, all time.Time, err error) {
	err = g.l.until(ctx, stormWithin, func(ctx context.Context) (bool, error) {
		var n int
		all = time.Now()
		if err := g.l.region.QueryRow(ctx, `SELECT count(DISTINCT method) FROM holdfast.delivery WHERE audience = 'customer' AND event = 'trigger' AND created_at > $1`, since).Scan(&n); err != nil {
			return false, fmt.Errorf("count the messages: %w", err)
		}
		if n < len(g.told) {
			return false, pause(ctx, 20*time.Millisecond)
		}
		return true, nil
	})
	if err != nil {
		return first, all, fmt.Errorf("not all messages are there: %w", err)
	}
	err = g.l.region.QueryRow(ctx, `SELECT min(opened_at) FROM holdfast.incident WHERE opened_at > $1 AND kind IN ('offline', 'outage')`, since).Scan(&first)
	return first, all, err
}

// storm returns how many messages operations got at first, and how many contacts
// got more than one.
func (g *gathering) storm(ctx context.Context, since time.Time) (operations, double int, err error) {
	err = g.l.region.QueryRow(ctx, `
		SELECT count(*) FILTER (WHERE audience = 'operations' AND step = 0 AND event = 'trigger'),
		       (SELECT count(*) FROM (SELECT method FROM holdfast.delivery WHERE audience = 'customer' AND event = 'trigger' AND created_at > $1 GROUP BY method HAVING count(*) > 1) m)
		FROM holdfast.delivery WHERE created_at > $1`, since).Scan(&operations, &double)
	if err != nil {
		return 0, 0, fmt.Errorf("count the messages: %w", err)
	}
	return operations, double, nil
}
