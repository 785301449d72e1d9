package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

// Resync sends tables again, by key ranges beside the live stream.
type Resync interface {
	// Up asks a facility to send tables (schema.name) again. It reports whether
	// the facility is connected: if not, nothing was asked.
	Up(facility, reason string, tables ...string) (asked bool, err error)
	// Down has tables sent to a facility again, as soon as it is connected.
	Down(ctx context.Context, facility string, tables ...string) error
}

// downWithin is how long somebody waits who asks while the region starts.
const downWithin = 5 * time.Second

type resyncInput struct {
	FacilityPath
	Body v1.ResyncRequest
}

func (h *Handler) registerResync() {
	register(h, web.Operator, huma.Operation{
		OperationID: "resync", Method: http.MethodPost, Path: "/api/v1/facilities/{facility}/resync",
		Summary: "Send tables again", Tags: []string{"sync"},
		Description: "By key ranges, beside the live stream; nothing is emptied first. Each table is sent by the side that owns its rows: " +
			"fact and event tables by the facility, master tables by the region. With direction down, fact tables are sent by the region: for a box whose database was lost. " +
			"How far it has come: GET /api/v1/facilities/{facility}/sync.",
	}, h.resync)
}

func (h *Handler) resync(ctx context.Context, in *resyncInput) (*body[v1.Resync], error) {
	f, err := h.findFacility(ctx, in.Facility, false)
	if err != nil {
		return nil, err
	}
	tables, err := h.store.tables(ctx, true)
	if err != nil {
		return nil, err
	}
	out, err := plan(tables, in.Body)
	if err != nil {
		return nil, err
	}
	out.Facility, out.DryRun = f.ID, in.Body.DryRun
	switch {
	case in.Body.DryRun:
		return &body[v1.Resync]{out}, nil
	case len(out.Up) > 0 && !h.status(f).Stream:
		return nil, conflict(f.ID+" is not connected, so it cannot be asked for its tables",
			"Do it again when it is; see: holdfastctl fleet. What it has changed meanwhile is sent by itself.")
	}
	err = audit(ctx, h.DB, who(ctx), "facility.resync", map[string]any{"facility": f.ID, "up": out.Up, "down": out.Down})
	if err != nil {
		return nil, err
	}
	if len(out.Down) > 0 {
		short, cancel := context.WithTimeout(ctx, downWithin)
		defer cancel()
		err := h.Resync.Down(short, f.ID, ids(out.Down)...)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			return nil, conflict("the region has only just started and does not know yet what it sends to "+f.ID, "Do it again in a few seconds.")
		}
		if err != nil {
			return nil, fmt.Errorf("send tables to %s again: %w", f.ID, err)
		}
	}
	if len(out.Up) > 0 {
		asked, err := h.Resync.Up(f.ID, who(ctx)+" asked for it", ids(out.Up)...)
		if err == nil && !asked {
			err = errors.New("it has just gone")
		}
		if err != nil {
			return nil, fmt.Errorf("ask %s for its tables: %w", f.ID, err)
		}
	}
	return &body[v1.Resync]{out}, nil
}

// plan says which tables go which way.
func plan(tables []v1.Table, in v1.ResyncRequest) (v1.Resync, error) {
	out := v1.Resync{Up: []v1.TableName{}, Down: []v1.TableName{}}
	for _, t := range tables {
		name := v1.TableName{Schema: t.Schema, Table: t.Table}
		named := slices.Contains(in.Tables, name)
		if len(in.Tables) > 0 && !named {
			continue
		}
		down := t.Class == "master" || t.Class == "fact" && in.Direction == v1.ResyncDown
		switch {
		case down && in.Direction != v1.ResyncUp:
			out.Down = append(out.Down, name)
		case !down && in.Direction != v1.ResyncDown:
			out.Up = append(out.Up, name)
		case named:
			return out, invalid("body.direction", fmt.Sprintf("the rows of %s.%s, a table of class %s, do not go %s", t.Schema, t.Table, t.Class, in.Direction),
				"Leave the direction away: then each table is sent by the side that owns its rows.")
		}
	}
	for _, n := range in.Tables {
		if !slices.ContainsFunc(tables, func(t v1.Table) bool { return t.Schema == n.Schema && t.Table == n.Table }) {
			return out, notFound("synced table", n.Schema+"."+n.Table, "holdfastctl tables list shows the synced tables.")
		}
	}
	return out, nil
}

func ids(names []v1.TableName) []string {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = n.Schema + "." + n.Table
	}
	return list
}

// down is nil for a facility that was never sent anything.
func (s store) down(ctx context.Context, facility string) (*v1.DownStatus, error) {
	d := v1.DownStatus{Loads: []v1.Load{}}
	var epoch, seq int64
	err := s.db.QueryRow(ctx, `SELECT epoch, seq, at FROM holdfast.down_position WHERE facility = $1`, facility).Scan(&epoch, &seq, &d.At)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the position of the way down: %w", err)
	}
	d.Epoch, d.Seq = uint64(epoch), uint64(seq)
	rows, err := s.db.Query(ctx, `SELECT schema_name, table_name, reason, rows_sent, asked_at, done_at
		FROM holdfast.down_load WHERE facility = $1 ORDER BY done_at IS NOT NULL, schema_name, table_name`, facility)
	if err != nil {
		return nil, fmt.Errorf("list loads: %w", err)
	}
	d.Loads, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l v1.Load, err error) {
		var done *time.Time
		err = row.Scan(&l.Schema, &l.Table, &l.Reason, &l.Rows, &l.AskedAt, &done)
		l.DoneAt = done
		return l, err
	})
	if err != nil {
		return nil, fmt.Errorf("list loads: %w", err)
	}
	d.Loads = append([]v1.Load{}, d.Loads...)
	return &d, nil
}
