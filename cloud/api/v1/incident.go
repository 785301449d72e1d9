package v1

import "time"

// Incident is one thing that is, or was, wrong with a facility or the region.
type Incident struct {
	ID         int64      `json:"id"`
	Kind       string     `json:"kind" example:"offline" doc:"What is wrong; see the manual's page on states"`
	Severity   string     `json:"severity" enum:"info,warning,critical"`
	Facility   string     `json:"facility,omitempty" doc:"Absent: the region itself"`
	Name       string     `json:"name,omitempty" doc:"The facility's"`
	Tenant     string     `json:"tenant,omitempty"`
	TimeZone   string     `json:"time_zone,omitempty"`
	Parent     *int64     `json:"parent,omitempty" doc:"The region's incident that this is a part of"`
	Summary    string     `json:"summary"`
	Evidence   []string   `json:"evidence,omitempty"`
	Since      time.Time  `json:"since" doc:"When it began; backdated to the last thing heard"`
	OpenedAt   time.Time  `json:"opened_at" doc:"When it was known"`
	Quiet      bool       `json:"maintenance,omitempty" doc:"It falls into announced work: nobody is paged"`
	AckedAt    *time.Time `json:"acked_at,omitempty"`
	AckedBy    string     `json:"acked_by,omitempty"`
	AckedHow   string     `json:"acked_how,omitempty" enum:"sms,voice,slack,link,dashboard,cli"`
	RemindAt   *time.Time `json:"remind_at,omitempty" doc:"It is told again then, unless it is resolved"`
	ResolvedAt *time.Time `json:"resolved_at,omitempty"`
	ResolvedBy string     `json:"resolved_by,omitempty" doc:"Absent when it is over by itself"`
	NextAt     *time.Time `json:"next_at,omitempty" doc:"When the next step of its escalation is taken"`
	// Deliveries in short, for lists.
	Told     int    `json:"told" doc:"Messages that a provider has taken"`
	Waiting  int    `json:"waiting" doc:"Messages that wait, or are on their way to a provider"`
	Failed   int    `json:"failed" doc:"Messages that will not arrive"`
	Cost     int64  `json:"cost_micros,omitempty" doc:"What its messages cost, in millionths of cost_unit, as far as the providers have said it"`
	CostUnit string `json:"cost_unit,omitempty" example:"USD" doc:"The currency (ISO 4217)"`
	Unpriced int    `json:"unpriced,omitempty" doc:"SMS and calls of which the provider has not said what they cost: they are not in cost_micros"`
}

// IncidentDetail is an incident with all that happened.
type IncidentDetail struct {
	Incident
	Timeline   []IncidentEvent `json:"timeline"`
	Deliveries []Delivery      `json:"deliveries"`
	Parts      []Incident      `json:"parts,omitempty" doc:"The facilities' incidents that are part of this one"`
}

// IncidentEvent is one line of an incident's timeline.
type IncidentEvent struct {
	At     time.Time `json:"at"`
	What   string    `json:"what" enum:"opened,escalated,told,receipt,acknowledged,reminded,resolved,held,noted"`
	Who    string    `json:"who,omitempty"`
	Detail string    `json:"detail,omitempty"`
}

// Delivery is one message to one person by one channel.
type Delivery struct {
	ID         string     `json:"id" format:"uuid"`
	Incident   *int64     `json:"incident,omitempty" doc:"Absent: a test"`
	Event      string     `json:"event" enum:"trigger,update,resolve,test"`
	Audience   string     `json:"audience" enum:"customer,operations"`
	Contact    *int64     `json:"contact,omitempty"`
	Name       string     `json:"name,omitempty" doc:"The contact's"`
	Method     *int64     `json:"method,omitempty"`
	Channel    string     `json:"channel" enum:"sms,voice,email,teams,slack,pagerduty,webhook,mqtt"`
	Step       int        `json:"step" doc:"Of the policy; 0 is the first"`
	State      string     `json:"state" enum:"pending,held,leased,accepted,sent,delivered,reached,failed,cancelled,capped,expired"`
	CreatedAt  time.Time  `json:"created_at"`
	NotBefore  time.Time  `json:"not_before"`
	HeldReason string     `json:"held_reason,omitempty" doc:"Why it waits until not_before"`
	AcceptedAt *time.Time `json:"accepted_at,omitempty"`
	DoneAt     *time.Time `json:"done_at,omitempty"`
	Attempts   int        `json:"attempts"`
	Provider   string     `json:"provider,omitempty"`
	ProviderID string     `json:"provider_id,omitempty"`
	Error      string     `json:"error,omitempty"`
	Cost       int64      `json:"cost_micros,omitempty" doc:"What it cost, in millionths of cost_unit"`
	CostUnit   string     `json:"cost_unit,omitempty" example:"USD" doc:"The currency (ISO 4217). Absent while the provider has not said what it cost: it does so some minutes after a message by SMS or voice, and for no other"`
	Receipts   []Receipt  `json:"receipts,omitempty"`
}

