// Package scenario tests the promises end to end, with the real programs, real
// PostgreSQL, broker and tunnel on this machine.
//
// In:  make test.
// Out: test/rig, which starts and spoils what is tested.
package scenario
