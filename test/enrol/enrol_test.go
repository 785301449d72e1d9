package enrol_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/provision"
	"github.com/agogsaas/holdfast/edge/enrol"
	"github.com/agogsaas/holdfast/internal/fault"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/proto"
)

func TestABoxGetsAllThatItNeeds(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	dir := filepath.Join(t.TempDir(), "state")
	id := mustEnrol(t, dir, r.token("la", 0))
	if id.Region != "us-east" || id.Tenant != "foo" || id.Facility != "la" || id.Enrolment != 1 || id.EpochBase() != 1<<32 {
		t.Errorf("identity %s %s %s %d", id.Region, id.Tenant, id.Facility, id.Enrolment)
	}
	if id.ClientID() != "la-AT-foo-E1" || id.Certificate.Leaf.Subject.CommonName != id.ClientID() {
		t.Errorf("named %q, certificate %q", id.ClientID(), id.Certificate.Leaf.Subject.CommonName)
	}
	if life := time.Until(id.Certificate.Leaf.NotAfter); life < 89*24*time.Hour || life > 91*24*time.Hour {
		t.Errorf("the certificate lasts %v", life)
	}
	if id.Stream().String() != "[fd48:6f6c:6466::1]:7400" || id.Tunnel.MTU != 1420 || id.Heartbeat != 5*time.Second || len(id.MQTT) != 1 {
		t.Errorf("settings %v %+v %v %v", id.Stream(), id.Tunnel, id.Heartbeat, id.MQTT)
	}
	boxes, err := r.Active(t.Context())
	if err != nil || len(boxes) != 1 || boxes[0].Facility != "la" || boxes[0].AgentVersion != "v1.2.3" || boxes[0].TunnelKey != proto.Bytes32(id.TunnelKey.Public()) {
		t.Errorf("active boxes %+v, %v", boxes, err)
	}
	if want := proto.FacilityAddress(boxes[0].Number); id.Tunnel.Address != want {
		t.Errorf("tunnel address %v, want %v", id.Tunnel.Address, want)
	}
	again, err := enrol.Load(dir)
	if err != nil || again.ClientID() != id.ClientID() || !slices.EqualFunc(again.Certificate.Certificate, id.Certificate.Certificate, slices.Equal[[]byte]) || again.TunnelKey != id.TunnelKey {
		t.Errorf("loaded %v, %v", again, err)
	}
	if want := []string{"enrolled la-AT-foo-E1"}; !slices.Equal(r.told(), want) {
		t.Errorf("the hooks were told %v", r.told())
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
		if e.Name() == "enrolment.json" {
			t.Error("the pending enrolment was not removed")
		}
	}
}

func TestTheDatabaseKeepsNoSecret(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	text := r.token("la", 0)
	tok, err := proto.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	id := mustEnrol(t, t.TempDir(), text)
	for _, table := range []string{"enrol_token", "device", "device_certificate", "audit"} {
		if n := r.count(`SELECT count(*) FROM holdfast.`+table+` x WHERE x::text LIKE '%' || encode($1, 'hex') || '%' OR x::text LIKE '%' || $2 || '%'`,
			tok.Secret[:], id.TunnelKey.Reveal()); n != 0 {
			t.Errorf("table %s holds a secret", table)
		}
	}
}

