package apply

import (
	"bytes"
	"slices"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
)

// Kind is what kind of conflict it was. The names are PostgreSQL's where it
// has one, seen from the edge.
type Kind string

// The kinds.
const (
	InsertExists        Kind = "insert_exists"         // both sides made the row
	UpdateOriginDiffers Kind = "update_origin_differs" // both changed it, to something else
	UpdateDeleted       Kind = "update_deleted"        // the cloud changed it, the edge deleted it
	DeleteOriginDiffers Kind = "delete_origin_differs" // the cloud deleted it, the edge changed it
)

// Decision is whose version stands.
type Decision string

// The decisions.
const (
	DecidedEdge   Decision = "edge"
	DecidedCloud  Decision = "cloud"
	DecidedMerged Decision = "merged" // each side's own columns
)

// verdict is what is to be done about one row that the cloud changed.
type verdict struct {
	do      doing
	row     change.Row // whole, but for its key when it is to be deleted
	columns []int      // that an update sets
	// lacking: the cloud changed part of a row that is not here.
	lacking bool

	kind     Kind // empty when there is no conflict
	decision Decision
	fields   []int // columns whose values differ
	// assert is sent back, so that the other side comes to the same row.
	assert *change.Change
}

type doing uint8

const (
	doNothing doing = iota
	doInsert
	doUpdate
	doDelete
)

// decide is where edge priority is: e is what the cloud did to a row, local
// the row as it is here (nil when there is none), t what was done to it here
// that the cloud had not seen (nil when nothing was).
//
// It must come to the row that the other side has, or will have once it has
// applied what is on its way. The other side applies what the edge sends
// whatever its own version is, so
//
//   - a column that the edge sent will be the edge's there, and one that it did
//     not send (unchanged TOAST) is the cloud's;
//   - a row that the edge deleted will be gone there;
//   - but a row that the cloud made may stay what it is: what removes or patches a row
//     that is not there waits for nobody who is making it, and who commits first had
//     not seen that. So it is sent again;
//   - a row that the cloud deleted comes back there only if the edge sent all of
//     it; where it did not, it is sent again;
//   - where the policy gives the cloud's version the preference, it has been, or
//     will be, overwritten there, so that it must be sent back.
func decide(sh *shape, e *entry, local change.Row, t *Touch, policy Policy) verdict {
	if t == nil {
		return follow(sh, e, local)
	}
	if e.state == rowGone {
		return decideDelete(e, local, t, policy)
	}
	if local == nil {
		return decideDeleted(sh, e, t, policy)
	}
	return decideUpdate(sh, e, local, t, policy)
}

// follow takes the cloud's version.
func follow(sh *shape, e *entry, local change.Row) verdict {
	switch {
	case e.state == rowGone && local == nil:
		return verdict{}
	case e.state == rowGone:
		return verdict{do: doDelete, row: e.row}
	case local == nil && len(e.absent) > 0:
		return verdict{lacking: true}
	case local == nil:
		return verdict{do: doInsert, row: e.row}
	}
	return become(sh, local, e.row, sh.without(e.absent))
}

// become makes an update of the columns that differ, if any.
func become(sh *shape, local, row change.Row, columns []int) (v verdict) {
	for _, c := range columns {
		if same(local[c], row[c]) {
			continue
		}
		if v.row == nil {
			v.do, v.row = doUpdate, slices.Clone(local)
		}
		v.row[c] = row[c]
		v.columns = append(v.columns, c)
	}
	return v
}

// same reports whether two values are the same text, or both NULL.
func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

// decideDelete is about a row that the cloud deleted and the edge touched.
func decideDelete(e *entry, local change.Row, t *Touch, policy Policy) verdict {
	if local == nil {
		return verdict{} // both deleted it
	}
	v := verdict{kind: DeleteOriginDiffers, decision: DecidedEdge}
	if policy == PolicyCloud {
		v.do, v.row, v.decision = doDelete, e.row, DecidedCloud
		v.assert = &change.Change{Op: change.Delete, Key: e.row}
		return v
	}
	if len(t.Unsent) > 0 || t.Unsure {
		v.assert = &change.Change{Op: change.Update, Row: local}
	}
	return v
}

