package channel

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	"golang.org/x/time/rate"

	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/internal/hint"
)

//go:embed templates
var defaultTemplates embed.FS

const (
	templateMaxBytes = 64 << 10
	// titleMax and bodyMax are more than any message needs; what is longer is cut.
	titleMax = 500
	bodyMax  = 20_000
	// smsSegments is what an SMS is shortened to where it can be.
	smsSegments = 2
)

// templateOf is the file that says what a channel's messages say.
var templateOf = map[Kind]string{
	SMS: "sms.tmpl", Voice: "voice.tmpl", Email: "email.tmpl", Slack: "slack.tmpl", Teams: "teams.tmpl",
	PagerDuty: "plain.tmpl", Webhook: "plain.tmpl", MQTT: "plain.tmpl",
}

// htmlTemplate is the other half of an email.
const htmlTemplate = "email.html.tmpl"

// events are the templates that each file has, beside the one called title.
var events = []Event{Trigger, Update, Resolve, Test}

// phrases are what is said beside a message.
var phrases = map[string][]string{
	"voice.tmpl": {"keys", "keys-over", "again", "no-key", "no-key-over", "wrong-key", "thanks", "goodbye", "not-stored", "unknown"},
	"sms.tmpl":   {"help", "not-stored"},
}

// Text is what a message says.
type Text struct {
	Title string // one line; "" for SMS and voice
	// Body is plain text for SMS, email, PagerDuty, webhook and MQTT; Slack's mrkdwn
	// and Teams' Markdown there. Of voice each line is said by itself.
	Body string
	HTML string // of an email
}

// Texts say what messages say. It is safe for concurrent use.
type Texts struct {
	Log *slog.Logger // default slog.Default(); set before use

	text    map[string]*template.Template
	html    *htmltemplate.Template
	builtin *Texts // stands in for own templates that fail; nil: these are the ones
	failed  rate.Sometimes
}

// NewTexts reads the templates that come with this build, and over them those in
// dir; "" has none. What would go wrong with a message is found here: each own
// template is tried with messages of every shape. What is not found, such as a
// mistake about one kind of incident, costs its looks, and not the message.
func NewTexts(dir string) (*Texts, error) {
	builtin, err := parse(dir, nil)
	if err != nil {
		return nil, err
	}
	own, err := overrides(dir)
	if err != nil || len(own) == 0 {
		return builtin, err
	}
	t, err := parse(dir, own)
	if err != nil {
		return nil, err
	}
	for name := range own {
		if err := t.try(name); err != nil {
			return nil, wrong(dir, name, err)
		}
	}
	t.builtin, t.failed.Interval = builtin, time.Minute
	return t, nil
}

// parse reads the templates of this build, and what own has of them.
func parse(dir string, own map[string]string) (*Texts, error) {
	t := &Texts{text: map[string]*template.Template{}, html: htmltemplate.New(htmlTemplate).Option("missingkey=error")}
	for _, name := range TemplateNames() {
		if name != htmlTemplate {
			t.text[name] = template.New(name).Option("missingkey=error").Funcs(funcs)
		}
		builtin, err := DefaultTemplate(name)
		if err != nil {
			return nil, err
		}
		// What the second one defines replaces that of the first.
		for _, source := range []string{builtin, own[name]} {
			if name == htmlTemplate {
				_, err = t.html.Parse(source)
			} else {
				_, err = t.text[name].Parse(source)
			}
			if err != nil {
				return nil, wrong(dir, name, err)
			}
		}
	}
	return t, nil
}

