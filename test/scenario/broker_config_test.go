package scenario_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/agogsaas/holdfast/cloud/broker"
	"github.com/agogsaas/holdfast/cloud/broker/brokertest"
	"github.com/agogsaas/holdfast/cloud/fleet"
	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/proto"
	"github.com/agogsaas/holdfast/test/rig/site"
	"github.com/agogsaas/holdfast/test/scenario"
)

// secret is a file with a password.
func secret(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestBoxAndRegionMeetAtABrokerThatOthersRun: it wants a user name and a password
// of each, its certificate is of an authority that is not the region's, and
// both programs know of it by their configuration files only.
func TestBoxAndRegionMeetAtABrokerThatOthersRun(t *testing.T) {
	t.Parallel()
	foreign := brokertest.NewCA(t)
	certFile, keyFile, _ := foreign.Issue("broker")
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile(foreign.File())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	var shown atomic.Pointer[string] // by a client
	n := &natsServer{port: pgtest.Port(t), store: t.TempDir(), devices: []broker.Device{la}, tls: &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert},
		ClientCAs: roots, ClientAuth: tls.VerifyClientCertIfGiven,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) > 0 {
				shown.Store(&cs.PeerCertificates[0].Subject.CommonName)
			}
			return nil
		},
	}}
	n.start(t)
	t.Cleanup(n.shutdown)

	regionCert, regionKey, _ := foreign.Issue("the-region")
	s := scenario.StartSiteWith(t, site.Options{
		LogLevel: "debug", Ports: site.Ports{MQTT: n.port},
		MQTTLines: []string{
			"mode: external", fmt.Sprintf(`external_url: "tls://127.0.0.1:%d"`, n.port), "ca_file: " + foreign.File(),
			"cert_file: " + regionCert, "key_file: " + regionKey,
			"user: " + proto.RegionClientID, "password_file: " + secret(t, natsPassword),
		},
	})
	if name := shown.Load(); name == nil || *name != "the-region" {
		t.Error("the region did not show its certificate")
	}
	const wrong = "the-password-of-yesterday"
	password := secret(t, wrong)
	box := scenario.AddEdgeWith(t, s, site.EdgeOptions{ID: la.Facility, Tenant: la.Tenant, MQTTLines: []string{
		"user: " + la.ID(), "password_file: " + password, "ca_file: " + foreign.File(),
	}})
	scenario.Eventually(t, func(context.Context) error {
		if log := box.Agent.Tail(1000); !strings.Contains(log, "no connection to the broker") {
			return errors.New("the box does not say that it was refused")
		}
		return nil
	})
	if got, err := s.API.FacilityStatus(t.Context(), "la"); err != nil || got.Heartbeat {
		t.Errorf("heard with a wrong password: %+v, %v", got, err)
	}
	if err := os.WriteFile(password, []byte(natsPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	scenario.Eventually(t, func(ctx context.Context) error {
		got, err := s.API.FacilityStatus(ctx, "la")
		if err == nil && (got.State != "online" || !got.Heartbeat) {
			err = fmt.Errorf("la is %s: %s", got.State, got.Reason)
		}
		return err
	})
	for _, log := range []string{s.Cloud.LogFile, box.Agent.LogFile} {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), natsPassword) || strings.Contains(string(text), wrong) {
			t.Errorf("a password is in %s", filepath.Base(filepath.Dir(log)))
		}
	}
}

// TestAnIntegrationIsMadeByConfiguration: another program reads at the region's
// own broker what the region says of its facilities.
func TestAnIntegrationIsMadeByConfiguration(t *testing.T) {
	t.Parallel()
	s := scenario.StartSiteWith(t, site.Options{MQTTLines: []string{
		"integrations: [{name: scada, password_file: " + secret(t, natsPassword) + "}]",
	}})
	var state atomic.Pointer[fleet.Mirror]
	var status atomic.Bool
	client(t, mqttclient.Config{
		URL: fmt.Sprintf("tcp://127.0.0.1:%d", s.Ports.MQTTPlain), Username: "scada", ClientID: "scada",
		Password: func() (string, error) { return natsPassword, nil },
		Subscriptions: []mqttclient.Subscription{{Filter: proto.MirrorFilter, QoS: 1, Handle: func(m mqttclient.Received) {
			switch m.Topic {
			case proto.MirrorTopic("foo", "la", "state"):
				var got fleet.Mirror
				if json.Unmarshal(m.Payload, &got) == nil {
					state.Store(&got)
				}
			case proto.MirrorTopic("foo", "la", "status"):
				status.Store(json.Valid(m.Payload))
			}
		}}},
	})
	scenario.AddEdgeWith(t, s, site.EdgeOptions{ID: "la"})
	scenario.Eventually(t, func(context.Context) error {
		if m := state.Load(); m == nil || m.State != fleet.StateOnline || !status.Load() {
			return fmt.Errorf("the integration has read state %+v and a status: %t", m, status.Load())
		}
		return nil
	})
}
