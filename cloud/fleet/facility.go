package fleet

import (
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/progress"
	"github.com/agogsaas/holdfast/proto"
)

// facility is all that is known of one. Guarded by Fleet.mu.
type facility struct {
	id, tenant, name, timeZone string

	heardAt    time.Time // last heartbeat or birth; zero before the first
	heardHere  bool      // heardAt is by this process's clock, else from the database
	tunnelAt   time.Time // last packet through the tunnel; zero before the first
	tunnelHere bool
	link       Link

	// session and connection are the newest heard of; what comes from older
	// ones is stale. boot is the box's boot id.
	session, connection uint64
	boot                string
	beat                proto.Heartbeat // last one; Seq 0 before the first
	beatAt              time.Time

	status       *proto.Status // last document; nil before the first
	statusDigest proto.Digest
	statusAt     time.Time
	statusNew    bool      // not in the database yet
	askedAt      time.Time // when the box was last asked for the document

	left      time.Time // last will or goodbye; zero while it is there
	leftState proto.ConnState
	leftWords string

	probeBegan  time.Time // last probe
	probing     bool
	probeFailed time.Time // when the last probe failed; zero when it did not

	verdict   Verdict
	since     time.Time // when verdict.State became what it is
	streaming bool
	dirty     bool // not in the database as it is

	watch  progress.Watch
	stalls []progress.Stall // what the region sees
	shared []v1.Stall       // what stands still for all facilities
	// parked and differing are for people to look at; see v1.FacilityStatus.
	parked, differing int64

	applied applied
	history history
	events  []proto.Event // newest last, at most eventsKept
}

const eventsKept = 50

func newFacility(id string) *facility {
	return &facility{id: id, verdict: Verdict{State: StateUnknown, Reason: "This region has only just begun to listen."}, since: time.Now()}
}

// evidence is what the rule needs.
func (fac *facility) evidence(now, listening time.Time, hub bool) Evidence {
	e := Evidence{
		Known: !fac.heardAt.IsZero(), Heartbeat: never, Left: never, Tunnel: never, Hub: hub,
		Every: time.Duration(fac.beat.EverySeconds) * time.Second,
	}
	if !listening.IsZero() {
		// A connection that is a moment old is not yet deaf.
		e.Listening = max(now.Sub(listening), time.Nanosecond)
	}
	if fac.heardHere {
		e.Heartbeat = now.Sub(fac.heardAt)
	}
	if !fac.left.IsZero() {
		e.Left = now.Sub(fac.left)
	}
	if fac.tunnelHere {
		e.Tunnel = now.Sub(fac.tunnelAt)
	}
	e.ProbeFailed = !fac.probeFailed.IsZero() && !fac.tunnelAt.After(fac.probeBegan)
	return e
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
	every := time.Duration(fac.beat.EverySeconds) * time.Second
	return fac.heardHere && now.Sub(fac.heardAt) <= max(heartbeatDeadline, every*5/2)
}

// heard notes that the box spoke. The caller has checked that it is not stale.
func (fac *facility) heard(now time.Time, session uint64) {
	fac.heardAt, fac.heardHere, fac.dirty = now, true, true
	if session != fac.session {
		fac.session, fac.connection = session, 0
	}
	fac.left = time.Time{}
}
