package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/agogsaas/holdfast/proto"
)

const (
	// standardEvery is the agent's pace, sparingEvery the one of the largest fleets.
	standardEvery, sparingEvery = 5 * time.Second, 10 * time.Second
	// connectAtOnce is how many of this program's connections are being made at the
	// same time: it shares its processors with the broker.
	connectAtOnce = 64
	connectWithin = 15 * time.Second
	backoffMax    = 30 * time.Second
	sendsKept     = 8
)

// crowd is thousands of boxes with a real MQTT connection each: TLS with a
// certificate of its own, a last will, a subscription, a birth, a status document,
// heartbeats that the broker acknowledges. The agent's own client would take three
// times the memory; the messages are the agent's.
type crowd struct {
	addrs   []string
	every   time.Duration // the pace that they promise and keep
	conf    *tls.Config   // nil: the broker wants passwords
	members []*member
	slots   chan struct{}
	sent    atomic.Uint64
	up      atomic.Int64
}

// member is one box's connection.
type member struct {
	*box
	c      *crowd
	boot   proto.BootID
	digest proto.Digest
	seq    uint64
	tries  int
	first  <-chan struct{} // closed when it may connect for the first time

	mu          sync.Mutex
	connections uint64
	conn        net.Conn // nil while there is none
	dead        bool
	sends       []time.Time // the last heartbeats, oldest first
	back        time.Time   // when the broker had acknowledged the first message of this connection; zero before
}

// newCrowd makes one whose members connect when their tunnels are open: to be
// heard by one of the two only would be half an outage.
func (l *lab) newCrowd(boxes []*box, tunnels *keepers, every time.Duration, o *outside) (*crowd, error) {
	roots, err := l.roots()
	if err != nil {
		return nil, err
	}
	c := &crowd{
		addrs: []string{fmt.Sprintf("127.0.0.1:%d", l.site.Ports.MQTT)}, every: every, slots: make(chan struct{}, connectAtOnce),
		conf: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ServerName: "127.0.0.1"},
	}
	if o != nil {
		c.addrs, c.conf = o.addrs, nil
	}
	for i, b := range boxes {
		m := &member{box: b, c: c, first: tunnels.all[i].opened}
		m.boot = proto.BootID([]byte(fmt.Sprintf("%016d", b.no)))
		c.members = append(c.members, m)
	}
	return c, nil
}

// run keeps all connections until ctx is done.
func (c *crowd) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, m := range c.members {
		wg.Go(func() { m.run(ctx) })
	}
}

// run connects again whenever the connection breaks, after the waits that the
// agent has: evenly drawn below a bound that doubles up to half a minute.
func (m *member) run(ctx context.Context) {
	select {
	case <-m.first:
	case <-ctx.Done():
		return
	}
	for failures := 1; ctx.Err() == nil && !m.isDead(); failures++ {
		began := time.Now()
		_ = m.session(ctx) // why it broke is of no interest: it is made again
		m.mu.Lock()
		if m.conn != nil {
			_ = m.conn.Close() // it may be broken already
			m.conn = nil
			if !m.back.IsZero() {
				failures = 1
				m.c.up.Add(-1)
			}
		}
		m.back = time.Time{}
		m.mu.Unlock()
		if time.Since(began) > time.Minute {
			failures = 1
		}
		if pause(ctx, rand.N(min(backoffMax, time.Second<<min(failures-1, 5)))) != nil {
			return
		}
	}
}

func (m *member) isDead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead
}

// session is one connection's life.
func (m *member) session(ctx context.Context) error {
	conn, err := m.connect(ctx)
	if err != nil {
		return err
	}
	here, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(here, func() { _ = conn.Close() })()
	lost := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { lost <- m.read(conn) })
	out := bufio.NewWriterSize(conn, 1024)
	if err := m.greet(out); err != nil {
		return err
	}
	beat := time.NewTimer(0)
	defer beat.Stop()
	for {
		select {
		case err := <-lost:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.C:
			if err := m.beat(conn, out); err != nil {
				return err
			}
			beat.Reset(m.c.every - m.c.every/10 + rand.N(m.c.every/5))
		}
	}
}

