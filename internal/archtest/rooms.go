package archtest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// ARCHITECTURE.md has one table of rooms, between these lines. Nothing in it is
// written by hand: what the rows say comes from the package comments, and their
// order is that in which the text first names the rooms, each in backquotes; rooms
// that the text does not name follow by path.
const (
	tableBegin = "<!-- rooms -->\n"
	tableEnd   = "<!-- /rooms -->"
	tableHead  = "| package | what it does | in | out |\n|---|---|---|---|\n"
)

// Table returns text, the content of ARCHITECTURE.md, with its table of rooms
// brought up to date.
func (h *House) Table(text string) (string, error) {
	before, rest, ok := strings.Cut(text, tableBegin)
	_, after, end := strings.Cut(rest, tableEnd)
	if !ok || !end {
		return "", fmt.Errorf("there is no table of rooms: it goes between the lines %s and %s", strings.TrimSpace(tableBegin), tableEnd)
	}
	story := before + after
	place := func(r *Room) int {
		if i := strings.Index(story, "`"+r.Path+"`"); i >= 0 {
			return i
		}
		return len(story)
	}
	rooms := slices.Clone(h.Rooms) // by path
	slices.SortStableFunc(rooms, func(a, b *Room) int { return cmp.Compare(place(a), place(b)) })

	var b strings.Builder
	b.WriteString(before + tableBegin + tableHead)
	for _, r := range rooms {
		b.WriteString(r.row())
	}
	b.WriteString(tableEnd + after)
	return b.String(), nil
}

func (r *Room) row() string {
	cell := strings.NewReplacer("|", `\|`, "\n", " ")
	return fmt.Sprintf("| `%s` | %s | %s | %s |\n", r.Path, cell.Replace(r.Line), cell.Replace(r.In), cell.Replace(r.Out))
}
