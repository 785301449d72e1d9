// Package provision lets boxes into the region and throws them out: it keeps
// the region's certificate authority, makes the one-time tokens, and answers
// the boxes that enrol and renew.
//
// In:  edge/enrol, over TLS; cloud/api makes tokens and revokes.
// Out: cloud/hub and cloud/broker, told of each change; the region's PostgreSQL.
package provision

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/internal/fault"
	"github.com/agogsaas/holdfast/proto"
)

// DefaultTokenLife is how long a token can be used unless something else is
// asked for; maxTokenLife is the most.
const (
	DefaultTokenLife = 72 * time.Hour
	maxTokenLife     = 90 * 24 * time.Hour
)

// Limits of the enrolment service.
const (
	headerTimeout  = 5 * time.Second
	requestTimeout = 15 * time.Second
	answerTimeout  = 10 * time.Second
	idleTimeout    = 30 * time.Second
	headerMaxBytes = 8 << 10
	stopTimeout    = 5 * time.Second
)

// Config is what enrolment needs.
type Config struct {
	Region string
	// Listen is the address of the service, host:port; port 0 lets the system
	// choose.
	Listen string
	// URL is how boxes reach it, https://host:port. It is written into tokens.
	// With port 0 in Listen, an empty URL means the address that was chosen.
	URL string
	// MQTT are the broker's addresses for boxes, tls://host:port.
	MQTT []string
	// Tunnel is the hub's side; each box's own address is filled in.
	Tunnel proto.TunnelSettings
	// HeartbeatSeconds is told to the boxes. Default 5.
	HeartbeatSeconds uint16
	CA               *CA
	DB               *pgxpool.Pool
	Hooks            Hooks
	Log              *slog.Logger
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Answer is broken by tests: what is done is done, and the answer is lost.
	Answer *fault.Point
}

// Hooks are told what has been decided, after it is in the database. An error
// is logged; the database has the last word, at the next start at the latest.
type Hooks struct {
	// Enrolled: the box may connect. It may be called again for the same box.
	Enrolled func(context.Context, Box) error
	// Revoked: the box must go, at once. Another one of the facility may follow.
	Revoked func(context.Context, Box) error
}

// Provision is the enrolment service. Its methods may be called from several
// goroutines.
type Provision struct {
	cfg   Config
	log   *slog.Logger
	store store
	ln    net.Listener
	srv   *http.Server
	limit *limiter

	// changes keeps the hooks in the order of the decisions.
	changes sync.Mutex
}

// New opens the service's address. Run answers.
func New(c Config) (*Provision, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.HeartbeatSeconds == 0 {
		c.HeartbeatSeconds = 5
	}
	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("open the enrolment service: %w", err)
	}
	if c.URL == "" {
		c.URL = "https://" + ln.Addr().String()
	}
	p := &Provision{cfg: c, log: c.Log, store: store{c.DB}, ln: ln, limit: newLimiter(c.Now)}
	if err := p.prepare(); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return p, nil
}

func (p *Provision) prepare() error {
	if err := proto.CheckServiceURL(p.cfg.URL); err != nil {
		return fmt.Errorf("open the enrolment service: %w", err)
	}
	u, err := url.Parse(p.cfg.URL)
	if err != nil {
		return fmt.Errorf("open the enrolment service: %w", err)
	}
	hosts := []string{u.Hostname()}
	if host, _, err := net.SplitHostPort(p.ln.Addr().String()); err == nil && !net.ParseIP(host).IsUnspecified() {
		hosts = append(hosts, host)
	}
	certFile, keyFile, err := p.cfg.CA.Server("enrol", hosts)
	if err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return fmt.Errorf("open the enrolment service: %w", err)
	}
	p.srv = &http.Server{
		Handler:           p.handler(),
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}},
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout + answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerMaxBytes,
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	return nil
}

// Addr is the address that is listened on.
func (p *Provision) Addr() net.Addr { return p.ln.Addr() }

