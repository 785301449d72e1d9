package dashboard

import (
	"context"

	"github.com/agogsaas/holdfast/internal/schema"
	"github.com/agogsaas/holdfast/proto"
)

// readTables is what the region's database has of one facility, with how its tables
// differ from the region's.
func (u *UI) readTables(ctx context.Context, facility string) (record, error) {
	rec, err := u.store.read(ctx, facility)
	if err != nil || u.d.Compare == nil {
		return rec, err
	}
	rec.Differs = make(map[string][]schema.Difference)
	for _, t := range rec.Tables {
		synced := proto.SyncedTable{Schema: t.Schema, Name: t.Table, Class: t.Class, RegionSchema: t.RegionSchema}
		list, err := u.d.Compare(ctx, facility, synced, uint64(t.Fingerprint), t.Columns)
		if err != nil {
			return record{}, err
		}
		if len(list) > 0 {
			rec.Differs[synced.ID()] = list
		}
	}
	return rec, nil
}

// Differences are how a table's columns differ from the region's.
func (v facilityView) Differences(t tableAt) []schema.Difference {
	return v.Differs[t.Schema+"."+t.Table]
}

// Misfits are the tables whose rows cannot cross as they are.
func (v facilityView) Misfits() []string {
	var list []string
	for _, t := range v.Tables {
		for _, d := range v.Differences(t) {
			if d.Warning {
				list = append(list, t.Schema+"."+t.Table)
				break
			}
		}
	}
	return list
}