func TestATokenIsRefused(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	tok := func(text string) proto.EnrolToken {
		k, err := proto.ParseToken(text)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	text := func(k proto.EnrolToken) string {
		s, err := k.Text()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	used := r.token("la", 0)
	mustEnrol(t, t.TempDir(), used)
	withdrawn := r.token("la", 0)
	good := r.token("la", 0)
	foreign := tok(good)
	foreign.Secret[0] ^= 1
	elsewhere := tok(good)
	elsewhere.Region = "eu-central"
	for _, tt := range []struct {
		name, token string
		want        proto.EnrolCode
		hint        string
	}{
		{"used by another box", used, proto.EnrolUsed, "revoke"},
		{"withdrawn by a newer one", withdrawn, proto.EnrolUnknown, "latest"},
		{"made by nobody", text(foreign), proto.EnrolUnknown, "holdfastctl facility token"},
		{"for another region", text(elsewhere), proto.EnrolWrongRegion, "enrol.url"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := box(t, t.TempDir()).Enrol(patience(t, 2*time.Minute), tt.token)
			if got := refused(t, err); got != tt.want {
				t.Errorf("code %d, want %d: %v", got, tt.want, err)
			}
			if !strings.Contains(hint.Of(err), tt.hint) {
				t.Errorf("the advice %q does not mention %q", hint.Of(err), tt.hint)
			}
		})
	}
	if n := r.devices(); n != 1 {
		t.Errorf("%d boxes", n)
	}
	mustEnrol(t, t.TempDir(), good) // none of it hurt the good one
}

func TestAnExpiredTokenIsRefused(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	token := r.token("la", time.Hour)
	r.setClock(time.Now().Add(time.Hour + time.Second))
	_, err := box(t, t.TempDir()).Enrol(patience(t, 2*time.Minute), token)
	if got := refused(t, err); got != proto.EnrolExpired {
		t.Errorf("code %d: %v", got, err)
	}
	if r.devices() != 0 {
		t.Error("the box was let in")
	}
}

func TestABoxWhoseClockIsAheadIsTold(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	token := r.token("la", 0)
	r.setClock(time.Now().Add(-48 * time.Hour))
	_, err := box(t, t.TempDir()).Enrol(patience(t, 2*time.Minute), token)
	if got := refused(t, err); got != proto.EnrolClockOff || !strings.Contains(hint.Of(err), "timedatectl") {
		t.Errorf("code %d: %v (%s)", got, err, hint.Of(err))
	}
}

func TestALostReplyIsRepeated(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	r.answer.FailAfter(1)
	id := mustEnrol(t, t.TempDir(), r.token("la", 0))
	if r.devices() != 1 || id.Enrolment != 1 {
		t.Errorf("%d boxes, enrolment %d", r.devices(), id.Enrolment)
	}
	if n := r.count(`SELECT count(*) FROM holdfast.device_certificate`); n != 1 {
		t.Errorf("%d certificates were signed", n)
	}
}

func TestAKillBetweenAnyTwoStepsLosesNothing(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	for name, at := range map[string]func(*enrol.Steps) **fault.Point{
		"keys":     func(s *enrol.Steps) **fault.Point { return &s.KeepKeys },
		"identity": func(s *enrol.Steps) **fault.Point { return &s.KeepIdentity },
		"finish":   func(s *enrol.Steps) **fault.Point { return &s.Finish },
	} {
		for _, when := range []string{"before", "after"} {
			t.Run(name+" "+when, func(t *testing.T) {
				before := r.devices()
				token, dir := r.token("la", 0), t.TempDir()
				b := box(t, dir)
				var p fault.Point
				*at(&b.Steps) = &p
				if when == "before" {
					p.FailBefore(1)
				} else {
					p.FailAfter(1)
				}
				if _, err := b.Enrol(patience(t, 2*time.Minute), token); !errors.Is(err, fault.Err) {
					t.Fatalf("got %v", err)
				}
				id := mustEnrol(t, dir, token) // as after a restart
				if n := r.devices() - before; n != 1 {
					t.Errorf("%d boxes for one", n)
				}
				back, err := enrol.Load(dir)
				if err != nil || back.ClientID() != id.ClientID() {
					t.Errorf("loaded %v, %v", back, err)
				}
				if _, err := os.Stat(filepath.Join(dir, "enrolment.json")); err == nil {
					t.Error("the pending keys are still there")
				}
			})
		}
	}
}

func TestANewBoxReplacesTheOneBefore(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	old := t.TempDir()
	oldID := mustEnrol(t, old, r.token("la", 0))
	next := mustEnrol(t, t.TempDir(), r.token("la", 0))
	if next.Enrolment != 2 || next.EpochBase() <= oldID.EpochBase() || next.Tunnel.Address != oldID.Tunnel.Address {
		t.Errorf("the new box is number %d", next.Enrolment)
	}
	want := []string{"enrolled la-AT-foo-E1", "revoked la-AT-foo-E1", "enrolled la-AT-foo-E2"}
	if !slices.Equal(r.told(), want) {
		t.Errorf("the hooks were told %v", r.told())
	}
	if boxes, err := r.Boxes(t.Context()); err != nil || len(boxes) != 2 || boxes[0].State != "active" || boxes[1].State != "replaced" {
		t.Errorf("boxes %+v, %v", boxes, err)
	}
	if !onCRL(t, r, oldID) || onCRL(t, r, next) {
		t.Error("the revocation list does not name the old box, or names the new one")
	}
}

func TestARevokedBoxStaysOut(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	dir, token := t.TempDir(), r.token("la", 0)
	id := mustEnrol(t, dir, token)
	if onCRL(t, r, id) {
		t.Error("an active box is on the revocation list")
	}
	if err := r.Revoke(t.Context(), "la"); err != nil {
		t.Fatal(err)
	}
	if !onCRL(t, r, id) {
		t.Error("the revoked box is not on the revocation list")
	}
	if err := r.Revoke(t.Context(), "la"); !errors.Is(err, provision.ErrNotFound) {
		t.Errorf("revoked twice: %v", err)
	}
	// The same keys, the same token: no way back.
	if err := os.Remove(filepath.Join(dir, "identity.json")); err != nil {
		t.Fatal(err)
	}
	_, err := box(t, dir).Enrol(patience(t, 2*time.Minute), token)
	if got := refused(t, err); got != proto.EnrolUsed && got != proto.EnrolRevoked {
		t.Errorf("code %d: %v", got, err)
	}
	if boxes, err := r.Active(t.Context()); err != nil || len(boxes) != 0 {
		t.Errorf("active boxes %v, %v", boxes, err)
	}
}

func TestARemovedFacilityTakesNoBox(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	token := r.token("la", 0)
	r.db.Exec(t, `UPDATE holdfast.facility SET removed_at = now() WHERE id = 'la'`)
	_, err := box(t, t.TempDir()).Enrol(patience(t, 2*time.Minute), token)
	if got := refused(t, err); got != proto.EnrolRemoved {
		t.Errorf("code %d: %v", got, err)
	}
	if _, _, err := r.NewToken(t.Context(), "la", "tester", 0); !errors.Is(err, provision.ErrNotFound) {
		t.Errorf("token for a removed facility: %v", err)
	}
	if _, _, err := r.NewToken(t.Context(), "nowhere", "tester", 0); !errors.Is(err, provision.ErrNotFound) {
		t.Errorf("token for an unknown facility: %v", err)
	}
}

// onCRL reports whether the region's list of revoked certificates names the
// box.
func onCRL(t *testing.T, r *region, id *enrol.Identity) bool {
	t.Helper()
	text, err := r.CRL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("the list is not PEM")
	}
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(id.CA); err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
		return e.SerialNumber.Cmp(id.Certificate.Leaf.SerialNumber) == 0
	})
}
