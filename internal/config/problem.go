package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with one setting.
type Problem struct {
	// Path names the setting: "queue.max" or "channels[0].to". A Validate
	// method gives it relative to its own struct; "" is the struct itself.
	Path string
	// Text says what is wrong and what would be right.
	Text string

	// Line and Column are where in the file, from 1, and 0 where the file does
	// not have the setting. Load fills them in.
	Line, Column int
}

// Error is all that is wrong with one file.
type Error struct {
	File     string
	Problems []Problem // in the order of the file, those without a line last

	lines []string
}

// Error returns a line for each problem, with the line of the file below it
// and a mark under the column.
func (e *Error) Error() string {
	var b strings.Builder
	if n := len(e.Problems); n > 1 {
		fmt.Fprintf(&b, "%s has %d problems:\n", e.File, n)
	}
	for _, p := range e.Problems {
		b.WriteString(e.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
		}
		if p.Path != "" {
			fmt.Fprintf(&b, ": %s", p.Path)
		}
		fmt.Fprintf(&b, ": %s\n", p.Text)
		if p.Line < 1 || p.Line > len(e.lines) {
			continue
		}
		no, line := fmt.Sprint(p.Line), strings.ReplaceAll(e.lines[p.Line-1], "\t", " ")
		if runes := []rune(line); len(runes) > lineMaxRunes {
			line = string(runes[:lineMaxRunes]) + "…"
		}
		fmt.Fprintf(&b, "  %s | %s\n", no, line)
		if p.Column <= lineMaxRunes {
			fmt.Fprintf(&b, "  %*s | %*s\n", len(no), "", max(p.Column, 1), "^")
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// lineMaxRunes is how much of an offending line is shown.
const lineMaxRunes = 160

func sortProblems(ps []Problem) {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if (a.Line == 0) != (b.Line == 0) {
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// nearest returns the known key that key is probably a misspelling of, or "".
func nearest(key string, known []string) string {
	best, at := "", 3 // more than two edits is another word
	for _, k := range known {
		if d := distance(key, k); d < at && d < len(k) {
			best, at = k, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two short strings.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
