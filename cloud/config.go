package cloud

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/proto"
)

// Config is a region's one configuration file. `holdfast-cloud config` prints
// it with its defaults; the doc tags are the manual.
type Config struct {
	Region    string          `yaml:"region" doc:"The region's name: small letters, digits, - and _."`
	StateDir  string          `yaml:"state_dir" doc:"Where the region keeps its keys, its certificate authority and what it manages itself."`
	Log       LogConfig       `yaml:"log"`
	HTTP      HTTPConfig      `yaml:"http"`
	Postgres  PostgresConfig  `yaml:"postgres"`
	Enrol     EnrolConfig     `yaml:"enrol"`
	WireGuard WireGuardConfig `yaml:"wireguard"`
	Down      DownConfig      `yaml:"down"`
	MQTT      MQTTConfig      `yaml:"mqtt"`
	Alerts    channel.Config  `yaml:"alerts"`
}

// LogConfig says how the region logs.
type LogConfig struct {
	Level  string `yaml:"level" doc:"debug, info, warn or error."`
	Format string `yaml:"format" doc:"text for people, json for machines."`
}

// HTTPConfig is the dashboard and the API.
type HTTPConfig struct {
	Listen       string `yaml:"listen" doc:"Address of the dashboard, /api/v1, /metrics, /healthz and /readyz. Put a TLS proxy before it when it leaves this machine."`
	PasswordFile string `yaml:"password_file" doc:"File with the password that the first account (admin) gets when there is no account yet. Without it one is made up and written to <state_dir>/admin-password."`
}

// PostgresConfig is the region's database.
type PostgresConfig struct {
	Mode     string `yaml:"mode" doc:"managed: the region makes and runs its own cluster (one machine, demo). existing: it uses the one at dsn."`
	DSN      string `yaml:"dsn" doc:"existing only: connection string of the owner of the database."`
	Password string `yaml:"password_file" doc:"existing only: file with the password for dsn."`
	DataDir  string `yaml:"data_dir" doc:"managed only: the cluster's directory. Default <state_dir>/postgres."`
	Port     int    `yaml:"port" doc:"managed only: port on 127.0.0.1."`
	Profile  string `yaml:"profile" doc:"managed only: how the cluster is sized: auto, pi4, nuc or server."`
	OSUser   string `yaml:"os_user" doc:"managed only: the user PostgreSQL runs as when the region itself is started as root."`
	Database string `yaml:"database" doc:"The database that holds the facilities' tables and the region's own schema."`
}

// EnrolConfig is where boxes enrol.
type EnrolConfig struct {
	Listen string `yaml:"listen" doc:"Address of the enrolment service (TLS, the region's own certificate authority)."`
	URL    string `yaml:"url" doc:"How boxes reach it, as written into tokens: https://host:port."`
}

// WireGuardConfig is the tunnel hub.
type WireGuardConfig struct {
	Port     int    `yaml:"port" doc:"UDP port of the hub."`
	Endpoint string `yaml:"endpoint" doc:"How boxes reach it, as told at enrolment: host:port."`
	MTU      int    `yaml:"mtu" doc:"Largest packet inside the tunnel."`
}

// DownConfig is what waits in the region for boxes that are away.
type DownConfig struct {
	Max config.Bytes `yaml:"max" doc:"How many bytes of the region's own changes are kept for boxes that are away. A box that lacks more is sent its tables again."`
}

// MQTTConfig is the broker.
type MQTTConfig struct {
	Mode        string `yaml:"mode" doc:"mosquitto: the region runs its own. external: it uses the broker at url."`
	PlainListen string `yaml:"plain_listen" doc:"mosquitto only: address for the region itself and for integrations, on this machine (user and password)."`
	TLSListen   string `yaml:"tls_listen" doc:"mosquitto only: address for the boxes (mutual TLS)."`
	OSUser      string `yaml:"os_user" doc:"mosquitto only: the user it runs as when the region itself is started as root."`
	URL         string `yaml:"url" doc:"How boxes reach the broker, as told at enrolment: tls://host:port."`
	External    string `yaml:"external_url" doc:"external only: how the region itself reaches it: tls://, tcp:// or wss://host:port."`
	User        string `yaml:"user" doc:"external only: the region's account."`
	Password    string `yaml:"password_file" doc:"external only: file with its password."`
	CA          string `yaml:"ca_file" doc:"external only: certificate authority of the broker; default the system's."`
	Cert        string `yaml:"cert_file" doc:"external only: the region's client certificate, where the broker wants one."`
	Key         string `yaml:"key_file" doc:"external only: the private key of cert_file."`

	Integrations []IntegrationConfig `yaml:"integrations" doc:"mosquitto only: accounts at plain_listen that read the JSON mirrors (hf/v1/json/#) and nothing else, for example [{name: scada, password_file: /etc/holdfast/scada.password}]. A program's client id must be its account's name."`
}

// IntegrationConfig is another program's account at the region's own broker.
type IntegrationConfig struct {
	Name     string `yaml:"name"`
	Password string `yaml:"password_file"`
}

// downMin is room for what is sent while a box only restarts.
const downMin config.Bytes = 64 << 20

