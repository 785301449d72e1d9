package v1

import (
	"slices"
	"strings"
	"time"
)

// Verified is what the comparison of a table with a facility's rows has come to.
type Verified struct {
	EqualAt   *time.Time `json:"equal_at,omitempty" doc:"When a whole pass over the table last ended with both sides equal"`
	EqualSeq  string     `json:"equal_seq,omitempty" doc:"Position of the way up at its end, epoch:seq"`
	EqualRows int64      `json:"equal_rows" doc:"Rows that the facility had in it"`
	Differing int64      `json:"differing" doc:"Rows that differed in the last pass, or in the present one already"`
	Repaired  int64      `json:"repaired" doc:"Of these, mended since"`
	EndedAt   *time.Time `json:"ended_at,omitempty" doc:"When the last pass ended"`
	BeganAt   *time.Time `json:"began_at,omitempty" doc:"When the pass that is under way began"`
	RowsDone  int64      `json:"rows_done" doc:"Rows compared in the pass that is under way"`
	Problem   string     `json:"problem,omitempty" doc:"Why the table cannot be compared"`
	Remedy    string     `json:"remedy,omitempty"`
	// Rows are the first of the rows that differ.
	Rows []VerifyRow `json:"rows,omitempty" doc:"The first of the rows that differ"`
}

// Open is how many rows differ and are not mended.
func (v *Verified) Open() int64 { return max(0, v.Differing-v.Repaired) }

// AllParked reports whether all that differs waits parked, so that sending it again is no help.
func (v *Verified) AllParked() bool {
	return v.Open() > 0 && v.Differing == int64(len(v.Rows)) && !slices.ContainsFunc(v.Rows, func(r VerifyRow) bool { return r.Kind != "parked" })
}

// VerifyRequest asks for a pass now.
type VerifyRequest struct {
	Schema string `json:"schema,omitempty" maxLength:"63" doc:"With table: only this one. Default: all synced tables"`
	Table  string `json:"table,omitempty" maxLength:"63"`
	Repair bool   `json:"repair,omitempty" doc:"Send the rows that differ again from the side that owns them"`
	DryRun bool   `json:"dry_run,omitempty" doc:"With repair: only list what it would do"`
}

// States of a VerifyRun and of its tables.
const (
	VerifyWaiting  = "waiting"
	VerifyRunning  = "running"
	VerifyDone     = "done" // of a run
	VerifyEqual    = "equal"
	VerifyDiffers  = "differs"
	VerifyRepaired = "repaired"
	VerifyFailed   = "failed"
)

// VerifyRun is a pass over a facility's tables that somebody asked for.
type VerifyRun struct {
	Facility  string        `json:"facility"`
	State     string        `json:"state" enum:"running,done,failed"`
	Repair    bool          `json:"repair"`
	DryRun    bool          `json:"dry_run"`
	StartedAt time.Time     `json:"started_at"`
	StartedBy string        `json:"started_by"`
	EndedAt   *time.Time    `json:"ended_at,omitempty"`
	Problem   string        `json:"problem,omitempty" doc:"Why it failed, or what it waits for"`
	Tables    []VerifyTable `json:"tables"`
}

// VerifyTable is one table of a VerifyRun.
type VerifyTable struct {
	Schema    string      `json:"schema"`
	Table     string      `json:"table"`
	State     string      `json:"state" enum:"waiting,running,equal,differs,repaired,failed"`
	RowsDone  int64       `json:"rows_done" doc:"Rows of the facility that have been compared"`
	Position  string      `json:"position,omitempty" doc:"Of the last comparison, epoch:seq"`
	Differing int64       `json:"differing"`
	More      bool        `json:"more,omitempty" doc:"There are more than differing says"`
	Repaired  int64       `json:"repaired"`
	Rows      []VerifyRow `json:"rows,omitempty" doc:"The first of the rows that differ"`
	Problem   string      `json:"problem,omitempty"`
	Remedy    string      `json:"remedy,omitempty"`
}

// VerifyRow is one row that the two sides do not have alike.
type VerifyRow struct {
	Kind   string            `json:"kind" enum:"differs,missing,extra,parked" doc:"missing and extra are said of the region; a parked row waits there"`
	Key    map[string]string `json:"key"`
	Action string            `json:"action,omitempty" doc:"What a repair does, or would do"`
}

// Place is the transaction number in EqualSeq, "" if there is none.
func (v *Verified) Place() string {
	_, seq, _ := strings.Cut(v.EqualSeq, ":")
	return seq
}
