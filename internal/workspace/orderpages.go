package workspace

import (
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"time"

	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/web"
)

// orderPageRows is how many orders a page of the list shows.
const orderPageRows = 50

type ordersData struct {
	Orders   []Order
	Counts   map[string]int
	Open     int
	All      int
	Status   string
	Text     string
	Statuses []Status
	More     template.URL // query of the next page
	Later    bool         // not the first page
	CanWork  bool
}

func (ws *Workspace) ordersPage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	d := ordersData{Status: q.Get("status"), Text: clip(q.Get("q")), Statuses: Statuses, Later: q.Get("after") != ""}
	if !q.Has("status") {
		d.Status = "open"
	}
	after := q.Get("after")
	if !isUUID(after) {
		after = ""
	}
	list, err := ws.store.orders(r.Context(), orderQuery{Status: d.Status, Text: d.Text, After: after, Limit: orderPageRows + 1})
	if err == nil {
		d.Counts, err = ws.store.openCounts(r.Context())
	}
	if err != nil {
		ws.fail(w, r, err)
		return
	}
	for status, n := range d.Counts {
		d.All += n
		if status != "shipped" && status != "cancelled" {
			d.Open += n
		}
	}
	if len(list) > orderPageRows {
		list = list[:orderPageRows]
		d.More = template.URL(url.Values{"status": {d.Status}, "q": {d.Text}, "after": {list[len(list)-1].ID}}.Encode()) //nolint:gosec // encoded here
	}
	d.Orders, d.CanWork = list, ws.canWork(r)
	ws.pages.Render(w, r, http.StatusOK, "orders", web.Page{Title: "Orders", Active: "/orders", Data: d})
}

type orderFormData struct {
	Form     orderForm
	Wrong    problems
	ID       string // of an order that is edited; empty for a new one
	Changed  *Order // what someone else made of it meanwhile
	Statuses []Status
	Units    []string
	Products []string
	// Customers and Products are suggestions; any other text will do too.
	Customers []string
	Today     string
}

func (ws *Workspace) orderForm(w http.ResponseWriter, r *http.Request, status int, d orderFormData) {
	d.Statuses, d.Units, d.Today = Statuses, Units, ws.now().In(ws.site.Zone()).Format(time.DateOnly)
	var err error
	if d.Customers, d.Products, err = ws.store.suggestions(r.Context()); err != nil {
		ws.log.Warn("nothing can be suggested for an order", "err", err) // people can type
	}
	if len(d.Products) == 0 {
		d.Products = products
	}
	title := "New order"
	if d.ID != "" {
		title = "Edit order " + d.Form.Number
	}
	ws.pages.Render(w, r, status, "order-form", web.Page{Title: title, Active: "/orders", Data: d})
}

func (ws *Workspace) newOrderPage(w http.ResponseWriter, r *http.Request) {
	ws.orderForm(w, r, http.StatusOK, orderFormData{Form: orderForm{Key: newKey(), Unit: "pcs", Status: "new"}})
}

func readOrderForm(r *http.Request) orderForm {
	v := r.PostFormValue
	return orderForm{
		Key: v("key"), Number: v("number"), Customer: v("customer"), Product: v("product"), Quantity: v("quantity"),
		Unit: v("unit"), DueDate: v("due_date"), Status: v("status"), Notes: v("notes"), UpdatedAt: v("updated_at"),
	}.trimmed()
}

func (ws *Workspace) createOrderForm(w http.ResponseWriter, r *http.Request) {
	f := readOrderForm(r)
	o, wrong := f.check()
	if !isUUID(f.Key) {
		f.Key = newKey()
	}
	if len(wrong) > 0 {
		ws.orderForm(w, r, http.StatusUnprocessableEntity, orderFormData{Form: f, Wrong: wrong})
		return
	}
	o, _, err := ws.create(r, o, formRequest(r, f.Key))
	if errors.Is(err, errReused) {
		f.Key = newKey()
		ws.orderForm(w, r, http.StatusUnprocessableEntity, orderFormData{Form: f, Wrong: problems{"": formReused}})
		return
	}
	if err != nil {
		ws.log.Error("order not saved", "err", err)
		ws.orderForm(w, r, http.StatusServiceUnavailable, orderFormData{Form: f, Wrong: problems{"": "The order could not be saved. Press Save again in a moment; it will be saved once."}})
		return
	}
	http.Redirect(w, r, "/orders/"+o.ID, http.StatusSeeOther)
}

// formReused is what somebody reads who goes back to a form that was saved.
const formReused = "This form was saved already, with other values. Press the button again to save these as well."

func formRequest(r *http.Request, key string) request {
	return digested(key, r.URL.Path, []byte(r.PostForm.Encode()))
}

// create gives the order its id, its number and its author, and saves it once
// however often the key comes.
func (ws *Workspace) create(r *http.Request, o Order, req request) (Order, bool, error) {
	who, _ := web.From(r.Context())
	o.ID = keyID(ws.store.facility, "order", req.key)
	if o.CreatedBy == "" {
		o.CreatedBy = who.Name
	}
	if o.Number == "" {
		o.Number = orderNumber(ws.store.facility, o.ID, ws.now().In(ws.site.Zone()))
	}
	return ws.store.create(r.Context(), o, req)
}

type orderData struct {
	Order    Order
	Lines    []Line
	Statuses []Status
	CanWork  bool
	Line     Line
	Key      string
	Units    []string
	Wrong    problems
	// Saved is the status that was just saved, for whoever pressed its button.
	Saved string
}

func (ws *Workspace) orderPage(w http.ResponseWriter, r *http.Request) {
	ws.showOrder(w, r, http.StatusOK, orderData{Line: Line{Unit: "pcs"}, Key: newKey()})
}

