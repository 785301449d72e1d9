package v1

import (
	"strings"
	"time"
)

// Parked is a change that the region's database refused, or a facility's. The key's later
// changes wait behind it; everything else flows.
type Parked struct {
	ID         int64              `json:"id"`
	Direction  string             `json:"direction" enum:"up,down" doc:"up: the facility's change, refused in the region; down: the region's change, refused at the facility, as its box said last"`
	Facility   string             `json:"facility"`
	Schema     string             `json:"schema" doc:"Of the facility's table"`
	Table      string             `json:"table"`
	Key        map[string]*string `json:"key" doc:"The key columns as text"`
	Label      string             `json:"label" doc:"What people call the row, as far as its columns tell"`
	Op         string             `json:"op" enum:"insert,update,delete"`
	Reason     string             `json:"reason" doc:"unique, check, not_null, exclusion, type, missing_table, missing_column, privilege, foreign, behind (an earlier change of the row), parent (a row that it refers to), unread (at a facility: its table is not captured there, or was not until now) or other"`
	Code       string             `json:"code,omitempty" doc:"PostgreSQL's SQLSTATE"`
	Constraint string             `json:"constraint,omitempty"`
	Message    string             `json:"message"`
	Remedy     string             `json:"remedy,omitempty"`
	State      string             `json:"state" enum:"waiting,applied,discarded,replaced" doc:"replaced: the facility has sent the row again since"`
	Epoch      uint64             `json:"epoch"`
	Seq        uint64             `json:"seq" doc:"Transaction that it came with"`
	CommitAt   *time.Time         `json:"commit_at,omitempty" doc:"When it was committed at the facility, by the facility's clock"`
	ParkedAt   time.Time          `json:"parked_at"`
	Attempts   int                `json:"attempts" doc:"How often it was tried again"`
	TriedAt    *time.Time         `json:"tried_at,omitempty"`
	EditedBy   string             `json:"edited_by,omitempty"`
	EndedBy    string             `json:"ended_by,omitempty" doc:"Who discarded it"`
	EndedAt    *time.Time         `json:"ended_at,omitempty"`
}

// Brief is the message without the row that PostgreSQL prints behind a check's.
func (p Parked) Brief() string {
	m, _, _ := strings.Cut(p.Message, ": Failing row contains (")
	return m
}

// ParkedRow is a parked change beside the row that is in its way.
type ParkedRow struct {
	Parked
	Columns    []ParkedColumn `json:"columns"`
	Blocking   string         `json:"blocking,omitempty" doc:"Table of the row that has the unique value; empty where there is none or the reason is another"`
	Behind     int            `json:"behind" doc:"Later changes of the same row that wait"`
	Dependants int            `json:"dependants" doc:"Changes that wait because they refer to the row"`
	WaitsFor   int64          `json:"waits_for,omitempty" doc:"The parked change that this one follows, where the reason is behind or parent"`
	Outcome    string         `json:"outcome,omitempty" enum:"applied,refused,waits,ended" doc:"Of an edit or a retry, what came of it. refused: again, with the message and the remedy of now; waits: it was not tried within a few seconds, or waits for another; ended: it was replaced or discarded meanwhile"`
}

// What comes of trying a parked change.
const (
	ParkedApplied = "applied"
	ParkedRefused = "refused"
	ParkedWaits   = "waits"
	ParkedEnded   = "ended"
)

// ParkedColumn is one column of both rows.
type ParkedColumn struct {
	Name     string  `json:"name"`
	Type     string  `json:"type,omitempty" doc:"At the facility"`
	Key      bool    `json:"key,omitempty"`
	Sent     bool    `json:"sent" doc:"Whether the change has a value of it"`
	Value    *string `json:"value" doc:"As text; null is NULL"`
	Blocking *string `json:"blocking,omitempty" doc:"Value of the row in the way"`
	Differs  bool    `json:"differs,omitempty" doc:"Both rows have the column and the values differ"`
}

// ParkedEdit corrects a parked change.
type ParkedEdit struct {
	Set map[string]*string `json:"set" minProperties:"1" maxProperties:"100" doc:"New values by column, as text; null is NULL. Key columns cannot be changed"`
}

// ParkedDiscard ends a parked change without applying it.
type ParkedDiscard struct {
	DryRun bool `json:"dry_run,omitempty" doc:"Only say what would happen"`
}

// ParkedDiscarded says what was discarded, or would have been.
type ParkedDiscarded struct {
	Row    ParkedRow `json:"row"`
	DryRun bool      `json:"dry_run"`
}

// ParkedRetried says how many changes are being tried.
type ParkedRetried struct {
	Rows int64 `json:"rows"`
}

// PassedOver is a table of which more changes could not be applied than are
// kept, or rows were not found that updates of some columns need. It is sent
// again when the cause is gone.
type PassedOver struct {
	Schema  string     `json:"schema"`
	Table   string     `json:"table"`
	Reason  string     `json:"reason"`
	Message string     `json:"message"`
	Remedy  string     `json:"remedy,omitempty"`
	Since   time.Time  `json:"since"`
	Changes int64      `json:"changes" doc:"Changes that were passed over"`
	AskedAt *time.Time `json:"asked_at,omitempty" doc:"When the table was asked for again"`
	// Direction says whose changes they were.
	Direction string `json:"direction" enum:"up,down" doc:"up: the facility's, which the region could not apply; down: the region's, which the facility could not"`
}
