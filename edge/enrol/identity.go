package enrol

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/durable"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/tunnel"
	"github.com/agogsaas/holdfast/proto"
)

// The files in the state directory. All have mode 0600.
const (
	identityFile = "identity.json"  // who the box is
	pendingFile  = "enrolment.json" // keys of an enrolment that is not answered yet
	clockFile    = "clock"          // the latest time that the box knows of
	lockFile     = "enrol.lock"
)

// ErrNotEnrolled is what Load returns for a box that has no identity yet.
var ErrNotEnrolled = errors.New("the box is not enrolled")

// Identity is who a box is and where its region is. It is not changed; a
// renewal makes another.
type Identity struct {
	Region, Tenant, Facility string
	// Enrolment counts the facility's boxes. It is the upper half of the
	// epochs of this box.
	Enrolment uint32
	// Certificate is the box's own, with its key.
	Certificate tls.Certificate
	// CA is the region's authority.
	CA *x509.Certificate
	// TunnelKey is the box's WireGuard key.
	TunnelKey tunnel.PrivateKey
	Tunnel    Tunnel
	// MQTT are the broker's addresses in order of preference.
	MQTT      []string
	Heartbeat time.Duration
	EnrolURL  string

	key      *ecdsa.PrivateKey
	tokenSum string // SHA-256 of the token, hexadecimal
}

// Tunnel is the box's end of the tunnel.
type Tunnel struct {
	HubKey     tunnel.PublicKey
	Endpoint   string // host:port
	Address    netip.Addr
	HubAddress netip.Addr
	StreamPort uint16
	MTU        int
	Keepalive  time.Duration
}

// ClientID is the box's name at the broker, which its certificate carries.
func (id *Identity) ClientID() string { return proto.ClientID(id.Tenant, id.Facility, id.Enrolment) }

// EpochBase is the smallest epoch that this box may use.
func (id *Identity) EpochBase() uint64 { return uint64(id.Enrolment) << 32 }

// Stream is the address of the region's sync stream inside the tunnel.
func (id *Identity) Stream() netip.AddrPort {
	return netip.AddrPortFrom(id.Tunnel.HubAddress, id.Tunnel.StreamPort)
}

// Load reads the identity from the state directory. ErrNotEnrolled: there is
// none yet.
func Load(stateDir string) (*Identity, error) {
	path := filepath.Join(stateDir, identityFile)
	b, err := config.ReadSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint.Wrap(ErrNotEnrolled,
			"Make a token in the region with holdfastctl facility add <facility> (or facility token, if it exists), then run holdfast-edge enrol here and paste it.")
	}
	if err != nil {
		return nil, fmt.Errorf("load the identity: %w", err)
	}
	var d identityOnDisk
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, damaged(path, err)
	}
	id, err := d.identity()
	if err != nil {
		return nil, damaged(path, err)
	}
	return id, nil
}

func damaged(path string, err error) error {
	return hint.Wrap(fmt.Errorf("load the identity from %s: %w", path, err),
		"Enrol the box again with a new token: holdfastctl facility token <facility>. Its data is kept.")
}

// identityOnDisk is the file's form.
type identityOnDisk struct {
	Format           int          `json:"format"`
	Region           string       `json:"region"`
	Tenant           string       `json:"tenant"`
	Facility         string       `json:"facility"`
	Enrolment        uint32       `json:"enrolment"`
	Key              string       `json:"key"`          // PKCS #8, PEM
	Certificates     []string     `json:"certificates"` // PEM, the box's own first
	CA               string       `json:"ca"`           // PEM
	TunnelKey        string       `json:"tunnel_key"`
	Tunnel           tunnelOnDisk `json:"tunnel"`
	MQTT             []string     `json:"mqtt"`
	HeartbeatSeconds uint16       `json:"heartbeat_seconds"`
	EnrolURL         string       `json:"enrol_url"`
	TokenSHA256      string       `json:"token_sha256"`
}

type tunnelOnDisk struct {
	HubKey           tunnel.PublicKey `json:"hub_key"`
	Endpoint         string           `json:"endpoint"`
	Address          netip.Addr       `json:"address"`
	HubAddress       netip.Addr       `json:"hub_address"`
	StreamPort       uint16           `json:"stream_port"`
	MTU              uint16           `json:"mtu"`
	KeepaliveSeconds uint16           `json:"keepalive_seconds"`
}

