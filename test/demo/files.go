package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/agogsaas/holdfast/internal/durable"
	"github.com/agogsaas/holdfast/internal/pgcluster"
)

// writeFiles writes what people and scripts use to get in: .demo/credentials,
// .demo/ctl.yaml for holdfastctl, .demo/psql/* and .demo/pgpass for
// scripts/psql. All are closed to others.
func (d *demo) writeFiles() error {
	ctl, err := yaml.Marshal(map[string]string{"url": d.site.URL(), "token": d.site.API.Token})
	if err != nil {
		return fmt.Errorf("encode ctl.yaml: %w", err)
	}
	files := map[string]string{
		"ctl.yaml":    string(ctl),
		"credentials": d.credentials(),
	}
	if err := os.MkdirAll(d.place.file("psql"), 0o700); err != nil {
		return fmt.Errorf("make the folder for connection strings: %w", err)
	}
	var passwords []string
	for name, in := range d.databases() {
		password, err := passwordIn(in.passfile)
		if err != nil {
			return err
		}
		files[filepath.Join("psql", name)] = fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=%s sslmode=disable\n", in.port, pgcluster.Owner, pgcluster.Database)
		passwords = append(passwords, fmt.Sprintf("127.0.0.1:%d:*:%s:%s", in.port, pgcluster.Owner, password))
	}
	files["pgpass"] = strings.Join(passwords, "\n") + "\n"
	for name, text := range files {
		if err := durable.WriteFile(d.place.file(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

type database struct {
	port     int
	passfile string
}

func (d *demo) databases() map[string]database {
	in := func(state string) string {
		return filepath.Join(state, "postgres", "secrets", pgcluster.Owner+".pgpass")
	}
	list := map[string]database{"region": {regionPostgres, in(filepath.Join(d.place.Data, "region", "state"))}}
	for _, p := range plants {
		list[p.ID] = database{p.Postgres, in(d.edges[p.ID].StateDir())}
	}
	return list
}

// passwordIn takes the last field of a .pgpass line, in its escaped form.
func passwordIn(passfile string) (string, error) {
	raw, err := os.ReadFile(passfile)
	if err != nil {
		return "", fmt.Errorf("read a database password: %w", err)
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	for range 4 {
		var ok bool
		if _, line, ok = cutUnescaped(line); !ok {
			return "", fmt.Errorf("%s is not a password file", passfile)
		}
	}
	return line, nil
}

// cutUnescaped cuts at the first colon that no backslash protects.
func cutUnescaped(s string) (before, after string, ok bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case ':':
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func (d *demo) credentials() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-10s %-24s user %-6s password %s\n", "region", regionURL(), "admin", d.site.AdminPassword)
	for _, p := range plants {
		fmt.Fprintf(&b, "%-10s %-24s user %-6s password %s\n", p.ID, p.URL(), "admin", d.site.AdminPassword)
	}
	return b.String()
}

// summary says where to click and what to try.
func summary(out io.Writer, p place) {
	sign, err := os.ReadFile(p.file("credentials"))
	if err != nil {
		sign = []byte("(read " + p.file("credentials") + ")\n")
	}
	fmt.Fprintf(out, `Open in a browser (also in .demo/credentials):

  %s
Try the outage:

  1. Watch the fleet:       bin/holdfastctl fleet --watch      or the region's page
  2. Cut the cable of la:   bin/holdfastctl demo cut la
     Its people work on: take an order yourself at %s/orders
     Who is told of it:     %s   (phones, mail and chats of the demo)
     Within 15 seconds the phone rings: answer it there, press 4, and the incident is yours
  3. Compare:               scripts/psql la     -c 'select count(*) from orders'
                            scripts/psql region -c "select facility_id, count(*) from orders group by 1"
  4. Bring it back:         bin/holdfastctl demo restore la     and all are told so
     See it catch up:       bin/holdfastctl sync status la
  5. The other way:         scripts/psql region -c "update customers set contact = 'new' where name like 'Blue%%'"
                            scripts/psql la     -c "select name, contact from customers where contact <> ''"
  6. Both sides at once:    bin/holdfastctl demo conflict la

  Kill something if you like (the agent, the region, a PostgreSQL): it comes back.

API: %s/api/openapi.json and, of a facility, %s/api/workspace/v1/openapi.json
Logs: .demo/*/log
MQTT: 127.0.0.1:%d, user and client id demo, the same password; it reads the JSON below hf/v1/json/
`, strings.ReplaceAll(strings.TrimRight(string(sign), "\n"), "\n", "\n  ")+"\n", plants[0].URL(), pageURL(), regionURL(), plants[0].URL(), regionMQTTPlain)
}
