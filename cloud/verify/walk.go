package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/proto"
)

// Chunks are as large as a question may take at the box: its writers wait. Where
// somebody waits for the answer it may take longer, and so fewer bytes.
const (
	chunkTook   = 25 * time.Millisecond
	chunkNow    = 40 * time.Millisecond
	chunkFirst  = 2000
	chunkMin    = 2000
	chunkMax    = 20_000
	foundMax    = 10_000 // rows that one pass keeps
	shownMax    = 100    // rows that are stored and shown
	idleWait    = 30 * time.Second
	troubleWait = 10 * time.Second
)

// walker compares one facility's tables for as long as it is connected.
type walker struct {
	v        *Verifier
	facility string
	wake     chan struct{} // holds a token when somebody asks for a pass
	log      *slog.Logger
	broken   int // streams that ended under the table that somebody waits for
}

// run follows the facility from one stream to the next; what was asked in one
// that ended is asked again.
func (w *walker) run(ctx context.Context) error {
	for w.there(ctx) {
		wait, err := w.next(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			w.log.Debug("the comparison pauses", "err", err)
			wait = troubleWait
		}
		if err := w.rest(ctx, wait); err != nil && !errors.Is(err, errYield) {
			return err
		}
	}
	return ctx.Err()
}

// there reports whether the facility is connected. While somebody waits for a pass, one
// that has just gone may come back: the stream of a link that was cut is taken for alive
// until the next one comes.
func (w *walker) there(ctx context.Context) bool {
	w.v.mu.Lock()
	late := time.NewTimer(w.v.backWithin)
	w.v.mu.Unlock()
	defer late.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for w.v.Stream(w.facility) == 0 {
		if !w.v.wanted(w.facility) {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-late.C:
			return false
		case <-look.C:
		}
	}
	return true
}

// rest waits, unless somebody asks for a pass.
func (w *walker) rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-w.wake:
		w.poke() // for whoever looks next
		return errYield
	case <-t.C:
		return nil
	}
}

