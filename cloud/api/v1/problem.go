package v1

import "strings"

// Problem is an error as RFC 9457 has it, with what to do about it.
type Problem struct {
	Type   string        `json:"type" doc:"A name for this kind of problem that programs may rely on" example:"urn:holdfast:problem:not-found"`
	Title  string        `json:"title" doc:"The kind of problem in words"`
	Status int           `json:"status" doc:"HTTP status"`
	Detail string        `json:"detail" doc:"What happened"`
	Remedy string        `json:"remedy,omitempty" doc:"What to do about it"`
	Errors []ProblemItem `json:"errors,omitempty" doc:"Each single problem, when there are several"`
}

// ProblemItem is one of several problems with a request.
type ProblemItem struct {
	Message  string `json:"message"`
	Location string `json:"location,omitempty" doc:"Where in the request" example:"body.class"`
	Remedy   string `json:"remedy,omitempty"`
}

// Kinds of problem.
const (
	ProblemPrefix      = "urn:holdfast:problem:"
	ProblemInvalid     = ProblemPrefix + "invalid"
	ProblemSignIn      = ProblemPrefix + "sign-in"
	ProblemForbidden   = ProblemPrefix + "forbidden"
	ProblemNotFound    = ProblemPrefix + "not-found"
	ProblemConflict    = ProblemPrefix + "conflict"
	ProblemUnsuitable  = ProblemPrefix + "unsuitable-table"
	ProblemUnconfirmed = ProblemPrefix + "unconfirmed"
	ProblemTooMany     = ProblemPrefix + "too-many-attempts"
	ProblemInternal    = ProblemPrefix + "internal"
)

// Error is the detail, with each single problem on a line of its own.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Detail)
	for _, e := range p.Errors {
		b.WriteString("\n  - ")
		if e.Location != "" {
			b.WriteString(e.Location)
			b.WriteString(": ")
		}
		b.WriteString(e.Message)
		if e.Remedy != "" {
			b.WriteString("\n    ")
			b.WriteString(e.Remedy)
		}
	}
	return b.String()
}

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is the media type that RFC 9457 gives to problems.
func (p *Problem) ContentType(ct string) string {
	if ct == "application/json" {
		return "application/problem+json"
	}
	return ct
}
