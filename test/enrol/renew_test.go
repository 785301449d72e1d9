package enrol_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/edge/enrol"
	"github.com/agogsaas/holdfast/proto"
)

func TestACertificateIsRenewedInTimeAndAlsoAfter(t *testing.T) {
	t.Parallel()
	for name, age := range map[string]time.Duration{
		"after two thirds": 70 * 24 * time.Hour,
		"after its end":    400 * 24 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRegion(t)
			dir := t.TempDir()
			// Both sides' clocks must agree, so the enrolment is what is old.
			id := mustEnrol(t, dir, r.token("la", 0))
			backdate(t, r, dir, id, age)
			old, err := enrol.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			k := enrol.NewKeeper(dir, old, nil)
			runKeeper(t, k)
			waitFor(t, func() bool { return k.Identity() != old })
			next := k.Identity()
			if time.Until(next.Certificate.Leaf.NotAfter) < 80*24*time.Hour || next.ClientID() != id.ClientID() || next.TunnelKey != id.TunnelKey {
				t.Errorf("renewed until %v as %s", next.Certificate.Leaf.NotAfter, next.ClientID())
			}
			if saved, err := enrol.Load(dir); err != nil || !saved.Certificate.Leaf.Equal(next.Certificate.Leaf) {
				t.Errorf("the file holds %v, %v", saved, err)
			}
			if err := k.Problem(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestARevokedBoxIsNotRenewed(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	dir := t.TempDir()
	id := mustEnrol(t, dir, r.token("la", 0))
	backdate(t, r, dir, id, 70*24*time.Hour)
	if err := r.Revoke(t.Context(), "la"); err != nil {
		t.Fatal(err)
	}
	old, err := enrol.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	k := enrol.NewKeeper(dir, old, nil)
	runKeeper(t, k)
	waitFor(t, func() bool { return k.Problem() != nil })
	if got := refused(t, k.Problem()); got != proto.EnrolRevoked {
		t.Errorf("code %d: %v", got, k.Problem())
	}
}

// backdate makes the box's certificate older: the region signs another for the
// same key as of then, and the box has that one.
func backdate(t *testing.T, r *region, dir string, id *enrol.Identity, age time.Duration) {
	t.Helper()
	then := time.Now().Add(-age)
	r.db.Exec(t, `DELETE FROM holdfast.device_certificate`)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, id.Certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	body, err := proto.RenewRequest{CSR: csr, WallMs: then.UnixMilli()}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r.setClock(then)
	status, data := r.post(proto.RenewPath, body)
	r.setClock(time.Time{})
	if status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	a, err := proto.DecodeEnrolAnswer(data)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "identity.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	file["certificates"] = []string{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificates[0]}))}
	if text, err = json.Marshal(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func runKeeper(t *testing.T, k *enrol.Keeper) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = k.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for tick := time.Tick(10 * time.Millisecond); !cond(); <-tick {
		if time.Now().After(deadline) {
			t.Fatal("condition not met within two minutes")
		}
	}
}
