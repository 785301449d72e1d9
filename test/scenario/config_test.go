package scenario

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/test/rig/procs"
)

func TestAllProblemsOfAConfigurationAreSaidAtOnceWithTheirPlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		program, text string
		want          []string // file:line:column: setting
	}{
		{procs.Edge, `state_dir: relative/path
log: {level: loud}
queue:
  max: 12
  keeep: 1GiB
postgres: {mode: managed, port: 99999}
uplink: {mtu: 100}
colour: blue
`, []string{":1:12: state_dir", ":2:14: log.level", ":4:8: queue.max", ":5:3: queue.keeep", ":6:33: postgres.port", ":7:15: uplink.mtu", ":8:1: colour"}},
		{procs.Cloud, `region: US East
http:
  listen: 8080
mqtt: {mode: pigeon}
wireguard: {port: zero}
wireguards: {}
enrol: {url: "http://plain"}
`, []string{":1:9: region", ":3:11: http.listen", ":4:14: mqtt.mode", ":5:19: wireguard.port", ":6:1: wireguards", ":7:14: enrol.url"}},
	} {
		t.Run(filepath.Base(c.program), func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "bad.yaml")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			said, err := output(procs.Build(t, c.program), "run", "-c", file)
			if _, ok := err.(*exec.ExitError); !ok {
				t.Fatalf("it ended with %v:\n%s", err, said)
			}
			for _, want := range c.want {
				if !strings.Contains(said, file+want) {
					t.Errorf("nothing is said of %s", want)
				}
			}
			if t.Failed() {
				t.Log(said)
			}
		})
	}
}

// TestATokenThatIsNotGoodIsRefusedWithAReason: used, ended, foreign, made up.
func TestATokenThatIsNotGoodIsRefusedWithAReason(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	other := startSite(t)
	enrol := func(name, token string) (string, error) {
		t.Helper()
		dir := filepath.Join(s.Dir, "box-"+name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		config, file := filepath.Join(dir, "edge.yaml"), filepath.Join(dir, "token")
		for path, text := range map[string]string{config: fmt.Sprintf("state_dir: %s/state\n", dir), file: token + "\n"} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return output(procs.Build(t, procs.Edge), "enrol", "-c", config, "--token-file", file)
	}
	added, err := s.API.AddFacility(t.Context(), v1.FacilityAdd{ID: "la", Tenant: "foo"})
	if err != nil {
		t.Fatal(err)
	}
	first := added.Token.Secret
	again, err := s.API.NewToken(t.Context(), "la", v1.TokenRequest{TTL: 60})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.API.AddFacility(t.Context(), v1.FacilityAdd{ID: "la", Tenant: "foo"})
	if err != nil {
		t.Fatal(err)
	}
	db := regionDB(t, s)
	late, err := s.API.AddFacility(t.Context(), v1.FacilityAdd{ID: "late", Tenant: "foo"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(t.Context(), `UPDATE holdfast.enrol_token SET expires_at = now() - interval '1 second' WHERE facility = 'late'`); err != nil {
		t.Fatal(err)
	}
	// A token of this region with the secret of another's.
	mixed := mix(again.Secret, foreign.Token.Secret)
	if said, err := enrol("good", again.Secret); err != nil {
		t.Fatalf("a good token was refused: %v: %s", err, said)
	}
	for name, token := range map[string]string{
		"replaced": first, "used": again.Secret, "expired": late.Token.Secret, "foreign": mixed, "garbage": "hf1_nonsense", "empty": "",
	} {
		said, err := enrol(name, token)
		if _, ok := err.(*exec.ExitError); !ok {
			t.Errorf("a %s token: %v: %s", name, err, said)
			continue
		}
		if token != "" && strings.Contains(said, token) {
			t.Errorf("a %s token is printed: %s", name, said)
		}
		if len(strings.Fields(said)) < 4 {
			t.Errorf("a %s token is refused without a reason: %q", name, said)
		}
		t.Logf("%s: %s", name, strings.TrimSpace(said))
	}
	var boxes int
	if err := db.QueryRow(t.Context(), `SELECT count(*) FROM holdfast.device`).Scan(&boxes); err != nil || boxes != 1 {
		t.Errorf("%d boxes are enrolled, want 1 (%v)", boxes, err)
	}
}

// mix puts the end of one token on the beginning of the other.
func mix(a, b string) string {
	n := min(len(a), len(b))
	return a[:n-16] + b[len(b)-16:]
}