// connect makes the connection, in its turn.
func (m *member) connect(ctx context.Context) (net.Conn, error) {
	select {
	case m.c.slots <- struct{}{}:
		defer func() { <-m.c.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	conn, err := m.dial(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.connections++
	m.conn = conn
	m.mu.Unlock()
	_ = conn.SetDeadline(time.Now().Add(connectWithin)) // of an open connection it cannot fail
	hello := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	hello.ProtocolName, hello.ProtocolVersion, hello.CleanSession = "MQTT", 4, true
	hello.ClientIdentifier, hello.Keepalive = m.clientID(), uint16(2*m.c.every/time.Second)
	if m.c.conf == nil {
		hello.UsernameFlag, hello.Username, hello.PasswordFlag, hello.Password = true, m.clientID(), true, []byte(webhookSecret)
	}
	hello.WillFlag, hello.WillQos, hello.WillTopic = true, 1, proto.Topic(m.tenant, m.facility, proto.KindConn)
	if hello.WillMessage, err = m.word(proto.ConnWill); err == nil {
		err = hello.Write(conn)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	p, err := packets.ReadPacket(conn)
	if ack, ok := p.(*packets.ConnackPacket); err == nil && (!ok || ack.ReturnCode != packets.Accepted) {
		err = errors.New("the broker refuses the connection")
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}

// dial goes to the next address each time.
func (m *member) dial(ctx context.Context) (net.Conn, error) {
	addr := m.c.addrs[(m.no+m.tries)%len(m.c.addrs)]
	m.tries++
	d := &net.Dialer{KeepAlive: -1}
	if m.c.conf == nil {
		return d.DialContext(ctx, "tcp", addr)
	}
	conf := m.c.conf.Clone()
	conf.Certificates = []tls.Certificate{m.cert}
	return (&tls.Dialer{NetDialer: d, Config: conf}).DialContext(ctx, "tcp", addr)
}

func (m *member) session64() uint64 { return proto.SessionEpoch(1, 1) }

func (m *member) word(s proto.ConnState) ([]byte, error) {
	m.mu.Lock()
	n := m.connections
	m.mu.Unlock()
	return proto.Conn{Tenant: m.tenant, Facility: m.facility, BootID: m.boot, Session: m.session64(), Connection: n, State: s, WallMs: time.Now().UnixMilli(), Agent: "bench"}.Encode()
}

// greet subscribes, and says that the box is there and how it is.
func (m *member) greet(out *bufio.Writer) error {
	sub := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	sub.MessageID, sub.Topics, sub.Qoss = 1, []string{proto.Topic(m.tenant, m.facility, proto.KindCommand)}, []byte{0}
	if err := sub.Write(out); err != nil {
		return err
	}
	birth, err := m.word(proto.ConnBirth)
	if err != nil {
		return err
	}
	if err := m.publish(out, proto.KindConn, 2, birth); err != nil {
		return err
	}
	now := time.Now()
	status, err := proto.Status{
		Tenant: m.tenant, Facility: m.facility, BootID: m.boot, Session: m.session64(), MonoMs: uint64(now.UnixMilli()), WallMs: now.UnixMilli(),
		BootedMs: now.UnixMilli(), StartedMs: now.UnixMilli(), Versions: proto.Versions{Agent: "bench", Postgres: "15.18", Hardware: "bench"},
		Database: proto.Database{State: "up", Slot: "active"}, Tunnel: proto.Tunnel{State: "up"},
	}.Encode()
	if err != nil {
		return err
	}
	m.digest = proto.StatusDigest(status)
	return m.publish(out, proto.KindStatus, 3, status)
}

func (m *member) publish(out *bufio.Writer, k proto.Kind, id uint16, payload []byte) error {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.Qos, p.MessageID, p.TopicName, p.Payload = 1, id, proto.Topic(m.tenant, m.facility, k), payload
	if err := p.Write(out); err != nil {
		return err
	}
	return out.Flush()
}

func (m *member) beat(conn net.Conn, out *bufio.Writer) error {
	m.seq++
	now := time.Now()
	payload, err := proto.Heartbeat{
		Who: proto.WhoDigest(m.tenant, m.facility), BootID: m.boot, Session: m.session64(), Seq: m.seq, MonoMs: uint64(now.UnixMilli()),
		WallMs: now.UnixMilli(), StatusDigest: m.digest, EverySeconds: uint16(m.c.every / time.Second),
	}.Encode()
	if err != nil {
		return err
	}
	_ = conn.SetWriteDeadline(now.Add(connectWithin)) // of an open connection it cannot fail
	m.mu.Lock()
	m.sends = append(m.sends, now)
	if len(m.sends) > sendsKept {
		m.sends = m.sends[1:]
	}
	m.mu.Unlock()
	m.c.sent.Add(1)
	return m.publish(out, proto.KindHeartbeat, uint16(10+m.seq%60_000), payload)
}

// read takes what the broker says. Its first acknowledgement shows that the box is
// heard again.
func (m *member) read(conn net.Conn) error {
	in := bufio.NewReaderSize(conn, 256)
	for {
		p, err := packets.ReadPacket(in)
		if err != nil {
			return err
		}
		if _, ok := p.(*packets.PubackPacket); !ok {
			continue
		}
		m.mu.Lock()
		if m.back.IsZero() {
			m.back = time.Now()
			m.c.up.Add(1)
		}
		m.mu.Unlock()
	}
}

// lastSend is the last heartbeat that was sent before a moment; zero when that is
// too long ago to be known.
func (m *member) lastSend(before time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, at := range slices.Backward(m.sends) {
		if !at.After(before) {
			return at
		}
	}
	return time.Time{}
}

// die is what is seen of a process that is killed: its connection is reset, and
// it does not come back.
func (m *member) die() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
	if c, ok := m.conn.(*tls.Conn); ok {
		if tcp, ok := c.NetConn().(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // it may be closed already
		}
		_ = c.NetConn().Close()
	}
}

// brokerPID is the process of the region's own broker.
func (l *lab) brokerPID() (int, error) {
	return childNamed(l.site.Cloud.PID(), "mosquitto")
}
