package proto

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
)

// A box enrols by POST of an EnrolRequest to EnrolPath over TLS, and renews
// its certificate by POST of a RenewRequest to RenewPath. Both are answered by
// an EnrolAnswer with status 200, or by an EnrolProblem with any other.
const (
	EnrolPath = "/enrol/v1"
	RenewPath = "/enrol/v1/renew"
	// EnrolMediaType is the content type of all four.
	EnrolMediaType = "application/cbor"
)

// The longest messages of enrolment, encoded.
const (
	EnrolRequestMaxBytes = 8 << 10
	EnrolAnswerMaxBytes  = 32 << 10
	EnrolProblemMaxBytes = 4 << 10
)

// Limits within them.
const (
	csrMaxBytes         = 4 << 10
	certificateMaxBytes = 4 << 10
	certificatesMax     = 4
	endpointsMax        = 8
	endpointMaxBytes    = 300
)

// EnrolRequest asks to be let in as the facility that the token is for. A box
// that got no answer sends the same request again, with the same keys.
type EnrolRequest struct {
	Schema uint    `cbor:"0,keyasint"`
	Secret Bytes32 `cbor:"1,keyasint"` // from the token
	Region string  `cbor:"2,keyasint"` // from the token
	// CSR is a PKCS #10 request (DER) for the box's P-256 key. Its subject is
	// ignored: the region names the box.
	CSR []byte `cbor:"3,keyasint"`
	// TunnelKey is the box's WireGuard public key.
	TunnelKey Bytes32 `cbor:"4,keyasint"`
	// WallMs is the box's clock, milliseconds since 1970.
	WallMs   int64    `cbor:"5,keyasint"`
	Agent    string   `cbor:"6,keyasint,omitempty"` // the agent's version
	Hardware Hardware `cbor:"7,keyasint,omitempty"`
}

// Hardware is what a box is made of, as it sees it. All of it is optional.
type Hardware struct {
	Model       string `cbor:"1,keyasint,omitempty" json:"model,omitempty"`
	Serial      string `cbor:"2,keyasint,omitempty" json:"serial,omitempty"`
	Arch        string `cbor:"3,keyasint,omitempty" json:"arch,omitempty"`
	OS          string `cbor:"4,keyasint,omitempty" json:"os,omitempty"`
	Kernel      string `cbor:"5,keyasint,omitempty" json:"kernel,omitempty"`
	CPUs        uint16 `cbor:"6,keyasint,omitempty" json:"cpus,omitempty"`
	MemoryBytes uint64 `cbor:"7,keyasint,omitempty" json:"memory_bytes,omitempty"`
	HostName    string `cbor:"8,keyasint,omitempty" json:"host_name,omitempty"`
}

// RenewRequest asks for a new certificate for the same key. The CSR's own
// signature proves the key, so an expired certificate is no obstacle, and a
// copy of the request is of no use to who has not got the key.
type RenewRequest struct {
	Schema uint   `cbor:"0,keyasint"`
	CSR    []byte `cbor:"1,keyasint"`
	WallMs int64  `cbor:"2,keyasint"`
	Agent  string `cbor:"3,keyasint,omitempty"`
}

// EnrolAnswer is what a box needs to work with its region.
type EnrolAnswer struct {
	Schema uint `cbor:"0,keyasint"`
	// Certificates is the box's own certificate (DER) and what it takes to get
	// from it to CA, which is not among them.
	Certificates [][]byte `cbor:"1,keyasint"`
	CA           []byte   `cbor:"2,keyasint"`
	Region       string   `cbor:"3,keyasint"`
	Tenant       string   `cbor:"4,keyasint"`
	Facility     string   `cbor:"5,keyasint"`
	// Enrolment counts the boxes that the facility has had, this one included.
	// It is the upper half of every epoch that the box makes.
	Enrolment uint32 `cbor:"6,keyasint"`
	// MQTT are addresses of the broker, tls://host:port, in order of preference.
	MQTT   []string       `cbor:"7,keyasint"`
	Tunnel TunnelSettings `cbor:"8,keyasint"`
	// HeartbeatSeconds is how often the box reports.
	HeartbeatSeconds uint16 `cbor:"9,keyasint"`
	// WallMs is the region's clock when it answered, milliseconds since 1970.
	WallMs int64 `cbor:"10,keyasint"`
	// EnrolURL is where to renew from now on.
	EnrolURL string `cbor:"11,keyasint"`
}

