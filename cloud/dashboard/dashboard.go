// Package dashboard is what people in the region see: every facility at a
// glance, and each one closely, live; what is wrong and who was told of it; and
// the conflicts, to be dealt with.
//
// In:  browsers.
// Out: cloud/fleet (what is known now), cloud/alert and cloud/oncall (incidents,
// who is told), cloud/conflicts, cloud/parked (changes that were refused), the
// region's PostgreSQL (positions, tables, stream events, boxes).
package dashboard

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/cloud/alert"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/conflicts"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/cloud/fleet"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/schema"
	"github.com/agogsaas/holdfast/internal/web"
	"github.com/agogsaas/holdfast/proto"
)

//go:embed pages/*.html
var pageFiles embed.FS

// Fleet is what is known of the facilities now. Its methods answer from
// memory, from many goroutines at once. *fleet.Fleet is one.
type Fleet interface {
	// Snapshot returns all facilities, ordered by id.
	Snapshot() []v1.FacilityStatus
	// Facility returns all that is known of one.
	Facility(id string) (fleet.Detail, bool)
}

// Deps are what the dashboard stands on.
type Deps struct {
	Region string
	Zone   *time.Location // of absolute times; default UTC
	Auth   *web.Auth
	Fleet  Fleet
	Pool   *pgxpool.Pool
	// Parked, if set, has pages for changes that were refused.
	Parked Parked
	// Alerts, if set, has pages for incidents and for who is told of them, which
	// then need OnCall. Roster says who is told next; may be nil.
	Alerts Alerts
	OnCall OnCall
	Roster alert.Roster
	// Support is whom people call for help, in words; see channel.Actions.
	Support string
	// Texts, if set, has a page that shows what each channel says.
	Texts Texts
	// Word is what was judged last (cloud/detect). May be nil.
	Word func() detect.Word
	// Compare says how a facility's table differs from the region's
	// (cloud/ingest). May be nil.
	Compare func(ctx context.Context, facility string, t proto.SyncedTable, fingerprint uint64, columns []proto.TableColumn) ([]schema.Difference, error)
	// Stop ends the live connections when the program stops.
	Stop    <-chan struct{}
	Log     *slog.Logger
	Version string
	// Hooks, if set, serves /hooks/ and /ack/ (cloud/channel): what comes back from
	// providers and from links in messages. It needs no sign-in: it is signed.
	Hooks http.Handler
	// API, if set, is served below /api/ and itself asks who calls. Metrics, if
	// set, is served at /metrics.
	API, Metrics http.Handler
	// Ready says why the region cannot do its work just now, for /readyz.
	Ready func(ctx context.Context) error
}

// UI serves the region's pages.
type UI struct {
	d       Deps
	store   store
	desk    *conflicts.Desk
	site    *web.Site
	pages   *web.Pages
	board   *board
	open    *openIncidents // nil without alerts
	mux     *web.Mux
	handler http.Handler
}

