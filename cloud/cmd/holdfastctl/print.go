package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Colours say again what a word and a shape say already.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	grey   = "90"
	bold   = "1"
)

// paint returns a function that colours text when w is a terminal of somebody
// who did not ask for none (https://no-color.org).
func (a *app) paint(w io.Writer) func(code, text string) string {
	if a.env("NO_COLOR") != "" || a.env("TERM") == "dumb" || !isTerminal(w) {
		return func(_, text string) string { return text }
	}
	return func(code, text string) string {
		if text == "" {
			return ""
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
}

// cell is one field of a table; colour is applied after aligning.
type cell struct{ text, colour string }

func c(text string) cell { return cell{text: text} }

// table prints aligned columns, two blanks apart, without trailing blanks.
func (a *app) table(w io.Writer, header []string, rows [][]cell) {
	widths := make([]int, len(header))
	for i, h := range header {
		widths[i] = utf8.RuneCountInString(h)
	}
	for _, row := range rows {
		for i, f := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(f.text))
		}
	}
	paint := a.paint(w)
	head := make([]cell, len(header))
	for i, h := range header {
		head[i] = cell{h, bold}
	}
	for _, row := range append([][]cell{head}, rows...) {
		var b strings.Builder
		for i, f := range row {
			text := f.text
			if f.colour != "" {
				text = paint(f.colour, text)
			}
			b.WriteString(text)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(f.text)+2))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// pairs prints names and values below each other.
func (a *app) pairs(w io.Writer, rows [][2]string) {
	width := 0
	for _, r := range rows {
		width = max(width, utf8.RuneCountInString(r[0]))
	}
	paint := a.paint(w)
	for _, r := range rows {
		if r[1] == "" {
			continue
		}
		pad := strings.Repeat(" ", width-utf8.RuneCountInString(r[0]))
		fmt.Fprintf(w, "%s%s  %s\n", paint(bold, r[0]), pad, r[1])
	}
}

// when is a time with its zone, and how long ago or ahead it is.
func (a *app) when(t time.Time) string {
	return t.Local().Format("2006-01-02 15:04:05 MST") + " (" + relative(t, a.clock()) + ")"
}

func (a *app) whenPtr(t *time.Time) string {
	if t == nil {
		return "–"
	}
	return a.when(*t)
}

// clockTime is short enough for a table: the day only when it is another.
func (a *app) clockTime(t *time.Time) string {
	if t == nil {
		return "never"
	}
	layout := "15:04:05 MST"
	if now := a.clock().Local(); t.Local().YearDay() != now.YearDay() || t.Local().Year() != now.Year() {
		layout = "2006-01-02 15:04:05 MST"
	}
	return t.Local().Format(layout) + " (" + relative(*t, a.clock()) + ")"
}

func relative(t, now time.Time) string {
	d := now.Sub(t)
	if d < 0 {
		return "in " + span(-d)
	}
	if d < time.Second {
		return "now"
	}
	return span(d) + " ago"
}

// span is a length of time in its largest sensible unit.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < 2*time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h"
	}
	return strconv.Itoa(int(d.Hours()/24)) + " days"
}

// size is a number of bytes in binary units.
func size(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, unit := float64(n)/1024, 0
	for v >= 1024 && unit < 4 {
		v, unit = v/1024, unit+1
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + []string{"KiB", "MiB", "GiB", "TiB", "PiB"}[unit]
}

// count is a number with thin groups of three, so that it can be read.
func count[T ~int | ~int64 | ~uint64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	var b strings.Builder
	for i, r := range s {
		if i > 0 && (len(s)-i)%3 == 0 && s[i-1] != '-' {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
