package oncall

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/channel"
)

// everything is the limit of a list that is read to its end.
const everything = 1 << 30

// querier is the pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// list reads all rows of a query; what says what they are.
func list[T any](ctx context.Context, db querier, what string, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	out, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return out, nil
}

// exec runs a statement; what says what it does.
func exec(ctx context.Context, db querier, what, sql string, args ...any) error {
	if _, err := db.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// lock lets one change of who is told run at a time; readers do not wait.
func lock(ctx context.Context, tx pgx.Tx) error {
	return exec(ctx, tx, "wait for other changes", `LOCK TABLE holdfast.contact IN SHARE ROW EXCLUSIVE MODE`)
}

func audit(ctx context.Context, tx pgx.Tx, by, what string, detail map[string]any) error {
	return exec(ctx, tx, "write the audit log", `INSERT INTO holdfast.audit (who, what, detail) VALUES ($1, $2, $3)`, by, what, detail)
}

// idNamed is the id of the one row that a query finds, 0 for none.
func idNamed(ctx context.Context, db querier, what, sql string, args ...any) (int64, error) {
	ids, err := list(ctx, db, what, pgx.RowTo[int64], sql, args...)
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	return ids[0], nil
}

func tenants(ctx context.Context, db querier) ([]string, error) {
	return list(ctx, db, "tenants", pgx.RowTo[string],
		`SELECT DISTINCT tenant FROM holdfast.facility WHERE removed_at IS NULL ORDER BY tenant`)
}

// tenantsOf is whose the facilities are; one that is not there is not in it.
func tenantsOf(ctx context.Context, db querier, ids []string) (map[string]string, error) {
	rows, err := list(ctx, db, "facilities", pgx.RowToStructByPos[facilityRow],
		`SELECT id, name, tenant FROM holdfast.facility WHERE id = ANY($1) AND removed_at IS NULL`, ids)
	out := make(map[string]string, len(rows))
	for _, f := range rows {
		out[f.ID] = f.Tenant
	}
	return out, err
}

type facilityRow struct{ ID, Name, Tenant string }

func facilities(ctx context.Context, db querier, only string, after string, limit int) ([]facilityRow, error) {
	return list(ctx, db, "facilities", pgx.RowToStructByPos[facilityRow], `
		SELECT id, name, tenant FROM holdfast.facility
		 WHERE removed_at IS NULL AND ($1 = '' OR id = $1) AND id > $2 ORDER BY id LIMIT $3`, only, after, limit)
}

// contacts reads those of a tenant, or of all, and of ids if there are some.
func contacts(ctx context.Context, db querier, tenant string, ids []int64, after int64, limit int) ([]v1.Contact, error) {
	out, err := list(ctx, db, "contacts", func(row pgx.CollectableRow) (c v1.Contact, err error) {
		c.Methods = []v1.Method{}
		return c, row.Scan(&c.ID, &c.Tenant, &c.Name, &c.TimeZone, &c.Version, &c.ChangedAt, &c.ChangedBy)
	}, `
		SELECT id, tenant, name, time_zone, version, changed_at, changed_by FROM holdfast.contact
		 WHERE removed_at IS NULL AND ($1 = '' OR tenant = $1) AND ($2::bigint[] IS NULL OR id = ANY($2)) AND id > $3
		 ORDER BY id LIMIT $4`, tenant, ids, after, limit)
	if err != nil || len(out) == 0 {
		return out, err
	}
	at := make(map[int64]int, len(out))
	all := make([]int64, len(out))
	for i, c := range out {
		at[c.ID], all[i] = i, c.ID
	}
	ways, err := list(ctx, db, "ways to reach contacts", pgx.RowToStructByPos[methodRow], selectMethod+`
		 WHERE m.removed_at IS NULL AND m.contact = ANY($1) ORDER BY m.id`, all)
	for _, m := range ways {
		c := &out[at[m.Contact]]
		c.Methods = append(c.Methods, m.shown())
	}
	return out, err
}

func contact(ctx context.Context, db querier, id int64) (v1.Contact, error) {
	found, err := contacts(ctx, db, "", []int64{id}, 0, 1)
	if err == nil && len(found) == 0 {
		err = missing("contact", id)
	}
	if err != nil {
		return v1.Contact{}, err
	}
	return found[0], nil
}

func contactNames(ctx context.Context, db querier) (map[int64]string, error) {
	out := map[int64]string{}
	_, err := list(ctx, db, "contacts", func(row pgx.CollectableRow) (id int64, err error) {
		var name string
		err = row.Scan(&id, &name)
		out[id] = name
		return id, err
	}, `SELECT id, name FROM holdfast.contact WHERE removed_at IS NULL`)
	return out, err
}

func contactNamed(ctx context.Context, db querier, tenant, name string) (int64, error) {
	return idNamed(ctx, db, "contacts", `SELECT id FROM holdfast.contact WHERE tenant = $1 AND lower(name) = lower($2) AND removed_at IS NULL LIMIT 1`, tenant, name)
}

func insertContact(ctx context.Context, tx pgx.Tx, c v1.Contact, by string) (int64, error) {
	return idNamed(ctx, tx, "add contact", `
		INSERT INTO holdfast.contact (tenant, name, time_zone, created_by) VALUES ($1, $2, $3, $4) RETURNING id`, c.Tenant, c.Name, c.TimeZone, by)
}

func updateContact(ctx context.Context, tx pgx.Tx, id int64, c v1.Contact, by string) error {
	return exec(ctx, tx, "change contact", `
		UPDATE holdfast.contact SET name = $2, time_zone = $3, version = version + 1, changed_at = now(), changed_by = $4 WHERE id = $1`,
		id, c.Name, c.TimeZone, by)
}

func removeContact(ctx context.Context, tx pgx.Tx, id int64, now time.Time) error {
	if err := exec(ctx, tx, "remove contact's addresses", `UPDATE holdfast.contact_method SET removed_at = $2 WHERE contact = $1 AND removed_at IS NULL`, id, now); err != nil {
		return err
	}
	return exec(ctx, tx, "remove contact", `UPDATE holdfast.contact SET removed_at = $2 WHERE id = $1`, id, now)
}

// usersOf names the policies and schedules that need a contact.
func usersOf(ctx context.Context, db querier, contact int64, now time.Time) ([]string, error) {
	return list(ctx, db, "who needs the contact", pgx.RowTo[string], `
		SELECT 'policy ' || p.name FROM holdfast.escalation_policy p
		 WHERE p.removed_at IS NULL AND EXISTS (SELECT FROM holdfast.policy_step s WHERE s.policy = p.id AND $1 = ANY(s.contacts))
		UNION ALL
		SELECT 'schedule ' || s.name FROM holdfast.schedule s
		 WHERE s.removed_at IS NULL AND (
		       EXISTS (SELECT FROM holdfast.rotation r WHERE r.schedule = s.id AND $1 = ANY(r.contacts))
		    OR EXISTS (SELECT FROM holdfast.schedule_override o WHERE o.schedule = s.id AND o.contact = $1 AND o.ends_at > $2))
		ORDER BY 1`, contact, now)
}

// methodRow is a way to reach a contact, with its secret.
type methodRow struct {
	ID, Contact      int64
	Name             string // the contact's
	Channel, Address string
	Settings         map[string]string
	CheckedAt        *time.Time
	Problem          string
	ProvedAt         *time.Time
	TakenAt          *time.Time
}

const selectMethod = `
		SELECT m.id, m.contact, c.name, m.channel, m.address, m.settings, m.checked_at, m.problem, m.proved_at, m.taken_at
		  FROM holdfast.contact_method m JOIN holdfast.contact c ON c.id = m.contact`

// shown is the method as people may see it.
func (m methodRow) shown() v1.Method {
	out := v1.Method{
		ID: m.ID, Channel: m.Channel, Address: Shown(channel.Kind(m.Channel), m.Address), Settings: shownSettings(m.Settings),
		CheckedAt: m.CheckedAt, Problem: m.Problem, ProvedAt: m.ProvedAt, TakenAt: m.TakenAt,
	}
	if why, ok := strings.CutPrefix(m.Problem, unchecked); ok {
		out.Problem, out.Unchecked = "", why
	}
	return out
}

func method(ctx context.Context, db querier, id int64) (methodRow, error) {
	found, err := list(ctx, db, "way to reach a contact", pgx.RowToStructByPos[methodRow], selectMethod+`
		 WHERE m.id = $1 AND m.removed_at IS NULL`, id)
	if err == nil && len(found) == 0 {
		err = missing("method", id)
	}
	if err != nil {
		return methodRow{}, err
	}
	return found[0], nil
}

func sameMethod(ctx context.Context, db querier, m methodRow) (int64, error) {
	return idNamed(ctx, db, "ways to reach the contact", `
		SELECT id FROM holdfast.contact_method
		 WHERE contact = $1 AND channel = $2 AND address = $3 AND removed_at IS NULL LIMIT 1`, m.Contact, m.Channel, m.Address)
}

func insertMethod(ctx context.Context, tx pgx.Tx, m methodRow) (int64, error) {
	if m.Settings == nil {
		m.Settings = map[string]string{}
	}
	return idNamed(ctx, tx, "add method", `
		INSERT INTO holdfast.contact_method (contact, channel, address, settings, checked_at, problem)
		VALUES ($1, $2, $3, $4, $5, $6) RETURNING id`, m.Contact, m.Channel, m.Address, m.Settings, m.CheckedAt, m.Problem)
}

func checkedMethod(ctx context.Context, db querier, m methodRow) error {
	return exec(ctx, db, "keep what the check found", `
		UPDATE holdfast.contact_method SET checked_at = $2, problem = $3 WHERE id = $1 AND removed_at IS NULL`, m.ID, m.CheckedAt, m.Problem)
}

func removeMethod(ctx context.Context, tx pgx.Tx, id int64, now time.Time) error {
	return exec(ctx, tx, "remove method", `UPDATE holdfast.contact_method SET removed_at = $2 WHERE id = $1`, id, now)
}

const selectMaintenance = `
		SELECT id, facility, starts_at, ends_at, reason, created_by, ended_at, coalesce(ended_by, '') FROM holdfast.maintenance`

func maintenances(ctx context.Context, db querier, facility string, all bool, limit int, now time.Time) ([]v1.Maintenance, error) {
	return list(ctx, db, "announced work", pgx.RowToStructByPos[v1.Maintenance], selectMaintenance+`
		 WHERE ($1 = '' OR facility = $1) AND ($2 OR ends_at > $3 AND ended_at IS NULL)
		 ORDER BY NOT (ends_at > $3 AND ended_at IS NULL),
		       CASE WHEN ends_at > $3 AND ended_at IS NULL THEN starts_at END, starts_at DESC, id LIMIT $4`, facility, all, now, limit)
}

// maintenance returns pgx.ErrNoRows when there is none.
func maintenance(ctx context.Context, db querier, id int64) (v1.Maintenance, error) {
	found, err := list(ctx, db, "announced work", pgx.RowToStructByPos[v1.Maintenance], selectMaintenance+` WHERE id = $1`, id)
	if err == nil && len(found) == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return v1.Maintenance{}, err
	}
	return found[0], nil
}

