package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/ingest"
	"github.com/agogsaas/holdfast/internal/web"
	"github.com/agogsaas/holdfast/proto"
)

const (
	defaultFacilityColumn = "facility_id"
	defaultRegionSchema   = "{schema}"
)

type tableInput struct {
	Schema string `path:"schema" maxLength:"63" example:"public"`
	Table  string `path:"table" maxLength:"63" example:"orders"`
}

func (h *Handler) registerTables() {
	tags := []string{"tables"}
	register(h, web.Viewer, huma.Operation{
		OperationID: "list-tables", Method: http.MethodGet, Path: "/api/v1/tables",
		Summary: "Synced tables, with their state at each facility", Tags: tags,
	}, h.listTables)
	register(h, web.Operator, huma.Operation{
		OperationID: "add-table", Method: http.MethodPost, Path: "/api/v1/tables",
		Summary: "Sync a table", Tags: tags, DefaultStatus: http.StatusCreated,
		Description: "The table must exist in the region's database. It is checked there and at every connected facility; all that is wrong is said at once, each with its remedy.",
	}, h.addTable)
	register(h, web.Operator, huma.Operation{
		OperationID: "remove-table", Method: http.MethodDelete, Path: "/api/v1/tables/{schema}/{table}",
		Summary: "Stop syncing a table", Tags: tags, DefaultStatus: http.StatusNoContent,
		Description: "Its rows stay where they are, on both sides.",
	}, h.removeTable)
}

type tablesInput struct {
	Facility string `query:"facility" maxLength:"63" doc:"Show the states at this facility only"`
	System   bool   `query:"system" doc:"Show Holdfast's own tables too"`
}

func (h *Handler) listTables(ctx context.Context, in *tablesInput) (*body[v1.Page[v1.Table]], error) {
	items, err := h.store.tables(ctx, in.System)
	if err != nil {
		return nil, err
	}
	if in.Facility != "" {
		if _, err := h.findFacility(ctx, in.Facility, true); err != nil {
			return nil, err
		}
	}
	states, err := h.tablesAt(ctx, in.Facility, in.System)
	if err != nil {
		return nil, err
	}
	if err := h.store.addVerified(ctx, in.Facility, states); err != nil {
		return nil, err
	}
	by := map[[2]string][]v1.TableAt{}
	for _, s := range states {
		key := [2]string{s.Schema, s.Table}
		by[key] = append(by[key], s)
	}
	for i := range items {
		if at := by[[2]string{items[i].Schema, items[i].Table}]; at != nil {
			items[i].Facilities = at
		}
		t := items[i]
		here, err := h.Tables.Shape(ctx, "", proto.SyncedTable{Schema: t.Schema, Name: t.Table, Class: t.Class, RegionSchema: t.RegionSchema})
		if err != nil {
			return nil, err
		}
		if here != nil {
			for _, c := range here.Describe() {
				items[i].Columns = append(items[i].Columns, v1.Column{Name: c.Name, Type: c.Type, Key: c.Key})
			}
		}
	}
	return &body[v1.Page[v1.Table]]{v1.Page[v1.Table]{Items: items}}, nil
}

