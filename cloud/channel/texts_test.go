package channel

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/internal/hint"
)

func texts(t *testing.T) *Texts {
	t.Helper()
	x, err := NewTexts("")
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestEveryChannelSaysWhatWhereSinceWhenAndWhatToDo(t *testing.T) {
	t.Parallel()
	x := texts(t)
	for kind := range templateOf {
		got, err := x.Preview(kind, Trigger)
		if err != nil {
			t.Fatal(err)
		}
		all := got.Title + "\n" + got.Body
		for _, want := range []string{"Los Angeles", "offline", "09:31", "Check the internet", "box has power", "heck the tunnel", "Call Foo's IT"} {
			if kind == Voice {
				want = strings.Replace(want, "09:31", "9:31 AM", 1)
			}
			if !strings.Contains(strings.ReplaceAll(all, `\`, ""), want) {
				t.Errorf("%s does not say %q:\n%s", kind, want, all)
			}
		}
		if kind != SMS && kind != Voice {
			for _, want := range []string{"America/Los", "No heartbeat for 12 seconds"} {
				if !strings.Contains(strings.ReplaceAll(all, `\`, ""), want) {
					t.Errorf("%s does not say %q:\n%s", kind, want, all)
				}
			}
		}
		over, err := x.Preview(kind, Resolve)
		if err != nil {
			t.Fatal(err)
		}
		if all := over.Title + over.Body; !strings.Contains(all, "4 minutes 12 seconds") {
			t.Errorf("%s does not say how long it lasted:\n%s", kind, all)
		}
		if strings.Contains(over.Body+over.HTML, "/ack/") || strings.Contains(over.Body, "Reply") {
			t.Errorf("%s offers to acknowledge what is over:\n%s", kind, over.Body)
		}
		taken, err := x.Preview(kind, Update)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(taken.Body, "Bo Chen") || strings.Contains(taken.Body+taken.HTML, "/ack/") {
			t.Errorf("%s does not say who takes care:\n%s", kind, taken.Body)
		}
		test, err := x.Preview(kind, Test)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(test.Body, "Nothing is wrong") {
			t.Errorf("%s does not say that a test is one:\n%s", kind, test.Body)
		}
	}
}

func TestAnSMSIsAtMostTwoSegmentsAndSaysHowToAcknowledge(t *testing.T) {
	t.Parallel()
	x := texts(t)
	for _, name := range []string{"Los Angeles", "München – Werk “Süd”", "Łódź", "A very long name of a facility that somebody once thought to be a good idea to give to a small plant"} {
		m := Example(SMS, Trigger)
		m.Incident.Name = name
		m.Incident.Summary = name + " is offline: neither heartbeat nor tunnel, and everything that could be said of it at length, which is more than fits"
		got, err := x.Render(m)
		if err != nil {
			t.Fatal(err)
		}
		if n := Segments(got.Body); n > 2 {
			t.Errorf("%d segments:\n%s", n, got.Body)
		}
		for _, want := range []string{"Reply A17 to acknowledge", "Call Foo's IT, +1 213 555 0100"} {
			if !strings.Contains(got.Body, want) {
				t.Errorf("does not say %q:\n%s", want, got.Body)
			}
		}
	}
	m := Example(SMS, Trigger)
	m.Incident.Offer, m.Incident.OfferURL = links(t, "https://holdfast.example.com").Offer(someDelivery, "fallback")
	got, err := x.Render(m)
	if err != nil {
		t.Fatal(err)
	}
	if Segments(got.Body) > 2 || !strings.Contains(got.Body, "/ack/") || !strings.Contains(got.Body, "Reply A17") {
		t.Errorf("with an offer it is %d segments:\n%s", Segments(got.Body), got.Body)
	}
	// What has no letters in that alphabet costs more, and arrives.
	m = Example(SMS, Trigger)
	m.Incident.Name, m.Incident.Summary = "上海", "上海 is offline."
	if got, err = x.Render(m); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got.Body, "上海 is offline, since") || !strings.Contains(got.Body, "Reply A17") {
		t.Error(got.Body)
	}
}

func TestAnSMSHasTheNumberToCallWhateverIsBeforeIt(t *testing.T) {
	t.Parallel()
	x := texts(t)
	m := Example(SMS, Trigger)
	m.Incident.Actions[len(m.Incident.Actions)-1] = "Call IT desk: +1 213 555 0100."
	got, err := x.Render(m)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got.Body, "Call IT desk: +1 213 555 0100.") || strings.Contains(got.Body, "..") {
		t.Error(got.Body)
	}
	if strings.Contains(got.Body, "another device") {
		t.Errorf("the explanations are still there:\n%s", got.Body)
	}
}

func TestSegmentsAreCountedAsTheyAreCharged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want int
	}{
		{"", 1},
		{strings.Repeat("a", 160), 1},
		{strings.Repeat("a", 161), 2},
		{strings.Repeat("a", 306), 2},
		{strings.Repeat("a", 307), 3},
		{strings.Repeat("€", 80), 1}, // two each
		{strings.Repeat("€", 81), 2},
		{strings.Repeat("海", 70), 1},
		{strings.Repeat("海", 71), 2},
		{strings.Repeat("😀", 36), 2}, // two units each
	} {
		if got := Segments(c.text); got != c.want {
			t.Errorf("%.5s… of %d: %d segments, want %d", c.text, len([]rune(c.text)), got, c.want)
		}
	}
	if got, want := gsm7("“Łódź” — Œuvre, São Paulo, ľ, 海"), `"Lódz" - OEuvre, Sao Paulo, l, 海`; got != strings.Replace(want, "ó", "o", 1) {
		t.Errorf("%q", got)
	}
}

func TestTimesAreTheFacilitysOwnWithTheirZone(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 7, 1, 15, 30, 5, 0, time.UTC)
	for _, c := range []struct{ zone, whole, short, spoken string }{
		{"America/Los_Angeles", "Wed 1 Jul 2026, 08:30:05 PDT (America/Los_Angeles)", "Wed 08:30 Los Angeles time", "Wednesday, 8:30 AM, Los Angeles time"},
		{"Asia/Shanghai", "Wed 1 Jul 2026, 23:30:05 CST (Asia/Shanghai)", "Wed 23:30 Shanghai time", "Wednesday, 11:30 PM, Shanghai time"},
		{"Asia/Dubai", "Wed 1 Jul 2026, 19:30:05 UTC+04:00 (Asia/Dubai)", "Wed 19:30 Dubai time", "Wednesday, 7:30 PM, Dubai time"},
		{"", "Wed 1 Jul 2026, 15:30:05 UTC", "Wed 15:30 UTC", "Wednesday, 3:30 PM, UTC"},
		{"Nowhere/Land", "Wed 1 Jul 2026, 15:30:05 UTC", "Wed 15:30 UTC", "Wednesday, 3:30 PM, UTC"},
	} {
		w := NewWords(Message{Incident: Incident{Since: at, TimeZone: c.zone}})
		if w.Since != c.whole || w.SinceShort != c.short || w.SinceSpoken != c.spoken {
			t.Errorf("%s: %q, %q, %q", c.zone, w.Since, w.SinceShort, w.SinceSpoken)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "less than a second", time.Second: "1 second", 61 * time.Second: "1 minute 1 second", 2 * time.Hour: "2 hours",
		49*time.Hour + 5*time.Second: "2 days 1 hour", 24*time.Hour + 59*time.Second: "1 day", -time.Hour: "less than a second",
	} {
		if got := lasted(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

func TestOwnTemplatesStandInForTheBuiltInOnesAndMistakesAreFoundAtStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("sms.tmpl", `{{define "trigger"}}{{.Where}} ist weg. {{.Code}}{{end}}`)
	x, err := NewTexts(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := x.Preview(SMS, Trigger)
	if err != nil || got.Body != "Los Angeles (la) ist weg. A17" {
		t.Errorf("%q, %v", got.Body, err)
	}
	if over, err := x.Preview(SMS, Resolve); err != nil || !strings.Contains(over.Body, "RESOLVED") {
		t.Errorf("what it lacks is not as built in: %q, %v", over.Body, err)
	}
	if mail, err := x.Preview(Email, Trigger); err != nil || !strings.Contains(mail.Body, "What to do") {
		t.Errorf("%q, %v", mail.Body, err)
	}
	for name, text := range map[string]string{
		"sms.tmpl":        `{{define "trigger"}}{{.Wher}}{{end}}{{define "update"}}{{end}}{{define "resolve"}}{{end}}{{define "test"}}{{end}}`,
		"voice.tmpl":      `{{define "keys"}}{{.Nothing}}{{end}}`,
		"email.tmpl":      `{{define "trigger"}`,
		"email.html.tmpl": `{{define "trigger"}}<p title={{.Where}}{{end}}`,
		"typo.tmpl":       ``,
		"plain.tmpl":      strings.Repeat("x", templateMaxBytes+1),
	} {
		dir = t.TempDir()
		put(name, text)
		_, err := NewTexts(dir)
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(hint.Of(err), filepath.Join(dir, name)) {
			t.Errorf("%s: %v (%s)", name, err, hint.Of(err))
		}
	}
}

func TestTheBuiltInTemplatesSayMessagesOfEveryShape(t *testing.T) {
	t.Parallel()
	x := texts(t)
	for _, name := range TemplateNames() {
		if err := x.try(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAMistakeInABranchThatIsRarelyTakenIsFoundAtStart has a field that does not
// exist where a usual incident does not come.
func TestAMistakeInABranchThatIsRarelyTakenIsFoundAtStart(t *testing.T) {
	t.Parallel()
	for branch, in := range map[string]string{
		"regional": `{{if .Affected}}{{.Nope}}{{end}}`, "of a region itself": `{{if not .Facility}}{{.Nope}}{{end}}`,
		"with an offer": `{{with .Offer}}{{$.Nope}}{{end}}`, "with an offer's link": `{{if .OfferURL}}{{.Nope}}{{end}}`,
		"an offer without a link": `{{if and .Offer (not .OfferURL)}}{{.Nope}}{{end}}`,
		"a repetition":            `{{if .Repeat}}{{.Nope}}{{end}}`, "a repetition of a regional one": `{{if and .Repeat .Affected}}{{.Nope}}{{end}}`,
		"without a page": `{{if not .AckURL}}{{.Nope}}{{end}}`, "nobody has it": `{{if not .AckedBy}}{{.Nope}}{{end}}`,
		"without evidence": `{{range .Evidence}}{{else}}{{.Nope}}{{end}}`, "a warning": `{{if eq .Severity "warning"}}{{.Nope}}{{end}}`,
	} {
		for _, name := range []string{"sms.tmpl", htmlTemplate} {
			for _, event := range []Event{Trigger, Update} {
				dir := t.TempDir()
				text := `{{define "` + string(event) + `"}}` + in + `{{end}}`
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if _, err := NewTexts(dir); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "Nope") {
					t.Errorf("%s, %s of %s: %v", branch, event, name, err)
				}
			}
		}
	}
}

func TestAPageIsNotLostForAMistakeInAnOwnTemplate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range TemplateNames() {
		text := `{{define "trigger"}}{{if eq .Kind "clock"}}{{.Nope}}{{end}}ours{{end}}`
		if name == "voice.tmpl" {
			text += `{{define "thanks"}}{{if eq .Kind "clock"}}{{.Nope}}{{end}}ours{{end}}`
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	x, err := NewTexts(dir)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	x.Log = slog.New(slog.NewTextHandler(&log, nil))
	for kind := range templateOf {
		m := Example(kind, Trigger)
		if got, err := x.Render(m); err != nil || !strings.Contains(got.Body, "ours") {
			t.Fatalf("%s is not said in our words: %q, %v", kind, got.Body, err)
		}
		m.Incident.Kind = "clock"
		if got, err := x.Render(m); err != nil || !strings.Contains(got.Body+got.Title, "Los Angeles") || kind == Email && !strings.Contains(got.HTML, "Los Angeles") {
			t.Errorf("%s: %q, %v", kind, got.Body, err)
		}
	}
	m := Example(Voice, Trigger)
	m.Incident.Kind = "clock"
	if got := x.phrase("voice.tmpl", "thanks", NewWords(m)); got != "Thank you." {
		t.Errorf("a phrase: %q", got)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), "Nope") {
		t.Errorf("%d lines within a minute:\n%s", n, &log)
	}
}

func TestWhatComesFromElsewhereIsNoMarkup(t *testing.T) {
	t.Parallel()
	x := texts(t)
	hostile := "<script>alert(1)</script> <https://evil.example|here> [here](https://evil.example)"
	for _, kind := range []Kind{Email, Slack, Teams} {
		m := Example(kind, Trigger)
		m.Incident.Evidence = []string{hostile}
		got, err := x.Render(m)
		if err != nil {
			t.Fatal(err)
		}
		marked := got.HTML
		if kind != Email {
			marked = got.Body
		}
		if strings.Contains(marked, "<script>") || strings.Contains(marked, "<https") || kind == Teams && strings.Contains(marked, "[here](") {
			t.Errorf("%s:\n%s", kind, marked)
		}
	}
}

func TestWhatToDoIsSaidOfEveryCondition(t *testing.T) {
	t.Parallel()
	for _, kind := range []detect.Kind{
		detect.Offline, detect.TunnelDown, detect.TelemetryDown, detect.Unstable, detect.QueueFilling, detect.DiskFilling, detect.DatabaseDown,
		detect.NoProgress, detect.ClockOff, detect.WatchdogOff, detect.Certificate, detect.ParkedRows, detect.Mismatch, detect.Temperature,
		detect.Blind, detect.Outage, detect.Alerting, detect.Drill, "what is new",
	} {
		got := Actions(kind, "la", "Ops, +1 213 555 0100")
		if len(got) < 2 || got[len(got)-1] != "Call Ops, +1 213 555 0100." || got[0] == Actions("what is newer", "la", "")[0] && kind != "what is new" {
			t.Errorf("%s: %q", kind, got)
		}
		again := Actions(kind, "la", "")
		if again[len(again)-1] != "Call your IT support." || len(again) != len(got) {
			t.Errorf("%s: %q", kind, again)
		}
	}
}

// Nobody is sent to a box, or to a facility, for what is the region's own.
func TestWhatToDoAboutTheRegionSpeaksOfTheRegion(t *testing.T) {
	t.Parallel()
	for _, kind := range []detect.Kind{detect.NoProgress, detect.ClockOff, detect.Blind, detect.Alerting} {
		got := Actions(kind, "", "Ops")
		for _, a := range got {
			if l := strings.ToLower(a); strings.Contains(l, "box") || strings.Contains(l, "facility's") {
				t.Errorf("%s: %q", kind, a)
			}
		}
		if !strings.Contains(strings.Join(got[:len(got)-1], " "), "region") && kind != detect.Alerting {
			t.Errorf("%s: %q", kind, got)
		}
	}
	if one, other := Actions(detect.ClockOff, "la", "Ops"), Actions(detect.ClockOff, "", "Ops"); one[0] == other[0] {
		t.Errorf("a box's clock and the region's: %q", one)
	}
}

func TestWhatIsKnownIsToldInTheFacilitysTime(t *testing.T) {
	t.Parallel()
	in := Incident{TimeZone: "America/Los_Angeles", Evidence: []string{"Last heartbeat: 2026-11-26 17:31:05 UTC.", "It was asked."}}
	want := []string{"Last heartbeat: 26 Nov 09:31:05 Los Angeles time.", "It was asked."}
	if got := NewWords(Message{Incident: in}).Evidence; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTheEndOfAnOutageDoesNotReadAsOne(t *testing.T) {
	t.Parallel()
	in := Incident{Kind: "offline", Name: "Los Angeles", Summary: "Los Angeles is offline: neither its heartbeats nor its tunnel work."}
	if got := NewWords(Message{Event: Resolve, Incident: in}).Headline; got != "Los Angeles was offline" {
		t.Errorf("%q", got)
	}
}