func insertMaintenance(ctx context.Context, tx pgx.Tx, m v1.Maintenance, now time.Time) (int64, error) {
	return idNamed(ctx, tx, "announce work", `
		INSERT INTO holdfast.maintenance (facility, starts_at, ends_at, reason, created_by, created_at)
		VALUES ($1, $2, $3, $4, $5, $6) RETURNING id`, m.Facility, m.StartsAt, m.EndsAt, m.Reason, m.CreatedBy, now)
}

func endMaintenance(ctx context.Context, tx pgx.Tx, id int64, by string, now time.Time) error {
	return exec(ctx, tx, "end announced work", `UPDATE holdfast.maintenance SET ended_at = $2, ended_by = $3 WHERE id = $1`, id, now, by)
}

// work is until when the work lasts that is under way at a moment, by facility.
func work(ctx context.Context, db querier, at time.Time) (map[string]time.Time, error) {
	out := map[string]time.Time{}
	_, err := list(ctx, db, "announced work", func(row pgx.CollectableRow) (f string, err error) {
		var until time.Time
		err = row.Scan(&f, &until)
		out[f] = until
		return f, err
	}, `
		SELECT facility, max(ends_at) FROM holdfast.maintenance
		 WHERE starts_at <= $1 AND ends_at > $1 AND (ended_at IS NULL OR ended_at > $1) GROUP BY facility`, at)
	return out, err
}

// everyMethod is how all contacts can be reached.
func everyMethod(ctx context.Context, db querier) ([]methodRow, error) {
	return list(ctx, db, "ways to reach contacts", pgx.RowToStructByPos[methodRow], selectMethod+`
		 WHERE m.removed_at IS NULL AND c.removed_at IS NULL ORDER BY m.problem <> '', m.id`)
}