func (s store) tables(ctx context.Context, system bool) ([]v1.Table, error) {
	rows, err := s.db.Query(ctx, `
		SELECT schema_name, table_name, class, facility_column, region_schema, CASE class WHEN 'fact' THEN policy ELSE '' END,
		       cloud_columns, tenant_column, added_at, added_by
		  FROM holdfast.synced_table WHERE $1 OR schema_name <> 'holdfast' ORDER BY schema_name, table_name`, system)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	items, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (v1.Table, error) {
		t := v1.Table{Facilities: []v1.TableAt{}}
		err := row.Scan(&t.Schema, &t.Table, &t.Class, &t.FacilityColumn, &t.RegionSchema,
			&t.Policy, &t.CloudColumns, &t.TenantColumn, &t.AddedAt, &t.AddedBy)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	return append([]v1.Table{}, items...), nil
}

// addTable checks first and registers after, so that a refusal changes nothing.
func (h *Handler) addTable(ctx context.Context, in *body[v1.TableAdd]) (*body[v1.TableAdded], error) {
	t, err := tableOf(in.Body)
	if err != nil {
		return nil, err
	}
	problems, warnings, err := h.Tables.Check(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("check table: %w", err)
	}
	if len(problems) > 0 {
		return nil, unsuitable(t, problems)
	}
	out := v1.TableAdded{DryRun: in.Body.DryRun, Warnings: warnings, Table: v1.Table{
		Schema: t.Schema, Table: t.Name, Class: t.Class, FacilityColumn: t.FacilityColumn, RegionSchema: t.RegionSchema,
		Policy: t.Policy, CloudColumns: append([]string{}, t.CloudColumns...), TenantColumn: t.TenantColumn,
		AddedAt: time.Now(), AddedBy: who(ctx), Facilities: []v1.TableAt{},
	}}
	if in.Body.DryRun {
		return &body[v1.TableAdded]{out}, nil
	}
	err = audit(ctx, h.DB, who(ctx), "table.add", map[string]any{
		"table": t.ID(), "class": t.Class, "facility_column": t.FacilityColumn, "region_schema": t.RegionSchema,
		"policy": t.Policy, "cloud_columns": t.CloudColumns, "tenant_column": t.TenantColumn,
	})
	if err != nil {
		return nil, err
	}
	if err := h.Tables.Add(ctx, t, who(ctx)); err != nil {
		return nil, fmt.Errorf("add table: %w", err)
	}
	return &body[v1.TableAdded]{out}, nil
}

// tableOf fills in the defaults. Where every facility has a schema of its own
// no column is needed to tell their rows apart.
func tableOf(in v1.TableAdd) (proto.SyncedTable, error) {
	t := proto.SyncedTable{
		Schema: in.Schema, Name: in.Table, Class: in.Class, RegionSchema: in.RegionSchema,
		Policy: in.Policy, CloudColumns: in.CloudColumns, TenantColumn: in.TenantColumn,
	}
	if t.System() {
		return t, systemTable(t.ID())
	}
	if t.Class == "fact" && t.Policy == "" {
		t.Policy = proto.PolicyEdge
		if len(t.CloudColumns) > 0 {
			t.Policy = proto.PolicyColumns
		}
	}
	if t.RegionSchema == "" {
		t.RegionSchema = defaultRegionSchema
	}
	own := strings.Contains(t.RegionSchema, "{facility}")
	master := t.Class == "master"
	switch {
	case in.FacilityColumn != nil:
		t.FacilityColumn = *in.FacilityColumn
	case !own && !master:
		t.FacilityColumn = defaultFacilityColumn
	}
	if master && t.FacilityColumn != "" {
		return t, invalid("body.facility_column", "the rows of a master table belong to the tenant, not to a facility",
			"Leave it away; tenant_column says which tenant a row belongs to.")
	}
	if t.FacilityColumn == "" && !own && !master {
		return t, invalid("body.facility_column", "nothing tells the facilities' rows apart in the region",
			"Name the column that holds the facility's id, or give each facility a schema of its own with region_schema {facility}_{schema}.")
	}
	rest := strings.NewReplacer("{schema}", "", "{facility}", "").Replace(t.RegionSchema)
	if strings.ContainsAny(rest, "{}") {
		return t, invalid("body.region_schema", "has braces around something other than schema and facility",
			"Use {schema}, {facility}, and plain text, such as {facility}_{schema}.")
	}
	return t, nil
}

func systemTable(id string) error {
	return invalid("body.schema", id+" belongs to Holdfast, which syncs what it needs by itself", "Sync the application's own tables only.")
}

func unsuitable(t proto.SyncedTable, problems []proto.Problem) error {
	p := problem(http.StatusConflict, v1.ProblemUnsuitable, fmt.Sprintf("table %s cannot be synced as it is", t.ID()),
		"Do what each point says and add it again; nothing was changed.")
	for _, one := range problems {
		p.Errors = append(p.Errors, v1.ProblemItem{Message: one.Text, Remedy: one.Remedy})
	}
	return p
}

func (h *Handler) removeTable(ctx context.Context, in *tableInput) (*struct{}, error) {
	err := h.Tables.Remove(ctx, in.Schema, in.Table)
	if errors.Is(err, ingest.ErrNotFound) {
		return nil, notFound("synced table", in.Schema+"."+in.Table, "holdfastctl tables list shows the synced tables.")
	}
	if errors.Is(err, ingest.ErrSystem) {
		return nil, systemTable(in.Schema + "." + in.Table)
	}
	if err != nil {
		return nil, fmt.Errorf("remove table: %w", err)
	}
	err = audit(ctx, h.DB, who(ctx), "table.remove", map[string]any{"table": in.Schema + "." + in.Table})
	return nil, err
}
