package uplink

import (
	"github.com/agogsaas/holdfast/internal/schema"
	"github.com/agogsaas/holdfast/proto"
)

// look notes the shape of the table that the local database has; nil is none.
func (e *entry) look(t *schema.Table) {
	e.fingerprint, e.columns = 0, nil
	if t != nil {
		e.fingerprint, e.columns = t.Fingerprint(), t.Describe()
	}
}

// shapesTold are the fingerprints whose columns a session has told. A load
// sends states many times a second, and columns rarely change.
type shapesTold map[string]uint64

// news leaves the columns only in those states that have not told them yet.
func (told shapesTold) news(states []proto.TableState) {
	for i := range states {
		s := &states[i]
		id := s.Schema + "." + s.Name
		if last, ok := told[id]; ok && last == s.Fingerprint {
			s.Columns = nil
		}
		told[id] = s.Fingerprint
	}
}
