package browser

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/dashboard"
	"github.com/agogsaas/holdfast/cloud/fleet"
	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/schema"
	"github.com/agogsaas/holdfast/internal/web"
	"github.com/agogsaas/holdfast/proto"
)

// region is a dashboard over a fleet that the test sets.
type region struct {
	url   string
	login string // the account
	pool  *pgxpool.Pool

	mu         sync.Mutex
	facilities map[string]fleet.Detail        // guarded by mu
	differs    map[string][]schema.Difference // by schema.name
}

// Snapshot implements dashboard.Fleet.
func (r *region) Snapshot() []v1.FacilityStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]v1.FacilityStatus, 0, len(r.facilities))
	for _, d := range r.facilities {
		out = append(out, d.FacilityStatus)
	}
	slices.SortFunc(out, func(a, b v1.FacilityStatus) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Facility implements dashboard.Fleet.
func (r *region) Facility(id string) (fleet.Detail, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.facilities[id]
	return d, ok
}

func (r *region) change(id string, to func(d *fleet.Detail)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.facilities[id]
	to(&d)
	r.facilities[id] = d
}

func ptr[T any](v T) *T { return &v }

func detail(id, name, tenant, zone, state string) fleet.Detail {
	now := time.Now()
	d := fleet.Detail{Since: now.Add(-5 * time.Hour)}
	d.ID, d.Name, d.Tenant, d.TimeZone, d.State = id, name, tenant, zone, state
	d.Heartbeat = state == "online" || state == "degraded"
	d.Tunnel, d.Stream = state == "online", state == "online"
	heard := now.Add(-2 * time.Second)
	switch state {
	case "offline":
		heard = now.Add(-47 * time.Minute)
		d.Reason, d.Since = "Neither heartbeats nor the tunnel work.", heard
		d.Queue = v1.Queue{Transactions: 1204, Bytes: 96 << 10, OldestUnsentAt: &heard}
		d.Lag = ptr[int64](47 * 60 * 1000)
	case "degraded":
		d.Reason, d.Since = "Its tunnel is down. Heartbeats arrive.", now.Add(-4*time.Minute)
		d.Queue = v1.Queue{Transactions: 86, Bytes: 7 << 10, OldestUnsentAt: ptr(now.Add(-4 * time.Minute))}
		d.Lag = ptr[int64](4 * 60 * 1000)
	case "new":
		d.Reason = "It has not been heard of yet."
		return d
	default:
		d.Queue, d.Lag = v1.Queue{Transactions: 1, Bytes: 180}, ptr[int64](6)
	}
	d.LastHeardAt, d.ReportedAt, d.TunnelAt = &heard, &heard, &heard
	d.DiskFree, d.DiskTotal, d.Temperature = ptr[int64](180<<30), ptr[int64](240<<30), ptr(51.2)
	d.Database, d.AgentVersion, d.BootID = "up", "0.1.0", "1f0c1c9e-7f0a-4a57-9d9e-0b7c3f1a2b33"
	d.Status = &proto.Status{
		Versions: proto.Versions{Agent: "0.1.0", Kernel: "6.12.8-arm64", Postgres: "15.18", Hardware: "Raspberry Pi 4 Model B"},
		Database: proto.Database{State: "up"}, Watchdog: &proto.Watchdog{State: proto.WatchdogArmed, Name: "Broadcom BCM2835 Watchdog timer", Seconds: 15},
	}
	d.Throughput = v1.Throughput{Transactions: 81200, Changes: 240117, TransactionRate: 4.2, ChangeRate: 12.6}
	for i := range 300 {
		at := now.Add(time.Duration(i-300) * 5 * time.Second)
		p := fleet.Point{At: at.Unix(), LagMs: uint64(5 + i%7), Changes: uint64(40 + (i*37)%50), QueueTransactions: uint64(i % 3), State: fleet.State(state)}
		if i > 150 && i < 190 {
			p.LagMs, p.QueueTransactions, p.Changes = uint64((i-150)*5000), uint64((i-150)*9), 0
		}
		if i > 230 && i < 250 {
			p.State, p.Changes = fleet.StateOffline, 0
		}
		d.History = append(d.History, p)
	}
	return d
}

func newRegion(t *testing.T) *region {
	t.Helper()
	return newRegionWith(t, func(*region, *dashboard.Deps) {})
}

// newRegionWith lets with add to what the dashboard stands on.
func newRegionWith(t *testing.T, with func(*region, *dashboard.Deps)) *region {
	t.Helper()
	db := pgtest.Migrated(t, "region", migrations.Up)
	r := &region{pool: db.Pool(t), login: "olga", facilities: map[string]fleet.Detail{}}
	account(t, r.pool, r.login, web.Viewer)
	auth, err := web.NewAuth(web.AuthOptions{Name: "us-east", Store: web.PGStore{Pool: r.pool}, Log: testLog(t)})
	must(t, err)
	stop := make(chan struct{})
	deps := dashboard.Deps{Region: "us-east", Auth: auth, Fleet: r, Pool: r.pool, Compare: r.compare, Stop: stop, Log: testLog(t), Version: "test"}
	with(r, &deps)
	ui, err := dashboard.New(deps)
	must(t, err)
	r.url = serve(t, ui, stop)
	return r
}

// few fills the region with a handful of facilities, one of each state.
func (r *region) few() {
	for _, d := range []fleet.Detail{
		detail("la", "Los Angeles", "foo", "America/Los_Angeles", "online"),
		detail("frankfurt", "Frankfurt", "foo", "Europe/Berlin", "degraded"),
		detail("shanghai", "Shanghai", "foo", "Asia/Shanghai", "offline"),
		detail("dallas", "Dallas", "boxco", "America/Chicago", "online"),
		detail("hamburg", "Hamburg-Altona", "boxco", "Europe/Berlin", "online"),
		detail("porto", "Porto", "boxco", "Europe/Lisbon", "new"),
	} {
		r.facilities[d.ID] = d
	}
}

func (r *region) fillTables(t *testing.T) {
	t.Helper()
	_, err := r.pool.Exec(context.WithoutCancel(t.Context()), `
		INSERT INTO holdfast.facility (id, tenant, name, enrolments) SELECT id, 'foo', id, 2 FROM unnest(ARRAY['la', 'shanghai']) id;
		INSERT INTO holdfast.synced_table (schema_name, table_name, class, added_by) VALUES
			('public', 'orders', 'fact', 'admin'), ('public', 'order_lines', 'fact', 'admin'), ('public', 'inventory_items', 'fact', 'admin'),
			('public', 'inventory_transactions', 'event', 'admin'), ('public', 'pictures', 'fact', 'admin');
		INSERT INTO holdfast.facility_table (facility, schema_name, table_name, state, problem, remedy, rows_loaded, changes, last_seq)
		SELECT f, 'public', t, CASE t WHEN 'pictures' THEN 'refused' WHEN 'order_lines' THEN 'loading' ELSE 'streaming' END,
			CASE t WHEN 'pictures' THEN 'The table has no primary key.' ELSE '' END, CASE t WHEN 'pictures' THEN 'Add a primary key, then add the table again.' ELSE '' END,
			length(t) * 1000, length(t) * 31, 81200 - length(t)
		FROM unnest(ARRAY['la', 'shanghai']) f, unnest(ARRAY['orders', 'order_lines', 'inventory_items', 'inventory_transactions', 'pictures']) t;
		INSERT INTO holdfast.position (facility, epoch, seq, source_lsn, source_commit_at) SELECT f, (2::bigint << 32) + 1, 81204, '0/5A3F1C8', now() FROM unnest(ARRAY['la', 'shanghai']) f;
		INSERT INTO holdfast.stream_event (facility, kind, seq, detail, at) VALUES
			('la', 'epoch', 1, 'A new box was enrolled; its stream begins at 1.', now() - interval '5 hours'),
			('la', 'heal', 40112, 'A damaged frame was read again from the local database: 12 rows of public.orders.', now() - interval '40 minutes');
		INSERT INTO holdfast.device (facility, enrolment, identity_key_sha256, identity_key, wireguard_key, certificate_serial, certificate_not_after)
		SELECT f, 2, sha256(f::bytea), f::bytea, sha256(('w' || f)::bytea), '01', now() + interval '1 year' FROM unnest(ARRAY['la', 'shanghai']) f`)
	must(t, err)
}

func TestTheFleetPageChangesLiveAndSaysWhenItIsNotLive(t *testing.T) {
	r := newRegion(t)
	r.few()
	tb := newBrowser(t).open(t, r.url)
	tb.size(1440, 900, false)
	tb.signIn(r.url, r.login)
	tb.wait(`document.querySelector("#live").dataset.state === "live"`)
	tb.wait(`document.querySelector("#f-la").dataset.state === "ok"`)
	// The focus stays where it is while rows change and change places.
	tb.do(chromedp.Focus(chromedp.CSS(`#f-la a[data-row]`)))
	r.change("la", func(d *fleet.Detail) {
		d.State, d.Heartbeat, d.Tunnel, d.Stream, d.Reason = "offline", false, false, false, "Neither heartbeats nor the tunnel work."
	})
	tb.wait(`document.querySelector("#f-la").dataset.state === "bad" && document.querySelector("#f-la").innerText.includes("Offline")`)
	tb.wait(`document.querySelector("#fleet-summary").innerText.includes("2 facilities are offline: la, shanghai.")`)
	tb.wait(`document.activeElement?.closest("tr")?.id === "f-la"`)
	tb.wait(`[...document.querySelectorAll("#fleet-rows tr")].map(r => r.id).slice(0, 2).join() === "f-la,f-shanghai"`)

	r.mu.Lock()
	r.facilities["oslo"] = detail("oslo", "Oslo", "foo", "Europe/Oslo", "offline")
	delete(r.facilities, "porto")
	r.mu.Unlock()
	tb.wait(`!!document.querySelector("#f-oslo") && !document.querySelector("#f-porto")`)

	// Search narrows without a reload, and what is found stays live.
	value(tb, chromedp.Evaluate[bool](`document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key: "/", bubbles: true, cancelable: true}))`))
	tb.wait(`document.activeElement.id === "q"`)
	tb.do(chromedp.KeyEvent("hamb"))
	tb.wait(`document.querySelectorAll("#fleet-rows tr").length === 1 && location.search.includes("q=hamb")`)
	r.change("hamburg", func(d *fleet.Detail) { d.Queue.Transactions = 77123 })
	tb.wait(`document.querySelector("#f-hamburg").innerText.includes("77\u202f123")`)

	tb.allow = append(tb.allow, "WebSocket", "ERR_") // the outage that follows
	value(tb, chromedp.Evaluate[bool](`window.RealSocket = WebSocket, window.WebSocket = class { close() {} constructor() { setTimeout(() => this.onclose?.({code: 1006})) } }, dispatchEvent(new Event("pagehide")), dispatchEvent(new PageTransitionEvent("pageshow", {persisted: true})), true`))
	tb.wait(`document.querySelector("#live").innerText.startsWith("Stale since ")`)
	tb.shot("fleet-stale")
	value(tb, chromedp.Evaluate[bool](`window.WebSocket = window.RealSocket, true`))
	tb.wait(`document.querySelector("#live").innerText === "Live"`)
}

func TestTheRegionsPagesAreReadableByEveryone(t *testing.T) {
	r := newRegion(t)
	r.few()
	r.fillTables(t)
	tb := newBrowser(t).open(t, r.url)
	tb.size(1440, 900, false)
	tb.signIn(r.url, r.login)
	tb.wait(`document.querySelector("#live").dataset.state === "live"`)
	tb.looks("fleet")
	for _, id := range []string{"la", "shanghai", "porto"} {
		tb.do(chromedp.Navigate(r.url + "/facilities/" + id))
		tb.wait(`document.querySelector("#live").dataset.state === "live" && document.querySelectorAll("canvas").length === 3`)
		tb.looks("facility-" + id)
	}
}

func TestTheFacilitysChartsAreLive(t *testing.T) {
	r := newRegion(t)
	r.few()
	tb := newBrowser(t).open(t, r.url)
	tb.size(1440, 900, false)
	tb.signIn(r.url, r.login)
	tb.do(chromedp.Navigate(r.url + "/facilities/la"))
	reads := func(lag, queue, rate string) {
		t.Helper()
		for chart, want := range map[string]string{"lag": lag, "queue": queue, "rate": rate} {
			tb.wait(fmt.Sprintf(`document.querySelector("figure[data-chart=%s] .reading").innerText === %q`, chart, "now "+want))
		}
	}
	reads("6 ms", "1", "12.6")
	for _, p := range []struct {
		lag   int64
		queue int64
		rate  float64
		reads [3]string
	}{{1234, 77_123, 456, [3]string{"1.2 s", "77.1 k", "456"}}, {7, 0, 3.5, [3]string{"7 ms", "0", "3.5"}}} {
		r.change("la", func(d *fleet.Detail) {
			d.Lag, d.Queue.Transactions, d.Throughput.ChangeRate = &p.lag, p.queue, p.rate
			d.LastHeardAt, d.ReportedAt = ptr(time.Now()), ptr(time.Now())
		})
		reads(p.reads[0], p.reads[1], p.reads[2])
	}
}

func TestOneOfAThousandFacilitiesChangesByItself(t *testing.T) {
	r := newRegion(t)
	for i := range 1000 {
		id := fmt.Sprintf("site-%04d", i)
		state := "online"
		switch {
		case i%97 == 0:
			state = "offline"
		case i%41 == 0:
			state = "degraded"
		}
		d := detail(id, fmt.Sprintf("Plant %d", i), "foo", "UTC", state)
		d.History = nil
		r.facilities[id] = d
	}
	tb := newBrowser(t).open(t, r.url)
	tb.size(1440, 900, false)
	tb.signIn(r.url, r.login)
	tb.wait(`document.querySelector("#live").dataset.state === "live"`)
	tb.looks("fleet-thousand")
	// One change is one row on the wire, not the table.
	value(tb, chromedp.Evaluate[bool](`window.seen = [], (() => { const p = WebSocket.prototype, d = Object.getOwnPropertyDescriptor(p, "onmessage");
		Object.defineProperty(p, "onmessage", { set(f) { d.set.call(this, f && (e => { seen.push(e.data.length); f(e); })); } }); })(),
		dispatchEvent(new Event("pagehide")), dispatchEvent(new PageTransitionEvent("pageshow", {persisted: true})), true`))
	tb.wait(`seen.length > 0`)
	value(tb, chromedp.Evaluate[bool](`(window.seen = [], true)`))
	r.change("site-0000", func(d *fleet.Detail) { d.Queue.Transactions = 31337 })
	tb.wait(`document.querySelector("#f-site-0000").innerText.includes("31\u202f337")`)
	sizes := value(tb, chromedp.Evaluate[[]int](`seen`))
	if slices.Max(sizes) > 8<<10 {
		t.Errorf("messages of %v bytes for one changed row", sizes)
	}
}
