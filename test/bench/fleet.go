package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/internal/pgcluster"
)

const (
	// fleetWatch is how long the region is watched while all are connected and
	// nothing happens, fleetAfter how long after the broker's restart.
	fleetWatch, fleetAfter = 2 * time.Minute, 90 * time.Second
	fleetSettle            = time.Minute
	// scrapeEvery is Prometheus' own pace.
	scrapeEvery = time.Minute
)

// gathering is a region with a crowd.
type gathering struct {
	l       *lab
	e       *ears
	crowd   *crowd
	keepers *keepers
	told    []told
	began   time.Time
	stop    func()
}

// gather starts a region, with providers, and a crowd whose tunnels are kept, and
// returns when all are online. The facilities' contacts have webhooks, operations
// are told by another.
func (l *lab) gather(ctx context.Context, n int, every time.Duration, o *outside) (*gathering, error) {
	e, boxes, list, err := l.startTold(ctx, n, []channel.Kind{channel.Webhook}, o)
	if err != nil {
		return nil, err
	}
	g := &gathering{l: l, e: e, told: list, began: time.Now()}
	_, err = l.region.Exec(ctx, `INSERT INTO holdfast.contact_method (contact, channel, address) SELECT id, 'webhook', $1 FROM holdfast.contact WHERE tenant = '' AND name = 'Operations'`, e.base+"/webhook/operations")
	if err != nil {
		e.stop()
		return nil, fmt.Errorf("say who operations are: %w", err)
	}
	hub, err := l.hubKey()
	if err == nil {
		g.keepers, err = newKeepers(boxes, hub, l.site.Ports.WireGuard)
	}
	if err == nil {
		g.crowd, err = l.newCrowd(boxes, g.keepers, every, o)
	}
	if err != nil {
		e.stop()
		return nil, err
	}
	here, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { g.keepers.run(here) })
	g.stop = func() { cancel(); wg.Wait(); e.stop() }
	wg.Go(func() { g.crowd.run(here) })
	if err := g.connected(ctx, 10*time.Minute); err != nil {
		g.stop()
		return nil, err
	}
	l.log.Info("all are connected", "connections", n, "after", time.Since(g.began).Round(time.Second), "load", loadAverage())
	return g, nil
}

func (g *gathering) connected(ctx context.Context, limit time.Duration) error {
	n := len(g.crowd.members)
	err := g.l.until(ctx, limit, func(ctx context.Context) (bool, error) {
		return int(g.crowd.up.Load()) >= n, pause(ctx, 50*time.Millisecond)
	})
	if err != nil {
		return fmt.Errorf("%d of %d are connected: %w", g.crowd.up.Load(), n, err)
	}
	return nil
}

// use is what the region and those around it take.
type use struct{ region, broker, server, own time.Duration }

func (l *lab) used(ctx context.Context) (u use, err error) {
	broker, err := l.brokerPID()
	if err != nil {
		return u, err
	}
	var dir string
	if err := l.region.QueryRow(ctx, `SHOW data_directory`).Scan(&dir); err != nil {
		return u, fmt.Errorf("ask for the data directory: %w", err)
	}
	server, err := pgcluster.ReadPostmasterPID(dir)
	if err != nil {
		return u, err
	}
	if u.region, err = cpuTime(l.site.Cloud.PID()); err != nil {
		return u, err
	}
	if u.broker, err = cpuTime(broker); err != nil {
		return u, err
	}
	u.server, err = allTime(server)
	u.own = ownTime()
	return u, err
}

// weight is the memory of the region's process and of its broker, in GiB.
func (l *lab) weight() (region, broker float64, err error) {
	pid, err := l.brokerPID()
	if err != nil {
		return 0, 0, err
	}
	if region, err = memory(l.site.Cloud.PID(), "VmRSS"); err != nil {
		return 0, 0, err
	}
	broker, err = memory(pid, "VmRSS")
	return region / 1024, broker / 1024, err
}

