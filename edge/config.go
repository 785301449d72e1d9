package edge

import (
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/mqttclient"
)

// Config is the box's one configuration file. `holdfast-edge config` prints
// it with its defaults; the doc tags are the manual.
type Config struct {
	StateDir string `yaml:"state_dir" doc:"Where the box keeps its identity, its queue and its saved clock. Back it up together with the database, or not at all."`
	// An unarmed watchdog is a fault that may be meant: of a server that others
	// watch over, of a desk. Its alert would come again every two hours.
	Watchdog string         `yaml:"watchdog" doc:"warn: where the machine has a hardware watchdog that nobody has armed, the region's operations are told. ignore: it is only shown; for a machine that others watch over."`
	Log      LogConfig      `yaml:"log"`
	UI       UIConfig       `yaml:"ui"`
	Postgres PostgresConfig `yaml:"postgres"`
	Queue    QueueConfig    `yaml:"queue"`
	Uplink   UplinkConfig   `yaml:"uplink"`
	MQTT     MQTTConfig     `yaml:"mqtt"`
}

// LogConfig says how the agent logs.
type LogConfig struct {
	Level  string `yaml:"level" doc:"debug, info, warn or error."`
	Format string `yaml:"format" doc:"text for people, json for machines."`
}

// UIConfig is the facility's own web server.
type UIConfig struct {
	Listen       string `yaml:"listen" doc:"Address of the facility's web pages, /metrics, /healthz and /readyz. Use 0.0.0.0:80 to serve the plant's network."`
	Place        string `yaml:"place" doc:"The facility's name for people, as its pages show it. Default: its id."`
	TimeZone     string `yaml:"time_zone" doc:"IANA time zone of the times on its pages, for example Europe/Berlin."`
	PasswordFile string `yaml:"password_file" doc:"File with the password that the first account (admin) gets when there is no account yet. Without it one is made up and written to <state_dir>/admin-password."`
}

// PostgresConfig is the local database.
type PostgresConfig struct {
	Mode     string       `yaml:"mode" doc:"managed: the agent makes and runs its own cluster. existing: it uses the one at dsn."`
	DSN      string       `yaml:"dsn" doc:"existing only: connection string of a role that may create publications and slots. Put its password in password_file."`
	Password string       `yaml:"password_file" doc:"existing only: file with the password for dsn."`
	DataDir  string       `yaml:"data_dir" doc:"managed only: the cluster's directory. Default <state_dir>/postgres."`
	Port     int          `yaml:"port" doc:"managed only: port on 127.0.0.1."`
	Profile  string       `yaml:"profile" doc:"managed only: how the cluster is sized: auto, pi4, nuc or server."`
	OSUser   string       `yaml:"os_user" doc:"managed only: the user PostgreSQL runs as when the agent itself is started as root."`
	Database string       `yaml:"database" doc:"The database whose tables are synced."`
	WALKeep  config.Bytes `yaml:"wal_keep" doc:"How much WAL may wait for the agent before PostgreSQL gives up on it to save the disk. Needed only while the queue's own disk is full."`
}

// QueueConfig is the queue of changes on disk.
type QueueConfig struct {
	Dir  string       `yaml:"dir" doc:"Where changes wait while the link is down. Default <state_dir>/queue."`
	Max  config.Bytes `yaml:"max" doc:"How many bytes may wait. Near the limit what waited longest gives way and is sent again from the database later; at the limit the facility keeps working, changes wait in the WAL, and an alert says so."`
	Keep config.Bytes `yaml:"keep" doc:"How many bytes of acknowledged changes are kept, so that a region restored from a backup can have them again."`
}

// UplinkConfig is the way to the region.
type UplinkConfig struct {
	HubEndpoint string        `yaml:"hub_endpoint" doc:"host:port of the region's WireGuard hub. Default: as told at enrolment."`
	MTU         int           `yaml:"mtu" doc:"Largest packet inside the tunnel."`
	Linger      time.Duration `yaml:"linger" doc:"How long changes may gather before they are written to the queue while the link is down or a backlog waits. Longer packs tighter; the WAL holds them meanwhile."`
}

