package router

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/proto"
)

// publish keeps the routes and the publications what the list of tables and
// the facilities say, and has new master tables sent to everybody.
func (r *Router) publish(ctx context.Context, up func()) error {
	tick := time.NewTicker(r.c.Every)
	defer tick.Stop()
	for {
		tables, changed := r.c.Tables()
		err := r.settle(ctx, tables.Tables)
		r.announce(tables, err == nil)
		if err != nil {
			return err
		}
		up()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-r.look:
		case <-tick.C:
		}
	}
}

func (r *Router) settle(ctx context.Context, tables []proto.SyncedTable) error {
	facilities, err := r.c.Facilities(ctx)
	if err != nil {
		return fmt.Errorf("list the facilities: %w", err)
	}
	routes := newRoutes(tables, facilities)
	list, masters, err := r.captured(ctx, routes)
	if err != nil {
		return err
	}
	r.tellOwners(ctx, routes, list)
	// Before anything of a table can be read it must be known where it goes.
	r.mu.Lock()
	again := moved(r.routes, routes)
	r.routes = routes
	r.forget()
	r.mu.Unlock()
	if err := r.ensure(ctx, list, masters, again); err != nil {
		return err
	}
	select {
	case <-r.settled:
	default:
		close(r.settled)
	}
	notify(r.loadLook)
	return nil
}

// tellOwners has the WAL tell whose a row was, of tables whose key does not. A
// table for which that cannot be done now holds up no other.
func (r *Router) tellOwners(ctx context.Context, routes *routes, list []capture.Table) {
	conn, err := r.c.DB.Acquire(ctx)
	if err != nil {
		return // what follows says so
	}
	defer conn.Release()
	r.mu.Lock()
	was := r.routes
	r.mu.Unlock()
	for _, t := range list {
		e := routes.byID[t.ID()]
		if e.column == "" {
			continue
		}
		told, inKey, err := capture.TellOwner(ctx, conn.Conn(), t, e.column)
		e.beside = told && !inKey
		if old := was.byID[t.ID()]; err != nil && old != nil {
			e.beside = old.beside
		}
		if bad := err != nil || !told; bad != r.untold[t.ID()] {
			if r.untold[t.ID()] = bad; bad {
				r.log.Warn("the WAL does not tell whose the rows of a table were that are removed, or moved to another facility", "table", t.ID(), "column", e.column, "err", err)
			}
		}
	}
}

// announceWithin is how long the facilities wait to hear of a new table because
// the region cannot capture it. Their own changes must not wait for ever.
const announceWithin = 5 * time.Second

// announce lets the facilities know of the tables once what is changed in them
// here will be captured. A facility that hears of a fact table sends all of its
// rows, and so settles what was changed here before.
func (r *Router) announce(t proto.Tables, settled bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.announced.is(t) {
		r.announced.waiting = time.Time{}
		return
	}
	if !settled || !r.open {
		if r.announced.waiting.IsZero() {
			r.announced.waiting = time.Now()
		}
		if time.Since(r.announced.waiting) < announceWithin {
			return
		}
		r.log.Warn("facilities are told of tables whose changes here cannot be captured yet", "err", r.stats.CaptureErr)
	}
	close(r.announced.changed)
	r.announced = announced{tables: t, known: true, changed: make(chan struct{})}
}

// announced is what the facilities know.
type announced struct {
	tables  proto.Tables
	known   bool
	waiting time.Time // since when a newer list waits
	changed chan struct{}
}

func (a *announced) is(t proto.Tables) bool { return a.known && a.tables.Version == t.Version }

// Tables returns what the facilities may know of: tables whose changes here are
// captured. The channel is closed when that changes.
func (r *Router) Tables() (proto.Tables, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.announced.tables, r.announced.changed
}

// Announced waits until Tables knows something: a box that is told of no tables
// forgets those that it has.
func (r *Router) Announced(ctx context.Context) error {
	for {
		r.mu.Lock()
		a := r.announced
		r.mu.Unlock()
		if a.known {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.changed:
		}
	}
}

