// Package localui is what people at the facility see: whether everything is
// well, in plain words, and the workspace they work in. It needs nothing but
// this box.
//
// In:  browsers and programs in the facility.
// Out: internal/workspace; the state of the local database, the queue and the link.
package localui

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/internal/web"
	"github.com/agogsaas/holdfast/internal/workspace"
)

//go:embed pages/*.html
var pageFiles embed.FS

// Link is the way to the region.
type Link struct {
	// Enrolled is false until the box was introduced to a region.
	Enrolled bool
	Up       bool
	Since    time.Time // when it became so; zero if unknown
	LastSent time.Time // when the region last confirmed a change
	Problem  string    // why it is down, or refused, for technicians; may be empty
	// Refused is true while the region answers but cannot take the changes.
	Refused bool
	// Replaced is true when another box serves the facility now.
	Replaced bool
	// Received is when a change from the region was last applied here, and Stuck
	// why one cannot be.
	Received time.Time
	Stuck    string
	// Parked is how many changes from the region the local database refuses, while
	// everything else flows, and ParkedWhy why, for technicians.
	Parked    int64
	ParkedWhy string
}

// Queue is what waits on this box to be sent.
type Queue struct {
	Changes  int64
	Bytes    int64
	MaxBytes int64     // 0 if unknown
	Oldest   time.Time // when the oldest of them was made; zero if none waits
	Problem  string    // set when the queue cannot take changes
	// FullIn is when it will be full at the rate at which it fills now; 0 when
	// that is not to be expected.
	FullIn time.Duration
	// LeftOut says what cannot be sent and was left out.
	LeftOut []string
}

// Stall is a stage that has work and makes no progress.
type Stall struct {
	Text  string // for technicians
	Since time.Time
}

// Database is the local PostgreSQL.
type Database struct {
	Up      bool
	Since   time.Time
	Version string
	Bytes   int64 // size on disk, 0 if unknown
	Problem string
}

// Box is the machine itself.
type Box struct {
	Version   string
	Started   time.Time
	DiskFree  int64 // bytes on the data disk, 0 if unknown
	DiskTotal int64
	TempC     float64 // 0 if the machine does not tell
	Watchdog  string  // in words, "" if the machine does not tell
	Model     string
}

// Deps are what the pages show and stand on. The functions are called often,
// from many connections at once, and must answer without waiting.
type Deps struct {
	Facility string // id
	Place    string // for people; default the id
	Region   string
	Zone     *time.Location // default the box's own
	Pool     *pgxpool.Pool

	Link     func() Link
	Queue    func() Queue
	Database func() Database
	Box      func() Box
	Stalls   func() []Stall // may be nil

	// Stop ends the live connections when the program stops.
	Stop <-chan struct{}
	Log  *slog.Logger
	// Version is this build's.
	Version string
	// Metrics, if set, is served at /metrics.
	Metrics http.Handler
}

// UI serves the facility's pages.
type UI struct {
	d       Deps
	site    *web.Site
	pages   *web.Pages
	mux     *web.Mux
	handler http.Handler
}

// New puts the facility's pages together.
func New(d Deps) (*UI, error) {
	if d.Link == nil || d.Queue == nil || d.Database == nil || d.Box == nil || d.Pool == nil {
		return nil, errors.New("the facility's pages need a pool and all four sources")
	}
	if d.Place == "" {
		d.Place = d.Facility
	}
	if d.Log == nil {
		d.Log = slog.Default()
	}
	u := &UI{d: d}
	auth, err := web.NewAuth(web.AuthOptions{Name: d.Facility, Store: web.PGStore{Pool: d.Pool}, Log: d.Log})
	if err != nil {
		return nil, err
	}
	nav := append([]web.NavItem{{Path: "/", Word: "Status", Icon: "activity"}}, workspace.Nav...)
	u.site, err = web.NewSite(web.SiteOptions{
		Place: d.Place, Zone: d.Zone, Nav: nav, Live: "/live", Version: d.Version,
		Banner: u.banner, Auth: auth, Log: d.Log,
	})
	if err != nil {
		return nil, err
	}
	files, err := fs.Sub(pageFiles, "pages")
	if err != nil {
		return nil, fmt.Errorf("read the facility's pages: %w", err)
	}
	if u.pages, err = u.site.Pages(files); err != nil {
		return nil, err
	}
	ws, err := workspace.New(workspace.Options{Pool: d.Pool, Facility: d.Facility, Site: u.site, Auth: auth, Log: d.Log})
	if err != nil {
		return nil, err
	}

	mux := new(web.Mux)
	u.site.Mount(mux)
	ws.Mount(mux)
	mux.Handle("GET /{$}", auth.Require(web.Viewer, http.HandlerFunc(u.statusPage)))
	mux.Handle("GET /live", auth.Require(web.Viewer, u.site.Live(d.Stop, u.feed)))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", u.ready)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		u.site.Error(w, r, http.StatusNotFound, errNoPage)
	})
	if d.Metrics != nil {
		mux.Handle("GET /metrics", d.Metrics)
	}
	u.mux, u.handler = mux, u.site.Protect(mux)
	return u, nil
}

var errNoPage = errors.New("there is no such page")

// ServeHTTP implements http.Handler.
func (u *UI) ServeHTTP(w http.ResponseWriter, r *http.Request) { u.handler.ServeHTTP(w, r) }

// ready tells a supervisor whether people can work here. The link does not
// count: a facility without internet is ready.
func (u *UI) ready(w http.ResponseWriter, _ *http.Request) {
	if db := u.d.Database(); !db.Up {
		plain(w, http.StatusServiceUnavailable, "database down")
		return
	}
	plain(w, http.StatusOK, "ready")
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text) // the reader left: nothing to do
}