// Receipt is what a provider said of a message later.
type Receipt struct {
	At     time.Time `json:"at"`
	State  string    `json:"state"`
	Detail string    `json:"detail,omitempty"`
}

// IncidentAck takes an incident on.
type IncidentAck struct {
	Note string `json:"note,omitempty" maxLength:"500" doc:"Is kept in the timeline"`
}

// Edition says which state of something a document is, so that two people who
// change it at once do not overwrite each other.
type Edition struct {
	Version   int64      `json:"version,omitempty" doc:"Grows with each change. A PUT with another one than holds now is refused with 409: somebody has changed it since. Without it, whatever holds is replaced"`
	ChangedAt *time.Time `json:"changed_at,omitempty" readOnly:"true" doc:"When it was last changed; absent: never since it was made"`
	ChangedBy string     `json:"changed_by,omitempty" readOnly:"true"`
}

// Contact is somebody who is told.
type Contact struct {
	ID int64 `json:"id" readOnly:"true"`
	Edition
	Tenant   string   `json:"tenant,omitempty" doc:"Absent: the region's own people"`
	Name     string   `json:"name" minLength:"1" maxLength:"200"`
	TimeZone string   `json:"time_zone,omitempty" doc:"IANA name; default UTC"`
	Methods  []Method `json:"methods" readOnly:"true"`
}

// Method is a way to reach a contact.
type Method struct {
	ID        int64             `json:"id" readOnly:"true"`
	Channel   string            `json:"channel" enum:"sms,voice,email,teams,slack,pagerduty,webhook,mqtt"`
	Address   string            `json:"address" doc:"Phone number (E.164), mail address, URL, routing key or topic. What is a secret is shown only in part"`
	Settings  map[string]string `json:"settings,omitempty"`
	CheckedAt *time.Time        `json:"checked_at,omitempty" readOnly:"true" doc:"When the address was last found to be right"`
	Problem   string            `json:"problem,omitempty" readOnly:"true" doc:"Why it cannot be used"`
	Unchecked string            `json:"unchecked,omitempty" readOnly:"true" doc:"Why the address could not be looked at the last time. It is used nevertheless"`
	ProvedAt  *time.Time        `json:"proved_at,omitempty" readOnly:"true" doc:"When something last arrived for sure, or was answered"`
	TakenAt   *time.Time        `json:"taken_at,omitempty" readOnly:"true" doc:"When the provider last took something: credentials and path are right; whether it was seen is not known"`
}

// Schedule says who is on call when.
type Schedule struct {
	ID int64 `json:"id" readOnly:"true"`
	Edition
	Tenant    string     `json:"tenant,omitempty"`
	Name      string     `json:"name" minLength:"1" maxLength:"200"`
	TimeZone  string     `json:"time_zone,omitempty"`
	Rotations []Rotation `json:"rotations" doc:"Of several that cover a moment the last holds"`
	Overrides []Override `json:"overrides,omitempty" readOnly:"true"`
}

// Rotation is people who take turns.
type Rotation struct {
	Contacts []int64 `json:"contacts" minItems:"1"`
	FirstDay string  `json:"first_day" format:"date"`
	Handover string  `json:"handover,omitempty" example:"09:00" doc:"By the schedule's time zone"`
	TurnDays int     `json:"turn_days" minimum:"1" maximum:"366"`
	Days     string  `json:"days,omitempty" example:"Mon-Fri" doc:"Absent: every day"`
	From     string  `json:"from,omitempty" example:"22:00"`
	To       string  `json:"to,omitempty" example:"06:00"`
}

