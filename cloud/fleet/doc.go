// Package fleet knows what every facility is now: when it was last heard, what
// it said of itself, whether its tunnel works. What follows from that cloud/detect
// says, to which it hands the evidence four times a second.
//
// It keeps everything in memory and writes what was last heard to the database
// in batches. Only its own clock counts; what a box says about time is shown,
// never trusted. Canaries of its own show whether it could hear anybody at all.
//
// In:  cloud/broker (heartbeats, status documents, births and wills), cloud/hub
// (the tunnel as evidence), cloud/ingest (what was applied), cloud/detect (what follows).
// Out: cloud/detect; cloud/alert, what is wrong now; cloud/dashboard, cloud/api, the table facility_seen, JSON mirrors on the broker.
package fleet
