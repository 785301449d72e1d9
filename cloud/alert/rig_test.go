package alert

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// patience is how long a test waits for what other goroutines do.
const patience = 2 * time.Minute

// peer is a provider: a real HTTP server that remembers what it took.
type peer struct {
	*httptest.Server
	mu     sync.Mutex
	took   []taken                  // in the order in which it came
	answer func(m taken, n int) int // what the n-th request of a delivery is answered, n from 1; nil: 200
	seen   map[string]int
	asked  int           // for prices
	billed bool          // and they are known
	stop   chan struct{} // closed: requests that hang are answered
}

// taken is a message as the provider sees it.
type taken struct {
	Delivery string
	Event    channel.Event
	Kind     channel.Kind
	To       string
	Repeat   bool
	Again    bool
	Incident channel.Incident
	Refused  bool // it was not taken
}

// Answers besides the HTTP status codes.
const (
	dropAnswer = -1 // it is taken, and the answer is lost
	hang       = -2 // it is taken, and the answer comes when the test ends
)

func newPeer(t testing.TB) *peer {
	p := &peer{seen: make(map[string]int), stop: make(chan struct{})}
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(func() { close(p.stop); p.Close() })
	return p
}

func (p *peer) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet { // what became of a message, or what did it cost?
		p.mu.Lock()
		defer p.mu.Unlock()
		if id := r.URL.Query().Get("price"); id != "" {
			p.asked++
			if p.billed {
				_, _ = io.WriteString(w, "-0.00750") // the client left
			}
			return
		}
		for _, m := range p.took {
			if m.Delivery == r.URL.Query().Get("delivery") && !m.Refused {
				return
			}
		}
		http.NotFound(w, r)
		return
	}
	var m taken
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	p.seen[m.Delivery]++
	code := http.StatusOK
	if p.answer != nil {
		code = p.answer(m, p.seen[m.Delivery])
	}
	m.Refused = code >= 300
	p.took = append(p.took, m)
	p.mu.Unlock()
	switch code {
	case dropAnswer:
		panic(http.ErrAbortHandler)
	case hang:
		select {
		case <-r.Context().Done():
		case <-p.stop:
		}
	default:
		if code == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "120")
		}
		w.WriteHeader(code)
	}
}

func (p *peer) says(fn func(m taken, n int) int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = fn
}

// got lists what the provider took of an event.
func (p *peer) got(e channel.Event) []taken {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []taken
	for _, m := range p.took {
		if m.Event == e && !m.Refused {
			out = append(out, m)
		}
	}
	return out
}

// httpSender is a small channel that hands messages to a peer.
type httpSender struct {
	url   string
	state channel.State
}

func (s httpSender) Send(ctx context.Context, m channel.Message) (channel.Result, error) {
	body, err := json.Marshal(taken{Delivery: m.Delivery, Event: m.Event, Kind: m.Kind, To: m.To, Repeat: m.Repeat, Again: m.Again, Incident: m.Incident})
	if err != nil {
		return channel.Result{}, channel.Permanent(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return channel.Result{}, channel.Permanent(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return channel.Result{}, err
	}
	defer resp.Body.Close()
	err = fmt.Errorf("the peer answers %s", resp.Status)
	switch {
	case resp.StatusCode == http.StatusOK:
		return channel.Result{Provider: "peer", ProviderID: "p-" + m.Delivery, State: s.state, Price: channel.Price{Micros: 7500, Unit: "USD"}}, nil
	case resp.StatusCode == http.StatusTooManyRequests:
		after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return channel.Result{}, &channel.RetryError{Err: err, After: time.Duration(after) * time.Second}
	case resp.StatusCode < 500:
		return channel.Result{}, channel.Permanent(err)
	}
	return channel.Result{}, err
}

// charged is a channel whose provider tells later what a message cost.
type charged struct{ httpSender }

func (s charged) Send(ctx context.Context, m channel.Message) (channel.Result, error) {
	r, err := s.httpSender.Send(ctx, m)
	r.Price = channel.Price{}
	return r, err
}

func (s charged) Price(ctx context.Context, id string) (channel.Price, bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"?price="+url.QueryEscape(id), nil)
	if err != nil {
		return channel.Price{}, false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return channel.Price{}, false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 100))
	if err != nil || len(body) == 0 {
		return channel.Price{}, false, err
	}
	amount, err := strconv.ParseFloat(string(body), 64)
	return channel.Price{Micros: int64(-amount * 1e6), Unit: "USD"}, err == nil, err
}

func (s httpSender) Check(context.Context, string, map[string]string) error { return nil }

// finder is a channel that can be asked what became of a message.
type finder struct{ httpSender }

func (s finder) Find(ctx context.Context, m channel.Message, _ time.Time) (channel.Result, bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"?delivery="+url.QueryEscape(m.Delivery), nil)
	if err != nil {
		return channel.Result{}, false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return channel.Result{}, false, err
	}
	defer resp.Body.Close()
	return channel.Result{Provider: "peer", ProviderID: "p-" + m.Delivery, State: s.state}, resp.StatusCode == http.StatusOK, nil
}

