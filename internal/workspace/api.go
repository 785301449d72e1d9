package workspace

import (
	"bytes"
	_ "embed" // openapi.json
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agogsaas/holdfast/internal/web"
)

// keyMaxBytes bounds an Idempotency-Key, bodyMaxBytes a body.
const (
	keyMaxBytes  = 128
	bodyMaxBytes = 64 << 10
)

//go:embed openapi.json
var openAPI []byte

// call is one call of the API, as openapi.json has it.
type call struct {
	pattern string
	role    web.Role
	serve   http.HandlerFunc
	query   []string // the parameters it takes
}

func (ws *Workspace) calls() []call {
	const root = "/api/workspace/v1"
	return []call{
		{"GET " + root + "/orders", web.Viewer, ws.apiOrders, []string{"after", "limit", "q", "status"}},
		{"POST " + root + "/orders", web.Operator, ws.apiCreateOrder, nil},
		{"GET " + root + "/orders/{id}", web.Viewer, ws.apiOrder, nil},
		{"PATCH " + root + "/orders/{id}", web.Operator, ws.apiPatchOrder, nil},
		{"POST " + root + "/orders/{id}/lines", web.Operator, ws.apiAddLine, nil},
		{"GET " + root + "/inventory", web.Viewer, ws.apiInventory, []string{"low", "q"}},
		{"POST " + root + "/inventory", web.Operator, ws.apiCreateItem, nil},
		{"POST " + root + "/inventory/{id}/adjust", web.Operator, ws.apiAdjust, nil},
	}
}

// mountAPI adds the calls. What a path does not take is said, with what it takes.
func (ws *Workspace) mountAPI(mux *web.Mux) {
	methods := map[string][]string{}
	for _, c := range ws.calls() {
		method, path, _ := strings.Cut(c.pattern, " ")
		methods[path] = append(methods[path], method)
		mux.Handle(c.pattern, ws.auth.Require(c.role, c))
	}
	for path, list := range methods {
		allow := strings.Join(list, ", ")
		mux.Handle(path, ws.auth.Require(web.Viewer, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", allow)
			web.Problem(w, http.StatusMethodNotAllowed, "this address does not take "+r.Method, "It takes "+allow+"; /api/workspace/v1/openapi.json describes them.")
		})))
	}
}

// ServeHTTP refuses a parameter that the call does not know, as a field is
// refused: it was meant to do something.
func (c call) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := problems{}
	for name := range r.URL.Query() {
		if slices.Contains(c.query, name) {
			continue
		}
		p[name] = "There is no such parameter here."
		if len(c.query) > 0 {
			p[name] += " There are " + strings.Join(c.query, ", ") + "."
		}
	}
	if len(p) > 0 {
		refuse(w, p)
		return
	}
	c.serve(w, r)
}

// apiDescription serves the description of the API to those who may use it.
func apiDescription(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/vnd.oai.openapi+json")
	_, _ = w.Write(openAPI) // the reader left: nothing to do
}

// apiOrder fields that a caller may send. Absent ones stay as they are (PATCH)
// or take their default (POST).
type orderInput struct {
	Number    *string `json:"number"`
	Customer  *string `json:"customer"`
	Product   *string `json:"product"`
	Quantity  *int    `json:"quantity"`
	Unit      *string `json:"unit"`
	DueDate   *string `json:"due_date"`
	Status    *string `json:"status"`
	Notes     *string `json:"notes"`
	CreatedBy *string `json:"created_by"`
	// UpdatedAt, if sent, is the version that the caller saw: a PATCH of
	// another version is answered with 409.
	UpdatedAt *time.Time `json:"updated_at"`
}

func (in orderInput) over(f orderForm) orderForm {
	for _, v := range []struct {
		from *string
		to   *string
	}{
		{in.Number, &f.Number},
		{in.Customer, &f.Customer},
		{in.Product, &f.Product},
		{in.Unit, &f.Unit},
		{in.DueDate, &f.DueDate},
		{in.Status, &f.Status},
		{in.Notes, &f.Notes},
	} {
		if v.from != nil {
			*v.to = *v.from
		}
	}
	if in.Quantity != nil {
		f.Quantity = strconv.Itoa(*in.Quantity)
	}
	return f.trimmed()
}

func (ws *Workspace) apiOrders(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, after := 50, q.Get("after")
	p := problems{}
	if s := q.Get("limit"); s != "" {
		var err error
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > pageMax {
			p["limit"] = fmt.Sprintf("Limit must be from 1 to %d.", pageMax)
		}
	}
	if after != "" && !isUUID(after) {
		p["after"] = "After must be an order's id."
	}
	if s := q.Get("status"); s != "" && s != "open" {
		p.status(s)
	}
	if len(p) > 0 {
		refuse(w, p)
		return
	}
	list, err := ws.store.orders(r.Context(), orderQuery{Status: q.Get("status"), Text: clip(q.Get("q")), After: after, Limit: limit})
	if err != nil {
		ws.apiFail(w, r, err)
		return
	}
	next := ""
	if len(list) == limit {
		next = list[len(list)-1].ID
	}
	answer(w, http.StatusOK, map[string]any{"orders": emptyNotNull(list), "next_after": next})
}

