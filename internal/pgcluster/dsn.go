package pgcluster

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/agogsaas/holdfast/internal/durable"
)

// Superuser is the role that owns the cluster. Holdfast uses it to make the
// other roles and databases, and for nothing else.
const Superuser = "postgres"

// DSN returns a connection URL for a role and a database: over the unix
// socket, or over TCP where there is no socket. The password is not in it but
// in the role's password file, which pgx and libpq (psql) both read.
func (c *Cluster) DSN(role, database string) string {
	if !c.cfg.hasSocket() {
		return c.TCPDSN(role, database)
	}
	q := c.query(role)
	q.Set("host", c.cfg.socketDir())
	q.Set("port", strconv.Itoa(c.cfg.Port))
	u := url.URL{Scheme: "postgres", User: url.User(role), Path: "/" + database, RawQuery: q.Encode()}
	return u.String()
}

// TCPDSN is DSN over the first listen address, for programs that cannot use a
// unix socket. It is empty when the server listens on none.
func (c *Cluster) TCPDSN(role, database string) string {
	if len(c.cfg.Listen) == 0 {
		return ""
	}
	host := c.cfg.Listen[0]
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	u := url.URL{
		Scheme: "postgres", User: url.User(role), Host: host + ":" + strconv.Itoa(c.cfg.Port),
		Path: "/" + database, RawQuery: c.query(role).Encode(),
	}
	return u.String()
}

// ReplicationDSN is DSN for a replication connection, as capture opens it.
func (c *Cluster) ReplicationDSN(role, database string) string {
	return c.DSN(role, database) + "&replication=database"
}

func (c *Cluster) query(role string) url.Values {
	return url.Values{"sslmode": {"disable"}, "passfile": {c.PassFile(role)}}
}

// PassFile returns the path of a role's password file, in the format of
// .pgpass, mode 0600.
func (c *Cluster) PassFile(role string) string {
	return filepath.Join(c.cfg.secretsDir(), role+".pgpass")
}

func (c *Cluster) password(role string) (string, error) {
	return ensurePassword(c.PassFile(role), role)
}

// ensurePassword reads a role's password file, or makes one with a new random
// password.
func ensurePassword(path, role string) (string, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newPassword(path, role)
	}
	if err != nil {
		return "", fmt.Errorf("read the password of role %s: %w", role, err)
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	fields := strings.SplitN(line, ":", 5)
	if len(fields) != 5 || fields[4] == "" || strings.ContainsAny(fields[4], `\`) {
		return "", fmt.Errorf("password file %s: want one line *:*:*:%s:password", path, role)
	}
	return fields[4], nil
}

func newPassword(path, role string) (string, error) {
	key := make([]byte, 24)
	rand.Read(key) // never fails
	password := base64.RawURLEncoding.EncodeToString(key)
	if err := durable.WriteFile(path, []byte("*:*:*:"+role+":"+password+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep the password of role %s: %w", role, err)
	}
	return password, nil
}
