// Package mqttclient keeps one connection to an MQTT broker alive.
//
// It uses only what Mosquitto, NATS, RabbitMQ and EMQX do alike: MQTT 3.1.1,
// clean sessions, subscriptions made again after each connect, no shared
// subscriptions, nothing that relies on a refusal being told. What was
// published while the connection broke may or may not have arrived.
//
// In:  edge/heartbeat, cloud/broker, cloud/fleet.
// Out: the broker.
package mqttclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/agogsaas/holdfast/internal/hint"
)

// ErrNotConnected is returned by Publish while there is no connection: the
// message was not sent.
var ErrNotConnected = errors.New("not connected to the broker")

const (
	defaultKeepAlive = 10 * time.Second // the broker notices a silent client after 1.5 times this
	connectTimeout   = 10 * time.Second
	writeTimeout     = 10 * time.Second
	goodbyeTimeout   = 2 * time.Second
	defaultWaitMin   = time.Second
	defaultWaitMax   = 30 * time.Second
)

// Message is what is published.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte // 0 or 1
	Retain  bool
}

// Received is what a subscription is handed.
type Received struct {
	Topic    string
	Payload  []byte
	Retained bool // kept by the broker from earlier; a hint only
}

// Subscription is made again after each connect.
type Subscription struct {
	Filter string
	QoS    byte
	// Handle is called for one message at a time, in the order of their
	// arrival. It must not block and must not call Publish.
	Handle func(Received)
}

// Config says where to connect and what to do there.
type Config struct {
	// URL is tcp://, mqtts://, ws:// or wss:// with host and port. It holds no
	// password.
	URL      string
	ClientID string
	Username string
	// Password is asked at each connect; nil means none.
	Password func() (string, error)
	// TLS is asked at each connect, so that a renewed certificate is used; nil
	// means the system's roots and no client certificate.
	TLS func() (*tls.Config, error)
	// KeepAlive is how often an idle connection is proved. Default 10 s.
	KeepAlive time.Duration
	// WaitMin and WaitMax bound the waits between attempts: each is drawn
	// evenly between 0 and a bound that doubles from WaitMin (default 1 s) to
	// WaitMax (default 30 s), so that a thousand clients do not come back at once.
	WaitMin, WaitMax time.Duration
	// Stay is how long a connection is kept until it is made anew, for who wants to
	// know whether one can be made. 0 means for as long as it lasts.
	Stay time.Duration
	// Will is asked at each connect for the message that the broker publishes
	// when it loses the connection; nil means none. Connection counts from 1.
	Will          func(connection uint64) (Message, error)
	Subscriptions []Subscription
	// Connected is called after each connect, when the subscriptions stand.
	// Its context ends with the connection. It may call Publish.
	Connected func(ctx context.Context, connection uint64)
	// Stopping is called when Run was told to stop and there is a connection,
	// for last words. It has 2 seconds.
	Stopping func(ctx context.Context)
	Log      *slog.Logger
}

// State is how the connection is.
type State struct {
	Connected bool
	// Since is when it became so.
	Since time.Time
	// Connections counts the successful connects.
	Connections uint64
	// Err is why there is no connection, nil while there is one.
	Err error
}

// Client is one connection, made again whenever it breaks. Its methods may be
// called from several goroutines.
type Client struct {
	cfg Config
	log *slog.Logger

	mu    sync.Mutex
	conn  paho.Client // nil while not connected
	state State
}

// New checks the configuration. Run connects.
func New(cfg Config) (*Client, error) {
	if err := CheckURL(cfg.URL); err != nil {
		return nil, err
	}
	if cfg.KeepAlive <= 0 {
		cfg.KeepAlive = defaultKeepAlive
	}
	if cfg.WaitMin <= 0 {
		cfg.WaitMin = defaultWaitMin
	}
	if cfg.WaitMax <= 0 {
		cfg.WaitMax = defaultWaitMax
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Client{cfg: cfg, log: cfg.Log, state: State{Since: time.Now(), Err: ErrNotConnected}}, nil
}

// CheckURL says what is wrong with a broker's address.
func CheckURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return fmt.Errorf("broker URL: %w", err)
	}
	switch u.Scheme {
	case "tcp", "mqtt", "mqtts", "ssl", "tls", "ws", "wss":
	default:
		return hint.Wrap(fmt.Errorf("broker URL %q: unknown scheme %q", u.Redacted(), u.Scheme),
			"Write it as mqtts://host:8883, or tcp://, ws:// or wss://.")
	}
	if u.User != nil {
		return hint.Wrap(fmt.Errorf("broker URL %q holds a user name or password", u.Redacted()),
			"Give the user name and the password's file as settings of their own.")
	}
	if u.Host == "" {
		return fmt.Errorf("broker URL %q has no host", u.Redacted())
	}
	return nil
}

// State is how the connection is now.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Publish sends m. With QoS 1 it returns nil when the broker has acknowledged
// it. Any error other than ErrNotConnected means that it is not known whether
// the message arrived.
func (c *Client) Publish(ctx context.Context, m Message) error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return ErrNotConnected
	}
	token := conn.Publish(m.Topic, m.QoS, m.Retain, m.Payload)
	select {
	case <-token.Done():
	case <-ctx.Done():
		return fmt.Errorf("publish to %s: %w", m.Topic, ctx.Err())
	}
	if err := token.Error(); err != nil {
		return fmt.Errorf("publish to %s: %w", m.Topic, err)
	}
	return nil
}

// Run keeps the connection until ctx is done, and returns ctx's error.
func (c *Client) Run(ctx context.Context) error {
	failures := 0
	for {
		connected, err := c.session(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if connected {
			failures = 0
		}
		if errors.Is(err, errStayed) {
			continue
		}
		failures++
		wait := fullJitter(c.cfg.WaitMin, c.cfg.WaitMax, failures)
		level := slog.LevelDebug
		if failures == 1 {
			level = slog.LevelWarn
		}
		c.log.Log(ctx, level, "no connection to the broker", "wait", wait, "err", err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// fullJitter draws evenly from 0 to a bound that doubles with each failure.
func fullJitter(lo, hi time.Duration, failures int) time.Duration {
	bound := lo
	for i := 1; i < failures && bound < hi; i++ {
		bound *= 2
	}
	return rand.N(min(bound, hi) + 1)
}

func (c *Client) down(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = nil
	if c.state.Connected {
		c.state.Since = time.Now()
	}
	c.state.Connected, c.state.Err = false, err
}

func (c *Client) up(conn paho.Client, connection uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
	c.state = State{Connected: true, Since: time.Now(), Connections: connection}
}
