package mqttclient

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// TLSFiles returns what Config.TLS wants: roots and a client certificate from
// PEM files that are read again at each connect. An empty caFile means the
// system's roots, an empty certFile no client certificate.
func TLSFiles(caFile, certFile, keyFile string) func() (*tls.Config, error) {
	return func() (*tls.Config, error) {
		conf := &tls.Config{MinVersion: tls.VersionTLS12}
		if caFile != "" {
			pem, err := os.ReadFile(caFile)
			if err != nil {
				return nil, fmt.Errorf("read the broker's roots: %w", err)
			}
			conf.RootCAs = x509.NewCertPool()
			if !conf.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("read the broker's roots: no certificate in %s", caFile)
			}
		}
		if certFile != "" {
			cert, err := tls.LoadX509KeyPair(certFile, keyFile)
			if err != nil {
				return nil, fmt.Errorf("read the client certificate: %w", err)
			}
			conf.Certificates = []tls.Certificate{cert}
		}
		return conf, nil
	}
}