// fromAnswer is the identity that an answer and the box's own keys make. The
// answer came over a connection to the pinned region; it is checked against
// the keys all the same.
func fromAnswer(a proto.EnrolAnswer, k *keys, pin proto.Bytes32, tokenSum string) (*Identity, error) {
	ca, err := x509.ParseCertificate(a.CA)
	if err != nil {
		return nil, fmt.Errorf("the region's certificate authority: %w", err)
	}
	if !pin.Equal(spkiSum(ca)) {
		return nil, errors.New("the answer's certificate authority is not the one of the token")
	}
	t := tunnelOnDisk{
		HubKey:           tunnel.PublicKey(a.Tunnel.HubKey),
		Endpoint:         a.Tunnel.Endpoint,
		StreamPort:       a.Tunnel.StreamPort,
		MTU:              a.Tunnel.MTU,
		KeepaliveSeconds: a.Tunnel.KeepaliveSeconds,
	}
	if t.Address, err = netip.ParseAddr(a.Tunnel.Address); err != nil {
		return nil, fmt.Errorf("the tunnel's address: %w", err)
	}
	if t.HubAddress, err = netip.ParseAddr(a.Tunnel.HubAddress); err != nil {
		return nil, fmt.Errorf("the hub's address: %w", err)
	}
	keyPEM, err := marshalKey(k.device)
	if err != nil {
		return nil, err
	}
	d := identityOnDisk{
		Format: 1, Region: a.Region, Tenant: a.Tenant, Facility: a.Facility, Enrolment: a.Enrolment,
		Key: keyPEM, CA: pemText("CERTIFICATE", a.CA), TunnelKey: k.tunnel.Reveal(), Tunnel: t,
		MQTT: a.MQTT, HeartbeatSeconds: a.HeartbeatSeconds, EnrolURL: a.EnrolURL, TokenSHA256: tokenSum,
	}
	for _, c := range a.Certificates {
		d.Certificates = append(d.Certificates, pemText("CERTIFICATE", c))
	}
	return d.identity()
}

// identity checks that the parts belong together.
func (d identityOnDisk) identity() (*Identity, error) {
	id := &Identity{
		Region: d.Region, Tenant: d.Tenant, Facility: d.Facility, Enrolment: d.Enrolment,
		MQTT: d.MQTT, Heartbeat: time.Duration(d.HeartbeatSeconds) * time.Second, EnrolURL: d.EnrolURL, tokenSum: d.TokenSHA256,
		Tunnel: Tunnel{
			HubKey: d.Tunnel.HubKey, Endpoint: d.Tunnel.Endpoint, Address: d.Tunnel.Address, HubAddress: d.Tunnel.HubAddress,
			StreamPort: d.Tunnel.StreamPort, MTU: int(d.Tunnel.MTU), Keepalive: time.Duration(d.Tunnel.KeepaliveSeconds) * time.Second,
		},
	}
	if d.Format != 1 {
		return nil, fmt.Errorf("format %d is not known to this version", d.Format)
	}
	var err error
	if id.key, err = parseKey(d.Key); err != nil {
		return nil, err
	}
	if id.TunnelKey, err = tunnel.ParsePrivateKey(d.TunnelKey); err != nil {
		return nil, err
	}
	ca, err := parseCert(d.CA)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	id.CA = ca
	for _, text := range d.Certificates {
		c, err := parseCert(text)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		if id.Certificate.Leaf == nil {
			id.Certificate.Leaf = c
		}
		id.Certificate.Certificate = append(id.Certificate.Certificate, c.Raw)
	}
	id.Certificate.PrivateKey = id.key
	return id, id.check()
}

func (id *Identity) check() error {
	leaf := id.Certificate.Leaf
	switch {
	case leaf == nil:
		return errors.New("there is no certificate")
	case !id.key.PublicKey.Equal(leaf.PublicKey):
		return errors.New("the certificate is for another key")
	case leaf.Subject.CommonName != id.ClientID():
		return fmt.Errorf("the certificate is for %q, not for %q", leaf.Subject.CommonName, id.ClientID())
	}
	// By signatures alone: whether it has expired is not the question here, an
	// expired certificate still renews.
	c := leaf
	for _, der := range id.Certificate.Certificate[1:] {
		up, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("the certificate's chain: %w", err)
		}
		if err := c.CheckSignatureFrom(up); err != nil {
			return fmt.Errorf("the certificate's chain: %w", err)
		}
		c = up
	}
	if err := c.CheckSignatureFrom(id.CA); err != nil {
		return fmt.Errorf("the certificate is not the region's: %w", err)
	}
	return nil
}

// save writes the identity, whole or not at all.
func (id *Identity) save(stateDir string) error {
	keyPEM, err := marshalKey(id.key)
	if err != nil {
		return err
	}
	d := identityOnDisk{
		Format: 1, Region: id.Region, Tenant: id.Tenant, Facility: id.Facility, Enrolment: id.Enrolment,
		Key: keyPEM, CA: pemText("CERTIFICATE", id.CA.Raw), TunnelKey: id.TunnelKey.Reveal(),
		Tunnel: tunnelOnDisk{
			HubKey: id.Tunnel.HubKey, Endpoint: id.Tunnel.Endpoint, Address: id.Tunnel.Address, HubAddress: id.Tunnel.HubAddress,
			StreamPort: id.Tunnel.StreamPort, MTU: uint16(id.Tunnel.MTU), KeepaliveSeconds: uint16(id.Tunnel.Keepalive / time.Second),
		},
		MQTT: id.MQTT, HeartbeatSeconds: uint16(id.Heartbeat / time.Second), EnrolURL: id.EnrolURL, TokenSHA256: id.tokenSum,
	}
	for _, der := range id.Certificate.Certificate {
		d.Certificates = append(d.Certificates, pemText("CERTIFICATE", der))
	}
	return saveJSON(filepath.Join(stateDir, identityFile), d)
}

func saveJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(b, '\n'), 0o600)
}

func marshalKey(k *ecdsa.PrivateKey) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return "", fmt.Errorf("write the key: %w", err)
	}
	return pemText("PRIVATE KEY", der), nil
}

func parseKey(text string) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("the key is not readable")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the key is of another kind than P-256")
	}
	return key, nil
}

func parseCert(text string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("not readable")
	}
	return x509.ParseCertificate(block.Bytes)
}

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
