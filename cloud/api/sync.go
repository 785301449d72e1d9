package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
	"github.com/agogsaas/holdfast/proto"
)

type eventsInput struct {
	FacilityPath
	PageQuery
}

func (h *Handler) registerSync() {
	tags := []string{"sync"}
	register(h, web.Viewer, huma.Operation{
		OperationID: "sync-status", Method: http.MethodGet, Path: "/api/v1/facilities/{facility}/sync",
		Summary: "How far a facility's stream has come", Tags: tags,
	}, h.syncStatus)
	register(h, web.Viewer, huma.Operation{
		OperationID: "list-events", Method: http.MethodGet, Path: "/api/v1/facilities/{facility}/events",
		Summary: "What happened to a facility's stream, newest first", Tags: tags,
	}, h.listEvents)
}

func (h *Handler) syncStatus(ctx context.Context, in *FacilityPath) (*body[v1.SyncStatus], error) {
	f, err := h.findFacility(ctx, in.Facility, true)
	if err != nil {
		return nil, err
	}
	now := h.status(f)
	out := v1.SyncStatus{
		Facility: f.ID, State: now.State, Connected: now.Stream,
		Queue: now.Queue, ReportedAt: now.ReportedAt, Lag: now.Lag, Stalled: now.Stalled, Limit: h.limit(f.ID), Throughput: h.Fleet.Throughput(f.ID),
	}
	if h.Waiting != nil {
		if p := h.Waiting(f.ID); p != nil {
			out.Waits, out.Remedy = p.Text, p.Remedy
		}
	}
	if out.AtBox, err = h.Parked.AtBox(ctx, f.ID); err != nil {
		return nil, err
	}
	if out.Parked, out.PassedOver, err = h.Parked.Waiting(ctx, f.ID); err != nil {
		return nil, err
	}
	if out.Position, err = h.store.position(ctx, f.ID); err != nil {
		return nil, err
	}
	if out.Down, err = h.store.down(ctx, f.ID); err != nil {
		return nil, err
	}
	if out.Tables, err = h.tablesAt(ctx, f.ID, false); err != nil {
		return nil, err
	}
	if err := h.store.addVerified(ctx, f.ID, out.Tables); err != nil {
		return nil, err
	}
	return &body[v1.SyncStatus]{out}, nil
}

// position is nil before the facility's first transaction.
func (s store) position(ctx context.Context, facility string) (*v1.Position, error) {
	var p v1.Position
	var epoch, seq int64
	err := s.db.QueryRow(ctx, `
		SELECT epoch, seq, source_lsn::text, source_commit_at, applied_at
		  FROM holdfast.position WHERE facility = $1`, facility).
		Scan(&epoch, &seq, &p.SourceLSN, &p.SourceCommitAt, &p.AppliedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read position: %w", err)
	}
	p.Epoch, p.Seq = uint64(epoch), uint64(seq)
	return &p, nil
}

