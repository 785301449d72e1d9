package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/schema"
	"github.com/agogsaas/holdfast/proto"
)

// Errors of the list.
var (
	// ErrNotFound is returned for a table that is not synced.
	ErrNotFound = errors.New("the table is not synced")
	// ErrSystem is returned for one of Holdfast's own tables.
	ErrSystem = errors.New("the table is Holdfast's own")
)

// CheckRegion says what is wrong with the region's side of a table.
type CheckRegion func(ctx context.Context, t proto.SyncedTable) ([]proto.Problem, error)

// CheckFacilities asks every connected facility what is wrong with its side.
type CheckFacilities func(ctx context.Context, t proto.SyncedTable) (problems map[string][]proto.Problem, silent []string)

// rereadEvery bounds how long a change of the list that nobody announced stays
// unseen.
const rereadEvery = 30 * time.Second

// tables is the list of synced tables in memory.
type tables struct {
	store store

	mu      sync.Mutex
	list    proto.Tables
	reg     *apply.Registry
	changed chan struct{} // closed when the list changes
}

func newTables(s store) *tables {
	return &tables{store: s, changed: make(chan struct{}), reg: apply.NewRegistry(-1, nil)}
}

func (t *tables) registry() *apply.Registry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reg
}

// load reads the list, and announces it if it is newer.
func (t *tables) load(ctx context.Context) error {
	list, removed, err := t.store.readTables(ctx)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reg.Version == int64(list.Version) {
		return nil
	}
	entries := make([]apply.Table, len(list.Tables))
	for i, e := range list.Tables {
		entries[i] = entry(e)
	}
	t.list, t.reg = list, apply.NewRegistry(int64(list.Version), entries, removed...)
	close(t.changed)
	t.changed = make(chan struct{})
	return nil
}

func entry(t proto.SyncedTable) apply.Table {
	return apply.Table{
		Schema: t.Schema, Name: t.Name, Class: apply.Class(t.Class), FacilityColumn: t.FacilityColumn, TargetSchema: t.RegionSchema,
		Policy: apply.Policy(t.Policy), CloudColumns: t.CloudColumns,
	}
}

// watch reloads the list whenever another process says that it has changed.
func (t *tables) watch(ctx context.Context, up func()) error {
	return t.store.listen(ctx, rereadEvery, func(ctx context.Context) error {
		if err := t.load(ctx); err != nil {
			return err
		}
		up()
		return nil
	})
}

// Tables returns what is synced, and a channel that is closed when that changes.
func (in *Ingest) Tables() (proto.Tables, <-chan struct{}) {
	in.tables.mu.Lock()
	defer in.tables.mu.Unlock()
	return in.tables.list, in.tables.changed
}

// Refresh reads the list of tables now.
func (in *Ingest) Refresh(ctx context.Context) error { return in.tables.load(ctx) }

// Check says all that is wrong with syncing t, in the region and at every
// connected facility. Warnings do not stand in the way, such as a facility
// that could not be asked.
func (in *Ingest) Check(ctx context.Context, t proto.SyncedTable) (problems []proto.Problem, warnings []string, err error) {
	e := entry(t)
	if err := e.Check(); err != nil {
		return []proto.Problem{problem(err)}, nil, nil
	}
	if in.cfg.CheckRegion != nil {
		found, err := in.cfg.CheckRegion(ctx, t)
		if err != nil {
			return nil, nil, fmt.Errorf("check %s in the region: %w", t.ID(), err)
		}
		problems = append(problems, found...)
	}
	if len(problems) == 0 {
		if warnings, err = in.sameNumbers(ctx, t); err != nil {
			return nil, nil, err
		}
	}
	if in.cfg.CheckFacilities != nil {
		at, silent := in.cfg.CheckFacilities(ctx, t)
		for _, facility := range slices.Sorted(maps.Keys(at)) {
			for _, p := range at[facility] {
				problems = append(problems, proto.Problem{Text: "at " + facility + ": " + p.Text, Remedy: p.Remedy})
			}
		}
		for _, facility := range silent {
			warnings = append(warnings, facility+" did not answer; it checks the table itself and says so if it cannot serve it")
		}
	}
	return problems, warnings, nil
}

// sameNumbers says where rows that are added on both sides get the same keys.
// With a schema for each facility the tables are alike: one tells.
func (in *Ingest) sameNumbers(ctx context.Context, t proto.SyncedTable) ([]string, error) {
	table, err := in.store.example(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("look at %s in the region: %w", t.ID(), err)
	}
	if table == nil {
		return nil, nil
	}
	var warnings []string
	for _, p := range schema.SameNumbers(table, t) {
		warnings = append(warnings, p.Text+". "+p.Remedy)
	}
	return warnings, nil
}

// Add registers a table that was checked, or changes its entry, and announces it.
func (in *Ingest) Add(ctx context.Context, t proto.SyncedTable, by string) error {
	e := entry(t)
	if err := e.Check(); err != nil {
		return err
	}
	if t.System() {
		return fmt.Errorf("register %s: %w", t.ID(), ErrSystem)
	}
	if err := in.store.addTable(ctx, t, by); err != nil {
		return err
	}
	return in.tables.load(ctx)
}

// Remove ends the syncing of a table; its rows stay. ErrNotFound: it was not
// synced. ErrSystem: it is not anybody's to remove.
func (in *Ingest) Remove(ctx context.Context, schema, name string) error {
	if t := (proto.SyncedTable{Schema: schema, Name: name}); t.System() {
		return fmt.Errorf("end the syncing of %s: %w", t.ID(), ErrSystem)
	}
	if err := in.store.removeTable(ctx, schema, name); err != nil {
		return err
	}
	return in.tables.load(ctx)
}

// TableStates stores how the facility's tables fare. Tables that are not in
// states are forgotten.
func (in *Ingest) TableStates(ctx context.Context, facility string, states []proto.TableState) error {
	if err := in.store.putStates(ctx, facility, states); err != nil {
		return err
	}
	for _, t := range states {
		if t.State == proto.TableRefused {
			continue
		}
		for _, p := range t.Problems { // what was left out
			if err := in.store.addEventOnce(ctx, facility, "left_out", p.String()); err != nil {
				return err
			}
		}
	}
	return nil
}

// Event keeps something about a stream that a person should be able to read later.
func (in *Ingest) Event(ctx context.Context, facility, kind, detail string) error {
	return in.store.addEvent(ctx, facility, kind, detail)
}
