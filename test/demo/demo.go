package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/internal/workspace"
	"github.com/agogsaas/holdfast/test/rig/people"
	"github.com/agogsaas/holdfast/test/rig/site"
)

const (
	tenant = "foo"
	// stopGrace is how long one part may take to stop; a PostgreSQL writes its
	// last checkpoint in that time.
	stopGrace = 60 * time.Second
	// watchEvery is how often the programs are looked at.
	watchEvery = time.Second
	// syncWithin is how long the first load of the tables is waited for.
	syncWithin = 20 * time.Second
)

// demo is a running one.
type demo struct {
	place place
	log   *slog.Logger
	site  *site.Site
	// people are those whom the region tells of an outage.
	people *people.People
	parts  *run.Stack
	// serving is the control socket, until it is closed.
	serving sync.WaitGroup

	mu     sync.Mutex
	ready  bool
	edges  map[string]*site.Edge
	shifts map[string]*shift
	cutAt  map[string]time.Time
}

// runDemo starts everything, in the order in which it depends on each other,
// says what to try, and stops it all when ctx is done.
func runDemo(ctx context.Context, p place, o options, out io.Writer) error {
	began := time.Now()
	p, err := p.prepare()
	if err != nil {
		return err
	}
	lock, err := p.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := sweep(ctx, p, out); err != nil {
		return err
	}
	if err := checkPorts(); err != nil {
		return err
	}
	if err := checkPrograms(p); err != nil {
		return err
	}
	d := &demo{
		place: p, log: slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelInfo})),
		edges: map[string]*site.Edge{}, shifts: map[string]*shift{}, cutAt: map[string]time.Time{},
	}
	d.parts = run.New(d.log)
	if err := d.start(ctx, o, out); err != nil {
		fmt.Fprintln(out, "Stopping what was started.")
		return errors.Join(hint.Wrap(err, "The logs are in %s: */log.", p.Demo), d.parts.Stop(stopGrace))
	}
	d.mu.Lock()
	d.ready = true
	d.mu.Unlock()
	fmt.Fprintf(out, "Ready after %s.\n\n", time.Since(began).Round(100*time.Millisecond))
	summary(out, p)
	err = d.parts.Wait(ctx, stopGrace)
	fmt.Fprintln(out, "The demo has stopped. Its data stays in "+p.Demo+".")
	return err
}

func checkPrograms(p place) error {
	for _, program := range []string{"holdfast-cloud", "holdfast-edge"} {
		if _, err := os.Stat(p.bin(program)); err != nil {
			return hint.Wrap(fmt.Errorf("find the programs: %w", err), "Run make build first; make demo does it by itself.")
		}
	}
	return nil
}

func (d *demo) start(ctx context.Context, o options, out io.Writer) error {
	if err := d.control(); err != nil {
		return err
	}
	step(out, "Starting the region: PostgreSQL, broker, tunnel hub, dashboard")
	opts := site.Options{
		Dir: d.place.Data, Bin: d.place.bin(""), Region: "us-east", LogLevel: o.logLevel, Log: d.log,
		Ports: site.Ports{
			HTTP: regionHTTP, Postgres: regionPostgres, Enrol: regionEnrol,
			WireGuard: regionWireGuard, MQTT: regionMQTT, MQTTPlain: regionMQTTPlain,
		},
	}
	if err := d.startPeople(&opts); err != nil {
		return err
	}
	opts.MQTTLines = []string{fmt.Sprintf("integrations: [{name: demo, password_file: %q}]", opts.PasswordFile())}
	s, err := site.Start(ctx, opts)
	if err != nil {
		return err
	}
	d.site = s
	d.parts.Close("region and facilities", s.Close)
	if err := d.startEdges(ctx, out); err != nil {
		return err
	}
	step(out, "Filling empty facilities with stock and orders, the region with customers and products, and syncing their tables")
	if err := d.seed(ctx); err != nil {
		return err
	}
	if err := d.syncTables(ctx); err != nil {
		return err
	}
	if err := d.setUpPeople(ctx); err != nil {
		return err
	}
	if err := d.writeFiles(); err != nil {
		return err
	}
	d.awaitSync(ctx)
	d.parts.Go("watch", d.watch)
	if !o.noShift {
		return d.startShifts()
	}
	return nil
}

