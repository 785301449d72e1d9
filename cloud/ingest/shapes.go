package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/schema"
	"github.com/agogsaas/holdfast/proto"
)

// shapesFresh is how long the region's tables are not read again: pages and the
// API ask for all of them, many times a minute.
const shapesFresh = 5 * time.Second

// shapes are the region's own tables as they were read last.
type shapes struct {
	mu   sync.Mutex
	seen map[string]shape // by schema.name in the region
}

type shape struct {
	table *schema.Table // nil when there is none
	at    time.Time
}

// Shape is the region's own table into which a facility's rows go, at most a few
// seconds old; nil when there is none. Without a facility it is nil too where
// each has a schema of its own.
func (in *Ingest) Shape(ctx context.Context, facility string, t proto.SyncedTable) (*schema.Table, error) {
	pattern := t.RegionSchema
	if pattern == "" {
		pattern = "{schema}"
	}
	if facility == "" && strings.Contains(pattern, "{facility}") {
		return nil, nil
	}
	place := strings.NewReplacer("{schema}", t.Schema, "{facility}", facility).Replace(pattern)
	id, now := place+"."+t.Name, time.Now()
	in.shapes.mu.Lock()
	known, ok := in.shapes.seen[id]
	in.shapes.mu.Unlock()
	if ok && now.Sub(known.at) < shapesFresh {
		return known.table, nil
	}
	table, err := in.store.shape(ctx, place, t.Name)
	if err != nil {
		return nil, fmt.Errorf("look at %s in the region: %w", id, err)
	}
	in.shapes.mu.Lock()
	defer in.shapes.mu.Unlock()
	if in.shapes.seen == nil {
		in.shapes.seen = make(map[string]shape)
	}
	in.shapes.seen[id] = shape{table, now}
	return table, nil
}

func (s store) shape(ctx context.Context, schemaName, name string) (*schema.Table, error) {
	conn, err := s.db.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	table, err := schema.Read(ctx, conn.Conn(), schemaName, name)
	if errors.Is(err, schema.ErrNotFound) {
		return nil, nil
	}
	return table, err
}

// example is the region's table for t, of any facility where each has its own;
// nil when there is none.
func (s store) example(ctx context.Context, t proto.SyncedTable) (*schema.Table, error) {
	pattern := strings.ReplaceAll(cmp.Or(t.RegionSchema, "{schema}"), "{schema}", t.Schema)
	var place string
	err := s.db.QueryRow(ctx, `SELECT place FROM (SELECT replace($1::text, '{facility}', id) AS place FROM holdfast.facility UNION SELECT $1) p
		WHERE to_regclass(format('%I.%I', place, $2::text)) IS NOT NULL ORDER BY place LIMIT 1`, pattern, t.Name).Scan(&place)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return s.shape(ctx, place, t.Name)
}

// Compare says how a table at a facility differs from the region's: fingerprint
// and columns are what the facility has told of it, 0 and none when it has not.
func (in *Ingest) Compare(ctx context.Context, facility string, t proto.SyncedTable, fingerprint uint64, columns []proto.TableColumn) ([]schema.Difference, error) {
	if fingerprint == 0 {
		return nil, nil // refused or not told yet; the table's state says so
	}
	here, err := in.Shape(ctx, facility, t)
	if err != nil {
		return nil, err
	}
	switch {
	case here == nil:
		return []schema.Difference{{
			Warning: true, Text: fmt.Sprintf("there is no table %s in the region", t.ID()),
			Remedy: "Create it there with the same columns; what waits goes on by itself.",
		}}, nil
	case here.Fingerprint() == fingerprint:
		return nil, nil
	case len(columns) == 0:
		return []schema.Difference{{Text: "its columns differ from the region's; this box's version does not say which", Remedy: "Compare the two tables with \\d in psql."}}, nil
	}
	return schema.Compare(facility, columns, here, t), nil
}
