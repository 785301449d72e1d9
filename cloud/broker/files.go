package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/agogsaas/holdfast/internal/durable"
)

// What the broker reads, all in one folder that only its user can enter.
const (
	fileConf  = "mosquitto.conf"
	fileRules = "dynamic-security.json"
	fileCert  = "server.crt"
	fileKey   = "server.key"
	fileCA    = "client-ca.crt"
	fileCRL   = "revoked.crl"
)

const (
	// packetMaxBytes is the longest MQTT packet: larger ones end the connection.
	packetMaxBytes = 64 << 10
	// queuedMax is how many messages may wait for one reader. The default of
	// 1,000 silently loses the births of a fleet that comes back at once.
	queuedMax = 200_000
)

// writeFiles writes everything that the broker reads, and asks for the list of
// boxes on the way.
func (b *Broker) writeFiles(ctx context.Context, dir string, user *osUser) error {
	devices, err := b.cfg.Devices(ctx)
	if err != nil {
		return fmt.Errorf("list the boxes for the broker: %w", err)
	}
	rules, err := b.rules(devices)
	if err != nil {
		return err
	}
	conf, err := b.conf(dir)
	if err != nil {
		return err
	}
	b.control.started(devices)
	if err := errors.Join(
		writeFile(dir, fileRules, rules, user),
		writeFile(dir, fileConf, conf, user),
	); err != nil {
		return err
	}
	return b.writeCertificates(ctx, dir, user)
}

// writeCertificates copies the certificates, so that the broker's own user can
// read them, and fetches the list of revoked ones.
func (b *Broker) writeCertificates(ctx context.Context, dir string, user *osUser) error {
	if b.cfg.TLSAddr == "" {
		return nil
	}
	for from, to := range map[string]string{b.cfg.CertFile: fileCert, b.cfg.KeyFile: fileKey, b.cfg.ClientCAFile: fileCA} {
		content, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("read the broker's certificates: %w", err)
		}
		if err := writeFile(dir, to, content, user); err != nil {
			return err
		}
	}
	if b.cfg.CRL == nil {
		return nil
	}
	crl, err := b.cfg.CRL(ctx)
	if err != nil {
		return fmt.Errorf("list the revoked certificates: %w", err)
	}
	if err := checkCRL(crl); err != nil {
		return err
	}
	return writeFile(dir, fileCRL, crl, user)
}

// writeFile replaces a file in one step.
func writeFile(dir, name string, content []byte, user *osUser) error {
	if err := durable.WriteFile(filepath.Join(dir, name), content, 0o600, user.ownFile); err != nil {
		return fmt.Errorf("write the broker's files: %w", err)
	}
	return nil
}

// conf is Mosquitto's own configuration.
func (b *Broker) conf(dir string) ([]byte, error) {
	plugin, err := findPlugin(b.cfg.Plugin)
	if err != nil {
		return nil, err
	}
	var w strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&w, format+"\n", args...) }
	file := func(name string) string { return filepath.Join(dir, name) }

	line("# Written by holdfast-cloud at each start of the broker. Changes are lost.")
	line("per_listener_settings false")
	line("allow_anonymous false")
	line("plugin %s", plugin)
	line("plugin_opt_config_file %s", file(fileRules))
	line("# Sessions are clean and retained messages are hints: nothing to keep.")
	line("persistence false")
	line("autosave_interval 0")
	line("max_packet_size %d", packetMaxBytes)
	line("message_size_limit %d", packetMaxBytes)
	line("max_inflight_messages 100")
	line("max_queued_messages %d", queuedMax)
	line("max_queued_bytes %d", 256<<20)
	line("queue_qos0_messages false")
	line("set_tcp_nodelay true")
	line("sys_interval 10")
	line("connection_messages false")
	line("log_dest stderr")
	line("log_timestamp false")
	for _, kind := range []string{"error", "warning", "notice"} {
		line("log_type %s", kind)
	}

	line("\n# Programs on this machine: user name and password.")
	line("listener %s", listener(b.cfg.LocalAddr))
	if b.cfg.TLSAddr == "" {
		return []byte(w.String()), nil
	}
	line("\n# Boxes: the certificate's common name is the user name and the client id,")
	line("# whatever the client says.")
	line("listener %s", listener(b.cfg.TLSAddr))
	line("cafile %s", file(fileCA))
	line("certfile %s", file(fileCert))
	line("keyfile %s", file(fileKey))
	line("tls_version tlsv1.2")
	line("require_certificate true")
	line("use_identity_as_username true")
	line("use_username_as_clientid true")
	if b.cfg.CRL != nil {
		line("crlfile %s", file(fileCRL))
	}
	return []byte(w.String()), nil
}

// listener turns host:port into Mosquitto's "port [host]".
func listener(addr string) string {
	host, port, _ := net.SplitHostPort(addr) // checked by Config.check
	return strings.TrimSpace(port + " " + host)
}
