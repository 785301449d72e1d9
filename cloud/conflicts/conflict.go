// Package conflicts keeps what people see of conflicts and do about them: rows
// that both sides changed without knowing of each other. The edge has decided
// each of them already; here it is read, acknowledged, or the version that did
// not stand is written again, as an ordinary change that flows down.
//
// In:  cloud/api, cloud/dashboard.
// Out: internal/apply, which writes the row; the region's PostgreSQL.
package conflicts

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

const (
	// listTimeout bounds one look at the list: a search through many values.
	listTimeout = 10 * time.Second
	// openMax is where counting open conflicts ends: more is "many".
	openMax = 1000
	// openFor is how long a count is shown at least before it is counted again;
	// with very many conflicts longer, so that counting costs 2 % of a core.
	openFor, openShare = 2 * time.Second, 50
)

// Errors that callers tell apart. What is refused has changed nothing.
var (
	ErrNotFound = errors.New("there is no such conflict")
	// ErrCursor: the cursor is not one of this list.
	ErrCursor = errors.New("is not a cursor of this list")
	// ErrRefused: it may not be done as things are. Its hint says what may be.
	ErrRefused = errors.New("refused")
)

// Desk is where conflicts are looked at and dealt with.
type Desk struct {
	store store

	mu     sync.Mutex
	open   map[string]openCount // by facility, "" for all; guarded by mu
	counts int64                // queries made, for tests; guarded by mu
}

type openCount struct {
	n     int
	until time.Time
}

// New returns a desk over the region's database.
func New(db *pgxpool.Pool) *Desk {
	return &Desk{store: store{db}, open: map[string]openCount{}}
}

// List returns a page of conflicts, newest first, and the cursor of the next.
func (d *Desk) List(ctx context.Context, f v1.ConflictFilter, limit int, cursor string) (items []v1.Conflict, next string, err error) {
	after, err := parseCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	records, err := d.store.list(ctx, f, after, limit+1)
	if err != nil {
		return nil, "", tooMuch(ctx, err)
	}
	more := len(records) > limit
	if more {
		records = records[:limit]
	}
	items = make([]v1.Conflict, 0, len(records))
	for i := range records {
		items = append(items, records[i].conflict())
	}
	if more {
		last := items[len(items)-1]
		next = place{last.At, last.ID}.String()
	}
	return items, next, nil
}

// Newer reports whether there are conflicts that belong before the first of a
// page, whose cursor is top; "" is that of an empty page.
func (d *Desk) Newer(ctx context.Context, f v1.ConflictFilter, top string) (bool, error) {
	first, err := parseCursor(top)
	if err != nil {
		return false, err
	}
	if top != "" && first.at.After(f.From) {
		f.From = first.at
	}
	items, _, err := d.List(ctx, f, 1, "")
	return len(items) > 0 && items[0].ID != first.id, err
}

// Cursor is the place of a conflict in the list.
func Cursor(c v1.Conflict) string { return place{c.At, c.ID}.String() }

// Count returns how many conflicts match, by state; the filter's own state
// does not matter.
func (d *Desk) Count(ctx context.Context, f v1.ConflictFilter) (v1.ConflictCount, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	f.State = "all"
	n, err := d.store.count(ctx, f)
	return n, tooMuch(ctx, err)
}

// tooMuch says what to do when there were too many conflicts to look through.
func tooMuch(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return hint.Wrap(err, "There are too many conflicts to look through them all. Narrow it: one facility, one table, or a few days.")
	}
	return err
}

// Open returns how many conflicts of a facility, or of all with "", nobody has
// dealt with, as of a few seconds ago. It counts to 1000 and no further.
func (d *Desk) Open(ctx context.Context, facility string) (n int, many bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	have, ok := d.open[facility]
	if now := time.Now(); !ok || now.After(have.until) {
		n, err := d.store.open(ctx, facility, openMax)
		if err != nil {
			return 0, false, err
		}
		if len(d.open) > openMax {
			clear(d.open)
		}
		have = openCount{n, time.Now().Add(max(openFor, openShare*time.Since(now)))}
		d.open[facility] = have
		d.counts++
	}
	return min(have.n, openMax-1), have.n >= openMax, nil
}

// forget lets the next look count again.
func (d *Desk) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.open)
}

// Show returns all that is known of one conflict. ErrNotFound: there is none.
func (d *Desk) Show(ctx context.Context, id string) (v1.ConflictDetail, error) {
	var out v1.ConflictDetail
	err := pgx.BeginTxFunc(ctx, d.store.db, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		r, err := readRecord(ctx, tx, id, false)
		if err != nil {
			return err
		}
		events, err := readHistory(ctx, tx, r.ID)
		if err != nil {
			return err
		}
		// The row's table may be gone or not ours to read: the rest is shown
		// all the same.
		var look *sight
		err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) (err error) {
			look, err = r.look(ctx, tx, false)
			return err
		})
		out = r.detail(look, err)
		out.History, out.Stands = r.history(events), r.stands(events)
		return nil
	})
	if err != nil {
		return v1.ConflictDetail{}, err
	}
	return out, nil
}

// place is where a page of the list ends.
type place struct {
	at time.Time
	id string
}

func (p place) String() string { return strconv.FormatInt(p.at.UnixMicro(), 10) + "." + p.id }

func parseCursor(s string) (place, error) {
	if s == "" {
		// Before everything: no box's clock is that far ahead.
		return place{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), "00000000-0000-0000-0000-000000000000"}, nil
	}
	at, id, ok := strings.Cut(s, ".")
	us, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || !isID(id) {
		return place{}, fmt.Errorf("%.50q %w", s, ErrCursor)
	}
	return place{time.UnixMicro(us), id}, nil
}

// isID reports whether s is a UUID as PostgreSQL writes it.
func isID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
		if dash != (c == '-') || !dash && !hex {
			return false
		}
	}
	return true
}