// Run answers until ctx ends.
func (p *Provision) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := p.srv.ServeTLS(p.ln, "", ""); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("enrolment service: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-gctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		return errors.Join(p.srv.Shutdown(stop), p.srv.Close())
	})
	return g.Wait()
}

// Close frees the address of a service that was never run.
func (p *Provision) Close() error { return errors.Join(p.srv.Close(), ignoreClosed(p.ln.Close())) }

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// NewToken makes a one-time token for the facility's next box and ends the
// unused ones before it. The text is given out once and not kept. A life of 0
// means DefaultTokenLife; the longest is 90 days. ErrNotFound: there is no such
// facility, or it was removed.
func (p *Provision) NewToken(ctx context.Context, facility, by string, life time.Duration) (text string, expires time.Time, err error) {
	if life == 0 {
		life = DefaultTokenLife
	}
	if life < 0 || life > maxTokenLife {
		return "", time.Time{}, fmt.Errorf("make token: it would last %v, at most %v is allowed", life, maxTokenLife)
	}
	t := proto.EnrolToken{CAPin: p.cfg.CA.Pin(), URL: p.cfg.URL, Region: p.cfg.Region}
	if _, err := rand.Read(t.Secret[:]); err != nil {
		return "", time.Time{}, fmt.Errorf("make token: %w", err)
	}
	if text, err = t.Text(); err != nil {
		return "", time.Time{}, err
	}
	now := p.cfg.Now()
	expires = now.Add(life).Truncate(time.Second)
	if err := p.store.newToken(ctx, sha256.Sum256(t.Secret[:]), facility, by, now, expires); err != nil {
		return "", time.Time{}, fmt.Errorf("make token: %w", err)
	}
	return text, expires, nil
}

// Revoke throws the facility's box out: its certificate goes on the revocation
// list, and the hooks close its connections. ErrNotFound: it has no active box.
func (p *Provision) Revoke(ctx context.Context, facility string) error {
	p.changes.Lock()
	defer p.changes.Unlock()
	var old deviceRow
	err := pgx.BeginFunc(ctx, p.cfg.DB, func(tx pgx.Tx) error {
		var err error
		if old, err = p.store.endBox(ctx, tx, facility, "revoked"); err != nil {
			return err
		}
		return p.store.audit(ctx, tx, "box.revoked", map[string]any{"facility": facility, "enrolment": old.Enrolment})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("revoke the box of facility %s: %w", facility, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("revoke the box of facility %s: %w", facility, err)
	}
	p.log.Info("box revoked", "facility", facility, "box", old.box().ID())
	p.tell(ctx, p.cfg.Hooks.Revoked, old.box())
	return nil
}

// Active lists the boxes that may connect, ordered by facility: what hub and
// broker are given at the start.
func (p *Provision) Active(ctx context.Context) ([]Box, error) {
	b, err := p.store.boxes(ctx, true)
	if err != nil {
		return nil, fmt.Errorf("list active boxes: %w", err)
	}
	return b, nil
}

// Boxes lists all boxes that there ever were, the latest of each facility first.
func (p *Provision) Boxes(ctx context.Context) ([]Box, error) {
	b, err := p.store.boxes(ctx, false)
	if err != nil {
		return nil, fmt.Errorf("list boxes: %w", err)
	}
	return b, nil
}

// CRL is the signed list of revoked certificates, PEM.
func (p *Provision) CRL(ctx context.Context) ([]byte, error) {
	now := p.cfg.Now()
	entries, err := p.store.revoked(ctx, now)
	if err != nil {
		return nil, fmt.Errorf("list revoked certificates: %w", err)
	}
	return p.cfg.CA.crl(entries, now)
}

// tell calls a hook. The decision is made already, so it is told even when the
// request that led to it is gone.
func (p *Provision) tell(ctx context.Context, hook func(context.Context, Box) error, b Box) {
	if hook == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
	defer cancel()
	if err := hook(ctx, b); err != nil {
		p.log.Error("box change not carried out everywhere", "facility", b.Facility, "box", b.ID(), "err", err)
	}
}