// TunnelSettings are a box's end of the tunnel.
type TunnelSettings struct {
	HubKey   Bytes32 `cbor:"1,keyasint"`
	Endpoint string  `cbor:"2,keyasint"` // host:port, UDP
	// Address is the box's own, HubAddress the region's, inside the tunnel.
	Address    string `cbor:"3,keyasint"`
	HubAddress string `cbor:"4,keyasint"`
	StreamPort uint16 `cbor:"5,keyasint"`
	MTU        uint16 `cbor:"6,keyasint"`
	// KeepaliveSeconds keeps the way through NAT open.
	KeepaliveSeconds uint16 `cbor:"7,keyasint"`
}

// Encode returns the message's bytes, at most EnrolRequestMaxBytes.
func (r EnrolRequest) Encode() ([]byte, error) {
	r.Schema = schemaNow
	r.Agent = cut(r.Agent, shortTextMax)
	r.Hardware = r.Hardware.cut()
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("encode enrolment request: %w", err)
	}
	return encode("enrolment request", r, EnrolRequestMaxBytes)
}

// DecodeEnrolRequest reads what Encode wrote, or a newer build's message.
func DecodeEnrolRequest(data []byte) (EnrolRequest, error) {
	var r EnrolRequest
	if err := decode("enrolment request", data, &r, EnrolRequestMaxBytes); err != nil {
		return EnrolRequest{}, err
	}
	r.Agent = cut(r.Agent, shortTextMax)
	r.Hardware = r.Hardware.cut()
	if err := r.check(); err != nil {
		return EnrolRequest{}, fmt.Errorf("decode enrolment request: %w", err)
	}
	return r, nil
}

func (r EnrolRequest) check() error {
	if r.Secret == (Bytes32{}) {
		return errors.New("the token's secret is missing")
	}
	if r.TunnelKey == (Bytes32{}) {
		return errors.New("the tunnel key is missing")
	}
	if err := CheckID(r.Region); err != nil {
		return fmt.Errorf("region: %w", err)
	}
	return checkCSR(r.Schema, r.CSR)
}

func (h Hardware) cut() Hardware {
	for _, s := range []*string{&h.Model, &h.Serial, &h.Arch, &h.OS, &h.Kernel, &h.HostName} {
		*s = cut(*s, 128)
	}
	return h
}

func checkCSR(schema uint, csr []byte) error {
	if schema == 0 {
		return errors.New("the schema number is missing")
	}
	if len(csr) == 0 || len(csr) > csrMaxBytes {
		return fmt.Errorf("the certificate request has %d bytes, 1 to %d are allowed", len(csr), csrMaxBytes)
	}
	return nil
}

// Encode returns the message's bytes, at most EnrolRequestMaxBytes.
func (r RenewRequest) Encode() ([]byte, error) {
	r.Schema = schemaNow
	r.Agent = cut(r.Agent, shortTextMax)
	if err := checkCSR(r.Schema, r.CSR); err != nil {
		return nil, fmt.Errorf("encode renewal request: %w", err)
	}
	return encode("renewal request", r, EnrolRequestMaxBytes)
}

