package oncall

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/cloud/alert"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/detect"
)

// counted is a transaction that counts what it is asked.
type counted struct {
	pgx.Tx
	n int
}

func (c *counted) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	c.n++
	return c.Tx.Query(ctx, sql, args...)
}

func (c *counted) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	c.n++
	return c.Tx.QueryRow(ctx, sql, args...)
}

func TestAThousandSilentFacilitiesAskTheDatabaseAFewTimes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := t.Context()
	const tenants, each = 50, 20
	_, err := r.pool.Exec(ctx, `INSERT INTO holdfast.facility (id, tenant) SELECT 'f' || t || '-' || f, 't' || t FROM generate_series(0, $1 - 1) t, generate_series(0, $2 - 1) f`, tenants, each)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Seed(ctx, r.pool); err != nil {
		t.Fatal(err)
	}
	for i := range tenants {
		of := fmt.Sprintf("t%d", i)
		c := r.contact(of, "Ana", fmt.Sprintf("sms +1213555%04d", i), "email ana@example.com")
		s := r.schedule(v1.Schedule{Tenant: of, Name: "s", Rotations: []v1.Rotation{{Contacts: []int64{c}, FirstDay: "2026-01-01", TurnDays: 7}}})
		r.policy(v1.Policy{Tenant: of, Name: "p", Steps: []v1.PolicyStep{{Schedules: []int64{s}}}})
	}
	asked, told := 0, 0
	r.within(func(tx pgx.Tx) error {
		c := &counted{Tx: tx}
		for i := range tenants {
			for j := range each {
				s := offline(fmt.Sprintf("t%d", i), fmt.Sprintf("f%d-%d", i, j))
				ids, err := r.Policies(ctx, c, s)
				if err != nil {
					return err
				}
				if len(ids) != 3 {
					return fmt.Errorf("policies %v", ids)
				}
				for _, id := range ids {
					step, _, err := r.Step(ctx, c, id, 0, s, r.now)
					if err != nil {
						return err
					}
					for _, target := range step.Targets {
						if want := fmt.Sprintf("+1213555%04d", i); target.Channel == "sms" && target.Address != want {
							return fmt.Errorf("%s is told by %s, not %s", s.Facility, target.Address, want)
						}
					}
					told += len(step.Targets)
				}
				if _, _, err := r.Maintenance(ctx, c, s.Facility, r.now); err != nil {
					return err
				}
			}
		}
		asked = c.n
		return nil
	})
	if told != 2*tenants*each {
		t.Errorf("%d messages", told)
	}
	if asked > 60 {
		t.Errorf("%d questions to the database", asked)
	}
}

// What was changed counts in the next transaction, and never in the middle of one.
func TestATransactionDecidesOnOneStateAndTheNextOnTheNew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := t.Context()
	ana := r.contact("foo", "Ana", "sms +12135550100")
	id := r.policy(v1.Policy{Tenant: "foo", Name: "plant", Steps: []v1.PolicyStep{{Contacts: []int64{ana}}}})
	s := offline("foo", "la")
	if _, told, _ := r.step(id, 0, s); !slices.Equal(told, []string{"Ana sms"}) {
		t.Fatalf("told %v", told)
	}
	r.within(func(tx pgx.Tx) error {
		if _, err := r.Policies(ctx, tx, s); err != nil {
			return err
		}
		r.method(ana, "email ana@example.com") // by another transaction
		step, _, err := r.Step(ctx, tx, id, 0, s, r.now)
		if len(step.Targets) != 1 {
			t.Errorf("in the middle: %+v", step.Targets)
		}
		return err
	})
	if _, told, _ := r.step(id, 0, s); !slices.Equal(told, []string{"Ana sms", "Ana email"}) {
		t.Errorf("told %v", told)
	}
}

// Ninety seconds into an outage the parts of many customers are due at once, also of
// policies that were removed meanwhile.
func TestTheStepsOfManyCustomersAskTheDatabaseAFewTimes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := t.Context()
	type part struct {
		tenant string
		policy int64
	}
	var parts []part
	for i := range 30 {
		of := fmt.Sprintf("t%d", i)
		if _, err := r.pool.Exec(ctx, `INSERT INTO holdfast.facility (id, tenant) VALUES ($1, $2)`, "f"+of, of); err != nil {
			t.Fatal(err)
		}
		c := r.contact(of, "Ana", fmt.Sprintf("sms +1213555%04d", i))
		p := r.policy(v1.Policy{Tenant: of, Name: "p", Steps: []v1.PolicyStep{{Contacts: []int64{c}}, {After: 600, Contacts: []int64{c}}}})
		parts = append(parts, part{of, p})
	}
	if err := r.RemovePolicy(ctx, parts[0].policy, "omar", r.now); err != nil {
		t.Fatal(err)
	}
	r.within(func(tx pgx.Tx) error {
		c := &counted{Tx: tx}
		for range 20 {
			for _, p := range parts {
				s := alert.Subject{Incident: 1, Kind: detect.Outage, Severity: detect.Critical, Tenant: p.tenant, OpenedAt: r.now}
				for no := range 2 {
					step, ok, err := r.Step(ctx, c, p.policy, no, s, r.now)
					if err != nil || !ok || len(step.Targets) != 1 {
						t.Errorf("step %d of %s: %+v, %t, %v", no, p.tenant, step, ok, err)
					}
				}
			}
		}
		if c.n > 60 {
			t.Errorf("%d questions to the database", c.n)
		}
		return nil
	})
}
