// Package proto holds what crosses a wire between an edge and its region, and
// nothing else: CBOR messages, the topics that they travel on, and the names
// that both sides agree on. The CDDL files beside the Go files describe the
// same messages; testdata holds frozen vectors of each.
//
// Messages are RFC 8949 core deterministic CBOR: maps with integer keys in
// order, definite lengths, shortest integers, no floats, no tags, no duplicate
// keys. Key 0 is the message's schema number. A reader ignores keys that it
// does not know: positive ones come from a newer version, negative ones are
// experiments.
//
// In:  edge/heartbeat, edge/uplink, edge/enrol, cloud/ingest, cloud/provision.
// Out: cloud/fleet, cloud/ingest, cloud/provision, edge/heartbeat, edge/uplink.
package proto
