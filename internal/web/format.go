package web

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"
)

// State is how well something is, as people see it: a colour, a shape and a
// word, never the colour alone.
type State struct {
	// Kind is ok, warn, bad, unknown, idle, busy, waiting, sent or gone: it picks
	// colour and shape.
	Kind string
	Word string
}

var stateIcons = map[string]string{
	"ok": "filled-circle-check", "warn": "filled-alert-triangle", "bad": "filled-square-rounded-x",
	"unknown": "filled-help-hexagon", "idle": "circle-dashed",
	"busy": "player-play", "waiting": "clock", "gone": "x", "sent": "truck-delivery",
}

func (s *Site) funcs() template.FuncMap {
	return template.FuncMap{
		"asset": AssetURL,
		"icon":  icon,
		"state": func(kind, word string) template.HTML { return StateHTML(State{kind, word}) },
		"stateicon": func(kind string) template.HTML {
			return icon(stateIcons[kind])
		},
		"lamp":   lamp,
		"badge":  BadgeHTML,
		"value":  ValueHTML,
		"time":   func(t time.Time) template.HTML { return TimeHTML(t, s.o.Zone) },
		"timein": TimeHTML,
		"count":  Count,
		"bytes":  Bytes,
		"span":   Span,
		"title":  sentence,
		"dict":   dict,
	}
}

// dict passes several named values to a fragment.
func dict(kv ...any) (map[string]any, error) {
	if len(kv)%2 != 0 {
		return nil, fmt.Errorf("dict: odd number of arguments")
	}
	m := make(map[string]any, len(kv)/2)
	for i := 0; i < len(kv); i += 2 {
		k, ok := kv[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: argument %d is not a name", i)
		}
		m[k] = kv[i+1]
	}
	return m, nil
}

func icon(name string) template.HTML {
	return template.HTML(`<svg class="icon" aria-hidden="true" focusable="false"><use href="` +
		AssetURL("icons.svg") + "#" + template.HTMLEscapeString(name) + `"></use></svg>`)
}

// StateHTML draws a state as a pill.
func StateHTML(s State) template.HTML {
	kind := s.Kind
	if stateIcons[kind] == "" {
		kind = "unknown"
	}
	return template.HTML(`<span class="state state-` + kind + `">` + string(icon(stateIcons[kind])) +
		template.HTMLEscapeString(s.Word) + `</span>`)
}

// BadgeHTML draws a number beside a navigation entry; no number hides it.
func BadgeHTML(id, number, of string) template.HTML {
	if number == "" {
		return template.HTML(`<span class="badge" id="` + template.HTMLEscapeString(id) + `" hidden></span>`)
	}
	return template.HTML(`<span class="badge" id="` + template.HTMLEscapeString(id) + `">` + template.HTMLEscapeString(number) +
		`<span class="visually-hidden"> ` + template.HTMLEscapeString(of) + `</span></span>`)
}

// ValueHTML draws a value of a row in words that tell an empty text, no value,
// a value that was not sent and a row that is not there apart.
func ValueHTML(v *string, sent, row bool) template.HTML {
	none := func(word string) template.HTML { return template.HTML(`<span class="none">` + word + `</span>`) }
	switch {
	case !row:
		return none("no row")
	case !sent:
		return none("not touched")
	case v == nil:
		return none("no value")
	case *v == "":
		return none("empty")
	}
	text := []rune(*v)
	if len(text) > valueMaxRunes {
		return template.HTML(template.HTMLEscapeString(string(text[:valueMaxRunes]))) + none(fmt.Sprintf(" … and %s more characters", Count(len(text)-valueMaxRunes)))
	}
	return template.HTML(template.HTMLEscapeString(*v))
}

// valueMaxRunes is how much of one value a page shows.
const valueMaxRunes = 2000

// lamp draws one link of a facility: on, off or none.
func lamp(name, is string) template.HTML {
	icons := map[string]string{"on": "filled-circle-check", "off": "filled-square-rounded-x", "none": "circle-dashed"}
	words := map[string]string{"on": "up", "off": "down", "none": "unknown"}
	if icons[is] == "" {
		is = "none"
	}
	return template.HTML(`<span class="lamp ` + is + `">` + string(icon(icons[is])) +
		template.HTMLEscapeString(name) + " " + words[is] + `</span>`)
}

// agoOpen begins a relative time; live updates look for it.
const agoOpen = `<span class="ago nowrap">`

// TimeHTML draws an absolute time with its zone and the relative time beside
// it, which the page keeps true. A zero time is "never".
func TimeHTML(t time.Time, zone *time.Location) template.HTML {
	if t.IsZero() {
		return `<span class="soft">never</span>`
	}
	if zone == nil {
		zone = time.UTC
	}
	now, l := time.Now(), t.In(zone)
	layout := "15:04:05 MST"
	if y, m, d := l.Date(); func() bool { ny, nm, nd := now.In(zone).Date(); return y != ny || m != nm || d != nd }() {
		layout = "2006-01-02 15:04 MST"
	}
	return template.HTML(`<time data-ago datetime="` + t.UTC().Format(time.RFC3339Nano) + `" title="` +
		template.HTMLEscapeString(l.Format("Monday 2 January 2006, 15:04:05 MST")) + `">` +
		template.HTMLEscapeString(l.Format(layout)) + ` ` + agoOpen + Ago(now.Sub(t)) + `</span></time>`)
}

// Ago says how long ago something was; app.js says it the same way.
func Ago(d time.Duration) string {
	switch {
	case d < -5*time.Second:
		return "in " + Span(-d)
	case d < 2*time.Second:
		return "now"
	}
	return Span(d) + " ago"
}

// Span writes a duration as people say it.
func Span(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case d < 0:
		return "-" + Span(-d)
	case d < time.Second:
		return strconv.FormatFloat(float64(d.Round(100*time.Microsecond))/1e6, 'f', -1, 64) + " ms"
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min", s/60)
	case s < 86400:
		return two(s, 3600, "h", 60, "min")
	}
	return two(s, 86400, "d", 3600, "h")
}

// two writes seconds in a big unit and, unless it is none, the rest in a small.
func two(s, big int64, a string, small int64, b string) string {
	if rest := s % big / small; rest > 0 {
		return fmt.Sprintf("%d %s %d %s", s/big, a, rest, b)
	}
	return fmt.Sprintf("%d %s", s/big, a)
}

// Count groups digits by thousands with a thin space.
func Count(n any) string {
	s := fmt.Sprint(n)
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	if len(s) <= 4 {
		return sign + s
	}
	var out []string
	for len(s) > 3 {
		out = append([]string{s[len(s)-3:]}, out...)
		s = s[:len(s)-3]
	}
	return sign + s + "\u202f" + strings.Join(out, "\u202f")
}

// Bytes writes a size in binary units.
func Bytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " " + units[i]
}
