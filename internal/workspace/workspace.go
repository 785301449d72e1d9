// Package workspace is the workers' web app: orders and inventory of one
// facility. It works on one PostgreSQL and needs no network.
//
// In:  edge/localui; a region that stands in for a facility.
// Out: the application tables (orders, order_lines, inventory_items,
// inventory_transactions; customers and products, which it only reads).
package workspace

import (
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/internal/web"
)

//go:embed pages/*.html
var pageFiles embed.FS

// Nav are the workspace's entries for the site's navigation.
var Nav = []web.NavItem{
	{Path: "/orders", Word: "Orders", Icon: "clipboard-list"},
	{Path: "/inventory", Word: "Inventory", Icon: "package"},
}

// Options are what a workspace stands on.
type Options struct {
	Pool     *pgxpool.Pool
	Facility string
	Site     *web.Site
	Auth     *web.Auth
	Log      *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Workspace serves one facility's pages and their API.
type Workspace struct {
	store store
	auth  *web.Auth
	site  *web.Site
	pages *web.Pages
	log   *slog.Logger
	now   func() time.Time
}

// New prepares the workspace.
func New(o Options) (*Workspace, error) {
	files, err := fs.Sub(pageFiles, "pages")
	if err != nil {
		return nil, fmt.Errorf("read the workspace's pages: %w", err)
	}
	pages, err := o.Site.Pages(files)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Workspace{
		store: store{pool: o.Pool, facility: o.Facility},
		auth:  o.Auth, site: o.Site, pages: pages, log: o.Log, now: o.Now,
	}, nil
}

// Mount adds the workspace's paths: /orders, /inventory and
// /api/workspace/v1. Looking needs the role viewer, working operator.
func (ws *Workspace) Mount(mux *web.Mux) {
	look := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, ws.auth.Require(web.Viewer, h)) }
	work := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, ws.auth.Require(web.Operator, h)) }
	look("GET /orders", ws.ordersPage)
	work("GET /orders/new", ws.newOrderPage)
	work("POST /orders", ws.createOrderForm)
	look("GET /orders/{id}", ws.orderPage)
	work("GET /orders/{id}/edit", ws.editOrderPage)
	work("POST /orders/{id}", ws.updateOrderForm)
	work("POST /orders/{id}/status", ws.statusForm)
	work("POST /orders/{id}/lines", ws.addLineForm)
	look("GET /inventory", ws.inventoryPage)
	look("GET /inventory/{id}", ws.itemPage)
	work("POST /inventory/{id}/adjust", ws.adjustForm)
	work("GET /inventory/new", ws.newItemPage)
	work("POST /inventory", ws.createItemForm)

	look("GET /api/workspace/v1/openapi.json", apiDescription)
	ws.mountAPI(mux)
}
