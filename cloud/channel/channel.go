package channel

import (
	"context"
	"errors"
	"time"
)

// Kind is a way to tell somebody.
type Kind string

// The channels.
const (
	SMS       Kind = "sms"
	Voice     Kind = "voice"
	Email     Kind = "email"
	Teams     Kind = "teams"     // a Microsoft Teams Workflows webhook
	Slack     Kind = "slack"     // an incoming webhook of a Slack app
	PagerDuty Kind = "pagerduty" // Events API v2
	Webhook   Kind = "webhook"   // signed JSON to any URL
	MQTT      Kind = "mqtt"      // retained JSON on the region's broker
)

// Confirms reports whether the provider says later whether a message has arrived.
// Where it does, that it took one proves nothing; where not, there is nothing more
// to know until somebody answers.
func (k Kind) Confirms() bool { return k == SMS || k == Voice }

// Event is why a message is sent.
type Event string

// The events.
const (
	Trigger Event = "trigger"
	Update  Event = "update" // such as an acknowledgement
	Resolve Event = "resolve"
	Test    Event = "test"
)

// Message is what one contact is told by one channel. All attempts at one
// delivery are the same message.
type Message struct {
	// Delivery is the key by which a provider may know a repetition (a UUID).
	Delivery string
	Event    Event
	Kind     Kind
	// To is a phone number (E.164), a mail address, a URL, a routing key, or a
	// topic's last level. For teams, slack, webhook and pagerduty it is a secret.
	To       string
	Settings map[string]string // of the contact's method
	Contact  string            // the contact's name
	Incident Incident
	// Repeat is true when an attempt before may have arrived.
	Repeat bool
	// Again is true when the incident was told before, by this way perhaps, and is
	// told anew because nothing came of it: it must call people again.
	Again bool
}

// Incident is what a message tells of.
type Incident struct {
	ID       int64
	DedupKey string // the same for all messages of one incident, at most 255 bytes
	Kind     string // detect.Kind
	Severity string // info, warning, critical
	Tenant   string
	Facility string // "" for the region itself
	Name     string // the facility's, for people
	Region   string
	Summary  string    // one line: what is wrong
	Since    time.Time // backdated
	Resolved time.Time // zero while it is open
	TimeZone string    // the facility's own
	Evidence []string  // what is known, one line each
	Actions  []string  // what to do, in order
	AckedBy  string    // "" while nobody has
	URL      string    // of the incident's page
	AckURL   string    // signed: GET shows, POST acknowledges; "" where there is nothing to acknowledge
	Offer    string    // what else is offered, in words; "" for nothing
	OfferURL string    // signed
	Affected []string  // the facilities of a regional incident
	// Of is the region's condition that a customer is told of, as far as it is
	// about his facilities; "" for any other incident.
	Of string
}

// State is how far a message has come. It only goes forward.
type State string

// The states that a provider can tell.
const (
	Accepted  State = "accepted"  // taken; whether it arrives is not known
	Sent      State = "sent"      // on its way
	Delivered State = "delivered" // at the device or in the mailbox
	Reached   State = "reached"   // a person has answered
	Failed    State = "failed"
)

// Result is what a provider said when it took a message.
type Result struct {
	Provider   string // such as twilio
	ProviderID string // its own key for the message; "" for none
	State      State  // Accepted or better
	Price      Price  // zero when not known yet
}

// Price is what a message cost.
type Price struct {
	Micros int64  // millionths of Unit
	Unit   string // the currency (ISO 4217); "" when not known
}

// Sender is one channel. It is safe for concurrent use.
type Sender interface {
	// Send hands a message to the provider and returns once it has taken it.
	// An error is temporary unless it is Permanent; it may be a *RetryError.
	Send(ctx context.Context, m Message) (Result, error)
	// Check says what is wrong with an address and its settings, as far as can
	// be found without telling anybody (format, credentials, a lookup).
	Check(ctx context.Context, to string, settings map[string]string) error
}

// Finder is a Sender that can look up what became of a message whose answer
// was lost, so that it need not be sent twice.
type Finder interface {
	// Find returns what the provider has of a message that was handed to it
	// after since; ok is false when it has nothing.
	Find(ctx context.Context, m Message, since time.Time) (r Result, ok bool, err error)
}

// Pricer is a Sender whose provider tells what a message cost, some time after it was sent.
type Pricer interface {
	// Price returns what the message with the provider's key cost; ok is false while
	// the provider does not say.
	Price(ctx context.Context, providerID string) (p Price, ok bool, err error)
}

// permanent is an error that no repetition cures.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks an error that no repetition cures: the next contact is told at once.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// IsPermanent reports whether an error was marked so.
func IsPermanent(err error) bool {
	_, ok := errors.AsType[permanent](err)
	return ok
}

// RetryError says when a provider wants to be asked again (Retry-After, RFC 9110 section 10.2.3).
type RetryError struct {
	Err   error
	After time.Duration
}

func (e *RetryError) Error() string { return e.Err.Error() }
func (e *RetryError) Unwrap() error { return e.Err }

// Receipt is what a provider says of a message later.
type Receipt struct {
	Delivery string // or ProviderID, when only that is known
	Provider string
	// ProviderID is the provider's key for the message, EventID its key for
	// this receipt: what comes twice counts once.
	ProviderID, EventID string
	State               State
	Detail              string // in words, such as the provider's error
}

// Ack is somebody's word that he takes care.
type Ack struct {
	Incident int64  // 0: it is in Delivery
	Delivery string // "" when not known
	From     string // a phone number, which must be a contact's; "" when the channel has proved who it is
	By       string // for people
	How      string // sms, voice, slack, link
}

// ErrStranger is for an Ack whose From is nobody's who was told of such an incident.
var ErrStranger = errors.New("nobody with this number was told")

// Inbox takes what comes back. cloud/alert is one.
type Inbox interface {
	Receipt(ctx context.Context, r Receipt) error
	// Acknowledge returns what to answer, in words for the person, also with ErrStranger.
	Acknowledge(ctx context.Context, a Ack) (answer string, err error)
	// Incident returns what a delivery told of, for the page behind a signed
	// link and for what a call says.
	Incident(ctx context.Context, delivery string) (Message, error)
}
