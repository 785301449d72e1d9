// Package scenario tests the promises end to end, with the real programs, real
// PostgreSQL, broker and tunnel on this machine.
//
// A test that makes choices prints its seed. These make it another one:
//
//	HOLDFAST_SEED=n    the same choices again
//	HOLDFAST_ROUNDS=n  so many rounds of killing processes instead of 50, for a soak
//	HOLDFAST_RACE=1    the programs are built with the race detector, too
//	HOLDFAST_KEEP=1    the folders stay, to be looked into
//
// In:  make test.
// Out: test/rig, which starts and spoils what is tested.
package scenario
