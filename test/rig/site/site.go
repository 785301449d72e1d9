// Package site runs a region and its facilities as the real programs, each
// with its own PostgreSQL, on this machine: for the scenarios, the benchmarks
// and the demo. Between each facility and the region stand relays that can
// drop every packet.
//
// In:  test/scenario, test/bench and test/demo.
// Out: the programs in bin/, started with configuration files of their own.
package site

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

// Ports are the addresses of a region, all on 127.0.0.1.
type Ports struct {
	HTTP, Postgres, Enrol, WireGuard, MQTT, MQTTPlain int
}

// Options say where a site lives.
type Options struct {
	// Dir holds everything; it must exist and be reachable for PostgreSQL's user.
	Dir string
	// Bin is the folder of the programs.
	Bin string
	// Region is its name; default us-east.
	Region string
	// Ports default to free ones.
	Ports Ports
	// AdminPassword of the region's and the boxes' first account; default: made up.
	AdminPassword string
	// Existing is the connection string of a PostgreSQL server for the region to
	// use, instead of one of its own.
	Existing string
	// Cluster is the folder of a PostgreSQL cluster that is stopped. Each program that
	// has one of its own begins with a copy, which takes less than initdb does.
	Cluster string
	// MQTTLines are more lines of the section mqtt of the region's configuration.
	MQTTLines []string
	// Extra is added to the region's configuration file.
	Extra string
	// LogLevel of the programs; default info.
	LogLevel string
	// Host is where boxes reach the region; default 127.0.0.1.
	Host string
	// Wrap makes the region's command in another way, such as in a network
	// namespace, and Client reaches it there; see Proc.
	Wrap   func(program string, args ...string) *exec.Cmd
	Client *http.Client
	// Tied makes the programs end with this process, however that ends.
	Tied bool
	Log  *slog.Logger
}

// Site is a region with its facilities.
type Site struct {
	Options
	Cloud *Proc
	API   *v1.Client
	edges []*Edge
}

// Start starts a region and waits until it is ready.
func Start(ctx context.Context, o Options) (*Site, error) {
	if o.Region == "" {
		o.Region = "us-east"
	}
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.LogLevel == "" {
		o.LogLevel = "info"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := fillPorts(&o.Ports); err != nil {
		return nil, err
	}
	s := &Site{Options: o}
	dir := filepath.Join(o.Dir, "region")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the region's folder: %w", err)
	}
	config, err := s.writeRegionConfig(dir)
	if err != nil {
		return nil, err
	}
	if s.Existing == "" {
		if err := s.copyCluster(ctx, s.ClusterDir()); err != nil {
			return nil, err
		}
	}
	s.Cloud = &Proc{
		Name: "region", Path: filepath.Join(o.Bin, "holdfast-cloud"), Args: []string{"run", "-c", config},
		LogFile: filepath.Join(dir, "log"), Ready: s.URL() + "/readyz", Tied: o.Tied, Wrap: o.Wrap, Client: o.Client,
	}
	if err := s.Cloud.Start(); err != nil {
		return nil, err
	}
	if err := s.Cloud.WaitReady(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.signIn(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Restart starts a region that was stopped or killed, and waits until it is ready.
func (s *Site) Restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := s.Cloud.Start(); err != nil {
		return err
	}
	return s.Cloud.WaitReady(ctx)
}

// URL is the region's dashboard and API.
func (s *Site) URL() string { return fmt.Sprintf("http://127.0.0.1:%d", s.Ports.HTTP) }

func (s *Site) writeRegionConfig(dir string) (string, error) {
	password, err := s.passwordFile()
	if err != nil {
		return "", err
	}
	p := s.Ports
	text := fmt.Sprintf(`%[1]s
enrol: {listen: "%[2]s:%[3]d", url: "https://%[2]s:%[3]d"}
wireguard: {port: %[4]d, endpoint: "%[2]s:%[4]d"}
mqtt:
  tls_listen: "%[2]s:%[5]d"
  plain_listen: "127.0.0.1:%[6]d"
  url: "tls://%[2]s:%[5]d"
%[7]s%[8]s`, s.regionHead(password), s.Host, p.Enrol, p.WireGuard, p.MQTT, p.MQTTPlain, lines(s.MQTTLines), s.Extra)
	path := filepath.Join(dir, "cloud.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write the region's configuration: %w", err)
	}
	return path, nil
}

// lines are more settings of a section that is open.
func lines(more []string) (text string) {
	for _, l := range more {
		text += "  " + l + "\n"
	}
	return text
}

func (s *Site) regionHead(password string) string {
	return fmt.Sprintf(`region: %s
state_dir: %s
log: {level: %s}
http: {listen: "127.0.0.1:%d", password_file: %s}
postgres: %s`, s.Region, filepath.Join(s.Dir, "region", "state"), s.LogLevel, s.Ports.HTTP, password, postgres(s.Existing, s.Ports.Postgres))
}

func postgres(existing string, port int) string {
	if existing != "" {
		return fmt.Sprintf("{mode: existing, dsn: %q}", existing)
	}
	return fmt.Sprintf("{mode: managed, port: %d}", port)
}

// PasswordFile is where Start keeps the admin password.
func (o *Options) PasswordFile() string { return filepath.Join(o.Dir, "admin-password") }

// passwordFile keeps one admin password for all consoles of the site.
func (s *Site) passwordFile() (string, error) {
	path := s.PasswordFile()
	if b, err := os.ReadFile(path); err == nil {
		s.AdminPassword = strings.TrimSpace(string(b))
		return path, nil
	}
	if s.AdminPassword == "" {
		s.AdminPassword = randomText()
	}
	if err := os.WriteFile(path, []byte(s.AdminPassword+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the admin password: %w", err)
	}
	return path, nil
}

// signIn makes an API token for the site's own use.
func (s *Site) signIn(ctx context.Context) error {
	c := &v1.Client{URL: s.URL(), HTTP: s.Client}
	t, err := c.Login(ctx, v1.Login{Name: "admin", Password: s.AdminPassword})
	if err != nil {
		return fmt.Errorf("sign in to the region: %w", err)
	}
	s.API = &v1.Client{URL: s.URL(), Token: t.Secret, HTTP: s.Client}
	return nil
}

// RegionDSN connects to the region's database as one of its roles
// (pgcluster's names).
func (s *Site) RegionDSN(role, database string) string {
	return dsn(s.ClusterDir(), s.Client != nil, s.Ports.Postgres, role, database)
}

// dsn connects over loopback, or over the socket where loopback is another one.
func dsn(cluster string, socket bool, port int, role, database string) string {
	host := "127.0.0.1"
	if socket {
		host = filepath.Join(cluster, "run")
	}
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable passfile=%s",
		host, port, role, database, filepath.Join(cluster, "secrets", role+".pgpass"))
}

// Edges lists the facilities in the order in which they were added.
func (s *Site) Edges() []*Edge { return s.edges }

// Close stops everything, the facilities first.
func (s *Site) Close() error {
	var errs []error
	for i := len(s.edges) - 1; i >= 0; i-- {
		errs = append(errs, s.edges[i].Close())
	}
	if s.Cloud != nil {
		errs = append(errs, s.Cloud.Stop(), endPostgres(s.ClusterDir()))
	}
	return errors.Join(errs...)
}

// readyWithin is how long a start may take: an initdb on a busy machine.
const readyWithin = 2 * time.Minute
