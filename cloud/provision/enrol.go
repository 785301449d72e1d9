package provision

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/proto"
)

// A box is let in like this: the secret's hash finds the token; the token must
// be unused, or used by this very key; the facility counts one more box, the
// box before it is replaced, the new one and its certificate are written and
// the token is marked, all in one transaction; then hub and broker are told,
// then the box is answered. If the answer is lost the box asks again with the
// same key and gets the same certificate.

// clockAhead is how far a box's clock may be ahead: a certificate would look
// expired to it soon. One that is behind takes the region's time.
const clockAhead = 24 * time.Hour

// renewAgain is how long a box that renews again gets the certificate that it
// was given before.
const renewAgain = time.Hour

// request is an EnrolRequest whose key has been checked.
type request struct {
	msg    proto.EnrolRequest
	pub    *ecdsa.PublicKey
	spki   []byte
	keySum [32]byte // SHA-256 of spki
}

func checkCSR(der []byte) (pub *ecdsa.PublicKey, spki []byte, err error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, nil, badRequest("the certificate request is not readable")
	}
	pub, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, nil, badRequest("the certificate request's key is not of the P-256 kind")
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, nil, badRequest("the certificate request is not signed by its own key")
	}
	if spki, err = x509.MarshalPKIXPublicKey(pub); err != nil {
		return nil, nil, badRequest("the certificate request's key is not readable")
	}
	return pub, spki, nil
}

// enrol lets a box in, or returns a *proto.EnrolProblem.
func (p *Provision) enrol(ctx context.Context, msg proto.EnrolRequest) (*proto.EnrolAnswer, error) {
	now := p.cfg.Now()
	if msg.Region != p.cfg.Region {
		return nil, p.wrongRegion(msg.Region)
	}
	if time.UnixMilli(msg.WallMs).Sub(now) > clockAhead {
		return nil, clockOff(time.UnixMilli(msg.WallMs), now)
	}
	r := &request{msg: msg}
	var err error
	if r.pub, r.spki, err = checkCSR(msg.CSR); err != nil {
		return nil, err
	}
	r.keySum = sha256.Sum256(r.spki)
	if msg.TunnelKey == p.cfg.Tunnel.HubKey {
		return nil, keyTaken()
	}

	p.changes.Lock()
	defer p.changes.Unlock()
	var in admission
	err = pgx.BeginFunc(ctx, p.cfg.DB, func(tx pgx.Tx) error {
		var err error
		in, err = p.admit(ctx, tx, r, now)
		return err
	})
	if isUnique(err) {
		return nil, keyTaken()
	}
	if err != nil {
		return nil, err
	}
	if in.old != nil {
		p.log.Info("box replaced", "facility", in.old.Facility, "box", in.old.ID())
		p.tell(ctx, p.cfg.Hooks.Revoked, *in.old)
	}
	if in.fresh {
		p.log.Info("box enrolled", "facility", in.box.Facility, "box", in.box.ID())
	}
	p.tell(ctx, p.cfg.Hooks.Enrolled, in.box)
	return p.answer(in.box, in.cert, now), nil
}

// admission is the outcome of admit.
type admission struct {
	box   Box
	cert  *x509.Certificate
	old   *Box // the box that this one replaced
	fresh bool // false when a lost answer is repeated
}

