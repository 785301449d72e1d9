package api_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/api/apitest"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

// withLA is a region with facility la of tenant foo.
func withLA(t *testing.T) *apitest.Server {
	t.Helper()
	r := apitest.Start(t)
	if _, err := r.Operator.AddFacility(t.Context(), v1.FacilityAdd{ID: "la", Name: "Los Angeles", TimeZone: "America/Los_Angeles"}); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhoIsToldIsSetUpByOperatorsAndSeenByAll(t *testing.T) {
	t.Parallel()
	r := withLA(t)
	ctx := t.Context()
	ana, err := r.Operator.AddContact(ctx, v1.Contact{Tenant: "foo", Name: "Ana"})
	if err != nil || ana.ID == 0 || ana.TimeZone != "UTC" {
		t.Fatalf("%+v, %v", ana, err)
	}
	_, err = r.Viewer.AddContact(ctx, v1.Contact{Name: "Eve"})
	wantProblem(t, err, http.StatusForbidden, v1.ProblemForbidden)
	sms, err := r.Operator.AddMethod(ctx, ana.ID, v1.MethodAdd{Channel: "sms", Address: "+1 213 555 0100"})
	if err != nil || sms.Address != "+12135550100" || sms.Problem != "" || sms.CheckedAt == nil {
		t.Fatalf("%+v, %v", sms, err)
	}
	const hook = "https://hooks.slack.com/services/T000/B000/verysecretpart9Zx7"
	r.Provider.Refuse(errors.New("no_team"))
	slack, err := r.Operator.AddMethod(ctx, ana.ID, v1.MethodAdd{Channel: "webhook", Address: hook, Settings: map[string]string{"secret": "signing-secret"}})
	if err != nil || slack.Problem != "no_team" {
		t.Fatalf("%+v, %v", slack, err)
	}
	r.Provider.Refuse(nil)
	if slack, err = r.Operator.CheckMethod(ctx, slack.ID); err != nil || slack.Problem != "" {
		t.Errorf("%+v, %v", slack, err)
	}
	for _, path := range []string{"/api/v1/contacts", "/api/v1/audit", fmt.Sprintf("/api/v1/contacts/%d", ana.ID)} {
		token := r.Admin.Token
		if status, raw := call(t, r, "GET", path, token, ""); status != http.StatusOK || strings.Contains(raw, "verysecret") || strings.Contains(raw, "signing-secret") {
			t.Errorf("%s: %d %s", path, status, raw)
		}
	}
	_, err = r.Operator.AddMethod(ctx, ana.ID, v1.MethodAdd{Channel: "sms", Address: "555 0100"})
	if p := wantProblem(t, err, http.StatusUnprocessableEntity, v1.ProblemInvalid); p.Errors[0].Location != "body.address" || !strings.Contains(p.Remedy, "country") {
		t.Errorf("%+v", p)
	}

	first := time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly)
	turns, err := r.Operator.AddSchedule(ctx, v1.Schedule{
		Tenant: "foo", Name: "plant", TimeZone: "America/Los_Angeles",
		Rotations: []v1.Rotation{{Contacts: []int64{ana.ID}, FirstDay: first, Handover: "00:00", TurnDays: 7}},
	})
	if err != nil || len(turns.Rotations) != 1 {
		t.Fatalf("%+v, %v", turns, err)
	}
	ben, err := r.Operator.AddContact(ctx, v1.Contact{Tenant: "foo", Name: "Ben", TimeZone: "Europe/Berlin"})
	if err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	if turns, err = r.Operator.AddOverride(ctx, turns.ID, v1.Override{Contact: ben.ID, StartsAt: time.Now().Add(-time.Minute), EndsAt: until}); err != nil || len(turns.Overrides) != 1 {
		t.Fatalf("%+v, %v", turns, err)
	}
	now, err := r.Viewer.OnCall(ctx)
	if err != nil || len(now) != 1 || now[0].Who != "Ben" || !now[0].Override || !now[0].Until.Equal(until) {
		t.Errorf("%+v, %v", now, err)
	}
	if turns, err = r.Operator.RemoveOverride(ctx, turns.ID, turns.Overrides[0].ID); err != nil || len(turns.Overrides) != 0 {
		t.Errorf("%+v, %v", turns, err)
	}
	turns.TimeZone = "Mars"
	_, err = r.Operator.SetSchedule(ctx, turns)
	wantProblem(t, err, http.StatusUnprocessableEntity, v1.ProblemInvalid)
	turns.TimeZone = "UTC"
	if turns, err = r.Operator.SetSchedule(ctx, turns); err != nil || turns.TimeZone != "UTC" {
		t.Errorf("%+v, %v", turns, err)
	}

	cover, err := r.Viewer.Coverage(ctx)
	if err != nil || len(cover) != 1 || !strings.Contains(cover[0].Customer.Problem, "nobody is told") || cover[0].Customer.Remedy == "" {
		t.Fatalf("%+v, %v", cover, err)
	}
	plant, err := r.Operator.AddPolicy(ctx, v1.Policy{Tenant: "foo", Name: "plant", Steps: []v1.PolicyStep{{Schedules: []int64{turns.ID}}, {After: 600, Contacts: []int64{ben.ID}}}})
	if err != nil || plant.Severity != "warning" {
		t.Fatalf("%+v, %v", plant, err)
	}
	if cover, err = r.Viewer.Coverage(ctx); err != nil || cover[0].Customer.Problem != "" || !slices.Equal(cover[0].Customer.People, []string{"Ana"}) {
		t.Errorf("%+v, %v", cover, err)
	}
	p := wantProblem(t, r.Operator.RemoveContact(ctx, ben.ID), http.StatusConflict, v1.ProblemConflict)
	if !strings.Contains(p.Detail, "policy plant") {
		t.Errorf("%+v", p)
	}
	before := plant
	plant.Steps = plant.Steps[:1]
	if plant, err = r.Operator.SetPolicy(ctx, plant); err != nil || len(plant.Steps) != 1 || plant.Version != before.Version+1 || plant.ChangedBy != "test operator" {
		t.Errorf("%+v, %v", plant, err)
	}
	_, err = r.Operator.SetPolicy(ctx, before)
	if p := wantProblem(t, err, http.StatusConflict, v1.ProblemConflict); !strings.HasPrefix(p.Detail, "test operator changed the policy plant at ") || p.Remedy == "" {
		t.Errorf("%+v", p)
	}
	if err := r.Operator.RemoveContact(ctx, ben.ID); err != nil {
		t.Error(err)
	}
	standard, err := r.Operator.AddStandardPolicy(ctx, v1.StandardPolicy{Tenant: "foo", First: []int64{ana.ID}, Success: []int64{ana.ID}})
	if err != nil || len(standard.Steps) != 3 || standard.Steps[2].Offer != "fallback" {
		t.Errorf("%+v, %v", standard, err)
	}
	if list, err := r.Viewer.Policies(ctx, "foo"); err != nil || len(list) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
	_, err = r.Operator.AddPolicy(ctx, v1.Policy{Tenant: "foo", Name: "x", Steps: []v1.PolicyStep{{After: 5}}})
	if p := wantProblem(t, err, http.StatusUnprocessableEntity, v1.ProblemInvalid); p.Errors[0].Location != "body.steps[0].contacts" {
		t.Errorf("%+v", p)
	}
	for _, id := range []int64{plant.ID, standard.ID} {
		if err := r.Operator.RemovePolicy(ctx, id); err != nil {
			t.Error(err)
		}
	}
	if err := r.Operator.RemoveSchedule(ctx, turns.ID); err != nil {
		t.Error(err)
	}
	if err := r.Operator.RemoveMethod(ctx, sms.ID); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"contact":  r.Operator.RemoveContact(ctx, 999),
		"method":   r.Operator.RemoveMethod(ctx, 999),
		"schedule": r.Operator.RemoveSchedule(ctx, 999),
		"policy":   r.Operator.RemovePolicy(ctx, 999),
	} {
		if p := wantProblem(t, err, http.StatusNotFound, v1.ProblemNotFound); !strings.Contains(p.Detail, what) {
			t.Errorf("%+v", p)
		}
	}
	for _, what := range []string{"contact.add", "method.add", "schedule.add", "override.add", "policy.add", "policy.remove", "contact.remove"} {
		if got := audited(t, r, what); len(got) == 0 || got[0] != "test operator" {
			t.Errorf("audit of %s: %v", what, got)
		}
	}
}

