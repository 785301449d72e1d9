package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/test/rig/site"
)

const (
	// realBoxes are whole agents with their databases; all others are simulated.
	realBoxes = 2
	// cutEvery is the mean time between two cuts of different facilities. Faster, and
	// it would be one outage, which is told otherwise.
	cutEvery = 1500 * time.Millisecond
	// toldWithin is how long a cut's messages are waited for.
	toldWithin = time.Minute
)

// victim is a box that can be cut off.
type victim interface {
	cut() error     // the cable is pulled: packets vanish
	die() error     // its process is killed: connections are reset
	restore() error // all is as before
}

// agent is a whole box.
type agent struct {
	*site.Edge
	ctx context.Context //nolint:containedctx // of the benchmark
}

func (a agent) cut() error { a.Cut(); return nil }
func (a agent) die() error { return a.Agent.Kill9() }
func (a agent) restore() error {
	a.Restore()
	if a.Agent.Running() {
		return nil
	}
	return a.Start(a.ctx)
}

// cutOff is one facility's end, and how long it took until its people were told.
type cutOff struct {
	told
	victim victim
	real   bool

	known, told1, toldAll float64 // seconds; known and told of the first and of the last channel
	slowest               channel.Kind
}

// benchTold cuts each facility off twice: once by its cable, once by its death.
func benchTold(ctx context.Context, l *lab) (figures []Figure, err error) {
	e, boxes, list, err := l.startTold(ctx, l.cuts, everyChannel, nil)
	if err != nil {
		return nil, err
	}
	defer e.stop()
	ctx, cancel := context.WithCancel(ctx)
	all, wait, err := l.wire(ctx, boxes)
	if wait != nil {
		defer wait()
	}
	defer cancel()
	if err != nil {
		return nil, err
	}
	var cuts []*cutOff
	for i, t := range list {
		cuts = append(cuts, &cutOff{told: t, victim: all[i]})
	}
	more, err := l.addAgents(ctx, e, len(list))
	if err != nil {
		return nil, err
	}
	cuts = append(cuts, more...)
	if err := l.online(ctx, len(cuts), 3*time.Minute); err != nil {
		return nil, fmt.Errorf("not all facilities are online: %w", err)
	}
	silent, err := l.cutAll(ctx, e, cuts, victim.cut)
	if err != nil {
		return nil, err
	}
	if err := l.calm(ctx, 5*time.Minute); err != nil {
		return nil, fmt.Errorf("not all incidents are over: %w", err)
	}
	visible, err := l.cutAll(ctx, e, cuts, victim.die)
	if err != nil {
		return nil, err
	}
	const how = "all facilities have a tenant, a contact with the eight channels (SMS, voice, email, Slack, Teams, PagerDuty, webhook, MQTT) and a policy of their own; the providers are the stand-ins of test/peers over real HTTP, a real SMTP server and a reader of the broker. "
	return []Figure{
		atMost(15, silent.figure("tell_p99_s", "a facility's cable pulled (packets vanish) → all channels' requests received by the providers, 99 of 100 cuts",
			how+fmt.Sprintf("%d boxes are simulated, with the agent's own heartbeat over real MQTT (mutual TLS) and a real tunnel that answers probes, through a relay each, without database and sync stream; %d are whole agents. Each is cut once, at random moments, %s apart on average", len(list), realBoxes, l.spacing(len(cuts))))),
		atMost(3, visible.figure("tell_visible_p99_s", "a box dies visibly (connections reset) → all channels' requests received by the providers, 99 of 100 deaths",
			"the same boxes and providers: connections of the simulated boxes are reset and nothing passes afterwards, whole agents are killed with SIGKILL")),
	}, nil
}

// addAgents starts whole boxes.
func (l *lab) addAgents(ctx context.Context, e *ears, from int) (cuts []*cutOff, err error) {
	var facilities [][2]string
	for i := range realBoxes {
		id := fmt.Sprintf("whole-%d", i)
		edge, err := l.site.AddEdge(ctx, site.EdgeOptions{ID: id, Tenant: id})
		if err != nil {
			return nil, err
		}
		cuts = append(cuts, &cutOff{victim: agent{edge, ctx}, real: true})
		facilities = append(facilities, [2]string{id, id})
	}
	list, err := l.tellFrom(ctx, e, from, facilities, everyChannel)
	for i, t := range list {
		cuts[i].told = t
	}
	return cuts, err
}

// spacing is the mean time between two cuts: so long that not a fifth of those who
// are there is silent at once, and five at least.
func (l *lab) spacing(n int) time.Duration {
	const outageWindow = 25 * time.Second
	return max(cutEvery, outageWindow/time.Duration(max(3, n/10)))
}

type results struct{ cuts []*cutOff }

func (r results) of(get func(*cutOff) float64) (list []float64) {
	for _, c := range r.cuts {
		list = append(list, get(c))
	}
	return list
}