// DecodeRenewRequest reads what Encode wrote, or a newer build's message.
func DecodeRenewRequest(data []byte) (RenewRequest, error) {
	var r RenewRequest
	if err := decode("renewal request", data, &r, EnrolRequestMaxBytes); err != nil {
		return RenewRequest{}, err
	}
	r.Agent = cut(r.Agent, shortTextMax)
	if err := checkCSR(r.Schema, r.CSR); err != nil {
		return RenewRequest{}, fmt.Errorf("decode renewal request: %w", err)
	}
	return r, nil
}

// Encode returns the message's bytes, at most EnrolAnswerMaxBytes.
func (a EnrolAnswer) Encode() ([]byte, error) {
	a.Schema = schemaNow
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("encode enrolment answer: %w", err)
	}
	return encode("enrolment answer", a, EnrolAnswerMaxBytes)
}

// DecodeEnrolAnswer reads what Encode wrote, or a newer build's message. It
// checks the message's form; whether the certificates are good is for the
// reader to see.
func DecodeEnrolAnswer(data []byte) (EnrolAnswer, error) {
	var a EnrolAnswer
	if err := decode("enrolment answer", data, &a, EnrolAnswerMaxBytes); err != nil {
		return EnrolAnswer{}, err
	}
	if err := a.check(); err != nil {
		return EnrolAnswer{}, fmt.Errorf("decode enrolment answer: %w", err)
	}
	return a, nil
}

func (a EnrolAnswer) check() error {
	if err := checkWho(a.Schema, a.Tenant, a.Facility); err != nil {
		return err
	}
	if err := CheckID(a.Region); err != nil {
		return fmt.Errorf("region: %w", err)
	}
	if n := len(a.Certificates); n == 0 || n > certificatesMax {
		return fmt.Errorf("%d certificates, 1 to %d are allowed", n, certificatesMax)
	}
	for _, c := range append([][]byte{a.CA}, a.Certificates...) {
		if len(c) == 0 || len(c) > certificateMaxBytes {
			return fmt.Errorf("a certificate has %d bytes, 1 to %d are allowed", len(c), certificateMaxBytes)
		}
	}
	if a.Enrolment == 0 {
		return errors.New("the enrolment number is missing")
	}
	if a.HeartbeatSeconds == 0 {
		return errors.New("the heartbeat interval is missing")
	}
	if n := len(a.MQTT); n == 0 || n > endpointsMax {
		return fmt.Errorf("%d broker addresses, 1 to %d are allowed", n, endpointsMax)
	}
	for _, m := range a.MQTT {
		if err := checkBrokerURL(m); err != nil {
			return err
		}
	}
	if err := CheckServiceURL(a.EnrolURL); err != nil {
		return err
	}
	return a.Tunnel.check()
}

func checkBrokerURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || len(s) > endpointMaxBytes {
		return errors.New("a broker's address is too long or not an address")
	}
	switch u.Scheme {
	case "tls", "wss":
	default:
		return fmt.Errorf("the broker's address %q does not begin with tls:// or wss://", u.Redacted())
	}
	if u.Hostname() == "" || u.User != nil {
		return fmt.Errorf("the broker's address %q is not tls://host:port", u.Redacted())
	}
	return nil
}

func (t TunnelSettings) check() error {
	if t.HubKey == (Bytes32{}) {
		return errors.New("the hub's key is missing")
	}
	host, port, err := net.SplitHostPort(t.Endpoint)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" || len(t.Endpoint) > endpointMaxBytes {
		return fmt.Errorf("the tunnel's endpoint %q is not host:port", cut(t.Endpoint, shortTextMax))
	}
	for _, s := range []string{t.Address, t.HubAddress} {
		if a, err := netip.ParseAddr(s); err != nil || a.Zone() != "" {
			return fmt.Errorf("the tunnel address %q is not an IP address", cut(s, shortTextMax))
		}
	}
	if t.StreamPort == 0 {
		return errors.New("the stream's port is missing")
	}
	if t.MTU < 1280 {
		return fmt.Errorf("the tunnel's MTU is %d, at least 1280 is needed", t.MTU)
	}
	return nil
}
