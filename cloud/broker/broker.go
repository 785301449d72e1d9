// Package broker runs the region's MQTT broker: it configures Mosquitto, starts
// it, watches it, stops it, and tells it which boxes may connect. With an
// external broker it starts nothing and only knows the way there.
//
// In:  cloud, with the list of boxes from cloud/provision.
// Out: Mosquitto, which cloud/fleet and the boxes connect to.
package broker

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/proto"
)

// Device is a box that may connect.
type Device struct {
	Tenant, Facility string
	Enrolment        uint32
}

// ID is the box's certificate name, user name and client id in one.
func (d Device) ID() string { return proto.ClientID(d.Tenant, d.Facility, d.Enrolment) }

// Account is a program other than a box that may read the JSON mirrors.
type Account struct {
	Name         string
	PasswordFile string
}

// Config says how the broker is run.
type Config struct {
	// Dir is a folder of the broker's own. It is made, its files are written
	// at each start, and nothing in it needs a backup. When this process is
	// root and the broker's user cannot reach Dir, a temporary folder is used.
	Dir string
	// Binary is the mosquitto program and Plugin its dynamic security plugin.
	// Empty means that they are looked for.
	Binary, Plugin string
	// OSUser is whom the broker runs as when this process is root. Empty means
	// mosquitto, or nobody where there is no such user.
	OSUser string
	// LocalAddr is where programs on this machine connect with user name and
	// password. Default 127.0.0.1:1883.
	LocalAddr string
	// TLSAddr is where boxes connect with their certificates. Empty means
	// that none can, which only makes sense in tests.
	TLSAddr string
	// CertFile and KeyFile are the broker's own certificate (PEM), ClientCAFile
	// the authority that signs the boxes' certificates.
	CertFile, KeyFile, ClientCAFile string
	// TLSName is the name or IP address by which boxes call the broker. Issue makes
	// a client certificate of the authority's for a name. Both are for AsBox; a nil
	// Issue means that nothing of the region's own comes in as boxes do.
	TLSName string
	Issue   func(name string) (tls.Certificate, error)
	// CRL returns the authority's signed list of revoked certificates (PEM).
	// With it a revoked box cannot connect; without it, it can connect but
	// neither say nor hear anything. Nil means none.
	CRL func(ctx context.Context) ([]byte, error)
	// Devices returns the boxes that may connect now. It is asked at each start
	// and every half minute, so a change that Allow or Revoke could not
	// deliver is made good.
	Devices func(ctx context.Context) ([]Device, error)
	// Integrations may read the JSON mirrors over LocalAddr, each with its name
	// as its client id.
	Integrations []Account
	// External replaces all of the above by a broker that others run.
	External *External
	Log      *slog.Logger
}

// State is how the broker is.
type State struct {
	External bool
	// Running is true when the broker answers; for an external one, see the
	// state of the connections instead.
	Running bool
	Since   time.Time // when Running became what it is
	Starts  int       // how often it was started
	PID     int
	Err     error // why it does not run, or what could not be told to it
}

// Broker is one broker. Its methods may be called from several goroutines.
type Broker struct {
	cfg Config
	log *slog.Logger

	// Passwords of the region's own accounts, new in each process.
	regionPassword, controlPassword string
	control                         *control

	mu    sync.Mutex
	state State
	dir   string // where the files really are
}

const (
	accountRegion  = proto.RegionClientID
	accountControl = "holdfast-control"
	accountCanary  = proto.RegionClientID + "-canary"
	resyncEvery    = 30 * time.Second
)

// New checks the configuration. Run starts the broker.
func New(cfg Config) (*Broker, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	b := &Broker{cfg: cfg, log: cfg.Log}
	if cfg.External != nil {
		b.state.External = true
		return b, cfg.External.check()
	}
	if b.cfg.LocalAddr == "" {
		b.cfg.LocalAddr = "127.0.0.1:1883"
	}
	if err := b.cfg.check(); err != nil {
		return nil, err
	}
	b.regionPassword, b.controlPassword = rand.Text(), rand.Text()
	var err error
	b.control, err = newControl(b.localURL(), accountControl, b.controlPassword, b.log, b.resync)
	return b, err
}

