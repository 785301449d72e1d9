package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/agogsaas/holdfast/test/rig/relay"
)

const (
	// soakBoxes is how many simulated boxes are watched on bad lines.
	soakBoxes = 40
	// blip is how long a line is dead now and then, and blipEvery how often one is.
	blip      = 5 * time.Second
	blipEvery = 4 * time.Second
	freeze    = 60 * time.Second
)

// badLine loses 2 % of its packets and delays each by up to 300 ms, both ways.
var badLine = relay.Faults{Loss: 0.02, Jitter: 300 * time.Millisecond}

// benchCalm watches facilities that are all there, on lines that are bad, while
// the region is killed, restarted and frozen, and counts who is taken for offline.
func benchCalm(ctx context.Context, l *lab) ([]Figure, error) {
	e, boxes, list, err := l.startTold(ctx, soakBoxes, everyChannel, nil)
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
	if _, err := l.addAgents(ctx, e, len(list)); err != nil {
		return nil, err
	}
	lines := make([]spoilable, 0, len(all)+realBoxes)
	for _, w := range all {
		lines = append(lines, w)
	}
	for _, edge := range l.site.Edges() {
		lines = append(lines, agent{edge, ctx})
	}
	if err := l.online(ctx, len(lines), 3*time.Minute); err != nil {
		return nil, fmt.Errorf("not all facilities are online: %w", err)
	}
	for _, s := range lines {
		if err := s.spoil(badLine); err != nil {
			return nil, err
		}
	}
	s := &soak{l: l, lines: lines, began: time.Now()}
	if err := s.run(ctx); err != nil {
		return nil, err
	}
	wrong, others, err := s.count(ctx)
	if err != nil {
		return nil, err
	}
	return []Figure{atMost(0, Figure{
		ID: "false_offline", What: fmt.Sprintf("facilities taken for offline in %s although all were there", l.soak), Measured: float64(wrong), Unit: "",
		Peer: fmt.Sprintf("%d facilities (%d simulated boxes with the agent's heartbeat and real tunnels, %d whole agents), both ways of each through a relay that loses 2 %% and delays by up to 300 ms; "+
			"%d blips of %s of one line, and %d of all at once; a restart of the region, a kill -9 and start, a freeze of %s (SIGSTOP) of its process, and one of process and broker together. Other incidents meanwhile: %s; load average %s",
			len(lines), len(all), len(lines)-len(all), s.blips, blip, s.common, freeze, others, loadAverage()),
	})}, nil
}

// spoilable is a box on a line that can be made bad.
type spoilable interface {
	victim
	spoil(relay.Faults) error
}

func (a agent) spoil(f relay.Faults) error {
	if err := a.Tunnel.SetFaults(f); err != nil {
		return err
	}
	return a.MQTT.SetFaults(f)
}

type soak struct {
	l             *lab
	lines         []spoilable
	began         time.Time
	blips, common int
}

// run has blips all the time and each trouble of the region in its own part of it.
func (s *soak) run(ctx context.Context) error {
	troubles := []struct {
		at  float64
		do  func(context.Context) error
		how string
	}{
		{0.15, s.together, "all lines are dead for a moment"},
		{0.30, s.restart, "the region is restarted"},
		{0.45, s.kill, "the region is killed"},
		{0.60, s.frozen(false), "the region is frozen"},
		{0.75, s.together, "all lines are dead for a moment"},
		{0.80, s.frozen(true), "the region and its broker are frozen"},
	}
	end := s.began.Add(s.l.soak)
	for time.Now().Before(end) {
		if len(troubles) > 0 && time.Since(s.began) > time.Duration(troubles[0].at*float64(s.l.soak)) {
			s.l.log.Info("trouble", "what", troubles[0].how, "after", time.Since(s.began).Round(time.Second), "load", loadAverage())
			if err := troubles[0].do(ctx); err != nil {
				return err
			}
			troubles = troubles[1:]
			continue
		}
		line := s.lines[rand.N(len(s.lines))]
		if err := s.dead(ctx, line); err != nil {
			return err
		}
		s.blips++
		if err := pause(ctx, rand.N(2*blipEvery)); err != nil {
			return err
		}
	}
	// What was taken for offline at the end is known by now.
	return pause(ctx, 20*time.Second)
}

// dead lets lines be dead for a moment.
func (s *soak) dead(ctx context.Context, lines ...spoilable) error {
	for _, line := range lines {
		if err := line.cut(); err != nil {
			return err
		}
	}
	if err := pause(ctx, blip); err != nil {
		return err
	}
	for _, line := range lines {
		if err := line.restore(); err != nil {
			return err
		}
	}
	return nil
}

func (s *soak) together(ctx context.Context) error {
	s.common++
	return s.dead(ctx, s.lines...)
}

func (s *soak) restart(ctx context.Context) error {
	if err := s.l.site.Cloud.Stop(); err != nil {
		return err
	}
	return s.l.site.Restart(ctx)
}

func (s *soak) kill(ctx context.Context) error {
	if err := s.l.site.Cloud.Kill9(); err != nil {
		return err
	}
	return s.l.site.Restart(ctx)
}

// frozen stops the region's process for a while, with its broker or alone.
func (s *soak) frozen(broker bool) func(context.Context) error {
	return func(ctx context.Context) error {
		pids := []int{s.l.site.Cloud.PID()}
		if broker {
			pid, err := s.l.brokerPID()
			if err != nil {
				return err
			}
			pids = append(pids, pid)
		}
		signal := func(sig syscall.Signal) error {
			for _, pid := range pids {
				if err := syscall.Kill(pid, sig); err != nil {
					return fmt.Errorf("freeze the region: %w", err)
				}
			}
			return nil
		}
		if err := signal(syscall.SIGSTOP); err != nil {
			return err
		}
		err := pause(ctx, freeze)
		if again := signal(syscall.SIGCONT); again != nil {
			return again
		}
		return err
	}
}

// count returns how many were taken for offline, and what else there was.
func (s *soak) count(ctx context.Context) (wrong int, others string, err error) {
	rows, err := s.l.region.Query(ctx, `SELECT kind, count(*) FROM holdfast.incident WHERE opened_at > $1 GROUP BY kind ORDER BY kind`, s.began)
	if err != nil {
		return 0, "", fmt.Errorf("count the incidents: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var kind string
		var n int
		if err := rows.Scan(&kind, &n); err != nil {
			return 0, "", fmt.Errorf("count the incidents: %w", err)
		}
		if kind == "offline" || kind == "outage" {
			wrong += n
			continue
		}
		if others != "" {
			others += ", "
		}
		others += fmt.Sprintf("%s %d", kind, n)
	}
	if others == "" {
		others = "none"
	}
	return wrong, others, rows.Err()
}
