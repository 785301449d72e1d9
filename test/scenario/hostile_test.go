package scenario

import (
	"bytes"
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/transfer"
	"github.com/agogsaas/holdfast/proto"
)

var ordersTable = change.Table{Schema: "public", Name: "orders", Columns: []change.Column{
	{Name: "id", Type: "uuid", Key: true},
	{Name: "facility_id", Type: "text"},
	{Name: "number", Type: "text"},
	{Name: "customer", Type: "text"},
	{Name: "product", Type: "text"},
	{Name: "quantity", Type: "integer"},
	{Name: "created_by", Type: "text"},
}}

func order(id, facility string) change.Row {
	row := change.Row{[]byte(id), []byte(facility)}
	for _, v := range []string{"X-1", "nobody", "stolen goods", "1", "intruder"} {
		row = append(row, []byte(v))
	}
	return row
}

const newID = "11111111-2222-3333-4444-555555555555"

// TestABoxThatWasTakenOverHarmsNobodyElse lets an intruder with a facility's
// identity and tunnel say everything that it should not.
func TestABoxThatWasTakenOverHarmsNobodyElse(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	la, frankfurt := addEdge(t, s, "la"), addEdge(t, s, "frankfurt")
	addWorkspace(t, s)
	ledge, fedge, region := edgeDB(t, la), edgeDB(t, frankfurt), regionDB(t, s)
	for facility, db := range map[string]*pgxpool.Pool{"la": ledge, "frankfurt": fedge} {
		for n := range 10 {
			if _, err := db.Exec(t.Context(), insertOrder, facility, "A", n+1); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, func(ctx context.Context) error { return sameOrders(ctx, facility, db, region) })
	}
	var victim, admins string
	if err := fedge.QueryRow(t.Context(), `SELECT id FROM orders LIMIT 1`).Scan(&victim); err != nil {
		t.Fatal(err)
	}
	accounts := func() (list string) {
		t.Helper()
		if err := region.QueryRow(t.Context(), `SELECT string_agg(a::text, ',') FROM holdfast.account a`).Scan(&list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	admins = accounts()
	if err := la.Agent.Stop(); err != nil {
		t.Fatal(err)
	}
	i := intrude(t, la)
	unharmed := func(what string) {
		t.Helper()
		if err := sameOrders(t.Context(), "frankfurt", fedge, region); err != nil {
			t.Fatalf("%s: frankfurt's orders: %v", what, err)
		}
		if got := accounts(); got != admins {
			t.Fatalf("%s: the region's accounts are %s, were %s", what, got, admins)
		}
	}

	t.Run("words", func(t *testing.T) { wrongWords(t, i, unharmed) })
	t.Run("bytes", func(t *testing.T) { wrongBytes(t, i, unharmed) })
	t.Run("frames", func(t *testing.T) { wrongFrames(t, i, victim, unharmed) })
	t.Run("streams", func(t *testing.T) { tooManyStreams(t, i) })

	// The intruder wipes what is the facility's own: that much it can.
	link, at := i.enter()
	at.Seq++
	f := i.forge(at, ordersTable, change.Change{Op: change.Truncate},
		change.Change{Op: change.Range, Range: &change.KeyRange{}})
	if err := link.Send(proto.TypeFrame, f.Bytes); err != nil {
		t.Fatal(err)
	}
	if err := acked(link, at); err != nil {
		t.Fatal(err)
	}
	unharmed("truncate")
	link.Close()

	// Nobody else has noticed anything, and the honest box mends its own.
	if _, err := fedge.Exec(t.Context(), insertOrder, "frankfurt", "B", 1); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error { return sameOrders(ctx, "frankfurt", fedge, region) })
	if err := la.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := ledge.Exec(t.Context(), insertOrder, "la", "B", 1); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error { return sameOrders(ctx, "la", ledge, region) })
}

