// Package fleet knows what every facility is now: when it was last heard, what
// it said of itself, whether its tunnel works, and what follows from that.
//
// It keeps everything in memory and writes what was last heard to the database
// in batches. Only its own clock counts; what a box says about time is shown,
// never trusted.
//
// In:  cloud/broker (heartbeats, status documents, births and wills), cloud/hub
// (the tunnel as evidence), cloud/ingest (what was applied).
// Out: cloud/dashboard, cloud/api, the table facility_seen, JSON mirrors on the broker.
package fleet
