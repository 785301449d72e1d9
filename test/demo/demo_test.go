package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	accounts "github.com/agogsaas/holdfast/edge/localui/migrations"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/internal/web"
	"github.com/agogsaas/holdfast/internal/workspace"
	"github.com/agogsaas/holdfast/internal/workspace/migrations"
)

const testPassword = "correct horse battery"

// facilityPages serves a seeded workspace of la on a real database.
func facilityPages(t *testing.T) (url string, pool *pgxpool.Pool) {
	t.Helper()
	ctx := t.Context()
	pool = pgtest.New(t).Pool(t)
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	if err := accounts.Up(ctx, db); err != nil { // for accounts and sessions
		t.Fatal(err)
	}
	if err := migrations.Up(ctx, db); err != nil {
		t.Fatal(err)
	}
	if err := workspace.Seed(ctx, pool, "la", rand.New(rand.NewPCG(1, 20))); err != nil {
		t.Fatal(err)
	}
	store := web.PGStore{Pool: pool}
	if err := store.PutAccount(ctx, "admin", testPassword, web.Admin); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	auth, err := web.NewAuth(web.AuthOptions{Name: "la", Store: store, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := web.NewSite(web.SiteOptions{Place: "la", Auth: auth, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ws, err := workspace.New(workspace.Options{Pool: pool, Facility: "la", Site: pages, Auth: auth, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	mux := new(web.Mux)
	pages.Mount(mux)
	ws.Mount(mux)
	srv := httptest.NewServer(pages.Protect(mux))
	t.Cleanup(srv.Close)
	return srv.URL, pool
}

func portOf(t *testing.T, url string) int {
	t.Helper()
	_, port, ok := strings.Cut(strings.TrimPrefix(url, "http://"), ":")
	n, err := strconv.Atoi(port)
	if !ok || err != nil {
		t.Fatalf("no port in %s: %v", url, err)
	}
	return n
}

func TestShiftDoesEverythingThatAPlantDoes(t *testing.T) {
	t.Parallel()
	url, pool := facilityPages(t)
	s, err := newShift(plant{ID: "la", HTTP: portOf(t, url)}, testPassword, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.rng = rand.New(rand.NewPCG(3, 4))
	var before, after [4]int
	count := func(into *[4]int) {
		err := pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM order_lines),
			(SELECT count(*) FROM inventory_transactions), (SELECT count(*) FROM orders WHERE status = 'shipped')`).
			Scan(&into[0], &into[1], &into[2], &into[3])
		if err != nil {
			t.Fatal(err)
		}
	}
	count(&before)
	for i := range 150 {
		if err := s.act(t.Context()); err != nil {
			t.Fatalf("action %d: %v", i, err)
		}
	}
	count(&after)
	for i, what := range []string{"orders", "order lines", "stock movements", "shipped orders"} {
		if after[i] <= before[i] {
			t.Errorf("%s: %d before the shift and %d after", what, before[i], after[i])
		}
	}
	var negative int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM inventory_items WHERE quantity < 0`).Scan(&negative); err != nil || negative != 0 {
		t.Errorf("%d items with less than nothing in stock, %v", negative, err)
	}
}

func TestShiftOutlivesAFacilityThatIsAway(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := newShift(plant{ID: "la", HTTP: port}, testPassword, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	deadline := time.Now().Add(2 * time.Minute)
	for s.Refused.Load() == 0 {
		if time.Now().After(deadline) {
			t.Fatal("the shift did not notice")
		}
		<-time.After(5 * time.Millisecond)
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the shift ended with %v", err)
	}
}

// checkout is a folder that looks like one.
func checkout(t *testing.T) place {
	t.Helper()
	dir := pgtest.Dir(t)
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module github.com/agogsaas/holdfast\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(dir, "docs", "deep")
	if err := os.MkdirAll(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	p, err := findPlace(inside)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDemoFolderIsClosedToOthers(t *testing.T) {
	t.Parallel()
	p, err := checkout(t).prepare()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(p.Demo)
	if err != nil {
		t.Fatal(err)
	}
	want := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		want = 0o711 // PostgreSQL's user must pass
	}
	if info.Mode().Perm() != want {
		t.Errorf("mode %v, want %v", info.Mode().Perm(), want)
	}
	if again, err := p.prepare(); err != nil || again != p {
		t.Errorf("prepared twice: %+v, %v", again, err)
	}
}

func TestFolderThatOthersCanWriteToIsRefused(t *testing.T) {
	t.Parallel()
	p := checkout(t)
	if err := os.Mkdir(p.Demo, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p.Demo, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := p.prepare(); err == nil || hint.Of(err) == "" {
		t.Errorf("a folder that anybody may write to: %v", err)
	}
}

func TestOnlyOneDemoRunsInACheckout(t *testing.T) {
	t.Parallel()
	p, err := checkout(t).prepare()
	if err != nil {
		t.Fatal(err)
	}
	if pid := p.holder(); pid != 0 {
		t.Errorf("holder %d of a demo that does not run", pid)
	}
	lock, err := p.lock()
	if err != nil {
		t.Fatal(err)
	}
	if pid := p.holder(); pid != os.Getpid() {
		t.Errorf("holder %d, want %d", pid, os.Getpid())
	}
	if _, err := p.lock(); !errors.Is(err, errRuns) || hint.Of(err) == "" {
		t.Errorf("the second one: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := p.lock()
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDownIsFineWhereNothingRuns(t *testing.T) {
	t.Parallel()
	p := checkout(t)
	var out strings.Builder
	if err := down(t.Context(), p, &out); err != nil || !strings.Contains(out.String(), "no demo here") {
		t.Errorf("%v: %s", err, out.String())
	}
	p, err := p.prepare()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := down(t.Context(), p, &out); err != nil {
			t.Error(err)
		}
	}
}

func TestTakenPortIsNamedWithItsOwner(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	d := door{"tcp", ln.Addr().(*net.TCPAddr).Port, "a test"}
	if free(d) {
		t.Error("a port in use looks free")
	}
	if pid, name := ownerOf(d); pid != os.Getpid() || name == "" {
		t.Errorf("owner %d %q, want %d", pid, name, os.Getpid())
	}
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	d = door{"udp", u.LocalAddr().(*net.UDPAddr).Port, "a test"}
	if free(d) {
		t.Error("a UDP port in use looks free")
	}
	if pid, _ := ownerOf(d); pid != os.Getpid() {
		t.Errorf("owner %d, want %d", pid, os.Getpid())
	}
}

func TestPasswordsAreTakenFromPasswordFiles(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "owner.pgpass")
	for text, want := range map[string]string{
		"*:*:*:holdfast:secret\n":                `secret`,
		"127.0.0.1:6400:*:holdfast:a\\:b\\\\c\n": `a\:b\\c`,
		`\:\::5432:db:role:x`:                    `x`,
		"no password here\n":                     "",
		"":                                       "",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := passwordIn(file)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}
