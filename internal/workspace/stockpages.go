package workspace

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/agogsaas/holdfast/internal/web"
)

// reasons are the suggested grounds of a movement; any other text will do too.
var reasons = []string{"Delivery", "Used in production", "Count corrected", "Damaged", "Returned"}

type inventoryData struct {
	Items   []Item
	Text    string
	Low     bool
	CanWork bool
}

func (ws *Workspace) inventoryPage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	d := inventoryData{Text: clip(q.Get("q")), Low: q.Get("low") == "1", CanWork: ws.canWork(r)}
	var err error
	if d.Items, err = ws.store.items(r.Context(), d.Text, d.Low); err != nil {
		ws.fail(w, r, err)
		return
	}
	ws.pages.Render(w, r, http.StatusOK, "inventory", web.Page{Title: "Inventory", Active: "/inventory", Data: d})
}

type itemData struct {
	Item      Item
	Movements []Movement
	CanWork   bool
	Reasons   []string
	Key       string
	Amount    string
	Direction string // in or out
	Reason    string
	Wrong     problems
}

func (ws *Workspace) itemPage(w http.ResponseWriter, r *http.Request) {
	ws.showItem(w, r, http.StatusOK, itemData{Key: newKey(), Direction: "out"})
}

func (ws *Workspace) showItem(w http.ResponseWriter, r *http.Request, status int, d itemData) {
	var err error
	if d.Item, err = ws.store.item(r.Context(), r.PathValue("id")); err == nil {
		d.Movements, err = ws.store.movements(r.Context(), d.Item.ID)
	}
	if err != nil {
		ws.fail(w, r, err)
		return
	}
	d.CanWork, d.Reasons = ws.canWork(r), reasons
	ws.pages.Render(w, r, status, "item", web.Page{Title: d.Item.Name, Active: "/inventory", Data: d})
}

// checkMovement normalises the movement's number.
func checkMovement(m *Movement) problems {
	p := problems{}
	if d, ok := decimal(m.Delta); !ok || isZero(d) {
		p["delta"] = "Amount must be a number other than zero with at most three decimals, for example 40 or 2.5."
	} else {
		m.Delta = d
	}
	p.text("reason", "Reason", m.Reason, true, shortMaxChars)
	p.text("worker", "Worker", m.Worker, true, shortMaxChars)
	return p
}

func (ws *Workspace) adjustForm(w http.ResponseWriter, r *http.Request) {
	v := r.PostFormValue
	who, _ := web.From(r.Context())
	d := itemData{Key: v("key"), Amount: strings.TrimSpace(v("amount")), Direction: v("direction"), Reason: clip(v("reason"))}
	if !isUUID(d.Key) {
		d.Key = newKey()
	}
	delta := d.Amount
	if strings.HasPrefix(delta, "-") || strings.HasPrefix(delta, "+") {
		delta = "wrong" // the direction is a choice of its own
	} else if d.Direction != "in" {
		d.Direction = "out"
		delta = "-" + delta
	}
	m := Movement{ID: keyID(ws.store.facility, "movement", d.Key), ItemID: r.PathValue("id"), Delta: delta, Reason: d.Reason, Worker: who.Name}
	if d.Wrong = checkMovement(&m); len(d.Wrong) > 0 {
		ws.showItem(w, r, http.StatusUnprocessableEntity, d)
		return
	}
	switch _, err := ws.store.adjust(r.Context(), m, formRequest(r, d.Key)); {
	case errors.Is(err, errReused):
		d.Key, d.Wrong = newKey(), problems{"": formReused}
		ws.showItem(w, r, http.StatusUnprocessableEntity, d)
	case errors.Is(err, errNegative):
		d.Wrong = problems{"delta": "There is less than that in stock. Count again, or correct the count first."}
		ws.showItem(w, r, http.StatusUnprocessableEntity, d)
	case err != nil:
		ws.fail(w, r, err)
	default:
		http.Redirect(w, r, "/inventory/"+url.PathEscape(m.ItemID), http.StatusSeeOther)
	}
}

type itemFormData struct {
	Key   string
	Item  Item
	Units []string
	Wrong problems
}

func (ws *Workspace) newItemPage(w http.ResponseWriter, r *http.Request) {
	ws.itemForm(w, r, http.StatusOK, itemFormData{Key: newKey(), Item: Item{Unit: "pcs", Quantity: "0", ReorderLevel: "0"}})
}

func (ws *Workspace) itemForm(w http.ResponseWriter, r *http.Request, status int, d itemFormData) {
	d.Units = Units
	ws.pages.Render(w, r, status, "item-form", web.Page{Title: "New item", Active: "/inventory", Data: d})
}

func checkItem(i *Item) problems {
	p := problems{}
	p.text("sku", "Article number", i.SKU, true, 40)
	p.text("name", "Name", i.Name, true, shortMaxChars)
	p.text("location", "Location", i.Location, false, shortMaxChars)
	for field, n := range map[string]*string{"quantity": &i.Quantity, "reorder_level": &i.ReorderLevel} {
		if d, ok := decimal(*n); !ok || d[0] == '-' {
			p[field] = "Must be a number from zero up with at most three decimals."
		} else {
			*n = d
		}
	}
	p.unit(i.Unit)
	return p
}

// skuTaken is the message for a number that another item has.
const skuTaken = "Another item has this number. Choose another, or change that item's stock."

func (ws *Workspace) createItemForm(w http.ResponseWriter, r *http.Request) {
	v := func(name string) string { return strings.TrimSpace(r.PostFormValue(name)) }
	d := itemFormData{Key: v("key"), Item: Item{
		SKU: v("sku"), Name: v("name"), Quantity: v("quantity"), Unit: v("unit"), ReorderLevel: v("reorder_level"), Location: v("location"),
	}}
	if !isUUID(d.Key) {
		d.Key = newKey()
	}
	i := d.Item
	if d.Wrong = checkItem(&i); len(d.Wrong) > 0 {
		ws.itemForm(w, r, http.StatusUnprocessableEntity, d)
		return
	}
	i.ID = keyID(ws.store.facility, "item", d.Key)
	switch made, _, err := ws.store.createItem(r.Context(), i, formRequest(r, d.Key)); {
	case errors.Is(err, errReused):
		d.Key, d.Wrong = newKey(), problems{"": formReused}
		ws.itemForm(w, r, http.StatusUnprocessableEntity, d)
	case violates(err, "inventory_items_facility_id_sku_key"):
		d.Wrong = problems{"sku": skuTaken}
		ws.itemForm(w, r, http.StatusUnprocessableEntity, d)
	case err != nil:
		ws.fail(w, r, err)
	default:
		http.Redirect(w, r, "/inventory/"+made.ID, http.StatusSeeOther)
	}
}

func isZero(decimal string) bool { return strings.Trim(decimal, "-0.") == "" }

// clip trims a search or a line to what is sensible.
func clip(s string) string {
	s = strings.TrimSpace(s)
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return ""
	}
	if r := []rune(s); len(r) > 2*shortMaxChars {
		return string(r[:2*shortMaxChars])
	}
	return s
}
