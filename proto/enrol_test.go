package proto_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/proto"
)

var updateEnrol = flag.Bool("update-enrol", false, "write the vectors of the enrolment messages anew")

func fill(b byte) (out proto.Bytes32) {
	for i := range out {
		out[i] = b + byte(i)
	}
	return out
}

func sampleToken() proto.EnrolToken {
	return proto.EnrolToken{Schema: 1, Secret: fill(1), CAPin: fill(100), URL: "https://region.example:8443", Region: "us-east"}
}

func sampleRequest() proto.EnrolRequest {
	return proto.EnrolRequest{
		Schema: 1, Secret: fill(1), Region: "us-east", CSR: []byte("a certificate request"), TunnelKey: fill(50),
		WallMs: 1_790_000_000_000, Agent: "v0.1.0",
		Hardware: proto.Hardware{Model: "Raspberry Pi 4 Model B Rev 1.5", Serial: "10000000abcdef01", Arch: "arm64", OS: "Debian GNU/Linux 12", Kernel: "6.6.31", CPUs: 4, MemoryBytes: 4 << 30, HostName: "la-box"},
	}
}

func sampleRenew() proto.RenewRequest {
	return proto.RenewRequest{Schema: 1, CSR: []byte("a certificate request"), WallMs: 1_790_000_000_000, Agent: "v0.1.0"}
}

func sampleAnswer() proto.EnrolAnswer {
	return proto.EnrolAnswer{
		Schema: 1, Certificates: [][]byte{[]byte("the box's certificate")}, CA: []byte("the authority's certificate"),
		Region: "us-east", Tenant: "foo", Facility: "la", Enrolment: 3, MQTT: []string{"tls://region.example:8883", "wss://region.example:443/mqtt"},
		Tunnel: proto.TunnelSettings{
			HubKey: fill(7), Endpoint: "region.example:51820", Address: "fd48:6f6c:6466:1::2", HubAddress: "fd48:6f6c:6466::1",
			StreamPort: 7400, MTU: 1420, KeepaliveSeconds: 25,
		},
		HeartbeatSeconds: 5, WallMs: 1_790_000_000_000, EnrolURL: "https://region.example:8443",
	}
}

func sampleProblem() proto.EnrolProblem {
	return proto.EnrolProblem{Schema: 1, Code: proto.EnrolUsed, Text: "another box has used this token", Remedy: "Make a new one.", RetrySeconds: 30, WallMs: 1_790_000_000_000}
}