func (ws *Workspace) showOrder(w http.ResponseWriter, r *http.Request, status int, d orderData) {
	var err error
	if d.Order, err = ws.store.order(r.Context(), r.PathValue("id")); err == nil {
		d.Lines, err = ws.store.lines(r.Context(), d.Order.ID)
	}
	if err != nil {
		ws.fail(w, r, err)
		return
	}
	if r.URL.Query().Get("saved") == d.Order.Status {
		d.Saved = d.Order.Status
	}
	d.Statuses, d.Units, d.CanWork = Statuses, Units, ws.canWork(r)
	ws.pages.Render(w, r, status, "order", web.Page{Title: "Order " + d.Order.Number, Active: "/orders", Data: d})
}

func (ws *Workspace) editOrderPage(w http.ResponseWriter, r *http.Request) {
	o, err := ws.store.order(r.Context(), r.PathValue("id"))
	if err != nil {
		ws.fail(w, r, err)
		return
	}
	ws.orderForm(w, r, http.StatusOK, orderFormData{ID: o.ID, Form: formOf(o)})
}

func (ws *Workspace) updateOrderForm(w http.ResponseWriter, r *http.Request) {
	f := readOrderForm(r)
	o, wrong := f.check()
	o.ID = r.PathValue("id")
	d := orderFormData{ID: o.ID, Form: f, Wrong: wrong}
	if f.Number == "" {
		wrong["number"] = "Number is missing."
	}
	if len(wrong) > 0 {
		ws.orderForm(w, r, http.StatusUnprocessableEntity, d)
		return
	}
	seen, err := time.Parse(time.RFC3339Nano, f.UpdatedAt)
	if err != nil {
		seen = time.Time{}
	}
	now, err := ws.store.update(r.Context(), o, seen)
	switch {
	case errors.Is(err, errChanged):
		d.Changed = &now
		d.Form.UpdatedAt = now.UpdatedAt.Format(time.RFC3339Nano)
		ws.orderForm(w, r, http.StatusConflict, d)
	case errors.Is(err, errNotFound):
		ws.fail(w, r, err)
	case err != nil:
		ws.log.Error("order not saved", "err", err)
		d.Wrong = problems{"": "The order could not be saved. Press Save again in a moment."}
		ws.orderForm(w, r, http.StatusServiceUnavailable, d)
	default:
		http.Redirect(w, r, "/orders/"+o.ID, http.StatusSeeOther)
	}
}

func (ws *Workspace) statusForm(w http.ResponseWriter, r *http.Request) {
	o, err := ws.store.order(r.Context(), r.PathValue("id"))
	if err != nil {
		ws.fail(w, r, err)
		return
	}
	wrong := problems{}
	if wrong.status(r.PostFormValue("status")); len(wrong) > 0 {
		ws.showOrder(w, r, http.StatusUnprocessableEntity, orderData{Wrong: wrong, Key: newKey()})
		return
	}
	seen := o.UpdatedAt
	o.Status = r.PostFormValue("status")
	if _, err := ws.store.update(r.Context(), o, seen); err != nil {
		ws.fail(w, r, err)
		return
	}
	http.Redirect(w, r, "/orders/"+o.ID+"?saved="+o.Status, http.StatusSeeOther)
}

func checkLine(l *Line) problems {
	p := problems{}
	p.text("description", "Description", l.Description, true, shortMaxChars)
	if q, ok := decimal(l.Quantity); !ok || q[0] == '-' || isZero(q) {
		p["quantity"] = "Quantity must be a number above zero with at most three decimals, for example 12.5."
	} else {
		l.Quantity = q
	}
	p.unit(l.Unit)
	return p
}

func (ws *Workspace) addLineForm(w http.ResponseWriter, r *http.Request) {
	v := r.PostFormValue
	l := Line{Description: clip(v("description")), Quantity: v("quantity"), Unit: v("unit")}
	key := v("key")
	if !isUUID(key) {
		key = newKey()
	}
	if wrong := checkLine(&l); len(wrong) > 0 {
		ws.showOrder(w, r, http.StatusUnprocessableEntity, orderData{Line: l, Key: key, Wrong: wrong})
		return
	}
	l.ID = keyID(ws.store.facility, "line", key)
	_, _, err := ws.store.addLine(r.Context(), r.PathValue("id"), l, formRequest(r, key))
	if errors.Is(err, errReused) {
		ws.showOrder(w, r, http.StatusUnprocessableEntity, orderData{Line: l, Key: newKey(), Wrong: problems{"": formReused}})
		return
	}
	if err != nil {
		ws.fail(w, r, err)
		return
	}
	http.Redirect(w, r, "/orders/"+url.PathEscape(r.PathValue("id")), http.StatusSeeOther)
}

// fail answers an error of the store.
func (ws *Workspace) fail(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, errNotFound):
		ws.site.Error(w, r, http.StatusNotFound, hint.Wrap(errors.New("there is no such thing here"), "It may have been removed. Look for it in the list."))
	case errors.Is(err, errChanged):
		ws.site.Error(w, r, http.StatusConflict, hint.Wrap(err, "Go back, reload the page and look at it before you change it."))
	default:
		ws.log.Error("workspace request not served", "path", r.URL.Path, "err", err)
		ws.site.Error(w, r, http.StatusServiceUnavailable, hint.Wrap(errors.New("the database is not answering"), "Go back and try again in a moment. What you typed is still in the page you came from."))
	}
}

func (ws *Workspace) canWork(r *http.Request) bool {
	who, _ := web.From(r.Context())
	return who.Can(web.Operator)
}