func (c Config) check() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("broker: the folder is not set"))
	}
	if c.Devices == nil {
		errs = append(errs, errors.New("broker: the list of devices is not set"))
	}
	host, _, err := net.SplitHostPort(c.LocalAddr)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		errs = append(errs, fmt.Errorf("broker: the local address %q is not a loopback address with a port", c.LocalAddr))
	}
	if c.TLSAddr != "" {
		if _, _, err := net.SplitHostPort(c.TLSAddr); err != nil {
			errs = append(errs, fmt.Errorf("broker: the TLS address %q: %w", c.TLSAddr, err))
		}
		if c.CertFile == "" || c.KeyFile == "" || c.ClientCAFile == "" {
			errs = append(errs, errors.New("broker: boxes need a certificate, a key and a client CA"))
		}
	}
	seen := map[string]bool{accountRegion: true, accountControl: true, accountCanary: true}
	for _, a := range c.Integrations {
		if err := proto.CheckID(a.Name); err != nil {
			errs = append(errs, fmt.Errorf("broker: integration: %w", err))
		}
		if seen[a.Name] {
			errs = append(errs, fmt.Errorf("broker: the name %q is taken", a.Name))
		}
		seen[a.Name] = true
	}
	return errors.Join(errs...)
}

// State is how the broker is now.
func (b *Broker) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

func (b *Broker) setRunning(running bool, pid int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state.Running != running {
		b.state.Since = time.Now()
	}
	if running {
		b.state.Starts++
	}
	b.state.Running, b.state.PID, b.state.Err = running, pid, err
}

// Run runs the broker until ctx is done, and starts it again when it dies.
func (b *Broker) Run(ctx context.Context) error {
	if b.cfg.External != nil {
		<-ctx.Done()
		return ctx.Err()
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { b.control.run(ctx) })
	wg.Go(func() { b.resyncNowAndThen(ctx) })
	return run.Loop(ctx, b.log, run.Backoff{Min: 200 * time.Millisecond, Max: 10 * time.Second}, b.once)
}

// Client completes the configuration of a connection of the region's own: where
// to, and as whom. The region may read and write everything under hf/v1.
func (b *Broker) Client(c mqttclient.Config) mqttclient.Config {
	if b.cfg.External != nil {
		return b.cfg.External.client(c)
	}
	c.URL = b.localURL()
	c.Username = accountRegion
	c.Password = func() (string, error) { return b.regionPassword, nil }
	// Nobody can guess it, so no integration can take the region's place.
	c.ClientID = proto.RegionClientID + "-" + rand.Text()[:8]
	c.TLS = nil
	return c
}

// AsBox completes the configuration of a connection that comes in as a box's does:
// through the listener that boxes use, with a certificate of the region's authority,
// and with the broker's checked as boxes check it. It may sing as a canary and do
// nothing else, and there may be one at a time. nil when the broker has no such way.
func (b *Broker) AsBox() func(mqttclient.Config) mqttclient.Config {
	if b.cfg.External != nil || b.cfg.TLSAddr == "" || b.cfg.Issue == nil {
		return nil
	}
	return func(c mqttclient.Config) mqttclient.Config {
		c.URL, c.Username, c.Password, c.ClientID = "mqtts://"+here(b.cfg.TLSAddr), "", nil, accountCanary
		c.TLS = func() (*tls.Config, error) {
			conf, err := mqttclient.TLSFiles(b.cfg.ClientCAFile, "", "")()
			if err != nil {
				return nil, err
			}
			cert, err := b.cfg.Issue(accountCanary)
			if err != nil {
				return nil, fmt.Errorf("make the canary's certificate: %w", err)
			}
			conf.ServerName, conf.Certificates = b.cfg.TLSName, []tls.Certificate{cert}
			return conf, nil
		}
		return c
	}
}

// here is where this machine reaches an address that it listens at.
func here(addr string) string {
	host, port, _ := net.SplitHostPort(addr) // checked by Config.check
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

func (b *Broker) localURL() string { return "tcp://" + b.cfg.LocalAddr }
