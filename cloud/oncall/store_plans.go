package oncall

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

// schedules reads those of a tenant, or of all, and of ids if there are some,
// with the overrides that end after now.
func schedules(ctx context.Context, db querier, tenant string, ids []int64, after int64, limit int, now time.Time) ([]v1.Schedule, error) {
	out, err := list(ctx, db, "schedules", func(row pgx.CollectableRow) (s v1.Schedule, err error) {
		s.Rotations = []v1.Rotation{}
		return s, row.Scan(&s.ID, &s.Tenant, &s.Name, &s.TimeZone, &s.Version, &s.ChangedAt, &s.ChangedBy)
	}, `
		SELECT id, tenant, name, time_zone, version, changed_at, changed_by FROM holdfast.schedule
		 WHERE removed_at IS NULL AND ($1 = '' OR tenant = $1) AND ($2::bigint[] IS NULL OR id = ANY($2)) AND id > $3
		 ORDER BY id LIMIT $4`, tenant, ids, after, limit)
	if err != nil || len(out) == 0 {
		return out, err
	}
	at := make(map[int64]*v1.Schedule, len(out))
	all := make([]int64, len(out))
	for i := range out {
		at[out[i].ID], all[i] = &out[i], out[i].ID
	}
	_, err = list(ctx, db, "rotations", func(row pgx.CollectableRow) (of int64, err error) {
		var r v1.Rotation
		err = row.Scan(&of, &r.Contacts, &r.FirstDay, &r.Handover, &r.TurnDays, &r.Days, &r.From, &r.To)
		if s := at[of]; s != nil {
			s.Rotations = append(s.Rotations, r)
		}
		return of, err
	}, `
		SELECT schedule, contacts, first_day::text, left(handover::text, 5), turn_days, days,
		       coalesce(left(from_time::text, 5), ''), coalesce(left(to_time::text, 5), '')
		  FROM holdfast.rotation WHERE schedule = ANY($1) ORDER BY schedule, no`, all)
	if err != nil {
		return nil, err
	}
	_, err = list(ctx, db, "overrides", func(row pgx.CollectableRow) (of int64, err error) {
		var o v1.Override
		err = row.Scan(&of, &o.ID, &o.Contact, &o.StartsAt, &o.EndsAt, &o.By)
		if s := at[of]; s != nil {
			s.Overrides = append(s.Overrides, o)
		}
		return of, err
	}, `
		SELECT schedule, id, contact, starts_at, ends_at, created_by FROM holdfast.schedule_override
		 WHERE schedule = ANY($1) AND ends_at > $2 ORDER BY starts_at, id`, all, now)
	return out, err
}

func schedule(ctx context.Context, db querier, id int64, now time.Time) (v1.Schedule, error) {
	found, err := schedules(ctx, db, "", []int64{id}, 0, 1, now)
	if err == nil && len(found) == 0 {
		err = missing("schedule", id)
	}
	if err != nil {
		return v1.Schedule{}, err
	}
	return found[0], nil
}

func scheduleNamed(ctx context.Context, db querier, tenant, name string) (int64, error) {
	return idNamed(ctx, db, "schedules", `SELECT id FROM holdfast.schedule WHERE tenant = $1 AND lower(name) = lower($2) AND removed_at IS NULL LIMIT 1`, tenant, name)
}

func scheduleTenants(ctx context.Context, db querier, ids []int64) (map[int64]string, error) {
	out := map[int64]string{}
	_, err := list(ctx, db, "schedules", func(row pgx.CollectableRow) (id int64, err error) {
		var tenant string
		err = row.Scan(&id, &tenant)
		out[id] = tenant
		return id, err
	}, `SELECT id, tenant FROM holdfast.schedule WHERE id = ANY($1) AND removed_at IS NULL`, ids)
	return out, err
}

func insertSchedule(ctx context.Context, tx pgx.Tx, s v1.Schedule) (int64, error) {
	id, err := idNamed(ctx, tx, "add schedule", `
		INSERT INTO holdfast.schedule (tenant, name, time_zone) VALUES ($1, $2, $3) RETURNING id`, s.Tenant, s.Name, s.TimeZone)
	if err != nil {
		return 0, err
	}
	return id, insertRotations(ctx, tx, id, s.Rotations)
}