func (r results) figure(id, what, how string) Figure {
	all, known := r.of(func(c *cutOff) float64 { return c.toldAll }), r.of(func(c *cutOff) float64 { return c.known })
	first := r.of(func(c *cutOff) float64 { return c.told1 })
	var whole []float64
	slowest := make(map[channel.Kind]int)
	for _, c := range r.cuts {
		slowest[c.slowest]++
		if c.real {
			whole = append(whole, c.toldAll)
		}
	}
	var last []string
	for _, k := range everyChannel {
		if n := slowest[k]; n > 0 {
			last = append(last, fmt.Sprintf("%s %d", k, n))
		}
	}
	return Figure{
		ID: id, What: what, Measured: percentile(all, 99), Unit: "s",
		Peer: fmt.Sprintf("%d of them; half within %.3g s, all within %.3g s, those of the whole agents %s s. Known after %.3g s (half) and %.3g s (99 of 100), the first channel's after %.3g s and %.3g s; the last channel was %s. %s; load average %s",
			len(all), percentile(all, 50), percentile(all, 100), list(whole), percentile(known, 50), percentile(known, 99), percentile(first, 50), percentile(first, 99), strings.Join(last, ", "), how, loadAverage()),
	}
}

// cutAll cuts one facility after the other off, and restores each when its people
// have been told.
func (l *lab) cutAll(ctx context.Context, e *ears, cuts []*cutOff, how func(victim) error) (results, error) {
	began := time.Now()
	var open, closed int
	if err := l.region.QueryRow(ctx, `SELECT count(*) FILTER (WHERE resolved_at IS NULL), count(*) FILTER (WHERE resolved_at IS NOT NULL)
		FROM holdfast.incident WHERE kind IN ('offline', 'outage')`).Scan(&open, &closed); err != nil {
		return results{}, fmt.Errorf("count the incidents: %w", err)
	}
	if open > 0 {
		return results{}, fmt.Errorf("%d facilities are offline before anything was cut", open)
	}
	order := slices.Clone(cuts)
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	done := make([]*cutOff, len(order))
	errs := make(chan error, len(order))
	var wg sync.WaitGroup
	space := l.spacing(len(order))
	for i, c := range order {
		if err := pause(ctx, space/2+rand.N(space)); err != nil {
			break
		}
		wg.Go(func() {
			one := *c
			done[i] = &one
			if err := l.cutOne(ctx, e, &one, how); err != nil {
				errs <- fmt.Errorf("%s: %w", c.facility, err)
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		return results{}, err
	}
	if err := ctx.Err(); err != nil {
		return results{}, context.Cause(ctx)
	}
	r := results{done}
	l.log.Info("cut off", "facilities", len(done), "told_p50_s", percentile(r.of(func(c *cutOff) float64 { return c.toldAll }), 50),
		"told_p99_s", percentile(r.of(func(c *cutOff) float64 { return c.toldAll }), 99), "took", time.Since(began).Round(time.Second), "load", loadAverage())
	var more int
	if err := l.region.QueryRow(ctx, `SELECT count(*) FROM holdfast.incident WHERE kind IN ('offline', 'outage') AND opened_at > $1`, began).Scan(&more); err != nil {
		return results{}, fmt.Errorf("count the incidents: %w", err)
	}
	if more != len(done) {
		l.log.Warn("not one incident for each", "incidents", more, "cuts", len(done))
	}
	return r, nil
}

func (l *lab) cutOne(ctx context.Context, e *ears, c *cutOff, how func(victim) error) error {
	at := time.Now()
	if err := how(c.victim); err != nil {
		return err
	}
	var last time.Time
	err := l.until(ctx, toldWithin, func(ctx context.Context) (ok bool, err error) {
		if last, c.slowest, ok = e.heardBy(c.told, everyChannel, at, at.Add(toldWithin)); ok {
			return true, nil
		}
		return false, pause(ctx, 50*time.Millisecond)
	})
	if err != nil {
		return fmt.Errorf("%s is not told: %w", c.slowest, err)
	}
	c.toldAll = last.Sub(at).Seconds()
	first := last
	for _, k := range everyChannel {
		if came := e.between(k, c.noted[k], at, last); len(came) > 0 && came[0].Before(first) {
			first = came[0]
		}
	}
	c.told1 = first.Sub(at).Seconds()
	var opened time.Time
	if err := l.region.QueryRow(ctx, `SELECT opened_at FROM holdfast.incident WHERE facility = $1 AND kind = 'offline' ORDER BY opened_at DESC LIMIT 1`, c.facility).Scan(&opened); err != nil {
		return fmt.Errorf("find the incident: %w", err)
	}
	c.known = opened.Sub(at).Seconds()
	return c.victim.restore()
}

// calm waits until nothing is wrong any more.
func (l *lab) calm(ctx context.Context, limit time.Duration) error {
	return l.until(ctx, limit, func(ctx context.Context) (bool, error) {
		var n int
		err := l.region.QueryRow(ctx, `SELECT count(*) FROM holdfast.incident WHERE kind IN ('offline', 'outage') AND resolved_at IS NULL`).Scan(&n)
		if err == nil && n > 0 {
			err = pause(ctx, time.Second)
		}
		return err == nil && n == 0, err
	})
}
