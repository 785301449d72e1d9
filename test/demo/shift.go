package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/agogsaas/holdfast/internal/workspace"
)

// A shift is the made-up people of one facility, at work through the same API
// that a real integration would use. They know nothing of the region, so a cut
// changes nothing for them.
type shift struct {
	plant    plant
	password string
	log      *slog.Logger
	rng      *mathrand.Rand
	http     *http.Client

	orders []openOrder
	items  []stockItem

	// Actions counts what was done, Refused what was not.
	Actions, Refused atomic.Int64
}

type openOrder struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	Quantity int    `json:"quantity"`
}

type stockItem struct {
	ID       string      `json:"id"`
	SKU      string      `json:"sku"`
	Unit     string      `json:"unit"`
	Quantity json.Number `json:"quantity"`
	Reorder  json.Number `json:"reorder_level"`
}

const (
	ordersMax    = 300 // how many open ones the shift keeps in mind
	actionPause  = 500 * time.Millisecond
	retryPause   = 2 * time.Second
	shiftTimeout = 10 * time.Second
)

var crews = map[string][]string{
	"la":        {"Maria Alvarez", "Devon Brooks", "Kim Tran", "Jordan Lee"},
	"frankfurt": {"Anna Vogel", "Mehmet Kaya", "Jonas Becker", "Lena Hoffmann"},
}

// nextStatus is how an order moves through the plant.
var nextStatus = map[string]string{"new": "planned", "planned": "in_production", "in_production": "ready", "ready": "shipped"}

func newShift(p plant, password string, log *slog.Logger) (*shift, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, fmt.Errorf("prepare the shift: %w", err)
	}
	s := &shift{
		plant: p, password: password, log: log.With("facility", p.ID),
		rng: mathrand.New(mathrand.NewPCG(uint64(p.HTTP), uint64(time.Now().UnixNano()))),
	}
	s.http = &http.Client{Jar: jar, Timeout: shiftTimeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	return s, nil
}

