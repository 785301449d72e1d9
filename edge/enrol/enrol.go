// Package enrol makes a box a member of its region: it makes the keys on the
// box, presents the one-time token, and keeps what it is given, across lost
// answers and power cuts. Later it renews the certificate in time.
//
// In:  cmd/holdfast-edge, with the token; edge at each start.
// Out: cloud/provision, over TLS; edge/uplink and edge/heartbeat use the identity.
package enrol

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/durable"
	"github.com/agogsaas/holdfast/internal/fault"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/run"
	"github.com/agogsaas/holdfast/internal/tunnel"
	"github.com/agogsaas/holdfast/internal/version"
	"github.com/agogsaas/holdfast/proto"
)

// The steps, in the order in which they become durable:
//
//  1. the keys and the token's hash, in enrolment.json
//  2. the box, in the region
//  3. the identity, in identity.json
//  4. enrolment.json is removed
//
// A box that stops between any two of them does the rest when it is given the
// same token again: the region answers the same keys with the same identity.

// Steps are broken by tests.
type Steps struct {
	KeepKeys, Ask, KeepIdentity, Finish *fault.Point
}

// Enroller enrols a box. StateDir is required.
type Enroller struct {
	StateDir string
	Log      *slog.Logger
	// Agent is this program's version. Default version.String().
	Agent string
	Steps Steps
	// Backoff is how long to wait when the region cannot be reached.
	Backoff run.Backoff
}

// Enrol enrols the box whose state is in stateDir, see Enroller.Enrol.
func Enrol(ctx context.Context, stateDir, token string, log *slog.Logger) (*Identity, error) {
	return Enroller{StateDir: stateDir, Log: log}.Enrol(ctx, token)
}

// Enrol presents the token and returns the box's identity, which is then in
// the state directory. While the region cannot be reached or cannot answer it
// tries again until ctx ends; a refusal is returned at once, and is a
// *proto.EnrolProblem.
//
// A box that has an identity from the same token returns that. With another
// token it becomes a new box: new keys, a new enrolment number; the identity
// before stands until the new one is complete.
func (e Enroller) Enrol(ctx context.Context, token string) (*Identity, error) {
	if e.Log == nil {
		e.Log = slog.New(slog.DiscardHandler)
	}
	if e.Agent == "" {
		e.Agent = version.String()
	}
	t, err := proto.ParseToken(token)
	if err != nil {
		return nil, hint.Wrap(err, "Copy the token again, or make a new one in the region with holdfastctl facility token <facility>.")
	}
	if err := os.MkdirAll(e.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	unlock, err := lock(filepath.Join(e.StateDir, lockFile))
	if err != nil {
		return nil, err
	}
	defer unlock()

	sum := tokenSum(t)
	if id, err := Load(e.StateDir); err == nil && id.tokenSum == sum {
		return id, e.finish()
	}
	k, err := e.keys(sum)
	if err != nil {
		return nil, fmt.Errorf("make the box's keys: %w", err)
	}
	var a proto.EnrolAnswer
	c := newClient(openClock(e.StateDir), t.CAPin)
	defer c.close()
	var last error
	err = run.Retry(ctx, e.Log.With("region", t.Region), e.Backoff, func(ctx context.Context) error {
		last = e.Steps.Ask.Do(func() error {
			var err error
			a, err = e.ask(ctx, c, t, k)
			return err
		})
		return permanent(last)
	})
	if err != nil {
		if ctx.Err() != nil && last != nil {
			err = last // why it took so long says more than that time is up
		}
		return nil, advise(fmt.Errorf("enrol with region %s at %s: %w", t.Region, t.URL, err), t.URL)
	}
	id, err := fromAnswer(a, k, t.CAPin, sum)
	if err != nil {
		return nil, fmt.Errorf("enrol with region %s: the answer does not fit: %w", t.Region, err)
	}
	// The region's clock came from the region itself: time is not before it.
	c.clock.learn(time.UnixMilli(a.WallMs))
	if err := e.Steps.KeepIdentity.Do(func() error { return id.save(e.StateDir) }); err != nil {
		return nil, fmt.Errorf("keep the identity: %w", err)
	}
	return id, e.finish()
}

func (e Enroller) ask(ctx context.Context, c *client, t proto.EnrolToken, k *keys) (proto.EnrolAnswer, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k.device)
	if err != nil {
		return proto.EnrolAnswer{}, run.Permanent(fmt.Errorf("make the certificate request: %w", err))
	}
	body, err := proto.EnrolRequest{
		Secret: t.Secret, Region: t.Region, CSR: csr, TunnelKey: proto.Bytes32(k.tunnel.Public()),
		WallMs: c.clock.now().UnixMilli(), Agent: e.Agent, Hardware: hardware(),
	}.Encode()
	if err != nil {
		return proto.EnrolAnswer{}, run.Permanent(err)
	}
	return c.post(ctx, t.URL, proto.EnrolPath, body)
}

// finish forgets the keys of the pending enrolment; they are in the identity.
func (e Enroller) finish() error {
	err := e.Steps.Finish.Do(func() error {
		err := os.Remove(filepath.Join(e.StateDir, pendingFile))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return errors.Join(err, durable.SyncDir(e.StateDir))
	})
	if err != nil {
		return fmt.Errorf("finish the enrolment: %w", err)
	}
	return nil
}

// keys are a box's private keys. They never leave it.
type keys struct {
	device *ecdsa.PrivateKey
	tunnel tunnel.PrivateKey
}

// pendingOnDisk is the form of enrolment.json.
type pendingOnDisk struct {
	Format      int    `json:"format"`
	TokenSHA256 string `json:"token_sha256"`
	Key         string `json:"key"`
	TunnelKey   string `json:"tunnel_key"`
}

// keys returns the keys that this token was presented with before, or makes
// new ones and makes them durable first: if the answer is lost, only the same
// keys get it again.
func (e Enroller) keys(sum string) (*keys, error) {
	path := filepath.Join(e.StateDir, pendingFile)
	b, err := config.ReadSecret(path)
	if err == nil {
		if k, ok := pendingKeys(b, sum); ok {
			return k, nil
		}
	}
	k := &keys{}
	if k.device, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if k.tunnel, err = tunnel.GenerateKey(); err != nil {
		return nil, err
	}
	text, err := marshalKey(k.device)
	if err != nil {
		return nil, err
	}
	p := pendingOnDisk{Format: 1, TokenSHA256: sum, Key: text, TunnelKey: k.tunnel.Reveal()}
	return k, e.Steps.KeepKeys.Do(func() error { return saveJSON(path, p) })
}

func pendingKeys(b []byte, sum string) (*keys, bool) {
	var p pendingOnDisk
	if json.Unmarshal(b, &p) != nil || p.Format != 1 || p.TokenSHA256 != sum {
		return nil, false
	}
	device, err := parseKey(p.Key)
	if err != nil {
		return nil, false
	}
	tk, err := tunnel.ParsePrivateKey(p.TunnelKey)
	if err != nil {
		return nil, false
	}
	return &keys{device: device, tunnel: tk}, true
}

func tokenSum(t proto.EnrolToken) string {
	sum := sha256.Sum256(t.Secret[:])
	return hex.EncodeToString(sum[:])
}

// lock keeps a second enrolment on the same box out.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the enrolment: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, hint.Wrap(fmt.Errorf("lock the enrolment: %w", err),
			"Another program is enrolling this box. Wait until it has finished, or stop it.")
	}
	return func() { _ = f.Close() }, nil
}