func TestWorkIsAnnouncedForAWhileAndEnds(t *testing.T) {
	t.Parallel()
	r := withLA(t)
	ctx := t.Context()
	in := v1.MaintenanceAdd{Facility: "la", For: 7200, Reason: "new switch"}
	_, err := r.Viewer.AddMaintenance(ctx, in)
	wantProblem(t, err, http.StatusForbidden, v1.ProblemForbidden)
	m, err := r.Operator.AddMaintenance(ctx, in)
	if err != nil || m.EndsAt.Sub(m.StartsAt) != 2*time.Hour || m.CreatedBy != "test operator" {
		t.Fatalf("%+v, %v", m, err)
	}
	in.For = 8*3600 + 1
	_, err = r.Operator.AddMaintenance(ctx, in)
	wantProblem(t, err, http.StatusUnprocessableEntity, v1.ProblemInvalid)
	in.Facility, in.For = "nowhere", 60
	_, err = r.Operator.AddMaintenance(ctx, in)
	wantProblem(t, err, http.StatusNotFound, v1.ProblemNotFound)
	if list, err := r.Viewer.Maintenance(ctx, "la", false); err != nil || len(list) != 1 || list[0].EndedAt != nil {
		t.Errorf("%+v, %v", list, err)
	}
	if m, err = r.Operator.EndMaintenance(ctx, m.ID); err != nil || m.EndedAt == nil || m.EndedBy != "test operator" {
		t.Errorf("%+v, %v", m, err)
	}
	_, err = r.Operator.EndMaintenance(ctx, m.ID)
	wantProblem(t, err, http.StatusConflict, v1.ProblemConflict)
	_, err = r.Operator.EndMaintenance(ctx, 999)
	wantProblem(t, err, http.StatusNotFound, v1.ProblemNotFound)
	if list, err := r.Viewer.Maintenance(ctx, "", false); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := r.Viewer.Maintenance(ctx, "", true); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}