func (ws *Workspace) apiOrder(w http.ResponseWriter, r *http.Request) {
	o, err := ws.store.order(r.Context(), r.PathValue("id"))
	var lines []Line
	if err == nil {
		lines, err = ws.store.lines(r.Context(), o.ID)
	}
	if err != nil {
		ws.apiFail(w, r, err)
		return
	}
	answer(w, http.StatusOK, struct {
		Order
		Lines []Line `json:"lines"`
	}{o, emptyNotNull(lines)})
}

func (ws *Workspace) apiCreateOrder(w http.ResponseWriter, r *http.Request) {
	var in orderInput
	req, ok := begin(w, r, &in)
	if !ok {
		return
	}
	o, wrong := in.over(orderForm{}).check()
	if in.CreatedBy != nil {
		o.CreatedBy = strings.TrimSpace(*in.CreatedBy)
		wrong.text("created_by", "Created by", o.CreatedBy, false, shortMaxChars)
	}
	if len(wrong) > 0 {
		refuse(w, wrong)
		return
	}
	o, made, err := ws.create(r, o, req)
	if err != nil {
		ws.apiFail(w, r, err)
		return
	}
	w.Header().Set("Location", "/api/workspace/v1/orders/"+o.ID)
	answer(w, madeStatus(made), o)
}

func (ws *Workspace) apiPatchOrder(w http.ResponseWriter, r *http.Request) {
	var in orderInput
	if _, ok := decode(w, r, &in); !ok {
		return
	}
	old, err := ws.store.order(r.Context(), r.PathValue("id"))
	if err != nil {
		ws.apiFail(w, r, err)
		return
	}
	seen := old.UpdatedAt
	if in.UpdatedAt != nil {
		seen = *in.UpdatedAt
	}
	o, wrong := in.over(formOf(old)).check()
	if o.Number == "" {
		wrong["number"] = "Number is missing."
	}
	if in.CreatedBy != nil {
		wrong["created_by"] = "Who created an order does not change."
	}
	if len(wrong) > 0 {
		refuse(w, wrong)
		return
	}
	o.ID = old.ID
	if o, err = ws.store.update(r.Context(), o, seen); err != nil {
		ws.apiFail(w, r, err)
		return
	}
	answer(w, http.StatusOK, o)
}

type lineInput struct {
	Description string      `json:"description"`
	Quantity    json.Number `json:"quantity"`
	Unit        string      `json:"unit"`
}

func (ws *Workspace) apiAddLine(w http.ResponseWriter, r *http.Request) {
	var in lineInput
	req, ok := begin(w, r, &in)
	if !ok {
		return
	}
	l := Line{Description: strings.TrimSpace(in.Description), Quantity: in.Quantity.String(), Unit: in.Unit}
	if l.Unit == "" {
		l.Unit = "pcs"
	}
	if wrong := checkLine(&l); len(wrong) > 0 {
		refuse(w, wrong)
		return
	}
	l.ID = keyID(ws.store.facility, "line", req.key)
	l, made, err := ws.store.addLine(r.Context(), r.PathValue("id"), l, req)
	if err != nil {
		ws.apiFail(w, r, err)
		return
	}
	answer(w, madeStatus(made), l)
}

