// Package apply turns frames of changes into transactions of the receiver's
// PostgreSQL, each change exactly once.
//
// A frame walks through these files:
//
//	applier.go   frames are numbered, unpacked and gathered into batches
//	shape.go     a sender's table is matched with the target's, by column name
//	fold.go      changes of one row become one
//	plan.go      what is folded becomes statements, beside the batch before
//	commit.go    a batch becomes one transaction, with the position in it
//	facts.go     what comes down is decided first where the receiver writes too
//	decide.go    whose version of a row stands
//	conflict.go  which version did not stand is recorded, or sent back
//	serial.go    sequences stay ahead of the rows that came
//	rows.go      what cannot be applied folded is applied as it was made
//	durable.go   what is applied becomes durable, and only then may be acknowledged
//
// In:  cloud/ingest, with frames from internal/transfer.
// Out: the receiver's PostgreSQL.
package apply
