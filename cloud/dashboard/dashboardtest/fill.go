// Package dashboardtest fills a region's database with incidents and with people
// who are told of them, as a corrugated box plant would have them.
//
// In:  the tests of cloud/dashboard and test/browser.
// Out: the region's PostgreSQL.
package dashboardtest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/cloud/alert"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
	"github.com/agogsaas/holdfast/cloud/oncall"
)

// MariaPhone is the number of Maria Lopez.
const MariaPhone = "+12135550101"

// Ids of what Fill makes.
type Ids struct {
	Maria, Bo, Olga       int64 // contacts: of foo, of foo, of the region
	Plant                 int64 // Maria's and Bo's schedule
	Policy                int64 // of foo
	Offline, Disk, Outage int64 // open incidents: shanghai, la, the region's
	Old                   int64 // resolved: la was offline
}

// filler writes rows.
type filler struct {
	testing.TB
	ctx  context.Context //nolint:containedctx // of one call of Fill
	pool *pgxpool.Pool
	now  time.Time
}

func (f filler) exec(sql string, args ...any) {
	f.Helper()
	if _, err := f.pool.Exec(f.ctx, sql, args...); err != nil {
		f.Fatal(err)
	}
}

func (f filler) row(to any, sql string, args ...any) {
	f.Helper()
	if err := f.pool.QueryRow(f.ctx, sql, args...).Scan(to); err != nil {
		f.Fatal(err)
	}
}

// People makes facilities la, frankfurt and shanghai of tenant foo where they are
// missing, contacts with ways to reach them, a schedule and policies.
func People(t testing.TB, pool *pgxpool.Pool, room *oncall.Room) Ids {
	t.Helper()
	f := filler{t, context.WithoutCancel(t.Context()), pool, time.Now()}
	var ids Ids
	f.exec(`INSERT INTO holdfast.facility (id, tenant, name, time_zone) VALUES
		('la', 'foo', 'Los Angeles', 'America/Los_Angeles'), ('frankfurt', 'foo', 'Frankfurt', 'Europe/Berlin'), ('shanghai', 'foo', 'Shanghai', 'Asia/Shanghai')
		ON CONFLICT (id) DO UPDATE SET tenant = 'foo'`)
	person := func(to *int64, tenant, name, zone string, ways ...string) {
		c, err := room.AddContact(f.ctx, v1.Contact{Tenant: tenant, Name: name, TimeZone: zone}, "olga")
		for i := 0; err == nil && i+1 < len(ways); i += 2 {
			_, err = room.AddMethod(f.ctx, c.ID, v1.MethodAdd{Channel: ways[i], Address: ways[i+1]}, "olga", f.now)
		}
		if err != nil {
			t.Fatal(err)
		}
		*to = c.ID
	}
	person(&ids.Maria, "foo", "Maria Lopez", "America/Los_Angeles", "sms", MariaPhone, "voice", MariaPhone, "email", "maria@foo.example")
	person(&ids.Bo, "foo", "Bo Chen", "Asia/Shanghai", "sms", "+8613900001111")
	person(&ids.Olga, "", "Olga Brandt", "Europe/Berlin", "email", "olga@region.example", "pagerduty", "0123456789abcdef0123456789abcdef")
	s, err := room.AddSchedule(f.ctx, v1.Schedule{
		Tenant: "foo", Name: "Plant", TimeZone: "America/Los_Angeles",
		Rotations: []v1.Rotation{{Contacts: []int64{ids.Maria, ids.Bo}, FirstDay: f.now.AddDate(0, 0, -20).Format(time.DateOnly), TurnDays: 7}},
	}, "olga", f.now)
	if err != nil {
		t.Fatal(err)
	}
	ids.Plant = s.ID
	if _, err := room.AddOverride(f.ctx, s.ID, v1.Override{Contact: ids.Bo, StartsAt: f.now.Add(30 * time.Hour), EndsAt: f.now.Add(54 * time.Hour)}, "olga", f.now); err != nil {
		t.Fatal(err)
	}
	p, err := room.AddPolicy(f.ctx, v1.Policy{
		Tenant: "foo", Name: "standard", Severity: "warning",
		Steps: []v1.PolicyStep{
			{Contacts: []int64{ids.Maria}},
			{After: 600, Schedules: []int64{s.ID}, Channels: []string{"sms", "voice"}},
			{After: 3600, Contacts: []int64{ids.Bo}, Offer: "fallback"},
		},
	}, "olga")
	if err != nil {
		t.Fatal(err)
	}
	ids.Policy = p.ID
	if _, err := room.AddPolicy(f.ctx, v1.Policy{Name: "the region's people", Kinds: []string{"blind", "outage", "alerting"}, Severity: "info", Steps: []v1.PolicyStep{{Contacts: []int64{ids.Olga}}}}, "olga"); err != nil {
		t.Fatal(err)
	}
	return ids
}