// New puts the dashboard together.
func New(d Deps) (*UI, error) {
	if d.Auth == nil || d.Fleet == nil || d.Pool == nil {
		return nil, errors.New("the dashboard needs sign-in, a fleet and a database")
	}
	if d.Log == nil {
		d.Log = slog.Default()
	}
	if d.Zone == nil {
		d.Zone = time.UTC // a region's people sit in many zones
	}
	if d.Alerts != nil && d.OnCall == nil {
		return nil, errors.New("the pages for alerts need to know who is on call")
	}
	u := &UI{d: d, store: store{d.Pool}, desk: conflicts.New(d.Pool)}
	nav := []web.NavItem{{Path: "/", Word: "Fleet", Icon: "building-factory-2"}}
	if d.Alerts != nil {
		u.open = &openIncidents{read: d.Alerts.List}
		nav = append(nav,
			web.NavItem{Path: "/incidents", Word: "Incidents", Icon: "bell", ID: incidentsBadge, Badge: u.incidentBadge},
			web.NavItem{Path: "/oncall", Word: "On call", Icon: "users"})
	}
	nav = append(nav, web.NavItem{Path: "/conflicts", Word: "Conflicts", Icon: "arrows-diff", ID: badgeID, Badge: u.badge})
	if d.Parked != nil {
		nav = append(nav, web.NavItem{Path: "/parked", Word: "Parked", Icon: "clipboard-list", ID: parkedBadgeID, Badge: u.parkedBadge})
	}
	var err error
	u.site, err = web.NewSite(web.SiteOptions{
		Place: d.Region, Zone: d.Zone, Version: d.Version, Auth: d.Auth, Log: d.Log,
		Nav: nav,
	})
	if err != nil {
		return nil, err
	}
	files, err := fs.Sub(pageFiles, "pages")
	if err != nil {
		return nil, fmt.Errorf("read the dashboard's pages: %w", err)
	}
	if u.pages, err = u.site.Pages(files); err != nil {
		return nil, err
	}
	u.board = newBoard(d.Fleet.Snapshot, func(r row) (string, error) {
		html, err := u.pages.Fragment("fleet-row", r)
		return string(html), err
	})

	mux := new(web.Mux)
	u.site.Mount(mux)
	look := func(pattern string, h http.Handler) { mux.Handle(pattern, d.Auth.Require(web.Viewer, h)) }
	look("GET /{$}", http.HandlerFunc(u.fleetPage))
	look("GET /facilities/{id}", http.HandlerFunc(u.facilityPage))
	look("GET /conflicts", http.HandlerFunc(u.conflictsPage))
	look("GET /conflicts/{id}", http.HandlerFunc(u.conflictPage))
	work := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, d.Auth.Require(web.Operator, h)) }
	work("POST /conflicts/keep", u.keepMany)
	work("POST /conflicts/{id}/keep", u.keep)
	work("POST /conflicts/{id}/reopen", u.reopen)
	work("GET /conflicts/{id}/restore", u.restorePage)
	work("POST /conflicts/{id}/restore", u.restore)
	look("GET /live/conflicts", u.site.Live(d.Stop, u.conflictsFeed))
	look("GET /live/fleet", u.site.Live(d.Stop, u.fleetFeed))
	look("GET /live/facility/{id}", u.site.Live(d.Stop, u.facilityFeed))
	if d.Parked != nil {
		u.mountParked(mux)
	}
	if d.Alerts != nil {
		u.mountAlerts(mux)
	}
	if d.Hooks != nil {
		mux.Handle("/hooks/", d.Hooks)
		mux.Handle("/ack/", d.Hooks)
	}
	if d.API != nil {
		mux.Handle("/api/", d.API)
	}
	if d.Metrics != nil {
		mux.Handle("GET /metrics", d.Metrics)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", u.ready)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		u.site.Error(w, r, http.StatusNotFound, errNoPage)
	})
	u.mux, u.handler = mux, u.site.Protect(mux)
	return u, nil
}

var (
	errNoPage     = errors.New("there is no such page")
	errNoFacility = hint.Wrap(errors.New("there is no such facility in this region"), "It may have been removed. Look for it in the fleet.")
)

// ServeHTTP implements http.Handler.
func (u *UI) ServeHTTP(w http.ResponseWriter, r *http.Request) { u.handler.ServeHTTP(w, r) }

// ready tells a supervisor whether the region can do its work.
func (u *UI) ready(w http.ResponseWriter, r *http.Request) {
	if u.d.Ready != nil {
		if err := u.d.Ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	fmt.Fprintln(w, "ready")
}

// fleetFeed is the live connection of one fleet page. Everyone who looks
// shares one snapshot and the rows drawn from it.
func (u *UI) fleetFeed(r *http.Request) (web.Feed, error) {
	q := readQuery(r)
	return web.Feed{
		Every: boardEvery,
		Frame: func(ctx context.Context) (web.Frame, error) {
			v, err := u.board.view(q)
			if err != nil {
				return web.Frame{}, err
			}
			v.Alerts = u.alertsBanner(ctx, "")
			f := web.Frame{Order: map[string][]string{"fleet-rows": {}}, Parts: u.badgeParts(ctx)}
			banner, err := u.pages.Fragment("alerts-banner", v.Alerts)
			if err != nil {
				return web.Frame{}, err
			}
			f.Parts = append(f.Parts, web.Part{ID: "alerts-banner", HTML: banner})
			for _, name := range []string{"fleet-summary", "fleet-tiles", "fleet-pager"} {
				html, err := u.pages.Fragment(name, v)
				if err != nil {
					return web.Frame{}, err
				}
				f.Parts = append(f.Parts, web.Part{ID: name, HTML: html})
			}
			for _, l := range v.Rows {
				f.Parts = append(f.Parts, web.Part{ID: l.ElementID, HTML: l.HTML})
				f.Order["fleet-rows"] = append(f.Order["fleet-rows"], l.ElementID)
			}
			return f, nil
		},
	}, nil
}

func (u *UI) fleetPage(w http.ResponseWriter, r *http.Request) {
	v, err := u.board.view(readQuery(r))
	if err != nil {
		u.site.Error(w, r, http.StatusInternalServerError, err)
		return
	}
	v.Alerts = u.alertsBanner(r.Context(), "")
	u.pages.Render(w, r, http.StatusOK, "fleet", web.Page{Title: "Fleet", Active: "/", Live: "/live/fleet", Data: v})
}
