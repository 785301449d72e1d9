package dashboard

import (
	"cmp"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

const (
	// boardEvery is how often a fleet page looks, and how old the snapshot
	// may be that all of them share.
	boardEvery = 500 * time.Millisecond
	// rowsPerPage bounds what one browser draws and is sent.
	rowsPerPage = 50
	// textMaxBytes bounds a search.
	textMaxBytes = 120
	// namedMax is how many troubled facilities the summary names.
	namedMax = 5
)

// states in the order in which they matter at three in the morning.
var states = []struct {
	code string
	web.State
}{
	{"offline", web.State{Kind: "bad", Word: "Offline"}},
	{"degraded", web.State{Kind: "warn", Word: "Degraded"}},
	{"unknown", web.State{Kind: "unknown", Word: "Unknown"}},
	{"new", web.State{Kind: "idle", Word: "Never seen"}},
	{"online", web.State{Kind: "ok", Word: "Online"}},
}

func stateOf(code string) (web.State, int) {
	for i, s := range states {
		if s.code == code {
			return s.State, i
		}
	}
	return web.State{Kind: "unknown", Word: code}, len(states)
}

// row is one facility on the fleet page.
type row struct {
	v1.FacilityStatus
	Shown             web.State
	Heartbeat, Tunnel string // on, off, none
	HeardAt           time.Time
	// Old says that the figures are from before the facility fell silent.
	Old  bool
	rank int
}

// Title is the facility's name for people.
func (r row) Title() string { return cmp.Or(r.Name, r.ID) }

// LagText says the lag, or that it is not known.
func (r row) LagText() string { return lagText(r.FacilityStatus) }

// lagText is the lag for people. While a facility is silent its last lag says
// nothing; only that something has been waiting since a moment does.
func lagText(s v1.FacilityStatus) string {
	switch {
	case s.Lag == nil:
		return "–"
	case silent(s.State) && s.Queue.OldestUnsentAt == nil:
		return "not known"
	}
	return web.Span(time.Duration(*s.Lag) * time.Millisecond)
}

// silent reports whether nothing that is known of a facility in this state is
// from now.
func silent(state string) bool { return state == "offline" || state == "unknown" }

func newRow(s v1.FacilityStatus) row {
	r := row{FacilityStatus: s, Heartbeat: lampOf(s.State, s.Heartbeat), Tunnel: lampOf(s.State, s.Tunnel)}
	r.Shown, r.rank = stateOf(s.State)
	r.Old = silent(s.State)
	if s.LastHeardAt != nil {
		r.HeardAt = *s.LastHeardAt
	}
	return r
}

// lampOf says a link's state; what the region cannot see is not "down".
func lampOf(state string, on bool) string {
	switch {
	case on:
		return "on"
	case state == "new" || state == "unknown":
		return "none"
	}
	return "off"
}

// board holds the fleet as all viewers see it: one snapshot, and each row
// drawn at most once per snapshot however many look.
type board struct {
	snapshot func() []v1.FacilityStatus
	draw     func(row) (string, error)

	mu    sync.Mutex
	at    time.Time
	rows  []row             // guarded by mu; never changed, only replaced
	drawn map[string]string // guarded by mu; this snapshot's rows
}

func newBoard(snapshot func() []v1.FacilityStatus, draw func(row) (string, error)) *board {
	return &board{snapshot: snapshot, draw: draw}
}

// present returns the rows, from a new snapshot if the last is too old.
func (b *board) present() []row {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rows == nil || time.Since(b.at) >= boardEvery*4/5 {
		list := b.snapshot()
		b.rows = make([]row, len(list))
		for i, s := range list {
			b.rows[i] = newRow(s)
		}
		b.at, b.drawn = time.Now(), make(map[string]string, rowsPerPage)
	}
	return b.rows
}

func (b *board) html(r row) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h, ok := b.drawn[r.ID]; ok {
		return h, nil
	}
	h, err := b.draw(r)
	if err == nil {
		b.drawn[r.ID] = h
	}
	return h, err
}

// query is what a fleet page shows.
type query struct {
	State string // a state's code, "" for all
	Text  string
	Sort  string // state, name, queue, lag or heard
	Desc  bool
	Page  int // from 1
}

func readQuery(r *http.Request) query {
	v := r.URL.Query()
	q := query{State: v.Get("state"), Text: strings.TrimSpace(v.Get("q")), Sort: v.Get("sort"), Desc: v.Get("dir") == "desc"}
	if len(q.Text) > textMaxBytes {
		q.Text = q.Text[:textMaxBytes]
	}
	if _, i := stateOf(q.State); i == len(states) {
		q.State = ""
	}
	if !slices.Contains([]string{"state", "name", "queue", "lag", "heard"}, q.Sort) {
		q.Sort = "state"
	}
	q.Page, _ = strconv.Atoi(v.Get("page"))
	q.Page = max(1, q.Page)
	return q
}

// With returns the address of the page with some values changed.
func (q query) With(kv ...string) template.URL {
	v := url.Values{}
	set := func(k, s, def string) {
		v.Del(k)
		if s != def {
			v.Set(k, s)
		}
	}
	set("state", q.State, "")
	set("q", q.Text, "")
	set("sort", q.Sort, "state")
	if q.Desc {
		v.Set("dir", "desc")
	}
	for i := 0; i+1 < len(kv); i += 2 {
		set(kv[i], kv[i+1], "")
	}
	if len(v) == 0 {
		return "?"
	}
	return template.URL("?" + v.Encode()) //nolint:gosec // encoded here
}

// SortLink is the address that sorts by a column, the other way round if it
// already does.
func (q query) SortLink(by string) template.URL {
	dir := ""
	if q.Sort == by && !q.Desc {
		dir = "desc"
	}
	return q.With("sort", by, "dir", dir)
}

// AriaSort is a column's aria-sort.
func (q query) AriaSort(by string) string {
	switch {
	case q.Sort != by:
		return "none"
	case q.Desc:
		return "descending"
	}
	return "ascending"
}

// Live is the page's WebSocket.
func (q query) Live() template.URL {
	return "/live/fleet" + q.With("page", strconv.Itoa(q.Page))
}

func (q query) matches(r row) bool {
	if q.State != "" && r.State != q.State {
		return false
	}
	if q.Text == "" {
		return true
	}
	text := strings.ToLower(q.Text)
	for _, s := range []string{r.ID, r.Name, r.Tenant, r.Reason, r.Shown.Word} {
		if strings.Contains(strings.ToLower(s), text) {
			return true
		}
	}
	return false
}

func (q query) less(a, b row) int {
	lag := func(r row) int64 {
		if r.Lag == nil {
			return -1
		}
		return *r.Lag
	}
	var c int
	switch q.Sort {
	case "name":
		c = cmp.Compare(strings.ToLower(a.Title()), strings.ToLower(b.Title()))
	case "queue":
		c = cmp.Compare(b.Queue.Transactions, a.Queue.Transactions)
	case "lag":
		c = cmp.Compare(lag(b), lag(a))
	case "heard":
		c = a.HeardAt.Compare(b.HeardAt)
		// Those that are heard change places all the time; a second is one place.
		if d := a.HeardAt.Sub(b.HeardAt).Abs(); d < 15*time.Second {
			c = 0
		}
	default:
		c = cmp.Compare(a.rank, b.rank)
	}
	if q.Desc {
		c = -c
	}
	return cmp.Or(c, cmp.Compare(a.ID, b.ID))
}