func (h *Handler) listEvents(ctx context.Context, in *eventsInput) (*body[v1.Page[v1.Event]], error) {
	if _, err := h.findFacility(ctx, in.Facility, true); err != nil {
		return nil, err
	}
	before, err := beforeID(in.Cursor)
	if err != nil {
		return nil, err
	}
	rows, err := h.DB.Query(ctx, `
		SELECT id, facility, at, kind, epoch, seq, detail FROM holdfast.stream_event
		 WHERE facility = $1 AND id < $2 ORDER BY id DESC LIMIT $3`, in.Facility, before, in.Limit+1)
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	items, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (v1.Event, error) {
		var e v1.Event
		var epoch, seq int64
		err := row.Scan(&e.ID, &e.Facility, &e.At, &e.Kind, &epoch, &seq, &e.Detail)
		e.Epoch, e.Seq = uint64(epoch), uint64(seq)
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	return pageOf(items, in.Limit, func(e v1.Event) string { return strconv.FormatInt(e.ID, 10) }), nil
}

// beforeID reads the cursor of lists that go back in time.
func beforeID(cursor string) (int64, error) {
	if cursor == "" {
		return 1<<63 - 1, nil
	}
	id, err := strconv.ParseInt(cursor, 10, 64)
	if err != nil {
		return 0, invalid("query.cursor", "is not a cursor of this list", "Pass the next value of the page before, or nothing.")
	}
	return id, nil
}

func (h *Handler) registerAudit() {
	register(h, web.Admin, huma.Operation{
		OperationID: "list-audit", Method: http.MethodGet, Path: "/api/v1/audit",
		Summary: "Who changed what, newest first", Tags: []string{"access"},
	}, h.listAudit)
}

func (h *Handler) listAudit(ctx context.Context, in *PageQuery) (*body[v1.Page[v1.AuditEntry]], error) {
	before, err := beforeID(in.Cursor)
	if err != nil {
		return nil, err
	}
	rows, err := h.DB.Query(ctx, `
		SELECT id, at, who, what, detail FROM holdfast.audit
		 WHERE id < $1 ORDER BY id DESC LIMIT $2`, before, in.Limit+1)
	if err != nil {
		return nil, fmt.Errorf("list audit entries: %w", err)
	}
	items, err := pgx.CollectRows(rows, pgx.RowToStructByPos[v1.AuditEntry])
	if err != nil {
		return nil, fmt.Errorf("list audit entries: %w", err)
	}
	return pageOf(items, in.Limit, func(e v1.AuditEntry) string { return strconv.FormatInt(e.ID, 10) }), nil
}

// tableAtRow is one table at one facility; the state's columns are null when
// the facility has not said anything of it yet.
type tableAtRow struct {
	Facility, Schema, Table string
	State, Problem, Remedy  *string
	RowsLoaded, Changes     *int64
	LastSeq                 *int64
	UpdatedAt               *time.Time
	Fingerprint             *int64
	Columns                 []proto.TableColumn
	Class, RegionSchema     string
}

func (r tableAtRow) tableAt() v1.TableAt {
	t := v1.TableAt{Facility: r.Facility, Schema: r.Schema, Table: r.Table, Class: r.Class, State: "waiting", UpdatedAt: r.UpdatedAt}
	if r.State != nil {
		t.State, t.Problem, t.Remedy = *r.State, *r.Problem, *r.Remedy
		t.RowsLoaded, t.Changes, t.LastSeq = *r.RowsLoaded, *r.Changes, *r.LastSeq
	}
	return t
}

// tablesAt returns every synced table at one facility, or at all that were
// not removed when facility is "", ordered by table and facility; Holdfast's
// own tables only when asked for.
func (s store) tablesAt(ctx context.Context, facility string, system bool) ([]tableAtRow, error) {
	rows, err := s.db.Query(ctx, `
		SELECT f.id, t.schema_name, t.table_name, ft.state, ft.problem, ft.remedy,
		       ft.rows_loaded, ft.changes, ft.last_seq, ft.updated_at, ft.fingerprint, ft.columns, t.class, t.region_schema
		  FROM holdfast.synced_table t
		 CROSS JOIN holdfast.facility f
		  LEFT JOIN holdfast.facility_table ft
		    ON (ft.facility, ft.schema_name, ft.table_name) = (f.id, t.schema_name, t.table_name)
		 WHERE CASE WHEN $1 = '' THEN f.removed_at IS NULL ELSE f.id = $1 END AND ($2 OR t.schema_name <> 'holdfast')
		 ORDER BY t.schema_name, t.table_name, f.id`, facility, system)
	if err != nil {
		return nil, fmt.Errorf("list table states: %w", err)
	}
	items, err := pgx.CollectRows(rows, pgx.RowToStructByPos[tableAtRow])
	if err != nil {
		return nil, fmt.Errorf("list table states: %w", err)
	}
	return items, nil
}

// tablesAt is the same for people, with how the columns differ.
func (h *Handler) tablesAt(ctx context.Context, facility string, system bool) ([]v1.TableAt, error) {
	items, err := h.store.tablesAt(ctx, facility, system)
	if err != nil {
		return nil, err
	}
	out := make([]v1.TableAt, 0, len(items))
	for _, r := range items {
		t := r.tableAt()
		// A thousand facilities with schemas of their own are as many tables to
		// look at: those are compared for one facility at a time.
		own := strings.Contains(r.RegionSchema, "{facility}")
		if r.Fingerprint != nil && (facility != "" || !own) {
			synced := proto.SyncedTable{Schema: r.Schema, Name: r.Table, Class: r.Class, RegionSchema: r.RegionSchema}
			differences, err := h.Tables.Compare(ctx, r.Facility, synced, uint64(*r.Fingerprint), r.Columns)
			if err != nil {
				return nil, err
			}
			for _, d := range differences {
				t.Differs = append(t.Differs, v1.Difference(d))
			}
		}
		out = append(out, t)
	}
	return out, nil
}
