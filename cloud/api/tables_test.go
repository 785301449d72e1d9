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