func wrongWords(t *testing.T, i *intruder, unharmed func(string)) {
	for name, word := range map[string]func(*transfer.Link, *proto.Hello) error{
		"another facility's name": func(l *transfer.Link, h *proto.Hello) error {
			h.Facility = "frankfurt"
			return l.Send(proto.TypeHello, h)
		},
		"a later enrolment": func(l *transfer.Link, h *proto.Hello) error {
			h.Epoch = 7 << 32
			return l.Send(proto.TypeHello, h)
		},
		"no hello": func(l *transfer.Link, _ *proto.Hello) error {
			return l.Send(proto.TypeAck, &proto.Ack{Epoch: 1, Seq: 1})
		},
		"a frame for a hello": func(l *transfer.Link, _ *proto.Hello) error { return l.Send(proto.TypeFrame, []byte("frame")) },
		"a region's word": func(l *transfer.Link, h *proto.Hello) error {
			if err := l.Send(proto.TypeHello, h); err != nil {
				return err
			}
			return l.Send(proto.TypeHeal, &proto.Heal{Reason: "because"})
		},
	} {
		link, hello := i.dial(), i.hello()
		if err := word(link, &hello); err != nil {
			t.Fatal(err)
		}
		if code, err := ended(link, 15*time.Second); err != nil || code != proto.GoodbyeRefused {
			t.Errorf("%s: ended with %q, %v, want it refused", name, code, err)
		}
		unharmed(name)
	}
}

func wrongBytes(t *testing.T, i *intruder, unharmed func(string)) {
	hello := i.hello()
	greeting, err := proto.EncodeStream(proto.TypeHello, &hello)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		kind  int
		bytes []byte
	}{
		{"garbage", websocket.BinaryMessage, bytes.Repeat([]byte{0xfe, 0x9f, 0x1b}, 1000)},
		{"nothing", websocket.BinaryMessage, nil},
		{"deep nesting", websocket.BinaryMessage, bytes.Repeat([]byte{0x81}, 100_000)},
		{"an array of four billion", websocket.BinaryMessage, []byte{0x82, 0x04, 0x9a, 0xff, 0xff, 0xff, 0xff}},
		{"a text", websocket.TextMessage, []byte(`{"hello":"world"}`)},
		{"an oversized message", websocket.BinaryMessage, make([]byte, proto.MaxStreamMessageBytes+1)},
	} {
		ws := i.raw()
		if err := ws.WriteMessage(websocket.BinaryMessage, greeting); err != nil {
			t.Fatal(err)
		}
		// The region may end it before all is written.
		_ = ws.WriteMessage(c.kind, c.bytes)
		if err := ws.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for {
			if _, _, err := ws.ReadMessage(); err != nil {
				break
			}
		}
		t.Logf("%s: ended after %s", c.name, time.Since(began).Round(10*time.Millisecond))
		if time.Since(began) > 25*time.Second {
			t.Errorf("%s: the region did not end the stream", c.name)
		}
		unharmed(c.name)
	}
	client := http.Client{Transport: &http.Transport{DialContext: i.tun.DialContext}, Timeout: 10 * time.Second}
	for _, path := range []string{"/", "/metrics", "/api/v1/fleet", "/../etc/passwd"} {
		resp, err := client.Get("http://" + i.id.Stream().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("%s is served through the tunnel: %s", path, resp.Status)
		}
	}
}