// run works until ctx is done. When the facility does not answer it waits and
// tries again; it says so once.
func (s *shift) run(ctx context.Context) error {
	down := false
	for {
		err := s.act(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		wait := s.pause()
		if err != nil {
			s.Refused.Add(1)
			wait = retryPause
			if !down {
				s.log.Warn("the shift cannot work", "err", err)
			}
		} else {
			s.Actions.Add(1)
			if down {
				s.log.Info("the shift works again")
			}
		}
		down = err != nil
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// pause is about two actions a second, unevenly, as people are.
func (s *shift) pause() time.Duration {
	d := time.Duration(s.rng.ExpFloat64() * float64(actionPause))
	return min(max(d, 80*time.Millisecond), 2*time.Second)
}

// act does one thing that somebody at a packaging plant does.
func (s *shift) act(ctx context.Context) error {
	if len(s.items) == 0 {
		if err := s.lookAround(ctx); err != nil {
			return err
		}
	}
	switch n := s.rng.IntN(100); {
	case n < 40:
		return s.moveStock(ctx)
	case n < 80 && len(s.orders) > 0:
		return s.advance(ctx)
	case n < 95 || len(s.orders) == 0:
		return s.takeOrder(ctx)
	}
	return s.note(ctx)
}

// lookAround learns what is in stock and which orders are open.
func (s *shift) lookAround(ctx context.Context) error {
	var stock struct {
		Items []stockItem `json:"items"`
	}
	if err := s.call(ctx, http.MethodGet, "/inventory", "", nil, &stock); err != nil {
		return err
	}
	if len(stock.Items) == 0 {
		return errors.New("nothing is in stock")
	}
	var open struct {
		Orders []openOrder `json:"orders"`
	}
	if err := s.call(ctx, http.MethodGet, "/orders?status=open&limit=200", "", nil, &open); err != nil {
		return err
	}
	s.items, s.orders = stock.Items, open.Orders
	return nil
}

func (s *shift) worker() string { return pick(s.rng, crews[s.plant.ID]) }

// moveStock takes material for a job, or brings a delivery in when little is left.
func (s *shift) moveStock(ctx context.Context) error {
	i := s.rng.IntN(len(s.items))
	item := &s.items[i]
	have, err := item.Quantity.Float64()
	if err != nil {
		return fmt.Errorf("quantity of %s: %w", item.SKU, err)
	}
	reorder, err := item.Reorder.Float64()
	if err != nil {
		return fmt.Errorf("reorder level of %s: %w", item.SKU, err)
	}
	delta, reason := -max(1, float64(int(have*0.002*(1+s.rng.Float64())))), fmt.Sprintf("Job %d", 4000+s.rng.IntN(2000))
	if have < reorder*0.9 || have+delta < 0 {
		delta, reason = reorder*2+20, "Delivery "+fmt.Sprint(70000+s.rng.IntN(9999))
	}
	var after stockItem
	err = s.call(ctx, http.MethodPost, "/inventory/"+item.ID+"/adjust", rand.Text(),
		map[string]any{"delta": delta, "reason": reason, "worker": s.worker()}, &after)
	if err == nil {
		*item = after
	}
	return err
}

func (s *shift) takeOrder(ctx context.Context) error {
	var o openOrder
	in := map[string]any{
		"customer": pick(s.rng, workspace.Customers), "product": pick(s.rng, workspace.Products),
		"quantity": (1 + s.rng.IntN(80)) * 50, "created_by": s.worker(),
		"due_date": time.Now().AddDate(0, 0, 3+s.rng.IntN(14)).Format(time.DateOnly),
	}
	if err := s.call(ctx, http.MethodPost, "/orders", rand.Text(), in, &o); err != nil {
		return err
	}
	if s.orders = append(s.orders, o); len(s.orders) > ordersMax {
		s.orders = s.orders[1:]
	}
	for _, part := range []string{"Cut and crease", "Flexo print, 2 colours", "Pack on pallets"}[:1+s.rng.IntN(3)] {
		line := map[string]any{"description": part, "quantity": o.Quantity, "unit": "pcs"}
		if err := s.call(ctx, http.MethodPost, "/orders/"+o.ID+"/lines", rand.Text(), line, nil); err != nil {
			return err
		}
	}
	return nil
}

func (s *shift) advance(ctx context.Context) error {
	i := s.rng.IntN(len(s.orders))
	o := &s.orders[i]
	next, ok := nextStatus[o.Status]
	if !ok {
		s.orders = append(s.orders[:i], s.orders[i+1:]...)
		return nil
	}
	err := s.call(ctx, http.MethodPatch, "/orders/"+o.ID, "", map[string]any{"status": next}, nil)
	if err == nil {
		o.Status = next
	}
	return s.forgetIfGone(i, err)
}

var notes = []string{
	"Customer asks for delivery before noon", "Use the recycled board", "Call before loading",
	"Proof approved", "Second pallet to follow", "Handle with the new forklift",
}

func (s *shift) note(ctx context.Context) error {
	i := s.rng.IntN(len(s.orders))
	err := s.call(ctx, http.MethodPatch, "/orders/"+s.orders[i].ID, "", map[string]any{"notes": pick(s.rng, notes)}, nil)
	return s.forgetIfGone(i, err)
}

// forgetIfGone drops an order that somebody at the web pages has removed or
// changed meanwhile: that is nobody's mistake.
func (s *shift) forgetIfGone(i int, err error) error {
	if r, ok := errors.AsType[*refusal](err); ok && (r.status == http.StatusNotFound || r.status == http.StatusConflict) {
		s.orders = append(s.orders[:i], s.orders[i+1:]...)
		return nil
	}
	return err
}

// refusal is an answer of the workspace that is not a success.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("the workspace answered %d: %s", r.status, r.text)
}

// call sends one request and signs in when it must.
func (s *shift) call(ctx context.Context, method, path, key string, in, out any) error {
	err := s.send(ctx, method, path, key, in, out)
	if r, ok := errors.AsType[*refusal](err); ok && (r.status == http.StatusUnauthorized || r.status == http.StatusSeeOther) {
		if err := s.signIn(ctx); err != nil {
			return err
		}
		return s.send(ctx, method, path, key, in, out)
	}
	return err
}

func (s *shift) send(ctx context.Context, method, path, key string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.plant.URL()+"/api/workspace/v1"+path, body)
	if err != nil {
		return fmt.Errorf("ask the workspace: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	return s.do(req, out)
}

func (s *shift) signIn(ctx context.Context) error {
	form := url.Values{"name": {"admin"}, "password": {s.password}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.plant.URL()+"/sign-in", strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	err = s.do(req, nil)
	if r, ok := errors.AsType[*refusal](err); ok && r.status == http.StatusSeeOther {
		return nil // on to the first page: that is the welcome
	}
	if err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	return nil
}

func (s *shift) do(req *http.Request, out any) error {
	resp, err := s.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the workspace: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return fmt.Errorf("read the workspace's answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		return &refusal{resp.StatusCode, string(raw[:min(len(raw), 200)])}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("read the workspace's answer: %w", err)
	}
	return nil
}

func pick[T any](r *mathrand.Rand, from []T) T { return from[r.IntN(len(from))] }
