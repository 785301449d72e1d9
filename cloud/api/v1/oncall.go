package v1

// MethodAdd is a new way to reach a contact.
type MethodAdd struct {
	Channel  string            `json:"channel" enum:"sms,voice,email,teams,slack,pagerduty,webhook,mqtt"`
	Address  string            `json:"address" minLength:"1" maxLength:"2048" doc:"Phone number, mail address, URL, routing key or topic"`
	Settings map[string]string `json:"settings,omitempty"`
}

// StandardPolicy makes the policy that most tenants want: First at once by all
// their channels and after 2 minutes by voice, Next after 10 minutes, and after
// an hour Success and First with the offer that the cloud takes over.
type StandardPolicy struct {
	Tenant     string   `json:"tenant" minLength:"1" maxLength:"63"`
	Name       string   `json:"name,omitempty" maxLength:"200" doc:"Default: standard"`
	Facilities []string `json:"facilities,omitempty" maxItems:"1000" doc:"Absent: all of the tenant's"`
	First      []int64  `json:"first,omitempty" maxItems:"50" doc:"Contacts"`
	Schedules  []int64  `json:"schedules,omitempty" maxItems:"50" doc:"Whoever is on call is told with First"`
	Next       []int64  `json:"next,omitempty" maxItems:"50" doc:"Contacts"`
	Success    []int64  `json:"success,omitempty" maxItems:"50" doc:"Customer success: contacts of the tenant, or the region's own"`
}

// MaintenanceAdd announces work at a facility.
type MaintenanceAdd struct {
	Facility string `json:"facility" minLength:"1" maxLength:"63"`
	StartsIn int    `json:"starts_in_s,omitempty" doc:"Seconds from now; default: at once"`
	For      int    `json:"for_s" doc:"How long, in seconds; at most 8 hours. Announce it again to renew it"`
	Reason   string `json:"reason" minLength:"1" maxLength:"500"`
}

// Coverage says who is told when a facility goes offline.
type Coverage struct {
	Facility   string    `json:"facility"`
	Name       string    `json:"name,omitempty"`
	Tenant     string    `json:"tenant"`
	Customer   Listeners `json:"customer" doc:"The facility's own people"`
	Operations Listeners `json:"operations" doc:"The region's people"`
}

// Listeners are people who are told.
type Listeners struct {
	Policies []string `json:"policies" doc:"Names of the policies that it runs through"`
	People   []string `json:"people" doc:"Who is told by them sooner or later, with whoever is on call now"`
	Problem  string   `json:"problem,omitempty" doc:"Nobody is told, and why"`
	Remedy   string   `json:"remedy,omitempty"`
}