// try renders all that a template says of messages of every shape.
func (t *Texts) try(name string) error {
	for kind, of := range templateOf {
		if of != name && (name != htmlTemplate || kind != Email) {
			continue
		}
		for _, event := range events {
			for _, m := range shapes(kind, event) {
				if _, err := t.render(m); err != nil {
					return fmt.Errorf("a message of the event %s: %w", event, err)
				}
				for _, part := range phrases[name] {
					if _, err := t.run(name, part, NewWords(m)); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// shapes are messages about a made-up incident with and without each thing that a
// template may ask for, so that each of its branches is taken.
func shapes(kind Kind, event Event) []Message {
	changes := []func(*Message){
		func(m *Message) { // the region's own
			in := &m.Incident
			in.Tenant, in.Facility, in.Name, in.Affected = "", "", "", []string{"Los Angeles (la)", "Frankfurt (frankfurt)"}
		},
		func(m *Message) {
			m.Incident.Offer, m.Incident.OfferURL = "Work could go on in the cloud.", m.Incident.AckURL
		},
		func(m *Message) { m.Repeat, m.Again = true, true },
		func(m *Message) { // without a public_url, and nothing is known
			in := &m.Incident
			in.URL, in.AckURL, in.OfferURL, in.TimeZone, in.Evidence, in.Actions = "", "", "", "", nil, nil
		},
		func(m *Message) {
			if m.Incident.AckedBy == "" {
				m.Incident.AckedBy = "Bo Chen"
			} else {
				m.Incident.AckedBy = ""
			}
		},
		func(m *Message) { m.Incident.Severity = string(detect.Warning) },
	}
	var all []Message
	for which := range 1 << len(changes) {
		m := Example(kind, event)
		for i, change := range changes {
			if which>>i&1 == 1 {
				change(&m)
			}
		}
		all = append(all, m)
	}
	return all
}

func wrong(dir, name string, err error) error {
	return hint.Wrap(fmt.Errorf("read the message template %s: %w", name, err),
		"Correct %s, or remove it: the one that comes with this build is used then.", filepath.Join(dir, name))
}

// overrides returns the templates in dir.
func overrides(dir string) (map[string]string, error) {
	all := map[string]string{}
	if dir == "" {
		return all, nil
	}
	mine, err := os.ReadDir(dir)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("read the message templates: %w", err), "Create %s, or leave templates_dir empty.", dir)
	}
	for _, e := range mine {
		if !strings.HasSuffix(e.Name(), ".tmpl") {
			continue
		}
		if !slices.Contains(TemplateNames(), e.Name()) {
			return nil, wrong(dir, e.Name(), fmt.Errorf("there is no such template; there are %s", strings.Join(TemplateNames(), ", ")))
		}
		info, err := e.Info()
		if err == nil && info.Size() > templateMaxBytes {
			err = fmt.Errorf("larger than %d KiB", templateMaxBytes>>10)
		}
		if err != nil {
			return nil, wrong(dir, e.Name(), err)
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, wrong(dir, e.Name(), err)
		}
		all[e.Name()] = string(b)
	}
	return all, nil
}

// TemplateNames lists the files that a directory of own templates may have.
func TemplateNames() []string {
	names, _ := fs.Glob(defaultTemplates, "templates/*.tmpl") // the pattern is right
	for i, n := range names {
		names[i] = strings.TrimPrefix(n, "templates/")
	}
	slices.Sort(names)
	return names
}

// DefaultTemplate returns the template that comes with this build, to begin with.
func DefaultTemplate(name string) (string, error) {
	b, err := defaultTemplates.ReadFile("templates/" + name)
	return string(b), err
}

// Render returns what a message says, by the built-in templates where own ones fail:
// who is called at night is better told in other words than not at all.
func (t *Texts) Render(m Message) (Text, error) {
	out, err := t.render(m)
	if err != nil && t.builtin != nil {
		t.complain(templateOf[m.Kind], string(m.Event), err)
		return t.builtin.render(m)
	}
	return out, err
}

func (t *Texts) complain(name, part string, err error) {
	t.failed.Do(func() {
		cmp.Or(t.Log, slog.Default()).Error("an own message template fails, and the built-in one is used; others within the minute are not told of",
			"template", name, "part", part, "err", err)
	})
}

func (t *Texts) render(m Message) (Text, error) {
	w := NewWords(m)
	name, ok := templateOf[m.Kind]
	if !ok || !slices.Contains(events, m.Event) {
		return Text{}, fmt.Errorf("there is no message %s by %s", m.Event, m.Kind)
	}
	switch m.Kind {
	case SMS:
		body, err := t.sms(name, w)
		return Text{Body: body}, err
	case Voice:
		body, err := t.run(name, string(w.Event), w)
		return Text{Body: body}, err
	}
	title, errTitle := t.run(name, "title", w)
	body, errBody := t.run(name, string(w.Event), w)
	out := Text{Title: cut(oneLine(title), titleMax), Body: body}
	if err := errors.Join(errTitle, errBody); err != nil || m.Kind != Email {
		return out, err
	}
	var b bytes.Buffer
	if err := t.html.ExecuteTemplate(&b, string(w.Event), w); err != nil {
		return Text{}, err
	}
	out.HTML = b.String()
	return out, nil
}

// sms leaves things out until it fits: what is known, the page, the link where a
// reply does, what explains the headline, and then the actions, but for the last
// one: whom to call.
func (t *Texts) sms(name string, w Words) (string, error) {
	w.Headline = cut(w.Headline, 200)
	for {
		body, err := t.run(name, string(w.Event), w)
		body = gsm7(body)
		if err != nil || Segments(body) <= smsSegments {
			return body, err
		}
		switch {
		case len(w.Evidence) > 0:
			w.Evidence = w.Evidence[:len(w.Evidence)-1]
		case w.URL != "":
			w.URL = ""
		case w.AckURL != "" && w.Code != "":
			w.AckURL = ""
		case w.Headline == w.What && strings.Contains(w.Headline, ": "):
			w.What, _, _ = strings.Cut(w.Headline, ": ") // the rest explains
			w.Headline = w.What
		case len(w.Actions) > 1:
			w.Actions = slices.Delete(slices.Clone(w.Actions), len(w.Actions)-2, len(w.Actions)-1)
		case len(w.Headline) > 110:
			w.Headline = cut(w.Headline, 100)
		default:
			return body, nil
		}
	}
}

// phrase returns what is said beside a message.
func (t *Texts) phrase(file, name string, w Words) string {
	s, err := t.run(file, name, w)
	if err != nil && t.builtin != nil {
		t.complain(file, name, err)
		s, _ = t.builtin.run(file, name, w) // the tests have tried it
	}
	return oneLine(s)
}

func (t *Texts) run(file, name string, w Words) (string, error) {
	var b strings.Builder
	if err := t.text[file].ExecuteTemplate(&b, name, w); err != nil {
		return "", err
	}
	return cut(tidy(b.String()), bodyMax), nil
}

// tidy takes away what template tags leave: blanks at the ends of lines, and more
// than one empty line.
func tidy(s string) string {
	var out []string
	for line := range strings.SplitSeq(s, "\n") {
		line = strings.TrimRight(line, " \t\r")
		if line == "" && (len(out) == 0 || out[len(out)-1] == "") {
			continue
		}
		out = append(out, line)
	}
	return strings.TrimSpace(strings.Join(out, "\n"))
}

func cut(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return strings.TrimRight(string(r[:most-3]), " ") + "..."
}

// funcs are what templates of text may call.
var funcs = template.FuncMap{
	"inc":   func(i int) int { return i + 1 },
	"join":  func(sep string, s []string) string { return strings.Join(s, sep) },
	"brief": brief,
	"sentence": func(s string) string {
		if s != "" && !strings.ContainsAny(s[len(s)-1:], ".!?") {
			s += "."
		}
		return s
	},
	// What comes from elsewhere must not be read as markup.
	"slack": strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace,
	"md":    markdown.Replace,
}

// callWord begins the last of Actions: whom to call.
const callWord = "Call "

// brief is an action without its explanation: what is before the colon, without
// the full stop. Whom to call is no explanation.
func brief(s string) string {
	if !strings.HasPrefix(s, callWord) {
		s, _, _ = strings.Cut(s, ":")
	}
	return strings.TrimRight(s, ".? ")
}

var markdown = strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "`", "\\`", "<", "&lt;", ">", "&gt;")

// Preview renders a message about a made-up incident.
func (t *Texts) Preview(kind Kind, event Event) (Text, error) {
	return t.Render(Example(kind, event))
}

// Example is a message about a made-up incident, for previews.
func Example(kind Kind, event Event) Message {
	since := time.Date(2026, 11, 26, 17, 31, 5, 0, time.UTC)
	m := Message{
		Delivery: "00000000-0000-4000-8000-000000000000", Event: event, Kind: kind, Contact: "Ana Lima",
		Incident: Incident{
			ID: 17, DedupKey: "holdfast/us-east/17", Kind: string(detect.Offline), Severity: string(detect.Critical),
			Tenant: "foo", Facility: "la", Name: "Los Angeles", Region: "us-east",
			Summary: "Los Angeles is offline: neither its heartbeats nor its tunnel work.", Since: since, TimeZone: "America/Los_Angeles",
			Evidence: []string{"No heartbeat for 12 seconds; one is due each 5.", "The tunnel does not answer.", "Other facilities of the region are heard."},
			Actions:  Actions(detect.Offline, "la", "Foo's IT, +1 213 555 0100"),
			URL:      "https://holdfast.example.com/incidents/17", AckURL: "https://holdfast.example.com/ack/example",
		},
	}
	switch in := &m.Incident; event {
	case Update:
		in.AckedBy = "Bo Chen"
	case Resolve:
		in.Resolved = since.Add(4*time.Minute + 12*time.Second)
	case Test:
		*in = Incident{Region: "us-east", Summary: "a test", AckURL: in.AckURL, TimeZone: in.TimeZone}
	}
	return m
}
