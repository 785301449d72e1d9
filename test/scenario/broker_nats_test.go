package scenario_test

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"

	"github.com/agogsaas/holdfast/cloud/broker"
	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/proto"
)

// natsServer is a NATS server with MQTT on, configured as an operator would
// for a region: an account for the region, and one with its own subjects for
// each box.
type natsServer struct {
	port  int
	store string
	tls   *tls.Config // nil: none

	mu      sync.Mutex
	server  *natsd.Server
	devices []broker.Device
}

const natsPassword = "only-in-this-test"

func nats(t *testing.T) mqttBroker {
	n := &natsServer{port: pgtest.Port(t), store: t.TempDir(), devices: []broker.Device{la, ffm}}
	n.start(t)
	t.Cleanup(n.shutdown)
	passwordFile := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(passwordFile, []byte(natsPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(n.port))
	b, err := broker.New(broker.Config{Log: quiet, External: &broker.External{
		URL: "tcp://" + addr, Username: proto.RegionClientID, PasswordFile: passwordFile,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return mqttBroker{
		region: func(c mqttclient.Config) mqttclient.Config { return b.Client(c) },
		scheme: "tcp://", addr: addr,
		login: func(_ *testing.T, d broker.Device) login {
			return login{username: d.ID(), password: func() (string, error) { return natsPassword, nil }}
		},
		restart: func(t *testing.T) {
			n.shutdown()
			n.start(t)
		},
		revoke: n.revoke,
	}
}

func (n *natsServer) options() *natsd.Options {
	o := &natsd.Options{
		ServerName: "holdfast-test", Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: n.store,
		MQTT: natsd.MQTTOpts{Host: "127.0.0.1", Port: n.port, TLSConfig: n.tls, TLSTimeout: 10},
	}
	o.Users = append(o.Users, &natsd.User{Username: proto.RegionClientID, Password: natsPassword})
	for _, d := range n.devices {
		u := &natsd.User{Username: d.ID(), Password: natsPassword, Permissions: &natsd.Permissions{
			Publish: &natsd.SubjectPermission{}, Subscribe: &natsd.SubjectPermission{},
		}}
		for _, k := range proto.KindsUp {
			u.Permissions.Publish.Allow = append(u.Permissions.Publish.Allow, subject(d, k))
		}
		for _, k := range proto.KindsDown {
			u.Permissions.Subscribe.Allow = append(u.Permissions.Subscribe.Allow, subject(d, k))
		}
		o.Users = append(o.Users, u)
	}
	return o
}

func subject(d broker.Device, k proto.Kind) string {
	return strings.ReplaceAll(proto.Topic(d.Tenant, d.Facility, k), "/", ".")
}

func (n *natsServer) start(t *testing.T) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s, err := natsd.NewServer(n.options())
	if err != nil {
		t.Fatal(err)
	}
	n.server = s
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
}

func (n *natsServer) shutdown() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.server.Shutdown()
	n.server.WaitForShutdown()
}

// revoke takes a box off the list, which also ends its connection.
func (n *natsServer) revoke(t *testing.T, d broker.Device) {
	n.mu.Lock()
	defer n.mu.Unlock()
	kept := n.devices[:0:0]
	for _, x := range n.devices {
		if x != d {
			kept = append(kept, x)
		}
	}
	n.devices = kept
	if err := n.server.ReloadOptions(n.options()); err != nil {
		t.Fatal(err)
	}
}