// admit decides in one transaction.
func (p *Provision) admit(ctx context.Context, tx pgx.Tx, r *request, now time.Time) (admission, error) {
	sum := sha256.Sum256(r.msg.Secret[:])
	t, err := p.store.token(ctx, tx, sum)
	if errors.Is(err, pgx.ErrNoRows) {
		return admission{}, unknownToken()
	}
	if err != nil {
		return admission{}, fmt.Errorf("look the token up: %w", err)
	}
	switch {
	case t.Removed:
		return admission{}, facilityRemoved(t.Facility)
	case t.UsedAt != nil && !now.Before(t.ExpiresAt), t.UsedAt != nil && string(t.UsedKey) != string(r.keySum[:]):
		return admission{}, usedToken(*t.UsedAt)
	case t.UsedAt != nil:
		return p.repeat(ctx, tx, r, *t.UsedAt)
	case !now.Before(t.ExpiresAt):
		return admission{}, expiredToken(t.ExpiresAt)
	}

	in := admission{fresh: true}
	old, err := p.store.endBox(ctx, tx, t.Facility, "replaced")
	switch {
	case err == nil:
		b := old.box()
		in.old = &b
	case !errors.Is(err, pgx.ErrNoRows):
		return admission{}, fmt.Errorf("replace the box before: %w", err)
	}
	n, err := p.store.nextEnrolment(ctx, tx, t.Facility)
	if err != nil {
		return admission{}, fmt.Errorf("count the box: %w", err)
	}
	in.box = Box{Tenant: t.Tenant, Facility: t.Facility, Number: uint32(t.Number), Enrolment: n, TunnelKey: r.msg.TunnelKey, State: "active"}
	if in.cert, err = p.cfg.CA.device(r.pub, in.box.ID(), now); err != nil {
		return admission{}, err
	}
	if err := p.store.addDevice(ctx, tx, sum, t.Facility, n, r, in.cert, now); err != nil {
		return admission{}, fmt.Errorf("keep the box: %w", err)
	}
	detail := map[string]any{"facility": t.Facility, "enrolment": n, "serial": serialText(in.cert), "hardware": r.msg.Hardware}
	if err := p.store.audit(ctx, tx, "box.enrolled", detail); err != nil {
		return admission{}, fmt.Errorf("write the audit log: %w", err)
	}
	return in, nil
}

// repeat finds what was decided for this key before.
func (p *Provision) repeat(ctx context.Context, tx pgx.Tx, r *request, used time.Time) (admission, error) {
	d, err := p.store.device(ctx, tx, r.keySum)
	if err != nil {
		return admission{}, fmt.Errorf("look the box up: %w", err)
	}
	if d.State != "active" {
		return admission{}, revokedBox(d.Facility)
	}
	if string(d.TunnelKey) != string(r.msg.TunnelKey[:]) {
		return admission{}, usedToken(used)
	}
	cert, _, err := p.store.certificate(ctx, tx, d.ID)
	if err != nil {
		return admission{}, fmt.Errorf("look the certificate up: %w", err)
	}
	return admission{box: d.box(), cert: cert}, nil
}

// renew gives a known key its next certificate, or returns a
// *proto.EnrolProblem. That the old one has expired does not matter.
func (p *Provision) renew(ctx context.Context, msg proto.RenewRequest) (*proto.EnrolAnswer, error) {
	now := p.cfg.Now()
	if time.UnixMilli(msg.WallMs).Sub(now) > clockAhead {
		return nil, clockOff(time.UnixMilli(msg.WallMs), now)
	}
	pub, spki, err := checkCSR(msg.CSR)
	if err != nil {
		return nil, err
	}
	var box Box
	var cert *x509.Certificate
	err = pgx.BeginFunc(ctx, p.cfg.DB, func(tx pgx.Tx) error {
		d, err := p.store.device(ctx, tx, sha256.Sum256(spki))
		if errors.Is(err, pgx.ErrNoRows) {
			return notKnown()
		}
		if err != nil {
			return fmt.Errorf("look the box up: %w", err)
		}
		switch {
		case d.Removed:
			return facilityRemoved(d.Facility)
		case d.State != "active":
			return revokedBox(d.Facility)
		}
		box = d.box()
		last, issued, err := p.store.certificate(ctx, tx, d.ID)
		if err == nil && now.Sub(issued) < renewAgain {
			cert = last
			return nil
		}
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("look the certificate up: %w", err)
		}
		if cert, err = p.cfg.CA.device(pub, box.ID(), now); err != nil {
			return err
		}
		return p.store.renewed(ctx, tx, d.ID, cert, msg.Agent, now)
	})
	if err != nil {
		return nil, err
	}
	return p.answer(box, cert, now), nil
}

func (p *Provision) answer(b Box, cert *x509.Certificate, now time.Time) *proto.EnrolAnswer {
	t := p.cfg.Tunnel
	t.Address = proto.FacilityAddress(b.Number).String()
	t.HubAddress = proto.HubAddress.String()
	t.StreamPort = proto.StreamPort
	return &proto.EnrolAnswer{
		Certificates:     [][]byte{cert.Raw},
		CA:               p.cfg.CA.Certificate().Raw,
		Region:           p.cfg.Region,
		Tenant:           b.Tenant,
		Facility:         b.Facility,
		Enrolment:        b.Enrolment,
		MQTT:             p.cfg.MQTT,
		Tunnel:           t,
		HeartbeatSeconds: p.cfg.HeartbeatSeconds,
		WallMs:           now.UnixMilli(),
		EnrolURL:         p.cfg.URL,
	}
}
