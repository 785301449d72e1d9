package v1

import "time"

// States of a conflict: what people have done about it.
const (
	ConflictOpen         = "open"         // nobody has looked at it yet
	ConflictAcknowledged = "acknowledged" // somebody did, and left it as it is
	ConflictRestored     = "restored"     // somebody wrote the other version
)

// Conflict is one row that both sides changed without knowing of each other.
type Conflict struct {
	ID       string             `json:"id" format:"uuid"`
	Facility string             `json:"facility"`
	At       time.Time          `json:"at" doc:"When it was decided, by the box's clock"`
	Schema   string             `json:"schema" doc:"Of the facility's table"`
	Table    string             `json:"table"`
	Key      map[string]*string `json:"key" doc:"The row's key: values as text by column"`
	Label    string             `json:"label" doc:"What people call the row, as far as its columns tell"`
	Kind     string             `json:"kind" enum:"insert_exists,update_origin_differs,update_deleted,delete_origin_differs" doc:"insert_exists: both added it; update_origin_differs: both changed it; update_deleted: the region changed it and the facility deleted it; delete_origin_differs: the region deleted it and the facility changed it"`
	Policy   string             `json:"policy" enum:"edge,cloud,columns,corrected" doc:"The table's policy; corrected: the facility's change was parked in the region, and somebody corrected it there"`
	Decision string             `json:"decision" enum:"edge,cloud,merged" doc:"Whose version stands"`
	Summary  string             `json:"summary" doc:"What happened and what was decided, in a sentence or two"`
	Fields   []string           `json:"fields" doc:"Columns whose values differ"`
	EdgeAt   *time.Time         `json:"edge_at,omitempty" doc:"When the facility committed its change, by its own clock"`
	CloudAt  *time.Time         `json:"cloud_at,omitempty" doc:"When the region committed its change, by its own clock"`
	EdgeBy   string             `json:"edge_by,omitempty" doc:"Who, where the application says so"`
	CloudBy  string             `json:"cloud_by,omitempty" doc:"Who, where the application says so"`
	State    string             `json:"state" enum:"open,acknowledged,restored"`
	Review   *ConflictReview    `json:"review,omitempty" doc:"Who acknowledged or restored it; absent while it is open"`
}

