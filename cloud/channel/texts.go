package channel

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

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
	"voice.tmpl": {"keys", "keys-over", "again", "no-key", "wrong-key", "thanks", "goodbye", "not-stored", "unknown"},
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
	text map[string]*template.Template
	html *htmltemplate.Template
}

// NewTexts reads the templates that come with this build, and over them those in
// dir; "" has none. All that would go wrong with a message is found here, not when
// it is sent.
func NewTexts(dir string) (*Texts, error) {
	t := &Texts{text: map[string]*template.Template{}, html: htmltemplate.New(htmlTemplate).Option("missingkey=error")}
	own, err := overrides(dir)
	if err != nil {
		return nil, err
	}
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
	for kind, name := range templateOf {
		for _, event := range events {
			if _, err := t.Preview(kind, event); err != nil {
				if strings.Contains(err.Error(), "html/template") {
					name = htmlTemplate
				}
				return nil, wrong(dir, name, err)
			}
		}
	}
	for name, parts := range phrases {
		for _, part := range parts {
			if _, err := t.run(name, part, NewWords(Example(Voice, Trigger))); err != nil {
				return nil, wrong(dir, name, err)
			}
		}
	}
	return t, nil
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

// Render returns what a message says.
func (t *Texts) Render(m Message) (Text, error) {
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
	s, _ := t.run(file, name, w) // NewTexts has tried it
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

// brief is an action without its explanation: what is before the colon, without
// the full stop.
func brief(s string) string {
	s, _, _ = strings.Cut(s, ":")
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
