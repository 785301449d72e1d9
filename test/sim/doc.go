// Package sim runs seeds: a region and its facilities out of the real rooms and
// real databases in one process, random transactions on shared rows on both
// sides, and cuts, crashes, failing disks, lost slots and a restored region in
// between, one step after the other as the seed says. At rest both sides must be
// what the seed's own books say they are.
//
// Not in it, and so not shown by it: clocks that jump, tables that change, a box
// that is restored or replaced, the policies cloud and columns, rows that change
// their facility, more than two facilities. What there is of these is in the tests
// of the rooms and in test/scenario.
//
// In:  make test, make sim.
// Out: edge/uplink, cloud/stream, cloud/ingest, cloud/router and the rooms that they share, over cables that a step cuts.
package sim