// DefaultConfig is the configuration of a region that says nothing.
func DefaultConfig() Config {
	return Config{
		Region:    "us-east",
		StateDir:  "/var/lib/holdfast-cloud",
		Log:       LogConfig{Level: "info", Format: "text"},
		HTTP:      HTTPConfig{Listen: "127.0.0.1:8080"},
		Postgres:  PostgresConfig{Mode: "managed", Port: 6400, Profile: "auto", OSUser: "postgres", Database: "holdfast"},
		Enrol:     EnrolConfig{Listen: "127.0.0.1:8443", URL: "https://127.0.0.1:8443"},
		WireGuard: WireGuardConfig{Port: 51820, Endpoint: "127.0.0.1:51820", MTU: 1420},
		Down:      DownConfig{Max: 4 << 30},
		MQTT:      MQTTConfig{Mode: "mosquitto", PlainListen: "127.0.0.1:1883", TLSListen: "127.0.0.1:8883", OSUser: "mosquitto", URL: "tls://127.0.0.1:8883"},
	}
}

// LoadConfig reads the file at path over the defaults and reports all that is
// wrong with it at once.
func LoadConfig(path string) (Config, error) {
	c := DefaultConfig()
	if err := config.Load(path, &c); err != nil {
		return Config{}, err
	}
	if c.Postgres.DataDir == "" {
		c.Postgres.DataDir = filepath.Join(c.StateDir, "postgres")
	}
	return c, nil
}

// Validate reports what is wrong with the values.
func (c *Config) Validate() []config.Problem {
	var p []config.Problem
	bad := func(path, text string) { p = append(p, config.Problem{Path: path, Text: text}) }
	oneOf := func(path, v string, of ...string) {
		for _, o := range of {
			if v == o {
				return
			}
		}
		bad(path, "must be one of "+strings.Join(of, ", "))
	}
	hostPort := func(path, v string) {
		if _, _, err := net.SplitHostPort(v); err != nil {
			bad(path, "must be host:port")
		}
	}
	if err := proto.CheckID(c.Region); err != nil {
		bad("region", err.Error())
	}
	if !filepath.IsAbs(c.StateDir) {
		bad("state_dir", "must be an absolute path")
	}
	oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	oneOf("log.format", c.Log.Format, "text", "json")
	oneOf("postgres.mode", c.Postgres.Mode, "managed", "existing")
	oneOf("postgres.profile", c.Postgres.Profile, "auto", "pi4", "nuc", "server")
	oneOf("mqtt.mode", c.MQTT.Mode, "mosquitto", "external")
	if c.Postgres.Mode == "existing" && c.Postgres.DSN == "" {
		bad("postgres.dsn", "is needed when mode is existing, for example postgres://holdfast@10.0.0.5:5432/holdfast")
	}
	hostPort("http.listen", c.HTTP.Listen)
	hostPort("enrol.listen", c.Enrol.Listen)
	hostPort("wireguard.endpoint", c.WireGuard.Endpoint)
	if !strings.HasPrefix(c.Enrol.URL, "https://") {
		bad("enrol.url", "must begin with https://")
	}
	if c.WireGuard.Port < 1 || c.WireGuard.Port > 65535 {
		bad("wireguard.port", "must be 1 to 65535")
	}
	if c.Down.Max < downMin {
		bad("down.max", "must be at least "+downMin.String())
	}
	if c.WireGuard.MTU < 1280 || c.WireGuard.MTU > 9000 {
		bad("wireguard.mtu", "must be 1280 to 9000")
	}
	return p
}

// Validate reports what is wrong with the broker's settings.
func (m *MQTTConfig) Validate() (p []config.Problem) {
	bad := func(path, text string) { p = append(p, config.Problem{Path: path, Text: text}) }
	if !strings.HasPrefix(m.URL, "tls://") && !strings.HasPrefix(m.URL, "wss://") {
		bad("url", "must begin with tls:// or wss://; to boxes that reach the broker in another way their own mqtt.url says so")
	}
	if m.Mode == "external" {
		if m.External == "" {
			bad("external_url", "is needed when mode is external, for example tls://broker.example.com:8883")
		} else if err := mqttclient.CheckURL(m.External); err != nil {
			bad("external_url", err.Error())
		}
		if m.Password != "" && m.User == "" {
			bad("password_file", "needs a user beside it")
		}
		if m.Cert != "" && m.Key == "" {
			bad("cert_file", "needs a key_file beside it")
		}
		if m.Key != "" && m.Cert == "" {
			bad("key_file", "needs a cert_file beside it")
		}
		if len(m.Integrations) > 0 {
			bad("integrations", "are accounts of the region's own Mosquitto; with mode external make them in that broker")
		}
		return p
	}
	if _, _, err := net.SplitHostPort(m.TLSListen); err != nil {
		bad("tls_listen", "must be host:port")
	}
	if _, _, err := net.SplitHostPort(m.PlainListen); err != nil {
		bad("plain_listen", "must be host:port")
	}
	seen := map[string]bool{}
	for i, a := range m.Integrations {
		path := fmt.Sprintf("integrations[%d]", i)
		if err := proto.CheckID(a.Name); err != nil {
			bad(path+".name", err.Error())
		} else if seen[a.Name] {
			bad(path+".name", "is there already")
		}
		if a.Password == "" {
			bad(path, "needs a password_file")
		}
		seen[a.Name] = true
	}
	return p
}
