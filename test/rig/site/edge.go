package site

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/test/rig/relay"
)

// EdgeOptions describe a facility and its box.
type EdgeOptions struct {
	ID, Tenant, Name, TimeZone string
	// Box tells the facility's boxes apart; default the ID. Another box of a
	// facility that is there takes the place of the one before.
	Box string
	// HTTP and Postgres are ports on 127.0.0.1; default free ones.
	HTTP, Postgres int
	// Existing is the connection string of a PostgreSQL server for the box to
	// use, instead of one of its own.
	Existing string
	// Bin is the folder of the agent; default the site's.
	Bin string
	// Extra is added to the box's configuration file, MQTTLines to its section
	// mqtt, unless the box is Direct.
	Extra     string
	MQTTLines []string
	// Seed of the relays' chance.
	Seed uint64
	// Wrap, when set, makes the agent's command in another way, and Client
	// reaches it there; see Proc.
	Wrap   func(program string, args ...string) *exec.Cmd
	Client *http.Client
	// Direct leaves the relays out: the box and the region are joined by a
	// cable that can be cut.
	Direct bool
}

// Edge is a facility: its box's agent, and the relays on its two ways to the region.
type Edge struct {
	EdgeOptions
	Agent *Proc
	// Tunnel carries WireGuard, MQTT the heartbeat; nil when Direct.
	Tunnel, MQTT *relay.Relay

	site   *Site
	dir    string
	config string
	stop   context.CancelFunc
	relays sync.WaitGroup
}

// AddEdge makes a facility, enrols its box and starts the agent. A box that
// was enrolled in an earlier run is only started.
func (s *Site) AddEdge(ctx context.Context, o EdgeOptions) (*Edge, error) {
	if o.Tenant == "" {
		o.Tenant = "foo"
	}
	if o.TimeZone == "" {
		o.TimeZone = "UTC"
	}
	for _, p := range []*int{&o.HTTP, &o.Postgres} {
		if err := freeTCP(p); err != nil {
			return nil, err
		}
	}
	if o.Box == "" {
		o.Box = o.ID
	}
	e := &Edge{EdgeOptions: o, site: s, dir: filepath.Join(s.Dir, o.Box)}
	if err := os.MkdirAll(e.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the facility's folder: %w", err)
	}
	if !e.Direct {
		if err := e.startRelays(); err != nil {
			return nil, err
		}
	}
	s.edges = append(s.edges, e)
	if err := e.writeConfig(); err != nil {
		return nil, err
	}
	e.Agent = &Proc{
		Name: o.Box, Path: filepath.Join(cmp.Or(o.Bin, s.Bin), "holdfast-edge"), Args: []string{"run", "-c", e.config},
		LogFile: filepath.Join(e.dir, "log"), Ready: e.URL() + "/readyz", Wrap: e.Wrap, Client: e.Client, Tied: s.Tied,
	}
	if err := e.enrol(ctx); err != nil {
		return nil, err
	}
	if e.Existing == "" && e.Bin == "" { // another build makes its own
		if err := s.copyCluster(ctx, e.ClusterDir()); err != nil {
			return nil, err
		}
	}
	return e, e.Start(ctx)
}

// URL is the facility's own web pages.
func (e *Edge) URL() string { return fmt.Sprintf("http://127.0.0.1:%d", e.HTTP) }

// StateDir is the box's state directory.
func (e *Edge) StateDir() string { return filepath.Join(e.dir, "state") }

// DSN connects to the box's database as one of its roles (pgcluster's names).
func (e *Edge) DSN(role, database string) string {
	return dsn(e.ClusterDir(), e.Client != nil, e.Postgres, role, database)
}

// Start starts the agent and waits until people can work.
func (e *Edge) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := e.Agent.Start(); err != nil {
		return err
	}
	return e.Agent.WaitReady(ctx)
}

// Cut drops every packet of both ways, without a word.
func (e *Edge) Cut() { e.Tunnel.Cut(); e.MQTT.Cut() }

// Restore lets packets pass again.
func (e *Edge) Restore() { e.Tunnel.Restore(); e.MQTT.Restore() }

// Close stops the agent with its PostgreSQL, then the relays.
func (e *Edge) Close() error {
	var err error
	if e.Agent != nil {
		err = errors.Join(e.Agent.Stop(), endPostgres(e.ClusterDir()))
	}
	if e.stop != nil {
		e.stop()
	}
	e.relays.Wait()
	return err
}

func (e *Edge) startRelays() error {
	ctx, cancel := context.WithCancel(context.Background())
	e.stop = cancel
	for _, r := range []struct {
		at      **relay.Relay
		network string
		port    int
	}{{&e.Tunnel, "udp", e.site.Ports.WireGuard}, {&e.MQTT, "tcp", e.site.Ports.MQTT}} {
		made, err := relay.New(relay.Config{
			Network: r.network, Listen: "127.0.0.1:0",
			Target: fmt.Sprintf("127.0.0.1:%d", r.port), Seed: e.Seed,
		})
		if err != nil {
			cancel()
			return fmt.Errorf("stand between %s and the region: %w", e.ID, err)
		}
		*r.at = made
		e.relays.Go(func() {
			if err := made.Run(ctx); err != nil {
				e.site.Log.Error("a relay ended", "facility", e.ID, "err", err)
			}
		})
	}
	return nil
}

func (e *Edge) writeConfig() error {
	ways := ""
	if !e.Direct {
		ways = fmt.Sprintf("uplink: {hub_endpoint: %q}\nmqtt:\n  url: \"tls://%s\"\n%s", e.Tunnel.Addr(), e.MQTT.Addr(), lines(e.MQTTLines))
	}
	watchdog := "watchdog: ignore\n" // what the machine under it has is not what is shown or tested
	if e.Bin != "" {
		watchdog = "" // the build before does not know the word
	}
	text := fmt.Sprintf(`state_dir: %s
log: {level: %s}
ui: {listen: "127.0.0.1:%d", password_file: %s, place: %q, time_zone: %q}
postgres: %s
%s%s%s`, e.StateDir(), e.site.LogLevel, e.HTTP, e.site.PasswordFile(), e.Name, e.TimeZone, postgres(e.Existing, e.Postgres), watchdog, ways, e.Extra)
	e.config = filepath.Join(e.dir, "edge.yaml")
	if err := os.WriteFile(e.config, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the box's configuration: %w", err)
	}
	return nil
}

// enrol makes the facility in the region and the box its own, unless that was done.
func (e *Edge) enrol(ctx context.Context) error {
	marker := filepath.Join(e.dir, "enrolled")
	if _, err := os.Stat(marker); err == nil {
		return nil
	}
	added, err := e.site.API.AddFacility(ctx, v1.FacilityAdd{ID: e.ID, Tenant: e.Tenant, Name: e.Name, TimeZone: e.TimeZone})
	secret := added.Token
	if err != nil {
		// It may be there from a start that was interrupted.
		var again error
		if secret, again = e.site.API.NewToken(ctx, e.ID, v1.TokenRequest{}); again != nil {
			return fmt.Errorf("add facility %s: %w", e.ID, errors.Join(err, again))
		}
	}
	wrap := e.Wrap
	if wrap == nil {
		wrap = func(program string, args ...string) *exec.Cmd { return exec.CommandContext(ctx, program, args...) }
	}
	cmd := wrap(e.Agent.Path, "enrol", "-c", e.config)
	cmd.Stdin = strings.NewReader(secret.Secret + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("enrol %s: %w: %s", e.ID, err, strings.TrimSpace(string(out)))
	}
	return os.WriteFile(marker, nil, 0o600)
}