// roster is who is told in tests: policies in memory, people in the tables.
type roster struct {
	mu       sync.Mutex
	policies []policy
	windows  map[string]time.Time
	fail     string // of this facility nothing can be said
}

type policy struct {
	ID       int64
	Audience Audience
	Tenant   string // of a customer's
	Least    detect.Severity
	Steps    []step
}

type step struct {
	After    time.Duration
	Contacts []int64
	Offer    string
	Covered  bool
}

var weight = map[detect.Severity]int{detect.Info: 0, detect.Warning: 1, detect.Critical: 2}

func (r *roster) Policies(_ context.Context, _ pgx.Tx, s Subject) ([]int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != "" && r.fail == s.Facility {
		return nil, fmt.Errorf("the roster of %s is unreadable", s.Facility)
	}
	var ids []int64
	for _, p := range r.policies {
		if (p.Audience == Operations || p.Tenant == s.Tenant && s.Tenant != "") && weight[s.Severity] >= weight[cmp.Or(p.Least, detect.Warning)] {
			ids = append(ids, p.ID)
		}
	}
	return ids, nil
}

func (r *roster) Step(ctx context.Context, tx pgx.Tx, id int64, no int, s Subject, _ time.Time) (Step, bool, error) {
	r.mu.Lock()
	if r.fail != "" && r.fail == s.Facility {
		r.mu.Unlock()
		return Step{}, false, fmt.Errorf("the roster of %s is unreadable", s.Facility)
	}
	i := slices.IndexFunc(r.policies, func(p policy) bool { return p.ID == id })
	r.mu.Unlock()
	if i < 0 || no >= len(r.policies[i].Steps) {
		return Step{}, false, nil
	}
	p := r.policies[i]
	if p.Tenant != "" && p.Tenant != s.Tenant {
		return Step{}, false, fmt.Errorf("the people of tenant %q are asked for in the name of %q", p.Tenant, s.Tenant)
	}
	st := Step{Policy: id, No: no, After: p.Steps[no].After, Audience: p.Audience, Offer: p.Steps[no].Offer, Covered: p.Steps[no].Covered}
	rows, err := tx.Query(ctx, `SELECT m.contact, m.id, c.name, m.channel, m.address, m.settings FROM holdfast.contact_method m JOIN holdfast.contact c ON c.id = m.contact
		WHERE m.contact = ANY($1) AND m.removed_at IS NULL ORDER BY m.id`, p.Steps[no].Contacts)
	if err != nil {
		return st, false, err
	}
	st.Targets, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Target])
	return st, true, err
}

func (r *roster) Maintenance(_ context.Context, _ pgx.Tx, facility string, at time.Time) (time.Time, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	until := r.windows[facility]
	return until, at.Before(until), nil
}

func (r *roster) work(facility string, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.windows[facility] = until
}

// rig is an alerter whose clock the test moves and whose steps it takes.
type rig struct {
	t      testing.TB
	pool   *pgxpool.Pool
	conn   string
	roster *roster
	peer   *peer
	c      Config
	a      *Alerter

	began    time.Time
	skew     atomic.Int64
	flows    atomic.Bool
	children atomic.Int64
	mu       sync.Mutex
	word     detect.Word
}

