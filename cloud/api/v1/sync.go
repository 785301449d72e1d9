package v1

import "time"

// SyncStatus is how far a facility's stream has come.
type SyncStatus struct {
	Facility  string `json:"facility"`
	State     string `json:"state" enum:"online,degraded,offline,new,unknown"`
	Connected bool   `json:"connected" doc:"The sync stream is connected"`

	Queue      Queue      `json:"queue"`
	ReportedAt *time.Time `json:"reported_at,omitempty" doc:"When the facility said what its queue is"`
	Lag        *int64     `json:"lag_ms,omitempty" doc:"Commit at the facility to visible in the region, milliseconds"`

	Stalled []Stall `json:"stalled,omitempty" doc:"What has work and makes no progress"`

	Limit *Limit `json:"limit,omitempty" doc:"How fast its changes may travel; absent when there is no limit"`

	Waits  string `json:"waits,omitempty" doc:"Why changes that arrived cannot be applied now, in words; they go on by themselves when the cause is gone"`
	Remedy string `json:"remedy,omitempty" doc:"What to do about it"`

	AtBox      int64        `json:"parked_at_box" doc:"Changes from the region that the facility's database refused, and what waits behind them, as its box said last"`
	Parked     int64        `json:"parked" doc:"Changes that the region's database refused, and what waits behind them; see /api/v1/parked"`
	PassedOver []PassedOver `json:"passed_over,omitempty" doc:"Tables of which changes were lost and that are sent again: more was refused than is kept, or rows were not found"`

	Position   *Position   `json:"position,omitempty" doc:"Newest transaction that the region has committed; absent before the first"`
	Down       *DownStatus `json:"down,omitempty" doc:"How far the region's changes have come there; absent before the first"`
	Throughput Throughput  `json:"throughput"`
	Tables     []TableAt   `json:"tables"`
}

// Position is a place in a facility's stream.
type Position struct {
	Epoch          uint64     `json:"epoch" doc:"Identity of the stream: the enrolment times 2^32 plus a local counter"`
	Seq            uint64     `json:"seq" doc:"Transaction number, dense within an epoch"`
	SourceLSN      string     `json:"source_lsn"`
	SourceCommitAt *time.Time `json:"source_commit_at,omitempty" doc:"When it was committed at the facility, by the facility's clock"`
	AppliedAt      time.Time  `json:"applied_at" doc:"When it was committed in the region, by the region's clock"`
}

// Throughput is what the region applied of a facility's stream lately. It
// counts from the region's start.
type Throughput struct {
	Transactions    uint64  `json:"transactions" doc:"Since the region started"`
	Changes         uint64  `json:"changes" doc:"Since the region started"`
	TransactionRate float64 `json:"transactions_per_s" doc:"Over the last seconds"`
	ChangeRate      float64 `json:"changes_per_s" doc:"Over the last seconds"`
}

// TableAt is one synced table at one facility.
type TableAt struct {
	Facility   string     `json:"facility"`
	Schema     string     `json:"schema"`
	Table      string     `json:"table"`
	Class      string     `json:"class,omitempty" enum:"fact,event,master"`
	State      string     `json:"state" doc:"loading, streaming or refused; waiting when the facility has not answered yet"`
	Problem    string     `json:"problem,omitempty"`
	Remedy     string     `json:"remedy,omitempty"`
	RowsLoaded int64      `json:"rows_loaded"`
	Changes    int64      `json:"changes"`
	LastSeq    int64      `json:"last_seq"`
	UpdatedAt  *time.Time `json:"updated_at,omitempty"`
	Verified   *Verified  `json:"verified,omitempty" doc:"What the comparison of both sides has come to; absent before the first"`
	// Differs is empty when the columns are the same on both sides.
	Differs []Difference `json:"differs,omitempty" doc:"How its columns at the facility differ from the region's"`
}

