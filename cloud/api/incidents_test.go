package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/api/apitest"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/detect"
)

// until looks again until what it looks for is so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatalf("not within two minutes: %s", what)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// withPeople is a region whose facility la has somebody who is told.
func withPeople(t *testing.T) (r *apitest.Server, method int64) {
	t.Helper()
	r = withLA(t)
	ctx := t.Context()
	ana, err := r.Operator.AddContact(ctx, v1.Contact{Tenant: "foo", Name: "Ana"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Operator.AddMethod(ctx, ana.ID, v1.MethodAdd{Channel: "email", Address: "ana@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Operator.AddStandardPolicy(ctx, v1.StandardPolicy{Tenant: "foo", First: []int64{ana.ID}}); err != nil {
		t.Fatal(err)
	}
	r.Alert()
	return r, m.ID
}

func TestAnIncidentIsSeenToldAndTakenOn(t *testing.T) {
	t.Parallel()
	r, _ := withPeople(t)
	ctx := t.Context()
	r.Below.Hold(detect.Finding{
		Kind: detect.Offline, Facility: "la", Severity: detect.Critical, Since: time.Now().Add(-8 * time.Second),
		Summary: "nothing is heard of Los Angeles", Evidence: []string{"no heartbeat for 8 s"},
	})
	var i v1.Incident
	until(t, "Ana was told", func() bool {
		page, err := r.Viewer.Incidents(ctx, v1.IncidentFilter{Facility: "la"}, 0, "")
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Items) == 1 {
			i = page.Items[0]
		}
		return i.Told == 1
	})
	if sent := r.Provider.Sent(); len(sent) != 1 || sent[0].To != "ana@example.com" || sent[0].Incident.Facility != "la" {
		t.Errorf("sent: %+v", sent)
	}
	d, err := r.Viewer.Incident(ctx, i.ID)
	if err != nil || d.Kind != "offline" || len(d.Timeline) == 0 || len(d.Deliveries) != 1 || d.Deliveries[0].Name != "Ana" || d.NextAt == nil {
		t.Fatalf("%+v, %v", d, err)
	}
	if m, err := r.Viewer.Delivery(ctx, d.Deliveries[0].ID); err != nil || m.Channel != "email" || m.State != "accepted" {
		t.Errorf("%+v, %v", m, err)
	}
	_, err = r.Viewer.AcknowledgeIncident(ctx, i.ID, v1.IncidentAck{})
	wantProblem(t, err, http.StatusForbidden, v1.ProblemForbidden)
	got, err := r.Operator.AcknowledgeIncident(ctx, i.ID, v1.IncidentAck{Note: "on it"})
	if err != nil || got.AckedBy != "test operator" || got.AckedHow != "cli" || got.RemindAt == nil || got.NextAt == nil { // what is offered after an hour is
		t.Fatalf("%+v, %v", got, err)
	}
	_, err = r.Admin.AcknowledgeIncident(ctx, i.ID, v1.IncidentAck{})
	if p := wantProblem(t, err, http.StatusConflict, v1.ProblemConflict); !strings.Contains(p.Detail, "test operator") {
		t.Errorf("%+v", p)
	}
	for state, n := range map[string]int{"open": 1, "acked": 1, "waiting": 0, "resolved": 0, "all": 1} {
		if page, err := r.Viewer.Incidents(ctx, v1.IncidentFilter{State: state, Kind: "offline", Tenant: "foo"}, 10, ""); err != nil || len(page.Items) != n {
			t.Errorf("%s: %+v, %v", state, page, err)
		}
	}
	r.Below.Hold()
	until(t, "it is over", func() bool {
		d, err := r.Viewer.Incident(ctx, i.ID)
		return err == nil && d.ResolvedAt != nil
	})
	_, err = r.Operator.AcknowledgeIncident(ctx, i.ID, v1.IncidentAck{})
	wantProblem(t, err, http.StatusConflict, v1.ProblemConflict)
	_, err = r.Operator.AcknowledgeIncident(ctx, 999, v1.IncidentAck{})
	wantProblem(t, err, http.StatusNotFound, v1.ProblemNotFound)
	_, err = r.Viewer.Incident(ctx, 999)
	wantProblem(t, err, http.StatusNotFound, v1.ProblemNotFound)
	_, err = r.Viewer.Incidents(ctx, v1.IncidentFilter{Facility: "nowhere"}, 0, "")
	wantProblem(t, err, http.StatusNotFound, v1.ProblemNotFound)
	if told, err := r.Viewer.Told(ctx, 7); err != nil || told.Days != 7 || told.Incidents != 1 || told.Tell.P50 < 8 {
		t.Errorf("%+v, %v", told, err)
	}
}

func TestATestGoesTheWayOfEveryMessage(t *testing.T) {
	t.Parallel()
	r, method := withPeople(t)
	ctx := t.Context()
	_, err := r.Viewer.TestMethod(ctx, method)
	wantProblem(t, err, http.StatusForbidden, v1.ProblemForbidden)
	d, err := r.Operator.TestMethod(ctx, method)
	if err != nil || d.Event != "test" || d.Incident != nil || d.Name != "Ana" {
		t.Fatalf("%+v, %v", d, err)
	}
	until(t, "it was taken", func() bool {
		d, err = r.Viewer.Delivery(ctx, d.ID)
		return err == nil && d.AcceptedAt != nil
	})
	_, err = r.Operator.TestMethod(ctx, 999)
	wantProblem(t, err, http.StatusNotFound, v1.ProblemNotFound)
	_, err = r.Viewer.Delivery(ctx, "00000000-0000-0000-0000-000000000000")
	wantProblem(t, err, http.StatusNotFound, v1.ProblemNotFound)
	list, err := r.Viewer.Channels(ctx)
	if err != nil || len(list) != 8 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, c := range list {
		if ready := c.Channel != "mqtt"; c.Ready != ready || !ready && c.Problem == "" {
			t.Errorf("%+v", c)
		}
	}
}
