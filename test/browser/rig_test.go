package browser

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/crypto/bcrypt"

	"github.com/agogsaas/holdfast/internal/web"
)

// patience is how long a page may take for anything; two cores may be busy.
const patience = 2 * time.Minute

const password = "correct horse battery"

// browser is one Chromium with an empty profile.
type browser struct {
	ctx   context.Context //nolint:containedctx // chromedp's handle is a context
	shots string
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	dir := t.TempDir()
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium(t)), chromedp.UserDataDir(dir), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
	)
	alloc, stopAlloc := chromedp.NewExecAllocator(t.Context(), opts...)
	ctx, stop := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		stop()
		stopAlloc()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start browser: %v", err)
	}
	shots := os.Getenv("HOLDFAST_SCREENSHOTS")
	if shots == "" {
		shots = t.TempDir()
	}
	return &browser{ctx: ctx, shots: shots}
}

func chromium(t *testing.T) string {
	t.Helper()
	for _, n := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if p, err := exec.LookPath(n); err == nil {
			return p
		}
	}
	t.Fatal("no Chromium found. Run scripts/setup.")
	return ""
}

// tab is one page that is being looked at, and what was wrong with it.
type tab struct {
	t     *testing.T
	b     *browser
	ctx   context.Context //nolint:containedctx // chromedp's handle is a context
	host  string
	mu    sync.Mutex
	wrong []string // guarded by mu
	allow []string // parts of complaints that the test provokes itself
}

// open makes a tab that watches for script errors and for requests to hosts
// other than the server's.
func (b *browser) open(t *testing.T, base string) *tab {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	tb := &tab{t: t, b: b, host: u.Host}
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithListener(tb.event))
	tb.ctx = ctx
	t.Cleanup(func() {
		cancel()
		tb.mu.Lock()
		defer tb.mu.Unlock()
		for _, w := range tb.wrong {
			if !slices.ContainsFunc(tb.allow, func(a string) bool { return strings.Contains(w, a) }) {
				t.Error(w)
			}
		}
	})
	err = chromedp.Do(ctx, // without a deadline: the tab lives as long as this context
		call(network.Enable, network.EnableParams{}), call(cdplog.Enable, cdp.Empty{}))
	if err != nil {
		t.Fatalf("open tab: %v", err)
	}
	return tb
}

// event runs in the loop that reads the tab's messages and must not wait.
func (tb *tab) event(ev any) {
	switch e := ev.(type) {
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if x := e.ExceptionDetails.Exception; x != nil {
			text += " " + x.Description
		}
		tb.complain("script error: " + text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			var words []string
			for _, a := range e.Args {
				words = append(words, string(a.Value)+a.Description)
			}
			tb.complain("console: " + strings.Join(words, " "))
		}
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == cdplog.EntryLevelError || e.Entry.Level == cdplog.EntryLevelWarning {
			tb.complain(fmt.Sprintf("browser: %s %s", e.Entry.Text, e.Entry.URL))
		}
	case *network.EventRequestWillBeSent:
		tb.checkHost(e.Request.URL)
	case *network.EventWebSocketCreated:
		tb.checkHost(e.URL)
	}
}

// call makes an action of a protocol command.
func call[P, R any](cmd cdp.Command[P, R], p P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, cmd, p)
		return err
	})
}

// value runs an action that has a result.
func value[T any](tb *tab, a chromedp.Action[T]) T {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		tb.fatal(err)
	}
	return v
}

func (tb *tab) complain(s string) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	tb.wrong = append(tb.wrong, s)
}

func (tb *tab) checkHost(raw string) {
	u, err := url.Parse(raw)
	if err != nil || (u.Host != tb.host && u.Scheme != "data" && u.Scheme != "about") {
		tb.complain("request to another host: " + raw)
	}
}

// do runs actions and fails the test if they take too long.
func (tb *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		tb.fatal(err)
	}
}