func (w *walker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// next does what is to be done first, and says how long there is nothing to do.
func (w *walker) next(ctx context.Context) (wait time.Duration, err error) {
	select {
	case <-w.wake:
	default:
	}
	if w.v.wanted(w.facility) {
		w.onDemand(ctx)
		return time.Duration(w.broken) * lookEvery, nil
	}
	due, wait, err := w.v.store.due(ctx, w.facility, w.v.PassEvery)
	if err != nil || due == nil {
		return min(wait, idleWait), err
	}
	walk := &walk{walker: w, schema: due.schema, table: due.table}
	err = walk.pass(ctx)
	if errors.Is(err, errYield) {
		err = nil
	}
	return 0, err
}

// walk is one pass over one table.
type walk struct {
	*walker
	schema, table string
	// now: somebody waits for it. It begins at the first row and does not rest
	// for long.
	now bool
	// progress is told of each step. May be nil.
	progress func(p *pass)

	key []string // the key columns' names
}

// pass is how far a walk has come.
type pass struct {
	no    int64
	after change.Row
	rows  int64
	at    change.Position
	found []finding
	count int64 // of found, also where there are more than are kept
	// suspected waits for its second look, oldest first.
	suspected []suspicion
	more      bool
	began     bool
	problem   *refusal
	// earlier are the rows that the pass had found before it was interrupted.
	earlier []v1.VerifyRow
}

func (w *walk) id() string { return w.schema + "." + w.table }

func (w *walk) ask(ctx context.Context, q *proto.Verify) (*apply.Verdict, error) {
	q.Schema, q.Name = w.schema, w.table
	return w.v.ask(ctx, w.facility, q)
}

// pass walks over the table, from where an interrupted pass stopped.
func (w *walk) pass(ctx context.Context) error {
	p, err := w.v.store.begin(ctx, w.facility, w.schema, w.table, w.now)
	if err != nil {
		return err
	}
	err = w.walk(ctx, p)
	if r, ok := errors.AsType[*refusal](err); ok {
		p.problem = r
		w.tell(p)
		return w.v.store.refused(ctx, w.facility, w.schema, w.table, r.Problem)
	}
	return err
}

func (w *walk) walk(ctx context.Context, p *pass) error {
	rows := uint32(chunkFirst)
	for {
		a, err := w.ask(ctx, &proto.Verify{After: p.after, Rows: rows})
		if err != nil {
			return err
		}
		in := interval{p.after, a.Digest.UpTo()}
		if !a.Equal() {
			if err := w.suspect(ctx, p, part{in, a.Digest.Parts[0].Count}); err != nil {
				return err
			}
		}
		p.rows += int64(a.Digest.Parts[0].Count)
		p.after, p.at, p.began = in.upTo, a.Position, true
		if err := w.lookAgain(ctx, p, p.after == nil); err != nil {
			return err
		}
		if p.after == nil {
			return w.end(ctx, p)
		}
		if err := w.v.store.progress(ctx, w.facility, w.schema, w.table, p, w.shown(p, nil)); err != nil {
			return err
		}
		w.tell(p)
		if w.now {
			err = pause(ctx, time.Duration(a.Digest.TookMicros)*time.Microsecond)
		} else {
			err = w.rest(ctx, w.v.pauseFor(a))
		}
		if err != nil {
			return err
		}
		may := chunkTook
		if w.now {
			may = chunkNow
		}
		rows = nextRows(rows, may, a.Digest)
	}
}

// nextRows is how many rows take about as long as a question may.
func nextRows(rows uint32, may time.Duration, d *change.DigestRecord) uint32 {
	took := max(time.Duration(d.TookMicros)*time.Microsecond, time.Millisecond)
	if took > 2*may {
		return max(chunkMin, rows/2)
	}
	return min(chunkMax, max(chunkMin, uint32(min(2*int64(rows), int64(rows)*int64(may)/int64(took)))))
}

func (w *walk) tell(p *pass) {
	if w.progress != nil {
		w.progress(p)
	}
}

// end stores what a whole pass has found.
func (w *walk) end(ctx context.Context, p *pass) error {
	parked, err := w.v.store.parked(ctx, w.facility, w.schema, w.table)
	if err != nil {
		return err
	}
	rows := w.shown(p, parked)
	if err := w.v.store.end(ctx, w.facility, w.schema, w.table, p, rows); err != nil {
		return err
	}
	if p.count > 0 {
		w.log.Warn("rows differ between the facility and the region", "table", w.id(), "rows", p.count)
		todo := fmt.Sprintf(". holdfastctl verify %s %s --repair sends them again", w.facility, w.id())
		if v := (v1.Verified{Differing: p.count, Rows: rows}); !p.more && v.AllParked() {
			todo = ". They are parked: see holdfastctl parked --facility " + w.facility
		}
		w.v.Event(ctx, w.facility, "difference", w.words(p.count, p.more, rows)+todo)
	}
	w.tell(p)
	return nil
}

// shown are the first of the rows, for people.
func (w *walk) shown(p *pass, parked map[string]bool) []v1.VerifyRow {
	rows := append([]v1.VerifyRow{}, p.earlier...)
	for _, f := range p.found[:min(len(p.found), max(0, shownMax-len(rows)))] {
		r := v1.VerifyRow{Kind: string(f.Kind), Key: w.named(f.Key)}
		if parked[flat(r.Key)] {
			r.Kind = "parked"
		}
		rows = append(rows, r)
	}
	return rows
}

func (w *walk) named(key change.Row) map[string]string {
	m := make(map[string]string, len(key))
	for i, v := range key {
		if i < len(w.key) {
			m[w.key[i]] = strings.ToValidUTF8(string(v), "�")
		}
	}
	return m
}

// flat is a named key as one string.
func flat(key map[string]string) string {
	var parts []string
	for k, v := range key {
		parts = append(parts, k+"\x00"+v)
	}
	slices.Sort(parts)
	return strings.Join(parts, "\x00")
}

// words says which rows differ.
func (w *walk) words(count int64, more bool, rows []v1.VerifyRow) string {
	n := fmt.Sprint(count)
	if more {
		n = "more than " + n
	}
	text := fmt.Sprintf("%s: %s rows are not the same in the region", w.id(), n)
	if count == 1 && !more {
		text = w.id() + ": one row is not the same in the region"
	}
	const few = 5
	for i, r := range rows[:min(len(rows), few)] {
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		text += sep + keyText(r.Key) + " " + r.Kind
	}
	if len(rows) > few {
		text += ", …"
	}
	return text
}

func keyText(key map[string]string) string {
	var parts []string
	for k, v := range key {
		if len(v) > 60 {
			v = strings.ToValidUTF8(v[:60], "") + "…"
		}
		parts = append(parts, k+"="+v)
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}