func step(out io.Writer, text string) { fmt.Fprintf(out, "%s …\n", text) }

func (d *demo) startEdges(ctx context.Context, out io.Writer) error {
	for i, p := range plants {
		step(out, "Starting "+p.Name+": its box and PostgreSQL, enrolled through the tunnel's relays")
		e, err := d.site.AddEdge(ctx, site.EdgeOptions{
			ID: p.ID, Tenant: tenant, Name: p.Name, TimeZone: p.Zone, HTTP: p.HTTP, Postgres: p.Postgres, Seed: uint64(i + 1),
		})
		if err != nil {
			return err
		}
		d.mu.Lock()
		d.edges[p.ID] = e
		d.mu.Unlock()
	}
	return nil
}

// seed fills the region's master tables, and facilities that have nothing yet. A fixed random source gives
// every demo the same beginning.
func (d *demo) seed(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		pool, err := pgxpool.New(ctx, d.site.RegionDSN(pgcluster.App, pgcluster.Database))
		if err != nil {
			return fmt.Errorf("connect to the region's database: %w", err)
		}
		defer pool.Close()
		return workspace.SeedMaster(ctx, pool)
	})
	for i, p := range plants {
		g.Go(func() error {
			pool, err := pgxpool.New(ctx, d.edges[p.ID].DSN(pgcluster.App, pgcluster.Database))
			if err != nil {
				return fmt.Errorf("connect to the database of %s: %w", p.ID, err)
			}
			defer pool.Close()
			return workspace.Seed(ctx, pool, p.ID, rand.New(rand.NewPCG(uint64(i+1), 20)))
		})
	}
	return g.Wait()
}

// workspaceTables are synced from the start.
var workspaceTables = []v1.TableAdd{
	{Schema: "public", Table: "orders", Class: "fact"},
	{Schema: "public", Table: "order_lines", Class: "fact"},
	{Schema: "public", Table: "inventory_items", Class: "fact"},
	{Schema: "public", Table: "inventory_transactions", Class: "event"},
	{Schema: "public", Table: "customers", Class: "master"},
	{Schema: "public", Table: "products", Class: "master"},
}

func (d *demo) syncTables(ctx context.Context) error {
	have, err := d.site.API.Tables(ctx, "")
	if err != nil {
		return fmt.Errorf("list the synced tables: %w", err)
	}
	there := map[string]bool{}
	for _, t := range have {
		there[t.Schema+"."+t.Table] = true
	}
	for _, t := range workspaceTables {
		if there[t.Schema+"."+t.Table] {
			continue
		}
		if _, err := d.site.API.AddTable(ctx, t); err != nil {
			return fmt.Errorf("sync %s.%s: %w", t.Schema, t.Table, err)
		}
	}
	return nil
}

// awaitSync waits until every table streams from every facility, so that the
// first look shows the demo as it will be. It is not worth failing for.
func (d *demo) awaitSync(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, syncWithin)
	defer cancel()
	for _, p := range plants {
		for !d.streams(ctx, p.ID) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(lookEvery):
			}
		}
	}
}

func (d *demo) streams(ctx context.Context, facility string) bool {
	s, err := d.site.API.SyncStatus(ctx, facility)
	if err != nil || s.State != v1.StateOnline || len(s.Tables) < len(workspaceTables) {
		return false
	}
	return !slices.ContainsFunc(s.Tables, func(t v1.TableAt) bool { return t.State != "streaming" })
}

func (d *demo) startShifts() error {
	for _, p := range plants {
		s, err := newShift(p, d.site.AdminPassword, d.log)
		if err != nil {
			return err
		}
		d.mu.Lock()
		d.shifts[p.ID] = s
		d.mu.Unlock()
		d.parts.Go("shift of "+p.ID, s.run)
	}
	return nil
}

// watch starts a program again that has ended, as systemd would, so that one
// can be killed to see what happens.
func (d *demo) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	procs := []*site.Proc{d.site.Cloud}
	for _, p := range plants {
		procs = append(procs, d.edges[p.ID].Agent)
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		for _, p := range procs {
			if p.Running() {
				continue
			}
			d.log.Warn("a program ended and is started again", "part", p.Name, "log", p.LogFile)
			if err := p.Start(); err != nil {
				d.log.Error("it does not start", "part", p.Name, "err", err)
			}
		}
	}
}
