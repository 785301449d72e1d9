// Package sim runs seeds: a region and its facilities out of the real rooms and
// real databases in one process, random transactions on shared rows on both
// sides, and cuts, crashes, failing disks, lost slots, clocks that jump, replaced
// boxes, rows that move to another facility and a restored region in between, one
// step after the other as the seed says. At rest both sides must be what the seed's
// own books say they are.
//
// A seed is 30 steps, and its number says all that happens in it but how the threads
// interleave (-sim.times). `make test` runs 16 of them under the race detector, 84 more
// without, mutants of the engine that must die in them, a few seeds in which a box's
// database is put back, and a few in which columns are added while rows are on their way;
// `make sim` runs as many as one likes.
// The tables have the policies edge, cloud and columns, each with its book.
//
// Not in it, and so not shown by it: clocks of the programs that jump (they compare
// monotonic time; it is the databases' that jump), clocks while a database is put back,
// columns that are taken away, rows that change their facility where that is not of
// the key, or whose large columns are not sent with it, more than two facilities, a region
// that is put back to when it did not know of a box that took another's place: it would not
// let it in. What there is of these is in the tests of the rooms and in test/scenario.
//
// In:  make test, make sim.
// Out: edge/uplink, cloud/stream, cloud/ingest, cloud/router and the rooms that they share, over cables that a step cuts.
package sim
