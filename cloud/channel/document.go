package channel

import (
	"encoding/json"
	"slices"
	"time"
)

const (
	documentMaxBytes = 64 << 10
	documentLines    = 200
	documentShort    = 10
	documentRunes    = 2000
)

// Document is what a webhook is posted, and what is retained on the broker.
// docs/channels.md is its manual; what is added later is added, never changed.
type Document struct {
	Schema   int              `json:"schema"` // 1
	Delivery string           `json:"delivery"`
	Event    Event            `json:"event"`
	Repeat   bool             `json:"repeat"` // it may have come before
	Title    string           `json:"title"`
	Text     string           `json:"text"`
	Incident DocumentIncident `json:"incident"`
}

// DocumentIncident is what a Document tells of.
type DocumentIncident struct {
	ID       int64      `json:"id"`
	DedupKey string     `json:"dedup_key"`
	Kind     string     `json:"kind"`
	Severity string     `json:"severity"`
	State    string     `json:"state"` // open, acknowledged, resolved; test
	Tenant   string     `json:"tenant,omitempty"`
	Facility string     `json:"facility,omitempty"`
	Name     string     `json:"name,omitempty"`
	Region   string     `json:"region"`
	Summary  string     `json:"summary"`
	Since    time.Time  `json:"since"`
	Resolved *time.Time `json:"resolved,omitempty"`
	TimeZone string     `json:"time_zone,omitempty"`
	Evidence []string   `json:"evidence,omitempty"`
	Actions  []string   `json:"actions,omitempty"`
	AckedBy  string     `json:"acked_by,omitempty"`
	URL      string     `json:"url,omitempty"`
	AckURL   string     `json:"ack_url,omitempty"` // webhook only: POST acknowledges
	Offer    string     `json:"offer,omitempty"`
	OfferURL string     `json:"offer_url,omitempty"` // webhook only
	Affected []string   `json:"affected,omitempty"`
}

// document makes the JSON of a message. links are for one reader only, and left
// out where many read.
func document(texts *Texts, m Message, links bool) ([]byte, error) {
	if !links {
		m.Incident.AckURL, m.Incident.OfferURL = "", "" // the text has them too
	}
	text, err := texts.Render(m)
	if err != nil {
		return nil, err
	}
	i := m.Incident
	d := Document{
		Schema: 1, Delivery: m.Delivery, Event: m.Event, Repeat: m.Repeat, Title: text.Title, Text: text.Body,
		Incident: DocumentIncident{
			ID: i.ID, DedupKey: i.DedupKey, Kind: i.Kind, Severity: i.Severity, State: "open",
			Tenant: i.Tenant, Facility: i.Facility, Name: i.Name, Region: i.Region, Summary: cut(i.Summary, documentRunes),
			Since: i.Since.UTC(), TimeZone: i.TimeZone, Evidence: first(i.Evidence, documentLines), Actions: first(i.Actions, documentLines),
			AckedBy: i.AckedBy, URL: i.URL, AckURL: i.AckURL, Offer: i.Offer, OfferURL: i.OfferURL, Affected: first(i.Affected, documentLines),
		},
	}
	if i.AckedBy != "" {
		d.Incident.State = "acknowledged"
	}
	if !i.Resolved.IsZero() {
		d.Incident.State = "resolved"
		at := i.Resolved.UTC()
		d.Incident.Resolved = &at
	}
	if m.Event == Test {
		d.Incident.State = "test"
	}
	raw, err := json.Marshal(d)
	if err != nil || len(raw) <= documentMaxBytes {
		return raw, err
	}
	d.Text = cut(d.Text, documentRunes)
	for _, list := range []*[]string{&d.Incident.Evidence, &d.Incident.Actions, &d.Incident.Affected} {
		*list = slices.Clone(first(*list, documentShort))
		for n, s := range *list {
			(*list)[n] = cut(s, documentRunes/documentShort)
		}
	}
	return json.Marshal(d)
}