// ConflictReview is what somebody did about a conflict.
type ConflictReview struct {
	Action string    `json:"action" enum:"acknowledged,restored"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Note   string    `json:"note,omitempty"`
}

// ConflictDetail is a conflict with all that is known of it.
type ConflictDetail struct {
	Conflict
	EdgeSeq  string `json:"edge_seq" doc:"Transaction number of the facility's change, epoch:seq"`
	CloudSeq string `json:"cloud_seq" doc:"Transaction number of the region's change, epoch:seq"`
	// HasEdge and HasCloud are false where that side had deleted the row.
	HasEdge  bool              `json:"has_edge_row" doc:"False: the facility had deleted the row"`
	HasCloud bool              `json:"has_cloud_row" doc:"False: the region had deleted the row"`
	Columns  []ConflictColumn  `json:"columns" doc:"Both versions and the row as it is now, side by side"`
	Now      ConflictNow       `json:"now" doc:"The row as the region has it at this moment"`
	History  []ConflictHistory `json:"history" doc:"What happened, oldest first"`
	Stands   string            `json:"stands" enum:"edge,cloud,merged" doc:"Whose version was written last: by the decision, or by whoever restored one since"`
}

// ConflictColumn is one column of the row in every version. A side that is
// null has no value: NULL, no row, or a column that was not sent.
type ConflictColumn struct {
	Name      string  `json:"name"`
	Key       bool    `json:"key,omitempty"`
	Differs   bool    `json:"differs" doc:"The two sides' values differ"`
	Edge      *string `json:"edge"`
	Cloud     *string `json:"cloud"`
	Now       *string `json:"now"`
	EdgeSent  bool    `json:"edge_sent" doc:"False: the facility's change did not touch this column and did not send it, or there was no row"`
	CloudSent bool    `json:"cloud_sent" doc:"False: the region's change did not touch this column and did not send it, or there was no row"`
	Stood     string  `json:"stood,omitempty" enum:"edge,cloud" doc:"Whose value stood, where they differ"`
	Changed   bool    `json:"changed" doc:"The value now is another than the one that stood after the decision"`
}

// ConflictNow is the row as the region has it.
type ConflictNow struct {
	Schema  string `json:"schema" doc:"Of the region's table"`
	Exists  bool   `json:"exists"`
	Changed bool   `json:"changed" doc:"It is another than the one that stood after the decision"`
	Problem string `json:"problem,omitempty" doc:"Why it could not be read"`
}

// ConflictHistory is one thing that happened around a conflict.
type ConflictHistory struct {
	At   time.Time `json:"at"`
	What string    `json:"what" enum:"edge_changed,cloud_changed,decided,acknowledged,reopened,restored"`
	By   string    `json:"by,omitempty"`
	Note string    `json:"note,omitempty"`
}

// ConflictFilter picks conflicts; what is empty picks all.
type ConflictFilter struct {
	Facility string    `json:"facility,omitempty" query:"facility" maxLength:"63" doc:"Of this facility only"`
	Table    string    `json:"table,omitempty" query:"table" maxLength:"127" doc:"Of this table only: schema.table, as PostgreSQL stores the names" example:"public.orders"`
	Kind     string    `json:"kind,omitempty" query:"kind" enum:"insert_exists,update_origin_differs,update_deleted,delete_origin_differs"`
	Decision string    `json:"decision,omitempty" query:"decision" enum:"edge,cloud,merged"`
	State    string    `json:"state,omitempty" query:"state" enum:"open,acknowledged,restored,all" default:"open"`
	From     time.Time `json:"from,omitzero" query:"from" doc:"Decided at this time or later"`
	To       time.Time `json:"to,omitzero" query:"to" doc:"Decided before this time"`
	Text     string    `json:"text,omitempty" query:"text" maxLength:"120" doc:"In a value of the key or of either version, or in a name of an author; case does not matter"`
}

// ConflictCount is how many conflicts a filter picks, by state.
type ConflictCount struct {
	Open         int64 `json:"open"`
	Acknowledged int64 `json:"acknowledged"`
	Restored     int64 `json:"restored"`
}

// ConflictAcknowledge leaves a conflict as it was decided.
type ConflictAcknowledge struct {
	Note string `json:"note,omitempty" maxLength:"500"`
}

// ConflictAcknowledgeMany leaves all open conflicts that match as they were
// decided.
type ConflictAcknowledgeMany struct {
	Filter ConflictFilter `json:"filter"`
	Count  int64          `json:"count" minimum:"1" doc:"How many it must be; refused when it is another number, so that nobody acknowledges what they have not seen"`
	Note   string         `json:"note,omitempty" maxLength:"500"`
}

// ConflictsAcknowledged says how many were acknowledged.
type ConflictsAcknowledged struct {
	Acknowledged int64 `json:"acknowledged"`
}

// ConflictRestore writes the version of a row that did not stand.
type ConflictRestore struct {
	Version string `json:"version,omitempty" enum:"edge,cloud" doc:"Whose version to write; default is the one that does not stand. Needed when the versions were merged"`
	Note    string `json:"note,omitempty" maxLength:"500"`
	DryRun  bool   `json:"dry_run,omitempty" doc:"Only say what would be written, and whether the database would take it"`
	Force   bool   `json:"force,omitempty" doc:"Also when the row has changed since the decision"`
	Seen    string `json:"seen,omitempty" maxLength:"64" doc:"The seen of a dry run: refused when the row has changed since that"`
}

// ConflictRestoration is what was written, or would be.
type ConflictRestoration struct {
	ID      string `json:"id"`
	DryRun  bool   `json:"dry_run"`
	Version string `json:"version" enum:"edge,cloud"`
	Write   string `json:"write" enum:"insert,update,delete,none" doc:"none: the row already is as this version says"`
	Schema  string `json:"schema" doc:"Of the region's table"`
	Table   string `json:"table"`
	// Changes are the values that are written; of a delete, those that go.
	Changes []ConflictWrite `json:"changes"`
	// Since are values that changed after the decision.
	Since    []ConflictWrite `json:"changed_since" doc:"Values that changed after the decision: from what stood then to what is there now"`
	Skipped  []string        `json:"skipped,omitempty" doc:"Columns of that version that are not written, because the region's table lacks them or computes them"`
	Warnings []string        `json:"warnings,omitempty"`
	Seen     string          `json:"seen" doc:"Names the row as it is now; pass it on to write exactly what this says"`
}

// ConflictWrite is one value that changes.
type ConflictWrite struct {
	Column string  `json:"column"`
	From   *string `json:"from"`
	To     *string `json:"to"`
}