func (tb *tab) fatal(err error) {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	at, _ := chromedp.Run(ctx, chromedp.Location()) // best effort, both: for the message
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText.slice(0, 2000)`))
	tb.shot("failed-" + strings.ReplaceAll(tb.t.Name(), "/", "-"))
	tb.t.Fatalf("%v\nat %s\n%s", err, at, text)
}

// wait waits until the script's value is true. A page that is just being
// replaced has no answer, so errors count only at the end.
func (tb *tab) wait(js string) {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	again := time.NewTicker(25 * time.Millisecond)
	defer again.Stop()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`!!(`+js+`)`))
		if err == nil && ok {
			return
		}
		select {
		case <-ctx.Done():
			tb.fatal(fmt.Errorf("wait for %s: %w", js, errors.Join(err, ctx.Err())))
		case <-again.C:
		}
	}
}

// size sets the window and the theme: a phone is 390 wide, a screen 1440.
func (tb *tab) size(width, height int64, dark bool) {
	tb.t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	tb.do(call(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 600}),
		call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme},
			{Name: "prefers-reduced-motion", Value: "reduce"},
		}}))
}

func (tb *tab) shot(name string) {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(tb.b.shots, name+".png"), png, 0o600)
	}
	if err != nil {
		tb.t.Errorf("screenshot %s: %v", name, err)
	}
}

// looks takes the page's picture narrow and wide, light and dark, and checks
// that nothing sticks out of it and that axe finds nothing: in one of the wide
// and in the other narrow one, which covers both layouts and both themes.
func (tb *tab) looks(name string) {
	tb.t.Helper()
	for _, s := range []struct {
		name          string
		width, height int64
		dark          bool
	}{
		{"wide-light", 1440, 900, false},
		{"wide-dark", 1440, 900, true},
		{"narrow-light", 390, 844, false},
		{"narrow-dark", 390, 844, true},
	} {
		tb.size(s.width, s.height, s.dark)
		tb.wait(fmt.Sprintf(`matchMedia("(prefers-color-scheme: dark)").matches === %v && innerWidth === %d`, s.dark, s.width))
		tb.shot(name + "-" + s.name)
		if over := value(tb, chromedp.Evaluate[int](`document.documentElement.scrollWidth - document.documentElement.clientWidth`)); over > 0 {
			tb.t.Errorf("%s %s: the page is %d px wider than the window", name, s.name, over)
		}
		if s.dark == (s.width < 600) {
			tb.axe(name + " " + s.name)
		}
	}
	tb.size(1440, 900, false)
}

var axeSource = sync.OnceValues(func() (string, error) {
	assets := filepath.Join("..", "..", "internal", "web", "assets")
	file := filepath.Join(assets, "node_modules", "axe-core", "axe.min.js")
	if _, err := os.Stat(file); err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund")
		cmd.Dir = assets
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("install axe-core with npm: %w\n%s", err, out)
		}
	}
	b, err := os.ReadFile(file)
	return string(b), err
})

// axe checks the page against WCAG 2.2 A and AA.
func (tb *tab) axe(what string) {
	tb.t.Helper()
	src, err := axeSource()
	if err != nil {
		tb.t.Fatal(err)
	}
	tb.do(call(runtime.Evaluate, runtime.EvaluateParams{Expression: src + ";0"}))
	found := value(tb, chromedp.Evaluate[[]string](`axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]})
		.then(r => r.violations.flatMap(v => v.nodes.slice(0, 3).map(n => v.id + ": " + v.help + " at " + n.target.join(" ") + " | " + (n.any[0]?.message ?? ""))))`,
		chromedp.EvalAwaitPromise))
	for _, f := range found {
		tb.t.Errorf("%s: %s", what, f)
	}
}

// signIn signs in by keyboard alone.
func (tb *tab) signIn(base, name string) {
	tb.t.Helper()
	tb.do(chromedp.Navigate(base+"/"), chromedp.WaitVisible("#password"),
		chromedp.SendKeys("#name", name), chromedp.SendKeys("#password", password+"\r"),
		chromedp.WaitVisible("nav.nav"))
}

// serve serves a console on a free port of 127.0.0.1.
func serve(t *testing.T, h http.Handler, stop chan struct{}) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		close(stop)
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// account adds a person. The hash is a cheap one: the race detector makes
// bcrypt ten times slower.
func account(t *testing.T, pool *pgxpool.Pool, name string, role web.Role) {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	must(t, err)
	_, err = pool.Exec(t.Context(), `INSERT INTO holdfast.account (name, password_hash, role) VALUES ($1, $2, $3)`, name, string(hash), role.String())
	must(t, err)
}
