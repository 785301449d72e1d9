package main

import (
	"context"
	"fmt"
	"time"
)

const (
	restSettle = 30 * time.Second
	restFor    = 90 * time.Second
)

// benchIdle watches the agent while nobody works: heartbeat, tunnel, checks.
func benchIdle(ctx context.Context, l *lab) ([]Figure, error) {
	if err := l.start(ctx); err != nil {
		return nil, err
	}
	if err := l.openWorkspace(ctx); err != nil {
		return nil, err
	}
	if err := pause(ctx, restSettle); err != nil {
		return nil, err
	}
	pid := l.edge.Agent.PID()
	before, err := cpuTime(pid)
	if err != nil {
		return nil, err
	}
	began, rss := time.Now(), 0.0
	for time.Since(began) < restFor {
		now, err := memory(pid, "VmRSS")
		if err != nil {
			return nil, err
		}
		rss = max(rss, now)
		if err := pause(ctx, time.Second); err != nil {
			return nil, err
		}
	}
	after, err := cpuTime(pid)
	if err != nil {
		return nil, err
	}
	share := 100 * (after - before).Seconds() / time.Since(began).Seconds()
	peer := fmt.Sprintf("the agent's process only, for %s, with the workspace synced, tunnel and heartbeat up and nobody at work", restFor)
	return []Figure{
		atMost(64, Figure{ID: "agent_rss_idle_mb", What: "most memory of the agent at rest", Measured: rss, Unit: "MiB", Peer: peer}),
		atMost(1, Figure{ID: "agent_cpu_idle_pct", What: "processor time of the agent at rest, of one core", Measured: share, Unit: "%", Peer: peer}),
	}, nil
}
