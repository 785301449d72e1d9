package cloud

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/cloud/broker"
	"github.com/agogsaas/holdfast/cloud/provision"
	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/proto"
)

// load reads a configuration file with this text.
func load(t *testing.T, text string) (Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cloud.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadConfig(file)
}

func TestTheWayToABrokerThatOthersRunIsAsConfigured(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, err := provision.LoadCA(filepath.Join(dir, "ca"), "us-east")
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := ca.Server("region", []string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	client := func(text string) mqttclient.Config {
		t.Helper()
		conf, err := load(t, text)
		if err != nil {
			t.Fatal(err)
		}
		bc, err := conf.MQTT.broker(dir, ca, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if bc.CertFile != "" {
			t.Error("a certificate was made for a broker that is not ours")
		}
		b, err := broker.New(bc)
		if err != nil {
			t.Fatal(err)
		}
		return b.Client(mqttclient.Config{})
	}

	c := client(fmt.Sprintf(`mqtt:
  mode: external
  external_url: "tls://broker.example.com:8883"
  user: central
  password_file: %s
  ca_file: %s
  cert_file: %s
  key_file: %s
`, password, ca.CertFile(), certFile, keyFile))
	if c.URL != "tls://broker.example.com:8883" || c.Username != "central" || !strings.HasPrefix(c.ClientID, proto.RegionClientID+"-") {
		t.Errorf("it goes to %s as %s, client %s", c.URL, c.Username, c.ClientID)
	}
	if got, err := c.Password(); err != nil || got != "s3cret" {
		t.Errorf("password %q, %v", got, err)
	}
	conf, err := c.TLS()
	if err != nil {
		t.Fatal(err)
	}
	if conf.RootCAs == nil || len(conf.Certificates) != 1 {
		t.Error("the authority or the certificate is not used")
	}

	first := client("mqtt: {mode: external, external_url: \"tcp://127.0.0.1:1883\"}\n")
	c = client("mqtt: {mode: external, external_url: \"tcp://127.0.0.1:1883\"}\n")
	if c.ClientID == first.ClientID {
		t.Errorf("two processes are both %s there, and each throws the other out", c.ClientID)
	}
	if c.URL != "tcp://127.0.0.1:1883" || c.Username != "" || c.Password != nil || c.TLS != nil {
		t.Errorf("more than was configured: %+v", c)
	}
}

func TestWrongBrokerSettingsAreSaidWithTheirPlace(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		`mqtt:
  mode: external
  url: "tcp://broker:1883"
  external_url: "tls://me:secret@broker:8883"
  password_file: /p
  key_file: /k
  integrations: [{name: scada, password_file: /s}]
`: {":3:8: mqtt.url", ":4:17: mqtt.external_url", ":5:18: mqtt.password_file", ":6:13: mqtt.key_file", ":7:17: mqtt.integrations"},
		"mqtt: {mode: external, cert_file: /c}\n": {": mqtt.external_url: is needed", ":1:35: mqtt.cert_file"},
		`mqtt:
  tls_listen: nowhere
  integrations:
    - {name: scada, password_file: /s}
    - {name: scada, password_file: /s}
    - {name: Big, password_file: /s}
    - {name: mes}
`: {":2:15: mqtt.tls_listen", ":5:14: mqtt.integrations[1].name", ":6:14: mqtt.integrations[2].name", ":7:7: mqtt.integrations[3]"},
	} {
		_, err := load(t, text)
		if err == nil {
			t.Errorf("accepted:\n%s", text)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("nothing is said of %s:\n%v", w, err)
			}
		}
		for line := range strings.Lines(err.Error()) {
			// The line of the file is shown as it is; the words about it are not to repeat a secret.
			if !strings.Contains(line, " | ") && strings.Contains(line, "secret") {
				t.Errorf("a password is repeated: %s", line)
			}
		}
	}
}