// Override is somebody who stands in.
type Override struct {
	ID       int64     `json:"id" readOnly:"true"`
	Contact  int64     `json:"contact"`
	StartsAt time.Time `json:"starts_at"`
	EndsAt   time.Time `json:"ends_at"`
	By       string    `json:"created_by,omitempty" readOnly:"true"`
}

// OnCall is who is on call of a schedule now, and until when.
type OnCall struct {
	Schedule int64      `json:"schedule"`
	Name     string     `json:"name"`
	Tenant   string     `json:"tenant,omitempty"`
	Contact  *int64     `json:"contact,omitempty" doc:"Absent: nobody"`
	Who      string     `json:"who,omitempty"`
	Until    *time.Time `json:"until,omitempty"`
	Override bool       `json:"override,omitempty"`
}

// Policy says who is told of an incident, and who next when nobody answers.
type Policy struct {
	ID int64 `json:"id" readOnly:"true"`
	Edition
	Tenant     string       `json:"tenant,omitempty" doc:"Absent: the region's own people, for all tenants' facilities"`
	Name       string       `json:"name" minLength:"1" maxLength:"200"`
	Kinds      []string     `json:"kinds,omitempty" doc:"Absent: all that concern its audience"`
	Facilities []string     `json:"facilities,omitempty" doc:"Absent: all of the tenant's"`
	Severity   string       `json:"severity,omitempty" enum:"info,warning,critical" doc:"At least; default warning"`
	Steps      []PolicyStep `json:"steps" minItems:"1"`
}

// PolicyStep is who is told after a while.
type PolicyStep struct {
	After     int      `json:"after_s" minimum:"0" maximum:"604800" doc:"Seconds after the incident was opened"`
	Contacts  []int64  `json:"contacts,omitempty"`
	Schedules []int64  `json:"schedules,omitempty" doc:"Whoever is on call then"`
	Channels  []string `json:"channels,omitempty" doc:"Absent: all that they have"`
	Offer     string   `json:"offer,omitempty" enum:"fallback" doc:"What the message offers"`
}

// Maintenance is announced work at a facility: what is wrong is seen, and nobody is paged.
type Maintenance struct {
	ID        int64      `json:"id" readOnly:"true"`
	Facility  string     `json:"facility"`
	StartsAt  time.Time  `json:"starts_at"`
	EndsAt    time.Time  `json:"ends_at" doc:"At most 8 hours after the start"`
	Reason    string     `json:"reason" minLength:"1" maxLength:"500"`
	CreatedBy string     `json:"created_by,omitempty" readOnly:"true"`
	EndedAt   *time.Time `json:"ended_at,omitempty" readOnly:"true" doc:"By hand, early"`
	EndedBy   string     `json:"ended_by,omitempty" readOnly:"true"`
}

// ChannelState is how one of the region's channels fares.
type ChannelState struct {
	Channel  string     `json:"channel" enum:"sms,voice,email,teams,slack,pagerduty,webhook,mqtt"`
	Ready    bool       `json:"ready" doc:"It is configured"`
	Problem  string     `json:"problem,omitempty" doc:"Why it cannot be used, and what to do"`
	Broken   bool       `json:"broken,omitempty" doc:"The provider fails; it is tried again from time to time. Single hosts of webhooks and Teams that fail are a problem only"`
	Waiting  int        `json:"waiting"`
	Sent24h  int        `json:"sent_24h"`
	Failed24 int        `json:"failed_24h"`
	ProvedAt *time.Time `json:"proved_at,omitempty" doc:"When something last arrived for sure, or was answered"`
	TakenAt  *time.Time `json:"taken_at,omitempty" doc:"When the provider last took something: credentials and path are right; whether it was seen is not known"`
}

// Told is how fast the region was: seconds from the last thing heard until it
// was known (detect) and until the first message was taken (tell).
type Told struct {
	Days      int       `json:"days"`
	Incidents int       `json:"incidents" doc:"Outages of facilities, without those during announced work"`
	ToldOf    int       `json:"told_of" doc:"Of how many of them a provider has taken a message"`
	Detect    Quantiles `json:"time_to_detect_s" doc:"Of the incidents; 0 when there are none"`
	Tell      Quantiles `json:"time_to_tell_s" doc:"Of those that were told; 0 when there are none"`
}

// Quantiles of a figure.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}
