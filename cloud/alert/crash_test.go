package alert

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/internal/fault"
)

var rounds = flag.Int("rounds", 6, "how often TestNothingIsLostByKillNine kills; 200 for the promise")

const childEnv = "ALERT_TEST_CHILD"

// child is what a process of TestMain is told.
type child struct {
	Conn, Peer string
	Policies   []policy
}

// TestMain lets the test binary be a region's process that is killed. What holds
// is told to it on its standard input, a JSON list of findings a line; it ends
// when that ends.
func TestMain(m *testing.M) {
	flag.Parse()
	raw := os.Getenv(childEnv)
	if raw == "" {
		os.Exit(m.Run())
	}
	if err := runChild(raw); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runChild(raw string) error {
	var c child
	if err := json.Unmarshal([]byte(raw), &c); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pool, err := pgxpool.New(ctx, c.Conn)
	if err != nil {
		return err
	}
	defer pool.Close()
	words := make(chan []detect.Finding)
	var r rig // only for what holds
	w := detect.Word{Held: true}
	timing := defaultTiming()
	timing.poll = 10 * time.Millisecond
	senders := make(map[channel.Kind]channel.Sender)
	for _, k := range channels {
		senders[k] = httpSender{c.Peer, channel.Accepted}
	}
	a, err := New(Config{
		DB: pool, Roster: &roster{policies: c.Policies}, Senders: senders, Region: "us-east", Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), timing: timing,
		Word: func() detect.Word {
			r.mu.Lock()
			defer r.mu.Unlock()
			select {
			case list := <-words:
				w = detect.Word{Findings: list}
			default:
			}
			w.At = time.Now()
			return w
		},
	})
	if err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			var list []detect.Finding
			if json.Unmarshal(in.Bytes(), &list) != nil {
				return
			}
			select {
			case words <- list:
			case <-ctx.Done():
				return
			}
		}
	}()
	err = a.Run(ctx)
	<-done
	return err
}

// process is a child that runs.
type process struct {
	name string // of its connections
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  strings.Builder
	done chan struct{}
}

// spawn starts a process that kills itself where plan says.
func (r *rig) spawn(plan string) *process {
	r.t.Helper()
	name := fmt.Sprintf("child%d", r.children.Add(1))
	raw, err := json.Marshal(child{Conn: r.conn + "&application_name=" + name, Peer: r.peer.URL, Policies: r.roster.policies})
	if err != nil {
		r.t.Fatal(err)
	}
	p := &process{name: name, cmd: exec.CommandContext(r.t.Context(), os.Args[0]), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), childEnv+"="+string(raw), fault.Env+"="+plan)
	p.cmd.Stderr = &p.out
	if p.in, err = p.cmd.StdinPipe(); err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	return p
}

func (p *process) holds(t testing.TB, list []detect.Finding) {
	t.Helper()
	raw, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintf(p.in, "%s\n", raw) // it may be dead already
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) dead() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (r *rig) count(sql string, args ...any) (n int) {
	r.t.Helper()
	if err := r.pool.QueryRow(r.t.Context(), sql, args...).Scan(&n); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// buried returns how many leases a dead process has left, and lets the time go
// by until they have run out. What the database has got from it is done first.
func (r *rig) buried(p *process) int {
	r.t.Helper()
	eventually(r.t, "the dead process's connections end", func() bool {
		return r.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1`, p.name) == 0
	})
	n := r.count(`WITH l AS (UPDATE holdfast.delivery SET lease_until = lease_until - interval '1 minute' WHERE state = 'leased' RETURNING 1) SELECT count(*) FROM l`)
	if _, err := r.pool.Exec(r.t.Context(), `UPDATE holdfast.alert_leader SET until = until - interval '1 minute'`); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// A region's process is killed where it hurts: after incidents and messages are
// stored, after a lease, after the provider took a message, before that is
// stored. Every message arrives all the same; what arrives twice has the same
// key, and is no more than what was on its way.
func TestNothingIsLostByKillNine(t *testing.T) {
	t.Parallel()
	r := newRig(t, "f1", "f2", "f3")
	r.policy(Customer, step{Contacts: []int64{r.contact("foo", "anna", channel.Email, channel.Slack, channel.Webhook)}}) // they have no caps
	r.policy(Operations, step{Contacts: []int64{r.contact("", "ops", channel.PagerDuty)}})
	points := []string{"alert.commit=crash-after", "alert.lease=crash-after", "alert.send=crash-after", "alert.complete=crash"}
	deaths, twice, before, leases := 0, 0, 0, 0
	for round := range *rounds {
		rng := rand.New(rand.NewPCG(uint64(round), 4))
		plan := func() string {
			p := points[rng.IntN(len(points))]
			if p == points[0] {
				return fmt.Sprintf("%s:%d", p, 1+rng.IntN(2))
			}
			return fmt.Sprintf("%s:%d", p, 1+rng.IntN(6))
		}
		var list []detect.Finding
		for i := range 1 + rng.IntN(3) {
			list = append(list, r.offline(fmt.Sprintf("f%d", i+1)))
		}
		inFlight := 0
		for _, phase := range []struct {
			event channel.Event
			holds []detect.Finding
		}{{channel.Trigger, list}, {channel.Resolve, []detect.Finding{}}} {
			want := before + 4*len(list)
			plans := []string{plan(), plan(), ""}
			settled := func() bool {
				return r.count(`SELECT count(*) FROM holdfast.delivery WHERE event = $1 AND state = 'accepted'`, phase.event) == want
			}
			for _, plan := range plans {
				p := r.spawn(plan)
				p.holds(t, phase.holds)
				eventually(t, "it settles", func() bool { return p.dead() || settled() })
				if p.dead() {
					deaths++
				}
				p.kill()
				inFlight += r.buried(p)
				if settled() {
					break
				}
			}
			seen := make(map[string]int)
			for _, m := range r.peer.got(phase.event) {
				seen[m.Delivery]++
			}
			if len(seen) != want {
				t.Fatalf("round %d: %d messages of %s at the provider, want %d", round, len(seen), phase.event, want)
			}
		}
		before += 4 * len(list)
		leases += inFlight
		all := len(r.peer.got(channel.Trigger)) + len(r.peer.got(channel.Resolve))
		if more := all - 2*before - twice; more > inFlight {
			t.Errorf("round %d: %d came twice, and %d were on their way", round, more, inFlight)
		}
		twice = all - 2*before
		if n := r.count(`SELECT count(*) FROM holdfast.delivery WHERE state <> 'accepted'`); n != 0 {
			t.Errorf("round %d: %d messages are not done", round, n)
		}
	}
	t.Logf("%d rounds: %d messages, killed %d times, %d came twice, %d were on their way", *rounds, 2*before, deaths, twice, leases)
	if deaths == 0 {
		t.Error("nothing was killed")
	}
}
