package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// The alerter's own test kills a process at every fault point of the way that a
// message goes, and says how many came, and how many of those twice. It fails
// when one is lost or not done, or when more came twice in a round than were on
// their way.
var (
	killedWords = regexp.MustCompile(`(\d+) rounds: (\d+) messages, killed (\d+) times, (\d+) came twice, (\d+) were on their way`)
	undoneWords = regexp.MustCompile(`(\d+) messages are not done`)
)

func benchKilled(ctx context.Context, l *lab) ([]Figure, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "./cloud/alert", "-count=1", "-timeout=0", "-v", "-run", "^TestNothingIsLostByKillNine$", "-args", "-rounds="+strconv.Itoa(l.kills))
	out, failed := cmd.CombinedOutput()
	m := killedWords.FindStringSubmatch(string(out))
	if m == nil {
		return nil, fmt.Errorf("kill the alerter: %w: %s", failed, tail(string(out), 20))
	}
	var n [5]float64
	for i := range n {
		n[i], _ = strconv.ParseFloat(m[i+1], 64) // digits, as the expression says
	}
	lost := 0.0
	for _, undone := range undoneWords.FindAllStringSubmatch(string(out), -1) {
		n, _ := strconv.ParseFloat(undone[1], 64)
		lost += n
	}
	if failed != nil && lost == 0 && n[3] <= n[4] {
		return nil, fmt.Errorf("kill the alerter: %w: %s", failed, tail(string(out), 20))
	}
	how := fmt.Sprintf("%.0f rounds, in which a process with the real alerter and a real PostgreSQL is killed with SIGKILL after storing incidents and messages, after a lease, after the provider took a message, or before that is stored, "+
		"at random and up to twice, and another one goes on; %.0f deaths, %.0f messages of four channels to a provider over real HTTP, triggers and resolves; load average %s", n[0], n[2], n[1], loadAverage())
	return []Figure{
		atMost(0, Figure{ID: "tell_lost", What: "messages lost, or not done, when the region's process is killed at the points where it hurts", Measured: lost, Unit: "", Peer: how}),
		atMost(n[4], Figure{ID: "tell_duplicates", What: "messages that came twice then, with the same key; no more than leases that a dead process has left", Measured: n[3], Unit: "", Peer: how}),
	}, nil
}