// Fill makes People, and incidents with messages in each state. The alerter does
// not run: nothing is sent, and what is there stays as it is.
func Fill(t testing.TB, pool *pgxpool.Pool, word func() detect.Word) (*alert.Alerter, *oncall.Room, Ids) {
	t.Helper()
	room := oncall.New(pool, nil, slog.New(slog.DiscardHandler))
	ids := People(t, pool, room)
	f := filler{t, context.WithoutCancel(t.Context()), pool, time.Now()}
	exec, row, now, ctx := f.exec, f.row, f.now, f.ctx
	exec(`UPDATE holdfast.contact_method SET problem = '', checked_at = $1::timestamptz, proved_at = CASE WHEN channel = 'sms' THEN $1::timestamptz - interval '2 days' WHEN channel = 'email' THEN $1::timestamptz - interval '20 days' END WHERE channel <> 'pagerduty'`, now)
	way := func(contact int64, channel string) (id int64) {
		row(&id, `SELECT id FROM holdfast.contact_method WHERE contact = $1 AND channel = $2`, contact, channel)
		return id
	}
	mariaSMS, mariaCall, mariaMail, boSMS := way(ids.Maria, "sms"), way(ids.Maria, "voice"), way(ids.Maria, "email"), way(ids.Bo, "sms")
	olgaMail, olgaDuty := way(ids.Olga, "email"), way(ids.Olga, "pagerduty")

	for n := range 60 { // the weeks before, oldest first
		i := 59 - n
		ago := time.Duration(i)*31*time.Hour + 80*time.Hour
		late := time.Duration(4+i%9) * time.Second
		exec(`WITH i AS (INSERT INTO holdfast.incident (kind, facility, severity, summary, since, opened_at, resolved_at) VALUES ('offline', 'frankfurt', 'critical', 'Nothing is heard of the facility', $1, $2, $3) RETURNING id)
			INSERT INTO holdfast.delivery (incident, event, audience, channel, state, created_at, not_before, accepted_at) SELECT id, 'trigger', 'customer', 'sms', 'delivered', $2, $2, $4 FROM i`,
			now.Add(-ago-late), now.Add(-ago), now.Add(-ago+time.Hour), now.Add(-ago+time.Duration(300+i*17)*time.Millisecond))
	}

	incident := func(to *int64, kind string, facility *string, severity, summary string, evidence []string, ago time.Duration) {
		row(to, `INSERT INTO holdfast.incident (kind, facility, severity, summary, evidence, since, opened_at) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id`,
			kind, facility, severity, summary, evidence, now.Add(-ago-9*time.Second), now.Add(-ago))
		exec(`INSERT INTO holdfast.incident_event (incident, at, what, detail) VALUES ($1, $2, 'opened', $3)`, *to, now.Add(-ago), summary)
	}
	la, shanghai := "la", "shanghai"
	incident(&ids.Old, "offline", &la, "critical", "Nothing is heard of the facility", []string{}, 50*time.Hour)
	exec(`UPDATE holdfast.incident SET resolved_at = $2::timestamptz, resolved_by = '', acked_at = $2::timestamptz - interval '20 min', acked_by = 'Maria Lopez', acked_how = 'voice' WHERE id = $1`, ids.Old, now.Add(-49*time.Hour))
	exec(`INSERT INTO holdfast.incident_event (incident, at, what, detail) VALUES ($1, $2, 'resolved', 'It is heard again')`, ids.Old, now.Add(-49*time.Hour))
	incident(&ids.Disk, "disk_filling", &la, "warning", "The box's disk is full in about 5 h", []string{"12.1 GiB free of 240 GiB", "It loses 2.4 GiB an hour"}, 3*time.Hour)
	exec(`UPDATE holdfast.incident SET acked_at = $2::timestamptz, acked_by = 'Maria Lopez', acked_how = 'sms', remind_at = $2::timestamptz + interval '2 hours' WHERE id = $1`, ids.Disk, now.Add(-2*time.Hour))
	incident(&ids.Outage, "outage", nil, "critical", "2 facilities fell silent within 10 s", []string{"The canaries are well: the broker and this region work"}, 4*time.Minute)
	incident(&ids.Offline, "offline", &shanghai, "critical", "Nothing is heard of the facility", []string{"Last heartbeat 4 min 9 s ago; one is due every 5 s", "The tunnel does not answer: 2 tries of 1 s", "The last will has come: its connection to the broker broke"}, 4*time.Minute)
	exec(`UPDATE holdfast.incident SET parent = $2 WHERE id = $1`, ids.Offline, ids.Outage)
	exec(`INSERT INTO holdfast.escalation (incident, policy, audience, step, next_at, started_at) VALUES ($1, $2, 'customer', 1, $3, $4)`, ids.Offline, ids.Policy, now.Add(6*time.Minute), now.Add(-4*time.Minute))

	told := func(contact, method int64, channel, state, held, failure string, step int, accepted bool) (id string) {
		row(&id, `
			INSERT INTO holdfast.delivery (incident, policy, step, event, audience, contact, method, channel, state, created_at, not_before, held_reason, error, accepted_at, attempts, provider, cost_micros, cost_unit)
			VALUES ($1, $2, $3, 'trigger', 'customer', $4, $5, $6, $7, $8::timestamptz, CASE WHEN $9::text <> '' THEN $8::timestamptz + interval '9 minutes' ELSE $8::timestamptz END, $9, $10, CASE WHEN $11::bool THEN $8::timestamptz + interval '2 seconds' END, 1, 'twilio', CASE WHEN $11::bool AND $6::text = 'sms' THEN 7500 ELSE 0 END, CASE WHEN $11::bool AND $6::text = 'sms' THEN 'USD' ELSE '' END)
			RETURNING id::text`, ids.Offline, ids.Policy, step, contact, method, channel, state, now.Add(-4*time.Minute), held, failure, accepted)
		return id
	}
	sms := told(ids.Maria, mariaSMS, "sms", "delivered", "", "", 0, true)
	exec(`INSERT INTO holdfast.delivery_receipt (delivery, event_id, at, state, detail) VALUES ($1, 'a', $2, 'sent', ''), ($1, 'b', $3, 'delivered', 'by the carrier')`, sms, now.Add(-235*time.Second), now.Add(-230*time.Second))
	told(ids.Maria, mariaCall, "voice", "failed", "", "the number was busy (21219)", 0, false)
	told(ids.Maria, mariaMail, "email", "accepted", "", "", 0, true)
	told(ids.Bo, boSMS, "sms", "held", "More than 5 messages went to this contact within 15 min", "", 1, false)
	exec(`INSERT INTO holdfast.incident_event (incident, at, what, who, detail) VALUES ($1, $2, 'told', 'Maria Lopez', 'by SMS'), ($1, $3, 'receipt', 'Maria Lopez', 'the SMS is at the phone')`, ids.Offline, now.Add(-238*time.Second), now.Add(-230*time.Second))
	exec(`INSERT INTO holdfast.delivery (incident, event, audience, contact, method, channel, state, created_at, not_before, accepted_at, provider) VALUES
		($1, 'trigger', 'operations', $2, $3, 'pagerduty', 'accepted', $5, $5, $5, 'pagerduty'), ($1, 'trigger', 'operations', $2, $4, 'email', 'reached', $5, $5, $5, 'smtp')`,
		ids.Outage, ids.Olga, olgaDuty, olgaMail, now.Add(-4*time.Minute))

	if _, err := room.AddMaintenance(ctx, v1.MaintenanceAdd{Facility: "frankfurt", For: 3600, Reason: "New switch in the server room"}, "olga", now); err != nil {
		t.Fatal(err)
	}
	if _, err := room.AddMaintenance(ctx, v1.MaintenanceAdd{Facility: "la", StartsIn: 90000, For: 7200, Reason: "Electrician"}, "olga", now); err != nil {
		t.Fatal(err)
	}
	alerts, err := alert.New(alert.Config{
		DB: pool, Roster: room, Region: "us-east", Word: word, Log: slog.New(slog.DiscardHandler),
		Problems: map[channel.Kind]string{channel.Slack: "the file of slack.signing_secret_file cannot be read; write the secret there"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return alerts, room, ids
}
