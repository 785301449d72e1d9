package scenario_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/broker"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/test/peers/webhook"
	"github.com/agogsaas/holdfast/test/rig/procs"
	"github.com/agogsaas/holdfast/test/rig/site"
	"github.com/agogsaas/holdfast/test/scenario"
)

// othersMosquitto is a broker that others run, with what it takes to be one.
func othersMosquitto(t *testing.T) (addr string) {
	t.Helper()
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		program = "/usr/sbin/mosquitto" // where ordinary users' paths do not lead
	}
	port := pgtest.Port(t)
	file := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, "listener %d 127.0.0.1\nallow_anonymous true\n", port), 0o600); err != nil {
		t.Fatal(err)
	}
	procs.Start(t, procs.Spec{Name: "mosquitto", Path: program, Args: []string{"-c", file}})
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// TestTwoProcessesOfARegionTellOnce: two whole processes run on one database and one
// broker, and each hears both boxes. Of one that falls silent one page is sent;
// the process that decides is killed, and the other tells of the second one, and of
// nothing again.
func TestTwoProcessesOfARegionTellOnce(t *testing.T) {
	t.Parallel()
	addr := othersMosquitto(t)
	const word = "a-secret-of-thirty-two-characters"
	told := webhook.New(word)
	people := httptest.NewServer(told)
	t.Cleanup(people.Close)
	dsn, _ := scenario.CustomersServer(t)
	start := func(password string) *site.Site {
		return scenario.StartSiteWith(t, site.Options{
			Existing: dsn, AdminPassword: password,
			MQTTLines: []string{"mode: external", `external_url: "tcp://` + addr + `"`},
			Extra:     fmt.Sprintf("alerts: {webhook: {secret_file: %s, private_networks: [127.0.0.0/8]}}\n", secret(t, word)),
		})
	}
	first := start("")
	contacts, err := first.API.Contacts(t.Context(), "")
	i := slices.IndexFunc(contacts, func(c v1.Contact) bool { return c.Name == "Operations" })
	if err != nil || i < 0 {
		t.Fatalf("whom does a new region tell? %+v, %v", contacts, err)
	}
	if _, err := first.API.AddMethod(t.Context(), contacts[i].ID, v1.MethodAdd{Channel: "webhook", Address: people.URL}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []broker.Device{la, ffm} {
		if _, err := first.API.AddFacility(t.Context(), v1.FacilityAdd{ID: d.Facility, Tenant: d.Tenant}); err != nil {
			t.Fatal(err)
		}
	}
	both := []*site.Site{first, start(first.AdminPassword)}

	b := mqttBroker{scheme: "tcp://", addr: addr, login: func(*testing.T, broker.Device) login { return login{} }}
	boxes := map[string]*box{la.Facility: newBox(t, b, la, t.TempDir()), ffm.Facility: newBox(t, b, ffm, t.TempDir())}
	scenario.Eventually(t, func(ctx context.Context) error {
		for i, s := range both {
			for id := range boxes {
				if f, err := s.API.FacilityStatus(ctx, id); err != nil || !f.Heartbeat {
					return errors.Join(err, fmt.Errorf("process %d has not heard %s", i, id))
				}
			}
		}
		return nil
	})
	boxes[la.Facility].relay.freeze()
	silent := time.Now()

	leader := func(ctx context.Context) (*site.Site, error) {
		var leads []*site.Site
		for _, s := range both {
			n, err := scenario.Metric(ctx, s.URL(), "holdfast_alert_leader")
			if err == nil && n == 1 {
				leads = append(leads, s)
			}
		}
		if len(leads) != 1 {
			return nil, fmt.Errorf("%d processes decide", len(leads))
		}
		return leads[0], nil
	}
	pages := func() (list []string) {
		for _, r := range told.Received() {
			var d channel.Document
			if err := json.Unmarshal(r.Body, &d); err != nil {
				t.Fatal(err)
			}
			list = append(list, fmt.Sprintf("%s of %s %s, %d times", d.Event, d.Incident.Kind, d.Incident.Facility, r.Times))
		}
		return list
	}
	wantPages := func(want ...string) {
		t.Helper()
		scenario.Eventually(t, func(context.Context) error {
			if got := pages(); !slices.Equal(got, want) {
				return fmt.Errorf("told so far: %s", strings.Join(got, "; "))
			}
			return nil
		})
	}
	var was *site.Site
	scenario.Eventually(t, func(ctx context.Context) (err error) {
		was, err = leader(ctx)
		return err
	})
	// A box that nobody can ask through a tunnel is given up after forty seconds.
	const laIs, ffmIs = "trigger of offline la, 1 times", "trigger of offline frankfurt, 1 times"
	scenario.Eventually(t, func(context.Context) error {
		if time.Since(silent) < 6*time.Second {
			return errors.New("the other one is to fall silent later") // than the lease of who is killed
		}
		return nil
	})
	boxes[ffm.Facility].relay.freeze()
	silentToo := time.Now()
	wantPages(laIs)
	t.Logf("told %s after the silence began, the other box fell silent %s after it", time.Since(silent), silentToo.Sub(silent))
	if now, err := leader(t.Context()); err != nil || now != was {
		t.Errorf("the lead has changed without need: %v", err)
	}
	if err := was.Cloud.Kill9(); err != nil {
		t.Fatal(err)
	}
	wantPages(laIs, ffmIs)
	t.Logf("the other is told %s after its silence began", time.Since(silentToo))
	for i, s := range both {
		text, err := os.ReadFile(s.Cloud.LogFile)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "new epoch of the way down"); n > 1 {
			t.Errorf("process %d began %d epochs of the way down", i, n)
		}
	}
	both = slices.DeleteFunc(both, func(s *site.Site) bool { return s == was })
	if now, err := leader(t.Context()); err != nil || now != both[0] {
		t.Errorf("who is left does not decide: %v", err)
	}
	open, err := both[0].API.Incidents(t.Context(), v1.IncidentFilter{State: "all"}, 100, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(open.Items) != 2 {
		t.Errorf("there are %d incidents, want two: %+v", len(open.Items), open.Items)
	}
	if got := pages(); !slices.Equal(got, []string{laIs, ffmIs}) || len(told.Refused()) > 0 {
		t.Errorf("told in the end: %q, refused %v", got, told.Refused())
	}
}