// full is the memory that the region's process may come to touch, in GiB: all that
// its runtime holds, with the program itself. Rings and queues are made at once and
// filled in an hour; what is resident before is less.
func (l *lab) full(ctx context.Context) (region float64, err error) {
	const mib = 1 << 20
	const held, released, live, stacks, threads = "go_memstats_sys_bytes", "go_memstats_heap_released_bytes", "go_memstats_heap_inuse_bytes", "go_memstats_stack_inuse_bytes", "go_goroutines"
	of, err := metricsOf(ctx, l.site.URL(), held, released, live, stacks, threads)
	if err != nil {
		return 0, err
	}
	program, err := memory(l.site.Cloud.PID(), "RssFile")
	if err != nil {
		return 0, err
	}
	l.log.Info("memory of the region", "heap_mib", of[live]/mib, "stacks_mib", of[stacks]/mib, "goroutines", of[threads], "held_mib", (of[held]-of[released])/mib, "program_mib", program)
	return ((of[held]-of[released])/mib + program) / 1024, nil
}

func benchFleet(ctx context.Context, l *lab) ([]Figure, error) {
	g, err := l.gather(ctx, l.crowd, sparingEvery, nil)
	if err != nil {
		return nil, err
	}
	defer g.stop()
	if err := pause(ctx, fleetSettle); err != nil {
		return nil, err
	}
	before, err := l.used(ctx)
	if err != nil {
		return nil, err
	}
	began, sent := time.Now(), g.crowd.sent.Load()
	var late []float64
	var most, mostBroker, mostRegion float64
	scrape := began
	for next := began.Add(sparingEvery); time.Since(began) < fleetWatch; {
		region, broker, err := l.weight()
		if err != nil {
			return nil, err
		}
		if time.Now().After(scrape) {
			scrape = scrape.Add(scrapeEvery)
			held, err := l.full(ctx)
			if err != nil {
				return nil, err
			}
			region = max(region, held)
		}
		if region+broker > most {
			most, mostRegion, mostBroker = region+broker, region, broker
		}
		if time.Now().After(next) {
			next = next.Add(sparingEvery)
			some, err := g.late(ctx, began)
			if err != nil {
				return nil, err
			}
			late = append(late, some...)
		}
		if err := pause(ctx, time.Second); err != nil {
			return nil, err
		}
	}
	after, err := l.used(ctx)
	if err != nil {
		return nil, err
	}
	took := time.Since(began).Seconds()
	share := func(a, b time.Duration) float64 { return (b - a).Seconds() / took }
	region, broker := share(before.region, after.region), share(before.broker, after.broker)
	rate := float64(g.crowd.sent.Load()-sent) / took
	l.log.Info("fleet", "region_cores", region, "broker_cores", broker, "server_cores", share(before.server, after.server), "own_cores", share(before.own, after.own),
		"region_gib", mostRegion, "broker_gib", mostBroker, "ingest_p99_ms", percentile(late, 99), "beats_per_s", rate, "load", loadAverage())

	back, err := g.breakBroker(ctx)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, fleetAfter); err != nil {
		return nil, err
	}
	pages, kinds, err := g.pages(ctx)
	if err != nil {
		return nil, err
	}
	n := len(g.crowd.members)
	how := fmt.Sprintf("%d real MQTT connections with mutual TLS, each with a last will, a subscription and a certificate of its own, one heartbeat of the agent's kind per %s (%.0f in a second), and as many tunnels, "+
		"whose handshakes, keepalives and answers are real and come from one socket; no streams. The region is the real program with its database and broker", n, sparingEvery, rate)
	load := "load average " + loadAverage()
	return []Figure{
		atMost(1, Figure{
			ID: "fleet_cores", What: fmt.Sprintf("processor time of the region's process and its broker together, %d facilities connected", n), Measured: region + broker, Unit: "cores",
			Peer: fmt.Sprintf("region %.3g, broker %.3g; apart from that the region's PostgreSQL %.3g and the load generator %.3g, on the same machine; for %s. %s; %s", region, broker, share(before.server, after.server), share(before.own, after.own), fleetWatch, how, load),
		}),
		atMost(2, Figure{ID: "fleet_rss_gb", What: "most memory of both", Measured: most, Unit: "GiB", Peer: fmt.Sprintf("region %.3g, broker %.3g; of the region all that its runtime holds counts, whether it was touched yet or not: the facilities' histories of an hour and the tunnels' queues are made at once, and filled in time. /metrics is read once a minute", mostRegion, mostBroker)}),
		atMost(100, Figure{
			ID: "fleet_ingest_p99_ms", What: "heartbeat sent → heard by the region, 99 of 100", Measured: percentile(late, 99), Unit: "ms",
			Peer: fmt.Sprintf("from before it is handed to TLS in the load generator until the time that the region notes; half within %.3g ms, of %d; %s", percentile(late, 50), len(late), load),
		}),
		atMost(60, Figure{
			ID: "fleet_reconnect_s", What: "the broker is killed → all are connected again and the broker has taken a message of each", Measured: back, Unit: "s",
			Peer: fmt.Sprintf("the region starts the broker again; boxes wait evenly drawn times below 1, 2, 4 … 30 s between attempts, as the agent does; %s", load),
		}),
		atMost(0, Figure{
			ID: "fleet_false_pages", What: "facilities taken for offline, and messages about them, from the start until long after the broker's restart", Measured: float64(pages), Unit: "",
			Peer: "incidents of all kinds meanwhile: " + kinds,
		}),
	}, nil
}