func updateSchedule(ctx context.Context, tx pgx.Tx, id int64, s v1.Schedule, by string) error {
	err := exec(ctx, tx, "change schedule", `
		UPDATE holdfast.schedule SET name = $2, time_zone = $3, version = version + 1, changed_at = now(), changed_by = $4 WHERE id = $1`,
		id, s.Name, s.TimeZone, by)
	if err != nil {
		return err
	}
	if err := exec(ctx, tx, "replace rotations", `DELETE FROM holdfast.rotation WHERE schedule = $1`, id); err != nil {
		return err
	}
	return insertRotations(ctx, tx, id, s.Rotations)
}

func insertRotations(ctx context.Context, tx pgx.Tx, id int64, rotations []v1.Rotation) error {
	for no, r := range rotations {
		err := exec(ctx, tx, "add rotation", `
			INSERT INTO holdfast.rotation (schedule, no, contacts, first_day, handover, turn_days, days, from_time, to_time)
			VALUES ($1, $2, $3, $4::text::date, $5::text::time, $6, $7, nullif($8::text, '')::time, nullif($9::text, '')::time)`,
			id, no, r.Contacts, r.FirstDay, r.Handover, r.TurnDays, r.Days, r.From, r.To)
		if err != nil {
			return err
		}
	}
	return nil
}

func removeSchedule(ctx context.Context, tx pgx.Tx, id int64, now time.Time) error {
	return exec(ctx, tx, "remove schedule", `UPDATE holdfast.schedule SET removed_at = $2 WHERE id = $1`, id, now)
}

func insertOverride(ctx context.Context, tx pgx.Tx, schedule int64, o v1.Override, by string) (int64, error) {
	return idNamed(ctx, tx, "add override", `
		INSERT INTO holdfast.schedule_override (schedule, contact, starts_at, ends_at, created_by)
		VALUES ($1, $2, $3, $4, $5) RETURNING id`, schedule, o.Contact, o.StartsAt, o.EndsAt, by)
}

func removeOverride(ctx context.Context, tx pgx.Tx, schedule, id int64) (gone bool, err error) {
	found, err := idNamed(ctx, tx, "remove override", `DELETE FROM holdfast.schedule_override WHERE schedule = $1 AND id = $2 RETURNING id`, schedule, id)
	return found != 0, err
}

func policiesWithSchedule(ctx context.Context, db querier, id int64) ([]string, error) {
	return list(ctx, db, "who needs the schedule", pgx.RowTo[string], `
		SELECT 'policy ' || p.name FROM holdfast.escalation_policy p
		 WHERE p.removed_at IS NULL AND EXISTS (SELECT FROM holdfast.policy_step s WHERE s.policy = p.id AND $1 = ANY(s.schedules))
		 ORDER BY 1`, id)
}

func (p policy) doc() v1.Policy {
	return v1.Policy{ID: p.ID, Tenant: p.Tenant, Name: p.Name, Kinds: p.Kinds, Facilities: p.Facilities, Severity: p.Severity, Edition: p.Edition, Steps: []v1.PolicyStep{}}
}

// rules reads the policies of tenants, or all when none is named.
func rules(ctx context.Context, db querier, tenants []string) ([]policy, error) {
	return list(ctx, db, "policies", pgx.RowToStructByPos[policy], `
		SELECT id, tenant, name, kinds, facilities, severity, version, changed_at, changed_by FROM holdfast.escalation_policy
		 WHERE removed_at IS NULL AND ($1::text[] IS NULL OR tenant = ANY($1))`, tenants)
}

// rule is one of them, also when it was removed, if it is there at all.
func rule(ctx context.Context, db querier, id int64) ([]policy, error) {
	return list(ctx, db, "policy", pgx.RowToStructByPos[policy], `
		SELECT id, tenant, name, kinds, facilities, severity, version, changed_at, changed_by FROM holdfast.escalation_policy WHERE id = $1`, id)
}

// policies reads those of a tenant, or of all, and of ids if there are some.
func policies(ctx context.Context, db querier, tenant string, ids []int64, after int64, limit int) ([]v1.Policy, error) {
	found, err := list(ctx, db, "policies", pgx.RowToStructByPos[policy], `
		SELECT id, tenant, name, kinds, facilities, severity, version, changed_at, changed_by FROM holdfast.escalation_policy
		 WHERE removed_at IS NULL AND ($1 = '' OR tenant = $1) AND ($2::bigint[] IS NULL OR id = ANY($2)) AND id > $3
		 ORDER BY id LIMIT $4`, tenant, ids, after, limit)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	out := make([]v1.Policy, len(found))
	at := make(map[int64]*v1.Policy, len(found))
	all := make([]int64, len(found))
	for i, p := range found {
		out[i] = p.doc()
		at[p.ID], all[i] = &out[i], p.ID
	}
	steps, err := stepsOf(ctx, db, all)
	for _, s := range steps {
		p := at[s.Policy]
		p.Steps = append(p.Steps, s.doc())
	}
	return out, err
}