// TestEnrolVectorsStand: the bytes on the wire never change under a message
// that boxes in the field send or read.
func TestEnrolVectorsStand(t *testing.T) {
	t.Parallel()
	token := sampleToken()
	request, renew, answer, problem := sampleRequest(), sampleRenew(), sampleAnswer(), sampleProblem()
	for _, v := range []struct {
		name   string
		encode func() ([]byte, error)
		decode func([]byte) (any, error)
		want   any
	}{
		{
			"token.txt", func() ([]byte, error) { s, err := token.Text(); return []byte(s), err },
			func(b []byte) (any, error) { return proto.ParseToken(string(b)) }, token,
		},
		{"request.hex", request.Encode, func(b []byte) (any, error) { return proto.DecodeEnrolRequest(b) }, request},
		{"renew.hex", renew.Encode, func(b []byte) (any, error) { return proto.DecodeRenewRequest(b) }, renew},
		{"answer.hex", answer.Encode, func(b []byte) (any, error) { return proto.DecodeEnrolAnswer(b) }, answer},
		{"problem.hex", problem.Encode, func(b []byte) (any, error) { return proto.DecodeEnrolProblem(b) }, problem},
	} {
		t.Run(v.name, func(t *testing.T) {
			got, err := v.encode()
			if err != nil {
				t.Fatal(err)
			}
			text := string(got)
			if strings.HasSuffix(v.name, ".hex") {
				text = hex.EncodeToString(got)
			}
			path := filepath.Join("testdata", "enrol", v.name)
			if *updateEnrol {
				if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if text != strings.TrimSpace(string(want)) {
				t.Errorf("encoded as\n%s, want\n%s", text, want)
			}
			back, err := v.decode(got)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(back, v.want) {
				t.Errorf("decoded as %#v", back)
			}
		})
	}
}

func TestADamagedTokenIsNotTaken(t *testing.T) {
	t.Parallel()
	text, err := sampleToken().Text()
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 250 {
		t.Errorf("%d characters are a lot to paste", len(text))
	}
	for _, ok := range []string{text, " " + text + "\n", text[:40] + "\r\n" + text[40:90] + "  " + text[90:]} {
		if got, err := proto.ParseToken(ok); err != nil || got != sampleToken() {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for i := range text {
		if i > 0 {
			if _, err := proto.ParseToken(text[:i]); err == nil {
				t.Errorf("cut after %d characters: taken", i)
			}
		}
		c := byte('A')
		if text[i] == c {
			c = 'B'
		}
		if _, err := proto.ParseToken(text[:i] + string(c) + text[i+1:]); err == nil {
			t.Errorf("character %d changed: taken", i)
		}
	}
	for _, bad := range []string{"", "hf1_", "hf2_" + text[4:], strings.Repeat("hf1_", 1000), text + text} {
		if _, err := proto.ParseToken(bad); err == nil {
			t.Errorf("%.20q: taken", bad)
		}
	}
}

func TestATokenDoesNotShowItsSecret(t *testing.T) {
	t.Parallel()
	tok := sampleToken()
	text, err := tok.Text()
	if err != nil {
		t.Fatal(err)
	}
	shown := fmt.Sprintf("%v %s %#v %v", tok, tok, tok, tok.LogValue())
	if strings.Contains(shown, text) || strings.Contains(shown, fmt.Sprint([32]byte(tok.Secret))) || strings.Contains(shown, hex.EncodeToString(tok.Secret[:])) {
		t.Errorf("shown as %s", shown)
	}
}

func TestIncompleteEnrolMessagesAreRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*proto.EnrolRequest){
		"no secret":      func(r *proto.EnrolRequest) { r.Secret = proto.Bytes32{} },
		"no tunnel key":  func(r *proto.EnrolRequest) { r.TunnelKey = proto.Bytes32{} },
		"bad region":     func(r *proto.EnrolRequest) { r.Region = "US East" },
		"no CSR":         func(r *proto.EnrolRequest) { r.CSR = nil },
		"a CSR too long": func(r *proto.EnrolRequest) { r.CSR = make([]byte, 5000) },
	} {
		r := sampleRequest()
		change(&r)
		if _, err := r.Encode(); err == nil {
			t.Errorf("request with %s: encoded", name)
		}
	}
	for name, change := range map[string]func(*proto.EnrolAnswer){
		"no certificate":    func(a *proto.EnrolAnswer) { a.Certificates = nil },
		"no enrolment":      func(a *proto.EnrolAnswer) { a.Enrolment = 0 },
		"a plain broker":    func(a *proto.EnrolAnswer) { a.MQTT = []string{"tcp://region.example:1883"} },
		"a broker password": func(a *proto.EnrolAnswer) { a.MQTT = []string{"tls://a:b@region.example:1883"} },
		"no broker":         func(a *proto.EnrolAnswer) { a.MQTT = nil },
		"a plain URL":       func(a *proto.EnrolAnswer) { a.EnrolURL = "http://region.example" },
		"no endpoint":       func(a *proto.EnrolAnswer) { a.Tunnel.Endpoint = "region.example" },
		"a bad address":     func(a *proto.EnrolAnswer) { a.Tunnel.Address = "fd48::1%eth0" },
		"a small MTU":       func(a *proto.EnrolAnswer) { a.Tunnel.MTU = 576 },
		"no heartbeat":      func(a *proto.EnrolAnswer) { a.HeartbeatSeconds = 0 },
	} {
		a := sampleAnswer()
		change(&a)
		if _, err := a.Encode(); err == nil {
			t.Errorf("answer with %s: encoded", name)
		}
	}
}

// FuzzEnrol: whatever is sent, the decoders end without a panic, and what they
// take encodes again to a message that means the same.
func FuzzEnrol(f *testing.F) {
	text, err := sampleToken().Text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(text))
	for _, m := range []interface{ Encode() ([]byte, error) }{sampleRequest(), sampleRenew(), sampleAnswer(), sampleProblem()} {
		b, err := m.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		r := rand.New(rand.NewPCG(1, 2))
		for range 8 {
			c := bytes.Clone(b)
			c[r.IntN(len(c))] ^= 1 << r.IntN(8)
			f.Add(c)
			f.Add(c[:r.IntN(len(c))])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := proto.ParseToken(string(b)); err == nil {
			s, err := m.Text()
			if err != nil {
				t.Fatalf("token: %v", err)
			}
			if again, err := proto.ParseToken(s); err != nil || again.Secret != m.Secret || again.URL != m.URL {
				t.Fatalf("token: %v", err)
			}
		}
		if m, err := proto.DecodeEnrolRequest(b); err == nil {
			encodesAgain(t, m, proto.DecodeEnrolRequest)
		}
		if m, err := proto.DecodeRenewRequest(b); err == nil {
			encodesAgain(t, m, proto.DecodeRenewRequest)
		}
		if m, err := proto.DecodeEnrolAnswer(b); err == nil {
			encodesAgain(t, m, proto.DecodeEnrolAnswer)
		}
		if m, err := proto.DecodeEnrolProblem(b); err == nil {
			encodesAgain(t, m, proto.DecodeEnrolProblem)
		}
	})
}

func encodesAgain[M interface{ Encode() ([]byte, error) }](t *testing.T, m M, decode func([]byte) (M, error)) {
	t.Helper()
	b, err := m.Encode()
	if err != nil {
		t.Fatalf("%T does not encode again: %v", m, err)
	}
	again, err := decode(b)
	if err != nil {
		t.Fatalf("%T: %v", m, err)
	}
	c, err := again.Encode()
	if err != nil || !bytes.Equal(b, c) {
		t.Fatalf("%T changes each time: %v", m, err)
	}
}