func (ws *Workspace) apiInventory(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	list, err := ws.store.items(r.Context(), clip(q.Get("q")), q.Get("low") == "1")
	if err != nil {
		ws.apiFail(w, r, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{"items": emptyNotNull(list)})
}

type itemInput struct {
	SKU          string      `json:"sku"`
	Name         string      `json:"name"`
	Quantity     json.Number `json:"quantity"`
	Unit         string      `json:"unit"`
	ReorderLevel json.Number `json:"reorder_level"`
	Location     string      `json:"location"`
}

func (ws *Workspace) apiCreateItem(w http.ResponseWriter, r *http.Request) {
	var in itemInput
	req, ok := begin(w, r, &in)
	if !ok {
		return
	}
	or := func(s, otherwise string) string {
		if s = strings.TrimSpace(s); s == "" {
			return otherwise
		}
		return s
	}
	i := Item{
		SKU: or(in.SKU, ""), Name: or(in.Name, ""), Quantity: or(in.Quantity.String(), "0"), Unit: or(in.Unit, "pcs"),
		ReorderLevel: or(in.ReorderLevel.String(), "0"), Location: or(in.Location, ""),
	}
	if wrong := checkItem(&i); len(wrong) > 0 {
		refuse(w, wrong)
		return
	}
	i.ID = keyID(ws.store.facility, "item", req.key)
	i, made, err := ws.store.createItem(r.Context(), i, req)
	if violates(err, "inventory_items_facility_id_sku_key") {
		refuse(w, problems{"sku": skuTaken})
		return
	}
	if err != nil {
		ws.apiFail(w, r, err)
		return
	}
	answer(w, madeStatus(made), i)
}

type movementInput struct {
	Delta  json.Number `json:"delta"`
	Reason string      `json:"reason"`
	Worker string      `json:"worker"` // default: who asks
}

func (ws *Workspace) apiAdjust(w http.ResponseWriter, r *http.Request) {
	var in movementInput
	req, ok := begin(w, r, &in)
	if !ok {
		return
	}
	who, _ := web.From(r.Context())
	m := Movement{ID: keyID(ws.store.facility, "movement", req.key), ItemID: r.PathValue("id"), Delta: in.Delta.String(), Reason: strings.TrimSpace(in.Reason), Worker: strings.TrimSpace(in.Worker)}
	if m.Worker == "" {
		m.Worker = who.Name
	}
	if wrong := checkMovement(&m); len(wrong) > 0 {
		refuse(w, wrong)
		return
	}
	i, err := ws.store.adjust(r.Context(), m, req)
	if err != nil {
		ws.apiFail(w, r, err)
		return
	}
	answer(w, http.StatusOK, i)
}

// begin reads the body and the Idempotency-Key of a POST. Without a key each
// call counts.
func begin(w http.ResponseWriter, r *http.Request, into any) (request, bool) {
	key := r.Header.Get("Idempotency-Key")
	if len(key) > keyMaxBytes {
		web.Problem(w, http.StatusBadRequest, "the Idempotency-Key is too long", fmt.Sprintf("Use at most %d bytes, such as a UUID.", keyMaxBytes))
		return request{}, false
	}
	body, ok := decode(w, r, into)
	if !ok {
		return request{}, false
	}
	if key == "" {
		return request{key: newKey()}, true
	}
	req, err := requestOf(key, r.URL.Path, body)
	if err != nil { // it was decoded before
		malformed(w, err)
	}
	return req, err == nil
}

// decode reads the body, and returns it too.
func decode(w http.ResponseWriter, r *http.Request, into any) ([]byte, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMaxBytes))
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err == nil {
		err = d.Decode(into)
	}
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more after the first JSON value")
		}
	}
	if err == nil {
		return body, true
	}
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		web.Problem(w, http.StatusRequestEntityTooLarge, "the body is too large", "Send at most 64 KiB.")
		return nil, false
	}
	malformed(w, err)
	return nil, false
}

func malformed(w http.ResponseWriter, err error) {
	web.Problem(w, http.StatusBadRequest, "the body is not what was expected", strings.TrimPrefix(err.Error(), "json: ")+". Send one JSON object with the fields of /api/workspace/v1/openapi.json.")
}

// refuse answers with everything that is wrong, by field.
func refuse(w http.ResponseWriter, p problems) {
	answer(w, http.StatusUnprocessableEntity, map[string]any{
		"status": http.StatusUnprocessableEntity, "title": "some values are wrong",
		"detail": "Correct what is named in errors and send it again.", "errors": p,
	})
}

func (ws *Workspace) apiFail(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, errNotFound):
		web.Problem(w, http.StatusNotFound, "there is no such thing here", "Look for its id in the list.")
	case errors.Is(err, errChanged):
		web.Problem(w, http.StatusConflict, "it was changed by someone else meanwhile", "Read it again, then send the change with its updated_at.")
	case errors.Is(err, errReused):
		web.Problem(w, http.StatusUnprocessableEntity, "this Idempotency-Key was used for another request",
			"Nothing was changed. Send this with a key of its own. To send the earlier one again, send exactly what was sent then.")
	case errors.Is(err, errNegative):
		refuse(w, problems{"delta": "Less than nothing would be left in stock."})
	default:
		ws.log.Error("workspace request not served", "path", r.URL.Path, "err", err)
		w.Header().Set("Retry-After", "2")
		web.Problem(w, http.StatusServiceUnavailable, "the database is not answering", "Send it again in a moment, with the same Idempotency-Key.")
	}
}

func answer(w http.ResponseWriter, status int, v any) {
	kind := "application/json"
	if status >= 400 {
		kind = "application/problem+json"
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the reader left: nothing to do
}

func madeStatus(made bool) int {
	if made {
		return http.StatusCreated
	}
	return http.StatusOK
}

func emptyNotNull[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
