package mqttclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// errStayed is why a connection ended that had lasted for Config.Stay.
var errStayed = errors.New("the connection is made anew")

// session connects, subscribes, and stays until the connection breaks or ctx
// is done. It reports whether it had been connected.
func (c *Client) session(ctx context.Context) (connected bool, err error) {
	connection := c.State().Connections + 1
	lost := make(chan error, 1)
	opts, err := c.options(connection, func(err error) {
		select {
		case lost <- err:
		default:
		}
	})
	if err != nil {
		c.down(err)
		return false, err
	}
	conn := paho.NewClient(opts)
	// Disconnect also ends what a connect that came too late has started.
	defer conn.Disconnect(0)
	if err := c.open(ctx, conn); err != nil {
		c.down(err)
		return false, err
	}
	c.up(conn, connection)
	c.log.Info("connected to the broker", "url", c.cfg.URL)

	here, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	if c.cfg.Connected != nil {
		wg.Go(func() { c.cfg.Connected(here, connection) })
	}
	defer wg.Wait()
	defer cancel()

	var stayed <-chan time.Time
	if c.cfg.Stay > 0 {
		timer := time.NewTimer(c.cfg.Stay)
		defer timer.Stop()
		stayed = timer.C
	}
	leave := func(why error) {
		err = why
		cancel()
		wg.Wait()
		c.goodbye(ctx, conn)
	}
	select {
	case err = <-lost:
		err = fmt.Errorf("connection lost: %w", err)
	case <-stayed:
		leave(errStayed)
	case <-ctx.Done():
		leave(ctx.Err())
	}
	c.down(err)
	return true, err
}

// open connects and makes the subscriptions.
func (c *Client) open(ctx context.Context, conn paho.Client) error {
	if err := wait(ctx, conn.Connect()); err != nil {
		return fmt.Errorf("connect to %s: %w", c.cfg.URL, err)
	}
	if len(c.cfg.Subscriptions) == 0 {
		return nil
	}
	filters := make(map[string]byte)
	for _, s := range c.cfg.Subscriptions {
		filters[s.Filter] = s.QoS
		conn.AddRoute(s.Filter, func(_ paho.Client, m paho.Message) {
			s.Handle(Received{Topic: m.Topic(), Payload: m.Payload(), Retained: m.Retained()})
		})
	}
	token := conn.SubscribeMultiple(filters, nil)
	if err := wait(ctx, token); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if t, ok := token.(*paho.SubscribeToken); ok {
		for filter, code := range t.Result() {
			if code > 2 {
				return fmt.Errorf("subscribe to %s: the broker refused", filter)
			}
		}
	}
	return nil
}

func wait(ctx context.Context, t paho.Token) error {
	timer := time.NewTimer(2 * connectTimeout)
	defer timer.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-timer.C:
		return errors.New("the broker does not answer")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// goodbye says the last words and disconnects in order, so that the broker
// keeps the last will to itself.
func (c *Client) goodbye(ctx context.Context, conn paho.Client) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTimeout)
	defer cancel()
	if c.cfg.Stopping != nil {
		c.cfg.Stopping(ctx)
	}
	conn.Disconnect(uint(100)) // ms for what is still on its way
}

func (c *Client) options(connection uint64, lost func(error)) (*paho.ClientOptions, error) {
	opts := paho.NewClientOptions().
		AddBroker(c.cfg.URL).
		SetClientID(c.cfg.ClientID).
		SetUsername(c.cfg.Username).
		SetProtocolVersion(4). // MQTT 3.1.1
		SetCleanSession(true).
		SetOrderMatters(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetResumeSubs(false).
		SetKeepAlive(c.cfg.KeepAlive).
		SetPingTimeout(c.cfg.KeepAlive / 2).
		SetConnectTimeout(connectTimeout).
		SetDialer(&net.Dialer{Timeout: connectTimeout, KeepAlive: 15 * time.Second}).
		SetWriteTimeout(writeTimeout).
		SetConnectionLostHandler(func(_ paho.Client, err error) { lost(err) })
	if c.cfg.Password != nil {
		password, err := c.cfg.Password()
		if err != nil {
			return nil, fmt.Errorf("read the broker password: %w", err)
		}
		opts.SetPassword(password)
	}
	if c.cfg.TLS != nil {
		conf, err := c.cfg.TLS()
		if err != nil {
			return nil, fmt.Errorf("read the certificate for the broker: %w", err)
		}
		conf = conf.Clone()
		conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
		opts.SetTLSConfig(conf)
	}
	if c.cfg.Will != nil {
		will, err := c.cfg.Will(connection)
		if err != nil {
			return nil, fmt.Errorf("write the last will: %w", err)
		}
		opts.SetBinaryWill(will.Topic, will.Payload, will.QoS, will.Retain)
	}
	return opts, nil
}
