package oncall

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/cloud/alert"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// rig is a region with facilities la and sf of tenant foo, and frankfurt of bar.
type rig struct {
	*Room
	t     *testing.T
	pool  *pgxpool.Pool
	phone *provider
	now   time.Time
}

func newRig(t *testing.T) *rig {
	t.Helper()
	pool := pgtest.Migrated(t, "region", migrations.Up).Pool(t)
	_, err := pool.Exec(t.Context(), `INSERT INTO holdfast.facility (id, tenant, name, time_zone) VALUES
		('la', 'foo', 'Los Angeles', 'America/Los_Angeles'), ('sf', 'foo', '', 'UTC'), ('frankfurt', 'bar', '', 'Europe/Berlin')`)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{}
	senders := Checker{}
	for _, k := range []channel.Kind{channel.SMS, channel.Voice, channel.Email, channel.Slack, channel.Webhook, channel.PagerDuty} {
		senders[k] = p
	}
	return &rig{Room: New(pool, senders, slog.New(slog.DiscardHandler)), t: t, pool: pool, phone: p, now: moment(t, "2026-06-01 12:00 +0000")}
}

// provider is a channel that knows which addresses are wrong.
type provider struct {
	mu      sync.Mutex
	problem error
	asked   []string
}

func (p *provider) Send(context.Context, channel.Message) (channel.Result, error) {
	return channel.Result{}, errors.New("nothing is sent here")
}

func (p *provider) Check(_ context.Context, to string, _ map[string]string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, to)
	return p.problem
}

func (r *rig) contact(tenant, name string, methods ...string) int64 {
	r.t.Helper()
	c, err := r.AddContact(r.t.Context(), v1.Contact{Tenant: tenant, Name: name}, "olga")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, m := range methods {
		r.method(c.ID, m)
	}
	return c.ID
}

// method adds one that is written as "sms +12135550100".
func (r *rig) method(contact int64, m string) v1.Method {
	r.t.Helper()
	kind, address, _ := strings.Cut(m, " ")
	out, err := r.AddMethod(r.t.Context(), contact, v1.MethodAdd{Channel: kind, Address: address}, "olga", r.now)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r *rig) policy(p v1.Policy) int64 {
	r.t.Helper()
	out, err := r.AddPolicy(r.t.Context(), p, "olga")
	if err != nil {
		r.t.Fatal(err)
	}
	return out.ID
}

func (r *rig) schedule(s v1.Schedule) int64 {
	r.t.Helper()
	out, err := r.AddSchedule(r.t.Context(), s, "olga", r.now)
	if err != nil {
		r.t.Fatal(err)
	}
	return out.ID
}

// within runs what the alerter does, in a transaction.
func (r *rig) within(fn func(tx pgx.Tx) error) {
	r.t.Helper()
	if err := pgx.BeginFunc(r.t.Context(), r.pool, fn); err != nil {
		r.t.Fatal(err)
	}
}

// policies is which policies an incident runs through.
func (r *rig) policies(s alert.Subject) (ids []int64) {
	r.t.Helper()
	r.within(func(tx pgx.Tx) (err error) {
		ids, err = r.Policies(r.t.Context(), tx, s)
		return err
	})
	return ids
}

// step is who is told by one, such as "Ana sms".
func (r *rig) step(policy int64, no int, s alert.Subject) (step alert.Step, told []string, ok bool) {
	r.t.Helper()
	r.within(func(tx pgx.Tx) (err error) {
		step, ok, err = r.Step(r.t.Context(), tx, policy, no, s, r.now)
		return err
	})
	for _, t := range step.Targets {
		told = append(told, t.Name+" "+string(t.Channel))
	}
	return step, told, ok
}

func offline(tenant, facility string) alert.Subject {
	return alert.Subject{Kind: detect.Offline, Severity: detect.Critical, Tenant: tenant, Facility: facility}
}

// wantInvalid says that err names a field and tells what to do.
func wantInvalid(t *testing.T, err error, field, advice string) {
	t.Helper()
	bad, ok := errors.AsType[*InvalidError](err)
	if !ok || bad.Field != field || !strings.Contains(hint.Of(err), advice) {
		t.Errorf("want field %q with advice %q, got %#v %v, %q", field, advice, bad, err, hint.Of(err))
	}
}

func wantRefused(t *testing.T, err error, parts ...string) {
	t.Helper()
	no, ok := errors.AsType[*RefusedError](err)
	if !ok || hint.Of(err) == "" {
		t.Fatalf("want a refusal with advice, got %v, %q", err, hint.Of(err))
	}
	for _, p := range parts {
		if !strings.Contains(no.Text, p) {
			t.Errorf("%q is missing in %q", p, no.Text)
		}
	}
}
