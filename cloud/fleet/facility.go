package fleet

import (
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/internal/progress"
	"github.com/agogsaas/holdfast/proto"
)

// facility is all that is known of one. Guarded by Fleet.mu.
type facility struct {
	detect.Facts

	tenant, timeZone string
	link             Link

	// session and connection are the newest heard of; what comes from older
	// ones is stale. boot is the box's boot id.
	session, connection uint64
	boot                string

	statusDigest proto.Digest
	statusNew    bool      // not in the database yet
	askedAt      time.Time // when the box was last asked for the document
	leftState    proto.ConnState
	probing      bool

	verdict Verdict
	dirty   bool // not in the database as it is

	watch  progress.Watch
	stalls []progress.Stall // what the region sees
	shared []v1.Stall       // what stands still for all facilities

	applied applied
	history history
	events  []proto.Event // newest last, at most eventsKept
}

const eventsKept = 50

func newFacility(id string) *facility {
	return &facility{
		Facts:   detect.Facts{ID: id},
		verdict: Verdict{State: StateUnknown, Reason: "This region has only just begun to listen.", Since: time.Now()},
	}
}

// stale reports whether a live message of that session is older than what was
// heard before. An agent whose state was restored from a backup counts from
// lower again: it is believed when the newer session has been silent for
// longer than its deadline, but never over a box that has replaced it.
func (fac *facility) stale(session uint64, now time.Time) bool {
	if session >= fac.session {
		return false
	}
	if session>>32 < fac.session>>32 {
		return true
	}
	return fac.Here && now.Sub(fac.Heard) <= fac.Rhythm.Deadline()
}

// heard notes that the box spoke. The caller has checked that it is not stale.
func (fac *facility) heard(now time.Time, session uint64) {
	fac.Heard, fac.Here, fac.dirty = now, true, true
	if session != fac.session {
		fac.session, fac.connection = session, 0
	}
	fac.Left, fac.Bye, fac.LeftWords, fac.Back = time.Time{}, false, "", 0
}
