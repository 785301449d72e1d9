package broker

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/mqttclient"
	"github.com/agogsaas/holdfast/proto"
)

// External is a broker that others run. Its own rules must hold each box to its
// own topics; whom it lets in is theirs to say.
type External struct {
	// URL is mqtts://, tcp://, ws:// or wss:// with host and port.
	URL string
	// CAFile are the roots that the broker's certificate is checked against;
	// empty means the system's.
	CAFile string
	// CertFile and KeyFile are the region's client certificate, if the broker
	// wants one.
	CertFile, KeyFile string
	// Username and PasswordFile are the region's account, if it wants one.
	Username, PasswordFile string
	// ClientID is the region's client id. By default holdfast-region- and something
	// random: each process has its own, because a connection ends another with its id.
	ClientID string
}

// check finds what is wrong before anything connects.
func (e *External) check() error {
	if _, err := mqttclient.New(e.client(mqttclient.Config{})); err != nil {
		return err
	}
	if (e.CertFile == "") != (e.KeyFile == "") {
		return errors.New("external broker: a client certificate needs both its file and its key's")
	}
	if e.PasswordFile != "" && e.Username == "" {
		return errors.New("external broker: there is a password but no user name")
	}
	if e.CAFile != "" || e.CertFile != "" {
		if _, err := e.tls(); err != nil {
			return fmt.Errorf("external broker: %w", err)
		}
	}
	return nil
}

func (e *External) client(c mqttclient.Config) mqttclient.Config {
	c.URL, c.Username, c.ClientID = e.URL, e.Username, e.ClientID
	if c.ClientID == "" {
		c.ClientID = proto.RegionClientID + "-" + strings.ToLower(rand.Text()[:8])
	}
	if e.PasswordFile != "" {
		c.Password = func() (string, error) { return readPassword(e.PasswordFile) }
	}
	if e.CAFile != "" || e.CertFile != "" {
		c.TLS = e.tls
	}
	return c
}

func (e *External) tls() (*tls.Config, error) {
	return mqttclient.TLSFiles(e.CAFile, e.CertFile, e.KeyFile)()
}

const passwordMaxBytes = 1024

func readPassword(file string) (string, error) {
	raw, err := config.ReadSecret(file)
	if err != nil {
		return "", err
	}
	if len(raw) > passwordMaxBytes || bytes.ContainsAny(raw, "\r\n") {
		return "", fmt.Errorf("read password: %s must hold one line of at most %d bytes", file, passwordMaxBytes)
	}
	return string(raw), nil
}
