package enrol_test

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/provision"
	"github.com/agogsaas/holdfast/edge/enrol"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/proto"
)

func TestAStolenTokenIsNoUseAfterTheBox(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	token := r.token("la", 0)
	mustEnrol(t, t.TempDir(), token)
	thief := t.TempDir()
	_, err := box(t, thief).Enrol(patience(t, 2*time.Minute), token)
	if got := refused(t, err); got != proto.EnrolUsed {
		t.Errorf("code %d: %v", got, err)
	}
	if _, err := enrol.Load(thief); !errors.Is(err, enrol.ErrNotEnrolled) {
		t.Errorf("the thief has %v", err)
	}
}

func TestTwoBoxesWithOneTokenAreOne(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	token := r.token("la", 0)
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		dir := t.TempDir()
		wg.Go(func() { _, errs[i] = box(t, dir).Enrol(patience(t, 2*time.Minute), token) })
	}
	wg.Wait()
	in := 0
	for _, err := range errs {
		if err == nil {
			in++
		} else if got := refused(t, err); got != proto.EnrolUsed {
			t.Errorf("code %d: %v", got, err)
		}
	}
	if in != 1 || r.devices() != 1 {
		t.Errorf("%d were let in, %d boxes are known", in, r.devices())
	}
}

func TestARegionThatIsAwayIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	tok, err := proto.ParseToken(r.token("la", 0))
	if err != nil {
		t.Fatal(err)
	}
	tok.URL = "https://" + addr
	text, err := tok.Text()
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = box(t, t.TempDir()).Enrol(patience(t, 300*time.Millisecond), text)
	if err == nil || !strings.Contains(hint.Of(err), "cable") {
		t.Errorf("while the region is away: %v (%s)", err, hint.Of(err))
	}
	r.start("us-east", addr)
	mustEnrol(t, t.TempDir(), text)
}

func TestAServerThatIsNotTheRegionLearnsNothing(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	// Another authority, same address in the certificate: an impostor.
	ca, err := provision.LoadCA(t.TempDir(), "us-east")
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := ca.Server("enrol", []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	var wg sync.WaitGroup
	defer wg.Wait()
	defer ln.Close()
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 100)
			n, _ := c.Read(buf)
			got = append(got, buf[:n]...)
			_ = c.Close()
		}
	})
	tok, err := proto.ParseToken(r.token("la", 0))
	if err != nil {
		t.Fatal(err)
	}
	tok.URL = "https://" + ln.Addr().String()
	text, err := tok.Text()
	if err != nil {
		t.Fatal(err)
	}
	_, err = box(t, t.TempDir()).Enrol(patience(t, 2*time.Minute), text)
	if err == nil || hint.Of(err) == "" {
		t.Errorf("got %v (%s)", err, hint.Of(err))
	}
	_ = ln.Close()
	wg.Wait()
	if len(got) > 0 {
		t.Errorf("the impostor was told %q", got)
	}
}

func TestWhateverIsSentIsAnsweredPlainly(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	for name, body := range map[string][]byte{
		"nothing":   nil,
		"noise":     []byte("\xff\xfe\x00 not CBOR"),
		"too large": make([]byte, proto.EnrolRequestMaxBytes+1),
	} {
		for _, path := range []string{proto.EnrolPath, proto.RenewPath} {
			status, data := r.post(path, body)
			p, err := proto.DecodeEnrolProblem(data)
			if status != http.StatusBadRequest || err != nil || p.Code != proto.EnrolBadRequest {
				t.Errorf("%s to %s: status %d, %+v, %v", name, path, status, p, err)
			}
		}
	}
}

func TestASourceThatAsksTooOftenMustWait(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	r.setClock(time.Now()) // stands still
	for range 100 {
		status, data := r.post(proto.EnrolPath, nil)
		if status != http.StatusTooManyRequests {
			continue
		}
		if p, err := proto.DecodeEnrolProblem(data); err != nil || p.Code != proto.EnrolSlowDown || p.RetrySeconds == 0 {
			t.Errorf("got %+v, %v", p, err)
		}
		return
	}
	t.Error("a hundred requests at once were all taken")
}