func onePolicy(ctx context.Context, db querier, id int64) (v1.Policy, error) {
	found, err := policies(ctx, db, "", []int64{id}, 0, 1)
	if err == nil && len(found) == 0 {
		err = missing("policy", id)
	}
	if err != nil {
		return v1.Policy{}, err
	}
	return found[0], nil
}

func policyNamed(ctx context.Context, db querier, tenant, name string) (int64, error) {
	return idNamed(ctx, db, "policies", `
		SELECT id FROM holdfast.escalation_policy WHERE tenant = $1 AND lower(name) = lower($2) AND removed_at IS NULL LIMIT 1`, tenant, name)
}

func insertPolicy(ctx context.Context, tx pgx.Tx, p v1.Policy) (int64, error) {
	id, err := idNamed(ctx, tx, "add policy", `
		INSERT INTO holdfast.escalation_policy (tenant, name, kinds, facilities, severity) VALUES ($1, $2, $3, $4, $5) RETURNING id`,
		p.Tenant, p.Name, some(p.Kinds), some(p.Facilities), p.Severity)
	if err != nil {
		return 0, err
	}
	return id, insertSteps(ctx, tx, id, p.Steps)
}

func updatePolicy(ctx context.Context, tx pgx.Tx, id int64, p v1.Policy, by string) error {
	err := exec(ctx, tx, "change policy", `
		UPDATE holdfast.escalation_policy
		   SET name = $2, kinds = $3, facilities = $4, severity = $5, version = version + 1, changed_at = now(), changed_by = $6 WHERE id = $1`,
		id, p.Name, some(p.Kinds), some(p.Facilities), p.Severity, by)
	if err != nil {
		return err
	}
	if err := exec(ctx, tx, "replace steps", `DELETE FROM holdfast.policy_step WHERE policy = $1`, id); err != nil {
		return err
	}
	return insertSteps(ctx, tx, id, p.Steps)
}

func insertSteps(ctx context.Context, tx pgx.Tx, id int64, steps []v1.PolicyStep) error {
	for no, s := range steps {
		err := exec(ctx, tx, "add step", `
			INSERT INTO holdfast.policy_step (policy, no, after_s, contacts, schedules, channels, offer) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			id, no, s.After, some(s.Contacts), some(s.Schedules), some(s.Channels), s.Offer)
		if err != nil {
			return err
		}
	}
	return nil
}

// some is a list that PostgreSQL does not take for NULL.
func some[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func removePolicy(ctx context.Context, tx pgx.Tx, id int64, now time.Time) error {
	return exec(ctx, tx, "remove policy", `UPDATE holdfast.escalation_policy SET removed_at = $2 WHERE id = $1`, id, now)
}

// stepRow is a step of a policy.
type stepRow struct {
	Policy    int64
	No, After int
	Contacts  []int64
	Schedules []int64
	Channels  []string
	Offer     string
}

func (s stepRow) doc() v1.PolicyStep {
	return v1.PolicyStep{After: s.After, Contacts: s.Contacts, Schedules: s.Schedules, Channels: s.Channels, Offer: s.Offer}
}

const selectStep = `
		SELECT policy, no, after_s, contacts, schedules, channels, offer FROM holdfast.policy_step`

func stepsOf(ctx context.Context, db querier, policies []int64) ([]stepRow, error) {
	return list(ctx, db, "steps", pgx.RowToStructByPos[stepRow], selectStep+` WHERE policy = ANY($1) ORDER BY policy, no`, policies)
}

// methodsOf is how contacts can be reached; addresses with a problem come last.
func methodsOf(ctx context.Context, db querier, contacts []int64) ([]methodRow, error) {
	return list(ctx, db, "ways to reach contacts", pgx.RowToStructByPos[methodRow], selectMethod+`
		 WHERE m.contact = ANY($1) AND m.removed_at IS NULL AND c.removed_at IS NULL ORDER BY m.problem <> '', m.id`, contacts)
}