// MQTTConfig is the heartbeat's way to the region.
type MQTTConfig struct {
	URL      string `yaml:"url" doc:"Broker: tls://, wss://, tcp:// or ws://host:port, the last two only where nobody listens in. Default: as told at enrolment."`
	User     string `yaml:"user" doc:"The box's account at a broker that others run, where that wants one."`
	Password string `yaml:"password_file" doc:"File with its password, read at each connect."`
	CA       string `yaml:"ca_file" doc:"Certificate authority of a broker that others run; for a public one /etc/ssl/certs/ca-certificates.crt. Default: the region's own, and no other."`
	Profile  string `yaml:"profile" doc:"standard: a heartbeat each 5 s. metered: each 60 s, for links paid by the megabyte."`
}

// DefaultConfig is the configuration of a box that says nothing.
func DefaultConfig() Config {
	return Config{
		StateDir: "/var/lib/holdfast",
		Watchdog: "warn",
		Log:      LogConfig{Level: "info", Format: "text"},
		UI:       UIConfig{Listen: "127.0.0.1:4010", TimeZone: "UTC"},
		Postgres: PostgresConfig{Mode: "managed", Port: 6410, Profile: "auto", OSUser: "postgres", Database: "holdfast", WALKeep: 4 << 30},
		Queue:    QueueConfig{Max: 8 << 30, Keep: 256 << 20},
		Uplink:   UplinkConfig{MTU: 1420, Linger: time.Second},
		MQTT:     MQTTConfig{Profile: "standard"},
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
	if c.Queue.Dir == "" {
		c.Queue.Dir = filepath.Join(c.StateDir, "queue")
	}
	return c, nil
}

// Validate reports what is wrong with the values.
func (c *Config) Validate() []config.Problem {
	var p []config.Problem
	bad := func(path, text string) { p = append(p, config.Problem{Path: path, Text: text}) }
	if !filepath.IsAbs(c.StateDir) {
		bad("state_dir", "must be an absolute path")
	}
	oneOf := func(path, v string, of ...string) {
		for _, o := range of {
			if v == o {
				return
			}
		}
		bad(path, "must be one of "+strings.Join(of, ", "))
	}
	oneOf("watchdog", c.Watchdog, "warn", "ignore")
	oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	oneOf("log.format", c.Log.Format, "text", "json")
	oneOf("postgres.mode", c.Postgres.Mode, "managed", "existing")
	oneOf("postgres.profile", c.Postgres.Profile, "auto", "pi4", "nuc", "server")
	oneOf("mqtt.profile", c.MQTT.Profile, "standard", "metered")
	if c.Postgres.Mode == "existing" && c.Postgres.DSN == "" {
		bad("postgres.dsn", "is needed when mode is existing, for example postgres://holdfast@127.0.0.1:5432/plant")
	}
	if c.Postgres.Port < 1 || c.Postgres.Port > 65535 {
		bad("postgres.port", "must be 1 to 65535")
	}
	if _, _, err := net.SplitHostPort(c.UI.Listen); err != nil {
		bad("ui.listen", "must be host:port, for example 127.0.0.1:4010")
	}
	if _, err := time.LoadLocation(c.UI.TimeZone); err != nil {
		bad("ui.time_zone", "is not a known IANA time zone; Europe/Berlin and America/Los_Angeles are")
	}
	if e := c.Uplink.HubEndpoint; e != "" {
		if _, _, err := net.SplitHostPort(e); err != nil {
			bad("uplink.hub_endpoint", "must be host:port")
		}
	}
	if u := c.MQTT.URL; u != "" {
		if err := mqttclient.CheckURL(u); err != nil {
			bad("mqtt.url", err.Error())
		}
	}
	if c.MQTT.Password != "" && c.MQTT.User == "" {
		bad("mqtt.password_file", "needs a user beside it")
	}
	if c.Uplink.MTU < 1280 || c.Uplink.MTU > 9000 {
		bad("uplink.mtu", "must be 1280 to 9000")
	}
	if c.Queue.Max < 64<<20 {
		bad("queue.max", "must be at least 64 MiB")
	}
	if c.Queue.Keep < 0 || c.Queue.Keep > c.Queue.Max {
		bad("queue.keep", "must be at most queue.max")
	}
	if c.Uplink.Linger < 0 || c.Uplink.Linger > 10*time.Second {
		bad("uplink.linger", "must be 0 s to 10 s")
	}
	return p
}
