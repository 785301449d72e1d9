package fleet

import "github.com/agogsaas/holdfast/cloud/detect"

// State is what a facility is taken to be, Verdict what follows from the
// evidence; see cloud/detect, which judges.
type (
	State   = detect.State
	Verdict = detect.Verdict
)

// The states.
const (
	StateNew      = detect.StateNew
	StateOnline   = detect.StateOnline
	StateDegraded = detect.StateDegraded
	StateOffline  = detect.StateOffline
	StateUnknown  = detect.StateUnknown
)