// late is how long after it was sent each facility's last heartbeat that is in the
// database was heard.
func (g *gathering) late(ctx context.Context, since time.Time) (list []float64, err error) {
	rows, err := g.l.region.Query(ctx, `SELECT facility, heard_at FROM holdfast.facility_seen WHERE heard_at > $1`, since)
	if err != nil {
		return nil, fmt.Errorf("read when facilities were heard: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var heard time.Time
		if err := rows.Scan(&id, &heard); err != nil {
			return nil, fmt.Errorf("read when facilities were heard: %w", err)
		}
		var no int
		if _, err := fmt.Sscanf(id, "plant-%d", &no); err != nil || no >= len(g.crowd.members) {
			continue
		}
		if at := g.crowd.members[no].lastSend(heard); !at.IsZero() {
			list = append(list, float64(heard.Sub(at).Microseconds())/1000)
		}
	}
	return list, rows.Err()
}

// breakBroker kills the broker and waits until all are connected again.
func (g *gathering) breakBroker(ctx context.Context) (seconds float64, err error) {
	began := time.Now()
	if err := g.l.site.KillBroker(ctx); err != nil {
		return 0, err
	}
	// They notice.
	n := len(g.crowd.members)
	if err := g.l.until(ctx, time.Minute, func(ctx context.Context) (bool, error) {
		return int(g.crowd.up.Load()) < n, pause(ctx, 10*time.Millisecond)
	}); err != nil {
		return 0, err
	}
	err = g.connected(ctx, 5*time.Minute)
	return time.Since(began).Seconds(), err
}

// pages counts who was taken for offline, and what else there was.
func (g *gathering) pages(ctx context.Context) (wrong int, kinds string, err error) {
	s := soak{l: g.l, began: g.began}
	wrong, kinds, err = s.count(ctx)
	if err != nil {
		return 0, "", err
	}
	var messages int
	err = g.l.region.QueryRow(ctx, `SELECT count(*) FROM holdfast.delivery d JOIN holdfast.incident i ON i.id = d.incident WHERE i.kind IN ('offline', 'outage')`).Scan(&messages)
	if err != nil {
		return 0, "", fmt.Errorf("count the messages: %w", err)
	}
	return wrong + messages, kinds, nil
}

// childNamed finds a process that another has started.
func childNamed(pid int, name string) (int, error) {
	for _, child := range pgcluster.Children(pid) {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child))
		if err == nil && strings.TrimSpace(string(comm)) == name {
			return child, nil
		}
	}
	return 0, fmt.Errorf("process %d has no child %s", pid, name)
}