// ensure publishes the tables. What happened to a master table's rows until it
// was published is in no stream, so that it is sent again; so is a fact table
// of which the facilities knew already.
func (r *Router) ensure(ctx context.Context, list []capture.Table, masters map[capture.Table]proto.SyncedTable, again []proto.SyncedTable) error {
	missing, err := r.republish(ctx, list)
	if err != nil {
		return err
	}
	var all []proto.SyncedTable
	for _, t := range missing {
		if m, ok := masters[t]; ok {
			again = append(again, m)
		} else if f, ok := r.knownFact(t); ok {
			again = append(again, f)
		}
	}
	for _, m := range masters {
		all = append(all, m)
	}
	if err := r.store.offer(ctx, again, true); err != nil {
		return err
	}
	return r.store.offer(ctx, all, false)
}

// moved lists the master tables whose rows go to others than before.
func moved(was, now *routes) []proto.SyncedTable {
	var list []proto.SyncedTable
	for id, e := range now.byID {
		if old := was.byID[id]; old != nil && e.master && (!old.master || old.column != e.column) {
			list = append(list, e.table)
		}
	}
	return list
}

// knownFact returns a fact table's entry if the facilities know of it.
func (r *Router) knownFact(t capture.Table) (proto.SyncedTable, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.routes.byID[t.ID()]
	if e == nil {
		return proto.SyncedTable{}, false
	}
	return e.table, slices.ContainsFunc(r.announced.tables.Tables, func(k proto.SyncedTable) bool { return k.ID() == e.table.ID() && k.Class == e.table.Class })
}

// republish makes the publications right and returns the tables that were in none.
func (r *Router) republish(ctx context.Context, list []capture.Table) ([]capture.Table, error) {
	conn, err := r.c.DB.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("reach the region's database: %w", err)
	}
	defer conn.Release()
	missing, err := capture.Unpublished(ctx, conn.Conn(), list)
	if err != nil {
		return nil, err
	}
	return missing, capture.EnsurePublications(ctx, conn.Conn(), list)
}

// captured lists the tables that are there, and which of them are master tables.
func (r *Router) captured(ctx context.Context, routes *routes) (list []capture.Table, masters map[capture.Table]proto.SyncedTable, err error) {
	var schemas, names []string
	for _, e := range routes.byID {
		schemas, names = append(schemas, e.schema), append(names, e.table.Name)
	}
	there, err := r.store.existing(ctx, schemas, names)
	if err != nil {
		return nil, nil, err
	}
	masters = map[capture.Table]proto.SyncedTable{}
	for id, e := range routes.byID {
		if !there[id] {
			continue
		}
		t := capture.Table{Schema: e.schema, Name: e.table.Name}
		list = append(list, t)
		if e.master {
			masters[t] = e.table
		}
	}
	slices.SortFunc(list, func(a, b capture.Table) int { return compare(a.ID(), b.ID()) })
	return list, masters, nil
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// forget drops the cursors of facilities that are gone; mu is held.
func (r *Router) forget() {
	for f := range r.acked {
		if _, there := r.routes.tenants[f]; !there && r.online[f] == 0 {
			delete(r.acked, f)
			delete(r.dirty, f)
		}
	}
}

// tables lists the tables that are sent, as facilities know them.
func (r *routes) tables() []proto.SyncedTable {
	byID := map[string]proto.SyncedTable{}
	for _, e := range r.byID {
		byID[e.table.ID()] = e.table
	}
	var list []proto.SyncedTable
	for _, t := range byID {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b proto.SyncedTable) int { return compare(a.ID(), b.ID()) })
	return list
}

// restartAt puts a facility's cursor somewhere and has its master tables sent,
// or all of its tables.
func (r *Router) restartAt(ctx context.Context, facility string, enrolment int, at change.Position, all bool, reason string) error {
	r.mu.Lock()
	tables := r.routes.tables()
	r.mu.Unlock()
	if !all {
		tables = slices.DeleteFunc(tables, func(t proto.SyncedTable) bool { return t.Class != "master" })
	}
	if err := r.store.restart(ctx, facility, enrolment, at, tables, reason); err != nil {
		return err
	}
	notify(r.loadLook)
	return nil
}
