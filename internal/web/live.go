package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"html/template"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Limits of one live connection.
const (
	liveGap       = 300 * time.Millisecond // frames are not closer than this
	liveTick      = 5 * time.Second        // and not further apart; app.js calls 12 s silence
	liveWriteWait = 10 * time.Second       // a reader slower than this is cut off and comes back
	liveReadMax   = 512                    // browsers send nothing but pongs
	liveRecheck   = 30 * time.Second       // how late a revoked session loses its connection
	closeSignIn   = 4401                   // close code: sign in again
)

// Part is one element of a page: its HTML's outermost element has the id.
type Part struct {
	ID   string
	HTML template.HTML
}

// Series are points of one chart: T in seconds since 1970, ascending. A value
// that is not known is nil: a gap in the line.
type Series struct {
	Reset bool       `json:"reset,omitempty"` // forget what came before
	T     []float64  `json:"t"`
	V     []*float64 `json:"v"`
}

// Frame is all that is live on a page now. Live sends what differs from what
// the browser has.
type Frame struct {
	Parts []Part
	// Order holds, for each list by its id, the ids of its children; a child
	// that is missing here leaves the page.
	Order  map[string][]string
	Series map[string]Series // sent as they are
}

// Feed is one connection's source.
type Feed struct {
	// Changed has a value when something may have changed; nil if nobody
	// tells. It need not be exact.
	Changed <-chan struct{}
	// Every is how often to look without being told; default and most 5 s.
	Every time.Duration
	// Frame returns the present. It is never called concurrently for one feed.
	Frame func(ctx context.Context) (Frame, error)
	// Close, if set, is called once when the connection ends.
	Close func()
}

type liveMessage struct {
	Now    int64               `json:"now"` // ms since 1970
	Parts  [][2]string         `json:"parts,omitempty"`
	Order  map[string][]string `json:"order,omitempty"`
	Drop   []string            `json:"drop,omitempty"`
	Series map[string]Series   `json:"series,omitempty"`
}

func (m liveMessage) empty() bool {
	return len(m.Parts) == 0 && len(m.Order) == 0 && len(m.Drop) == 0 && len(m.Series) == 0
}

// Live serves a page's WebSocket. open makes the feed for a request, whose
// query says what the page shows; stop ends all connections (a server that
// shuts down does not wait for them by itself).
func (s *Site) Live(stop <-chan struct{}, open func(r *http.Request) (Feed, error)) http.Handler {
	up := websocket.Upgrader{ // its default CheckOrigin refuses other sites
		HandshakeTimeout: liveWriteWait, ReadBufferSize: 512, WriteBufferSize: 4096,
		WriteBufferPool: livePool,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !websocket.IsWebSocketUpgrade(r) {
			// app.js asks like this whether it is still signed in, when a
			// connection was refused: it cannot see why.
			w.WriteHeader(http.StatusNoContent)
			return
		}
		feed, err := open(r)
		if err != nil {
			s.Error(w, r, http.StatusBadRequest, err)
			return
		}
		if feed.Close != nil {
			defer feed.Close()
		}
		conn, err := up.Upgrade(w, r, nil)
		if err != nil {
			return // Upgrade answered
		}
		l := &live{conn: conn, feed: feed, auth: s.o.Auth, r: r, log: s.o.Log, sent: map[string]uint64{}, order: map[string][]string{}}
		l.run(stop)
	})
}

type live struct {
	conn *websocket.Conn
	feed Feed
	auth *Auth
	r    *http.Request
	log  *slog.Logger

	sent  map[string]uint64 // hash of each part as the browser has it
	order map[string][]string
	said  time.Time // last message
}

// run owns all writes; one reader goroutine notices that the browser left. It
// returns when both are done.
func (l *live) run(stop <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.r.Context()))
	gone := make(chan struct{})
	l.conn.SetReadLimit(liveReadMax)
	go func() {
		defer close(gone)
		for {
			if _, _, err := l.conn.ReadMessage(); err != nil {
				cancel()
				return
			}
		}
	}()
	defer func() {
		cancel()
		_ = l.conn.Close() // ends the reader; an error means that it is closed
		<-gone
	}()
	every := liveTick
	if l.feed.Every > 0 && l.feed.Every < every {
		every = l.feed.Every
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	recheck := time.NewTicker(liveRecheck)
	defer recheck.Stop()
	for {
		if err := l.send(ctx); err != nil {
			if ctx.Err() == nil {
				l.log.Debug("live connection ended", "path", l.r.URL.Path, "err", err)
			}
			return
		}
		gap := time.NewTimer(liveGap)
		select {
		case <-ctx.Done():
		case <-stop:
		case <-gap.C:
		}
		gap.Stop()
		select {
		case <-ctx.Done():
			return
		case <-stop:
			l.bye(websocket.CloseGoingAway, "restarting")
			return
		case <-recheck.C:
			if _, err := l.auth.Authenticate(l.r.WithContext(ctx)); errors.Is(err, ErrUnknown) {
				l.bye(closeSignIn, "sign in again")
				return
			}
		case <-l.feed.Changed:
		case <-tick.C:
		}
	}
}

func (l *live) bye(code int, why string) {
	_ = l.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, why),
		time.Now().Add(time.Second)) // best effort: the connection closes anyhow
}

func (l *live) send(ctx context.Context) error {
	f, err := l.feed.Frame(ctx)
	if err != nil {
		return fmt.Errorf("draw live parts: %w", err)
	}
	m := l.diff(f)
	if m.empty() && time.Since(l.said) < liveTick-liveGap {
		return nil
	}
	l.said = time.Now()
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode live parts: %w", err)
	}
	if err := l.conn.SetWriteDeadline(time.Now().Add(liveWriteWait)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	if err := l.conn.WriteMessage(websocket.TextMessage, b); err != nil {
		return fmt.Errorf("send live parts: %w", err)
	}
	return nil
}

var liveSeed = maphash.MakeSeed()

// hashPart leaves out the relative times, which the page counts by itself.
func hashPart(html string) uint64 {
	var h maphash.Hash
	h.SetSeed(liveSeed)
	for {
		before, after, found := strings.Cut(html, agoOpen)
		_, _ = h.WriteString(before) // never fails
		if !found {
			return h.Sum64()
		}
		_, html, _ = strings.Cut(after, "<")
	}
}

// diff keeps what the browser does not have yet, and remembers that it will.
func (l *live) diff(f Frame) liveMessage {
	m := liveMessage{Now: time.Now().UnixMilli(), Series: f.Series}
	present := make(map[string]bool, len(f.Parts))
	for _, p := range f.Parts {
		present[p.ID] = true
		h := hashPart(string(p.HTML))
		if l.sent[p.ID] != h {
			l.sent[p.ID] = h
			m.Parts = append(m.Parts, [2]string{p.ID, string(p.HTML)})
		}
	}
	for id := range l.sent {
		if !present[id] {
			delete(l.sent, id)
			m.Drop = append(m.Drop, id)
		}
	}
	for list, ids := range f.Order {
		if have, ok := l.order[list]; !ok || !slices.Equal(have, ids) {
			if m.Order == nil {
				m.Order = map[string][]string{}
			}
			l.order[list] = ids
			m.Order[list] = ids
		}
	}
	return m
}

// livePool lends write buffers while a message is written, so that idle
// connections hold none.
var livePool = &sync.Pool{}
