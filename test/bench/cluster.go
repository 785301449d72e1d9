package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"

	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/proto"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// clusterChild is this program as one node of a NATS cluster, clusterNodes how
// many there are, clusterOf how many facilities are connected to them.
const (
	clusterChild = "nats-node"
	clusterNodes = 3
	clusterOf    = 1000
)

// node is what one of a cluster is told, as a file.
type node struct {
	Name, Dir, Password           string
	MQTT, Route, HTTP, Facilities int
	Routes                        []int

	process *site.Proc
}

// clusterServe is one node, until it is told to stop.
func clusterServe(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the node's configuration: %w", err)
	}
	var n node
	if err := json.Unmarshal(raw, &n); err != nil {
		return fmt.Errorf("read the node's configuration: %w", err)
	}
	o := &natsd.Options{
		ServerName: n.Name, Host: "127.0.0.1", Port: -1, NoSigs: true, HTTPHost: "127.0.0.1", HTTPPort: n.HTTP, NoLog: true,
		JetStream: true, StoreDir: n.Dir,
		Cluster: natsd.ClusterOpts{Name: "holdfast", Host: "127.0.0.1", Port: n.Route},
		MQTT:    natsd.MQTTOpts{Host: "127.0.0.1", Port: n.MQTT},
		Users:   []*natsd.User{{Username: proto.RegionClientID, Password: n.Password}},
	}
	for _, port := range n.Routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	for i := range n.Facilities {
		b := numbered(i)
		may := &natsd.Permissions{Publish: &natsd.SubjectPermission{}, Subscribe: &natsd.SubjectPermission{}}
		for _, k := range proto.KindsUp {
			may.Publish.Allow = append(may.Publish.Allow, strings.ReplaceAll(proto.Topic(b.tenant, b.facility, k), "/", "."))
		}
		for _, k := range proto.KindsDown {
			may.Subscribe.Allow = append(may.Subscribe.Allow, strings.ReplaceAll(proto.Topic(b.tenant, b.facility, k), "/", "."))
		}
		o.Users = append(o.Users, &natsd.User{Username: b.clientID(), Password: n.Password, Permissions: may})
	}
	s, err := natsd.NewServer(o)
	if err != nil {
		return fmt.Errorf("make the node: %w", err)
	}
	s.Start()
	ctx, stop := run.UntilSignal(context.Background())
	defer stop()
	<-ctx.Done()
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

// startNodes starts the nodes and waits until they are one.
func (l *lab) startNodes(ctx context.Context) ([]*node, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	nodes := make([]*node, clusterNodes)
	var routes []int
	for i := range nodes {
		n := &node{Name: fmt.Sprintf("node-%d", i), Password: webhookSecret, Facilities: clusterOf}
		n.Dir = filepath.Join(l.dir, n.Name)
		for _, port := range []*int{&n.MQTT, &n.Route, &n.HTTP} {
			if *port, err = freePort(); err != nil {
				return nil, err
			}
		}
		nodes[i], routes = n, append(routes, n.Route)
	}
	for _, n := range nodes {
		n.Routes = routes
		raw, err := json.Marshal(n)
		if err != nil {
			return nodes, fmt.Errorf("write the node's configuration: %w", err)
		}
		conf := filepath.Join(l.dir, n.Name+".json")
		if err := os.WriteFile(conf, raw, 0o600); err != nil {
			return nodes, fmt.Errorf("write the node's configuration: %w", err)
		}
		n.process = &site.Proc{
			Name: n.Name, Path: self, Args: []string{clusterChild, conf}, LogFile: filepath.Join(l.dir, n.Name+".log"),
			Ready: fmt.Sprintf("http://127.0.0.1:%d/healthz", n.HTTP), Tied: true,
		}
		if err := n.process.Start(); err != nil {
			return nodes, err
		}
	}
	wait, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for _, n := range nodes {
		if err := n.process.WaitReady(wait); err != nil {
			return nodes, err
		}
	}
	return nodes, nil
}

func stopNodes(nodes []*node) (err error) {
	for _, n := range nodes {
		if n != nil && n.process != nil {
			err = errors.Join(err, n.process.Stop())
		}
	}
	return err
}

// benchCluster is the fleet, smaller, on a cluster of three brokers of which one is
// killed: not the one that the region itself is connected to, which has no second
// address.
func benchCluster(ctx context.Context, l *lab) (figures []Figure, err error) {
	nodes, err := l.startNodes(ctx)
	defer func() { err = errors.Join(err, stopNodes(nodes)) }()
	if err != nil {
		return nil, err
	}
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", n.MQTT))
	}
	password := filepath.Join(l.dir, "nats.password")
	if err := os.WriteFile(password, []byte(webhookSecret+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("write the broker's password: %w", err)
	}
	g, err := l.gather(ctx, clusterOf, sparingEvery, &outside{addrs: addrs, lines: []string{
		"mode: external", fmt.Sprintf("external_url: %q", "tcp://"+addrs[0]), "user: " + proto.RegionClientID, "password_file: " + password,
	}})
	if err != nil {
		return nil, err
	}
	defer g.stop()
	if err := pause(ctx, fleetSettle); err != nil {
		return nil, err
	}
	began := time.Now()
	there := len(g.crowd.members)
	if err := nodes[clusterNodes-1].process.Kill9(); err != nil {
		return nil, err
	}
	if err := l.until(ctx, time.Minute, func(ctx context.Context) (bool, error) {
		return int(g.crowd.up.Load()) < there, pause(ctx, 10*time.Millisecond)
	}); err != nil {
		return nil, err
	}
	lost := there - int(g.crowd.up.Load())
	if err := g.connected(ctx, 5*time.Minute); err != nil {
		return nil, err
	}
	back := time.Since(began).Seconds()
	if err := pause(ctx, fleetAfter); err != nil {
		return nil, err
	}
	pages, kinds, err := g.pages(ctx)
	if err != nil {
		return nil, err
	}
	how := fmt.Sprintf("%d facilities, one heartbeat per %s each, on three NATS servers with JetStream and routes to each other, each a process of its own, with an account for each box, without TLS; one is killed with SIGKILL, to which the region is not connected, "+
		"and its boxes go to the next address; %d had noticed after the first 10 ms; load average %s", clusterOf, sparingEvery, lost, loadAverage())
	return []Figure{
		atMost(60, Figure{ID: "cluster_reconnect_s", What: "one of three brokers is killed → all are connected again and a broker has taken a message of each", Measured: back, Unit: "s", Peer: how}),
		atMost(0, Figure{ID: "cluster_false_pages", What: "facilities taken for offline, and messages about them", Measured: float64(pages), Unit: "", Peer: "incidents of all kinds meanwhile: " + kinds}),
	}, nil
}

// outside is a broker that the region does not run: where it is, and what the
// region's configuration says of it.
type outside struct {
	addrs, lines []string
}