func newRig(t testing.TB, facilities ...string) *rig {
	t.Helper()
	db := pgtest.Migrated(t, "region", migrations.Up)
	r := &rig{t: t, began: time.Now(), pool: db.Pool(t), conn: db.ConnString(), peer: newPeer(t), roster: &roster{windows: make(map[string]time.Time)}}
	for _, f := range facilities {
		db.Exec(t, `INSERT INTO holdfast.facility (id, tenant, name, time_zone) VALUES ($1, 'foo', 'Plant ' || $1, 'America/Los_Angeles')`, f)
	}
	r.c = Config{
		DB: r.pool, Roster: r.roster, Region: "us-east", Log: slog.New(slog.DiscardHandler), Now: r.now,
		Word: func() detect.Word {
			r.mu.Lock()
			defer r.mu.Unlock()
			w := r.word
			w.At = r.now()
			return w
		},
		Senders: map[channel.Kind]channel.Sender{},
		Links: Links{
			Incident: func(id int64) string { return fmt.Sprintf("https://region.example/incidents/%d", id) },
			Ack:      func(d string) string { return "https://region.example/ack/" + d },
			Offer: func(d, o string) (string, string) {
				return "Work in the cloud meanwhile", "https://region.example/offer/" + d
			},
		},
	}
	for _, k := range channels {
		r.c.Senders[k] = httpSender{r.peer.URL, channel.Accepted}
	}
	if testing.Verbose() {
		r.c.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	r.start()
	return r
}

// start makes a new alerter, as after the end of the process before.
func (r *rig) start() {
	r.t.Helper()
	a, err := New(r.c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.a = a
	r.a.lead = leading{wordsAt: make(map[int64]time.Time), strangers: make(map[key]time.Time), trouble: make(map[string]trouble)}
}

// now is the alerter's time. Between calls of pass each look at it takes a millisecond,
// however slow the machine is, until something runs by itself.
func (r *rig) now() time.Time {
	if r.flows.Load() {
		return time.Now().Add(time.Duration(r.skew.Load()))
	}
	return r.began.Add(time.Duration(r.skew.Add(int64(time.Millisecond))))
}

// timed is SQL in which now() is the alerter's.
func (r *rig) timed(sql string) string {
	return strings.ReplaceAll(sql, "now()", "'"+r.now().Format(time.RFC3339Nano)+"'::timestamptz")
}

// pass lets time go by.
func (r *rig) pass(d time.Duration) { r.skew.Add(int64(d)) }

// holds says what holds now.
func (r *rig) holds(list ...detect.Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.word = detect.Word{Findings: list}
}

func (r *rig) held(facilities ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.word.Held, r.word.HeldOf = len(facilities) == 0, make(map[string]bool)
	for _, f := range facilities {
		r.word.HeldOf[f] = true
	}
}

func (r *rig) offline(f string) detect.Finding {
	return detect.Finding{
		Kind: detect.Offline, Facility: f, Severity: detect.Critical, Since: r.now().Add(-8 * time.Second),
		Summary: "Nothing has been heard of it", Evidence: []string{"last heartbeat 8 s ago", "the tunnel does not answer"},
	}
}

// look lets the leader look once.
func (r *rig) look() {
	r.t.Helper()
	if err := r.a.look(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// deliver sends what is due, and waits until that is done.
func (r *rig) deliver() {
	r.t.Helper()
	for _, k := range channels {
		for {
			var g errgroup.Group
			more, err := r.a.deliverers[k].round(r.t.Context(), &g)
			_ = g.Wait()
			if err != nil {
				r.t.Fatal(err)
			}
			if !more {
				break
			}
		}
	}
}

// turn is a look and what follows from it.
func (r *rig) turn() {
	r.t.Helper()
	r.look()
	r.deliver()
}

// contact adds somebody of a tenant and his methods, each as channel:address.
func (r *rig) contact(tenant, name string, methods ...channel.Kind) int64 {
	r.t.Helper()
	var id int64
	if err := r.pool.QueryRow(r.t.Context(), `INSERT INTO holdfast.contact (tenant, name, created_by) VALUES ($1, $2, 'test') RETURNING id`, tenant, name).Scan(&id); err != nil {
		r.t.Fatal(err)
	}
	for _, k := range methods {
		_, err := r.pool.Exec(r.t.Context(), `INSERT INTO holdfast.contact_method (contact, channel, address) VALUES ($1, $2, $3)`, id, k, name+"/"+string(k))
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return id
}

func (r *rig) method(name string, k channel.Kind) (id int64) {
	r.t.Helper()
	if err := r.pool.QueryRow(r.t.Context(), `SELECT id FROM holdfast.contact_method WHERE address = $1`, name+"/"+string(k)).Scan(&id); err != nil {
		r.t.Fatal(err)
	}
	return id
}

func (r *rig) policy(a Audience, steps ...step) int64 {
	r.roster.mu.Lock()
	defer r.roster.mu.Unlock()
	p := policy{ID: int64(len(r.roster.policies) + 1), Audience: a, Steps: steps}
	if a == Customer {
		p.Tenant = "foo"
	}
	r.roster.policies = append(r.roster.policies, p)
	return p.ID
}

// incident returns the newest incident of a facility, with all that happened.
func (r *rig) incident(facility string) v1.IncidentDetail {
	r.t.Helper()
	list, err := r.a.List(r.t.Context(), Filter{Facility: facility})
	if err != nil {
		r.t.Fatal(err)
	}
	list = slices.DeleteFunc(list, func(i v1.Incident) bool { return i.Facility != facility })
	if len(list) == 0 {
		r.t.Fatalf("there is no incident of %q", facility)
	}
	d, err := r.a.Detail(r.t.Context(), list[0].ID)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// to lists who got messages of an event, as the provider took them.
func (r *rig) to(e channel.Event) []string {
	var out []string
	for _, m := range r.peer.got(e) {
		out = append(out, m.To)
	}
	slices.Sort(out)
	return out
}

func (r *rig) want(what string, got []string, want ...string) {
	r.t.Helper()
	if !slices.Equal(got, want) {
		r.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// timeline lists what happened with an incident.
func timeline(d v1.IncidentDetail) []string {
	var out []string
	for _, e := range d.Timeline {
		out = append(out, e.What)
	}
	return out
}

// delivery returns the newest message to an address.
func (r *rig) delivery(to string, e channel.Event) v1.Delivery {
	r.t.Helper()
	var id string
	err := r.pool.QueryRow(r.t.Context(), `SELECT d.id::text FROM holdfast.delivery d JOIN holdfast.contact_method m ON m.id = d.method
		WHERE m.address = $1 AND d.event = $2 ORDER BY d.created_at DESC LIMIT 1`, to, e).Scan(&id)
	if err != nil {
		r.t.Fatalf("a %s to %s: %v", e, to, err)
	}
	d, err := r.a.Delivery(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// eventually waits until fn is true.
func eventually(t testing.TB, what string, fn func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !fn() {
		select {
		case <-deadline:
			t.Fatalf("it does not happen that %s", what)
		case <-tick.C:
		}
	}
}