// Difference is one way in which a table at a facility is not the region's.
type Difference struct {
	Column   string `json:"column,omitempty"`
	Facility string `json:"facility,omitempty" doc:"Its type at the facility; absent when it has none"`
	Region   string `json:"region,omitempty" doc:"Its type in the region; absent when it has none"`
	Warning  bool   `json:"warning" doc:"Rows cannot cross as they are; else both sides go on well meanwhile"`
	Text     string `json:"text"`
	Remedy   string `json:"remedy,omitempty"`
}

// Table is a table that is synced.
type Table struct {
	Schema         string    `json:"schema" example:"public"`
	Table          string    `json:"table" example:"orders"`
	Class          string    `json:"class" enum:"fact,event,master"`
	FacilityColumn string    `json:"facility_column" doc:"Column that says whose row it is; empty when each facility has a schema of its own"`
	RegionSchema   string    `json:"region_schema" doc:"Where the rows live in the region: {schema}, or a pattern with {facility}"`
	Policy         string    `json:"policy,omitempty" doc:"Of a fact table: whose version stands when both sides changed a row without knowing of each other: edge, cloud, or columns"`
	CloudColumns   []string  `json:"cloud_columns" doc:"The cloud's columns, with the policy columns; all others are the edge's"`
	TenantColumn   string    `json:"tenant_column,omitempty" doc:"Of a master table: column that says which tenant a row belongs to; without one every facility of the region gets all rows"`
	AddedAt        time.Time `json:"added_at"`
	AddedBy        string    `json:"added_by"`
	Facilities     []TableAt `json:"facilities"`
	Columns        []Column  `json:"columns,omitempty" doc:"The region's columns; absent when each facility has a schema of its own there"`
}

// Column is one column of a table in the region.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type" doc:"As PostgreSQL writes it, with its modifier" example:"numeric(10,2)"`
	Key  bool   `json:"key,omitempty" doc:"It is part of what tells rows apart"`
}

// TableAdd registers a table.
type TableAdd struct {
	Schema string `json:"schema" minLength:"1" maxLength:"63" doc:"Exactly as PostgreSQL stores it: without quotes, in its own case"`
	Table  string `json:"table" minLength:"1" maxLength:"63" doc:"Exactly as PostgreSQL stores it"`
	Class  string `json:"class" enum:"fact,event,master" doc:"fact: rows that change, owned by one facility. event: rows that are only added. master: rows that the region changes and the facilities read"`
	// FacilityColumn is nil for the default.
	FacilityColumn *string `json:"facility_column,omitempty" maxLength:"63" doc:"Default facility_id, or none when region_schema has {facility}"`
	RegionSchema   string  `json:"region_schema,omitempty" maxLength:"63" doc:"Default {schema}" example:"{facility}_{schema}"`
	// Policy, CloudColumns: of a fact table. TenantColumn: of a master table.
	Policy       string   `json:"policy,omitempty" enum:"edge,cloud,columns" doc:"Whose version stands when both sides changed a row without knowing of each other. Default edge, or columns when cloud_columns are named"`
	CloudColumns []string `json:"cloud_columns,omitempty" maxItems:"1600" doc:"The cloud's columns; all others are the edge's"`
	TenantColumn string   `json:"tenant_column,omitempty" maxLength:"63" doc:"Column that says which tenant a master row belongs to"`
	DryRun       bool     `json:"dry_run,omitempty" doc:"Check only"`
}

// TableAdded says what was registered, or would have been.
type TableAdded struct {
	Table    Table    `json:"table"`
	DryRun   bool     `json:"dry_run"`
	Warnings []string `json:"warnings,omitempty"`
}

// Event is something about a stream that people should be able to read later.
type Event struct {
	ID       int64     `json:"id"`
	Facility string    `json:"facility"`
	At       time.Time `json:"at"`
	Kind     string    `json:"kind" doc:"epoch, gap, region_restored, box_restored, heal, stuck, parked, passed_over, row_missing, left_out, refused, difference, repaired"`
	Epoch    uint64    `json:"epoch"`
	Seq      uint64    `json:"seq"`
	Detail   string    `json:"detail"`
}
