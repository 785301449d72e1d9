// Package heartbeat tells the region that this box is there and how it is.
//
// It speaks to the region's broker, not through the tunnel, so that the region
// can tell a tunnel that is down from a facility that is down. It never makes
// the rest of the box wait: what cannot be said now is left unsaid.
//
// In:  edge, with the facts that the other parts know of themselves.
// Out: the region's broker, and so cloud/fleet.
package heartbeat
