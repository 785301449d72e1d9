package api

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

func TestRowsOfFacilitiesMustBeTellableApart(t *testing.T) {
	none := ""
	for _, c := range []struct {
		name string
		in   v1.TableAdd
		want string // facility column, or "refused"
	}{
		{"default", v1.TableAdd{}, "facility_id"},
		{"a schema each", v1.TableAdd{RegionSchema: "{facility}_{schema}"}, ""},
		{"no column and one schema", v1.TableAdd{FacilityColumn: &none}, "refused"},
		{"unknown placeholder", v1.TableAdd{RegionSchema: "{tenant}"}, "refused"},
	} {
		got, err := tableOf(c.in)
		if c.want == "refused" {
			if err == nil {
				t.Errorf("%s: not refused", c.name)
			}
			continue
		}
		if err != nil || got.FacilityColumn != c.want {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

func TestInternalErrorsStayInTheLog(t *testing.T) {
	cause := hint.Wrap(errors.New("dial tcp 10.0.0.5:5432: secret detail"), "Start the database.")
	err := present(slog.New(slog.DiscardHandler), "add-facility", fmt.Errorf("add facility: %w", cause))
	p, ok := errors.AsType[*v1.Problem](err)
	if !ok || p.Status != 500 || p.Remedy != "Start the database." {
		t.Fatalf("%+v", err)
	}
	if strings.Contains(p.Error(), "secret detail") {
		t.Errorf("the cause is shown: %s", p.Error())
	}
}

func TestMasterTablesAndPoliciesHaveTheirDefaults(t *testing.T) {
	column := "facility_id"
	for _, c := range []struct {
		name   string
		in     v1.TableAdd
		column string // "refused" is that
		policy string
	}{
		{"fact", v1.TableAdd{Class: "fact"}, "facility_id", "edge"},
		{"fact with columns of the cloud", v1.TableAdd{Class: "fact", CloudColumns: []string{"price"}}, "facility_id", "columns"},
		{"event", v1.TableAdd{Class: "event"}, "facility_id", ""},
		{"master", v1.TableAdd{Class: "master", TenantColumn: "tenant"}, "", ""},
		{"master of a facility", v1.TableAdd{Class: "master", FacilityColumn: &column}, "refused", ""},
		{"Holdfast's own", v1.TableAdd{Class: "event", Schema: "holdfast", Table: "conflict"}, "refused", ""},
	} {
		got, err := tableOf(c.in)
		if c.column == "refused" {
			if err == nil {
				t.Errorf("%s: not refused", c.name)
			}
			continue
		}
		if err != nil || got.FacilityColumn != c.column || got.Policy != c.policy || got.TenantColumn != c.in.TenantColumn {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}