// decideDeleted is about a row that the cloud has and the edge deleted.
func decideDeleted(sh *shape, e *entry, t *Touch, policy Policy) verdict {
	if policy == PolicyCloud && len(e.absent) == 0 {
		return verdict{
			do: doInsert, row: e.row, kind: UpdateDeleted, decision: DecidedCloud,
			assert: &change.Change{Op: change.Update, Row: e.row},
		}
	}
	// What the cloud did not send of the row is nowhere any more: then it stays
	// deleted whatever the policy is.
	v := verdict{kind: UpdateDeleted, decision: DecidedEdge}
	if t.Unsure || e.made() {
		v.assert = &change.Change{Op: change.Delete, Key: e.key(sh)}
	}
	return v
}

// decideUpdate is about a row that both sides have.
func decideUpdate(sh *shape, e *entry, local change.Row, t *Touch, policy Policy) verdict {
	sent := sh.without(e.absent)
	var differ, clouds []int // sent by both; of these, the cloud's
	take := make([]int, 0, len(sent))
	for _, c := range sent {
		if slices.Contains(t.Unsent, sh.to[c].name) {
			take = append(take, c)
			continue
		}
		if same(local[c], e.row[c]) {
			continue
		}
		differ = append(differ, c)
		if policy == PolicyCloud || policy == PolicyColumns && slices.Contains(sh.cloudColumns, c) {
			take, clouds = append(take, c), append(clouds, c)
		}
	}
	v := become(sh, local, e.row, take)
	if len(differ) == 0 {
		return v
	}
	v.kind, v.fields, v.decision = UpdateOriginDiffers, differ, DecidedEdge
	if e.born && t.Inserted {
		v.kind = InsertExists
	}
	switch policy {
	case PolicyCloud:
		v.decision = DecidedCloud
		v.assert = &change.Change{Op: change.Update, Row: v.row}
	case PolicyColumns:
		v.decision = DecidedMerged
		if len(clouds) > 0 {
			v.assert = &change.Change{Op: change.Update, Row: v.row, Absent: sh.allBut(clouds)}
		}
	}
	if t.Unsure || e.made() && len(t.Unsent) > 0 {
		v.assert = &change.Change{Op: change.Update, Row: local}
		if v.row != nil {
			v.assert.Row = v.row
		}
	}
	return v
}

// ofEcho is about a row that has become what this facility had made of it,
// because a change that was parked in the region is applied. What was changed
// here since then stands and is no conflict. What the region's people had made
// of the row meanwhile, which is here already, does not stand, and that is one.
func (v *verdict) ofEcho(t *Touch) {
	v.kind, v.fields, v.decision = "", nil, ""
	switch {
	case t != nil || v.do == doNothing:
		return
	case v.do == doDelete:
		v.kind = UpdateDeleted // the edge had deleted what the cloud changed then
	case v.do == doInsert:
		v.kind = DeleteOriginDiffers
	default:
		v.kind, v.fields = UpdateOriginDiffers, v.columns
	}
	v.decision = DecidedEdge
}

// ofCorrection is about a row that somebody in the region corrected while this
// facility's change of it was parked there. The correction stands, and what it
// replaces here is told.
func (v *verdict) ofCorrection() {
	switch v.do {
	case doNothing:
		return
	case doDelete:
		v.kind = DeleteOriginDiffers
	case doInsert:
		v.kind = UpdateDeleted
	default:
		v.kind, v.fields = UpdateOriginDiffers, v.columns
	}
	v.decision = DecidedCloud
}

// ofPutBack is about a row of a database that was put back, of which it is not known
// whether somebody has changed it since. The cloud's version stands, and what it
// replaces is told.
func (v *verdict) ofPutBack(now time.Time) *Touch {
	switch v.do {
	case doUpdate:
		v.kind, v.decision, v.fields = UpdateOriginDiffers, DecidedCloud, v.columns
	case doDelete:
		v.kind, v.decision = DeleteOriginDiffers, DecidedCloud
	default:
		return nil
	}
	return &Touch{CommitMicros: now.UnixMicro()}
}

// allBut are the written columns without the given, the key and the facility.
func (sh *shape) allBut(columns []int) []int {
	return slices.DeleteFunc(slices.Clone(sh.columns), func(c int) bool {
		return slices.Contains(columns, c) || slices.Contains(sh.key, c) || c == sh.facilityColumn
	})
}
