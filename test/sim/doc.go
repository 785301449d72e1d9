// Package sim runs seeds: a region and its facilities out of the real rooms and
// real databases in one process, random transactions on shared rows on both
// sides, and everything that may go wrong in between, one step after the other
// as the seed says. At rest both sides must be what the seed's own books say
// they are.
//
// In:  make test, make sim.
// Out: edge/uplink, cloud/stream, cloud/ingest, cloud/router and the rooms that they share, over cables that a step cuts.
package sim