func wrongFrames(t *testing.T, i *intruder, victim string, unharmed func(string)) {
	update := change.Change{Op: change.Update, Row: order(victim, "la"), Absent: []int{1}}
	update.Row[1] = nil
	absent := change.Change{Op: change.Insert, Row: order(newID, "la"), Absent: []int{1}}
	absent.Row[1] = nil
	account := change.Table{Schema: "holdfast", Name: "account", Columns: []change.Column{
		{Name: "name", Type: "text", Key: true},
		{Name: "password_hash", Type: "text"},
		{Name: "role", Type: "text"},
	}}
	for _, c := range []struct {
		name  string
		frame func(p change.Position) []byte
		want  []string // any of these codes; "" is that it stays open
	}{
		{"garbage", func(change.Position) []byte { return bytes.Repeat([]byte{7}, 500) }, []string{proto.GoodbyeRefused}},
		{"truncated", func(p change.Position) []byte {
			b := i.forge(p, ordersTable, change.Change{Op: change.Insert, Row: order(newID, "la")}).Bytes
			return b[:len(b)-3]
		}, []string{proto.GoodbyeRefused}},
		{"a flipped bit", func(p change.Position) []byte {
			b := i.forge(p, ordersTable, change.Change{Op: change.Insert, Row: order(newID, "la")}).Bytes
			b[len(b)/2] ^= 4
			return b
		}, []string{proto.GoodbyeRefused}},
		{"a later enrolment's", func(p change.Position) []byte {
			return i.forge(change.Position{Epoch: 9 << 32, Seq: 1}, ordersTable, change.Change{Op: change.Insert, Row: order(newID, "la")}).Bytes
		}, []string{proto.GoodbyeRefused}},
		{"out of order", func(p change.Position) []byte {
			return i.forge(change.Position{Epoch: p.Epoch, Seq: p.Seq + 10}, ordersTable, change.Change{Op: change.Insert, Row: order(newID, "la")}).Bytes
		}, []string{proto.GoodbyeStuck}},
		{"an older epoch's", func(p change.Position) []byte {
			return i.forge(change.Position{Epoch: p.Epoch - 1, Seq: 1}, ordersTable, change.Change{Op: change.Insert, Row: order(newID, "la")}).Bytes
		}, []string{proto.GoodbyeStuck}},
		{"replayed", func(p change.Position) []byte {
			return i.forge(change.Position{Epoch: p.Epoch, Seq: 1}, ordersTable, change.Change{Op: change.Insert, Row: order(newID, "la")}).Bytes
		}, []string{""}},
		{"a row of another facility", func(p change.Position) []byte {
			return i.forge(p, ordersTable, change.Change{Op: change.Insert, Row: order(newID, "frankfurt")}).Bytes
		}, []string{""}},
		{"another facility's row made its own", func(p change.Position) []byte {
			return i.forge(p, ordersTable, change.Change{Op: change.Insert, Row: order(victim, "la")}).Bytes
		}, []string{""}},
		{"another facility's row changed", func(p change.Position) []byte { return i.forge(p, ordersTable, update).Bytes }, nil},
		{"a row of nobody", func(p change.Position) []byte { return i.forge(p, ordersTable, absent).Bytes }, nil},
		{"another facility's row deleted", func(p change.Position) []byte {
			return i.forge(p, ordersTable, change.Change{Op: change.Delete, Key: change.Row{[]byte(victim)}}).Bytes
		}, nil},
		{"a table that is not synced", func(p change.Position) []byte {
			return i.forge(p, account, change.Change{Op: change.Insert, Row: change.Row{[]byte("intruder"), []byte("x"), []byte("admin")}}).Bytes
		}, []string{""}},
		{"a row with too few values", func(p change.Position) []byte {
			return i.forge(p, ordersTable, change.Change{Op: change.Insert, Row: order(newID, "la")[:3]}).Bytes
		}, nil},
		{"a value of the wrong type", func(p change.Position) []byte {
			return i.forge(p, ordersTable, change.Change{Op: change.Insert, Row: order("not a uuid'; DROP TABLE orders; --", "la")}).Bytes
		}, []string{""}},
		{"a column that is not there", func(p change.Position) []byte {
			other := ordersTable
			other.Columns = append(append([]change.Column(nil), ordersTable.Columns...), change.Column{Name: `x"; DROP TABLE orders; --`, Type: "text"})
			return i.forge(p, other, change.Change{Op: change.Insert, Row: append(order(newID, "la"), []byte("v"))}).Bytes
		}, []string{""}},
	} {
		link, at := i.enter()
		at.Seq++
		if err := link.Send(proto.TypeFrame, c.frame(at)); err != nil {
			t.Fatal(err)
		}
		wait := 20 * time.Second
		if len(c.want) != 1 || c.want[0] == "" {
			wait = 2 * time.Second
		}
		code, err := ended(link, wait)
		if len(c.want) == 1 && (code != c.want[0] || c.want[0] != "" && err != nil) {
			t.Errorf("%s: ended with %q, %v, want %q", c.name, code, err, c.want[0])
		}
		unharmed(c.name)
	}
}

func tooManyStreams(t *testing.T, i *intruder) {
	refused := 0
	for range 12 {
		d := websocket.Dialer{NetDialContext: i.tun.DialContext, HandshakeTimeout: 5 * time.Second}
		ws, resp, err := d.DialContext(within(t), i.url(), nil)
		if resp != nil {
			resp.Body.Close()
		}
		if err != nil {
			refused++
			continue
		}
		defer ws.Close()
	}
	if refused == 0 {
		t.Error("one facility may open as many streams as it likes")
	}
}
