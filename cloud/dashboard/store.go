package dashboard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/schema"
	"github.com/agogsaas/holdfast/proto"
)

// store reads what the region's database knows of one facility.
type store struct{ pool *pgxpool.Pool }

// eventsShown is how many stream events a facility's page lists.
const eventsShown = 20

type position struct {
	Epoch, Seq int64
	SourceLSN  string
	CommitAt   *time.Time // by the facility's clock
	AppliedAt  time.Time
}

type tableAt struct {
	Schema, Table, Class, State, Problem, Remedy string
	RowsLoaded, Changes, LastSeq                 int64
	UpdatedAt                                    *time.Time
	RegionSchema                                 string
	Fingerprint                                  int64
	Columns                                      []proto.TableColumn
	// Verified is what the comparison of both sides came to; nil before the first.
	Verified *v1.Verified `db:"-"`
}

type streamEvent struct {
	At     time.Time
	Kind   string
	Epoch  int64
	Seq    int64
	Detail string
}

type device struct {
	Enrolment    int
	EnrolledAt   time.Time
	AgentVersion string
	NotAfter     time.Time
}

// record is all of it.
type record struct {
	Position *position // nil before the first transaction
	Tables   []tableAt
	Differs  map[string][]schema.Difference // by schema.name
	Events   []streamEvent                  // newest first
	Device   *device                        // nil without an active box
	// Conflicts are the open ones, counted up to a bound.
	Conflicts string
	Parked    int64 // changes that the region's database refused
	AtBox     int64 // and of the region's, the facility's
	Passed    []passedOver
}

// passedOver is a table of which changes were lost and that is sent again.
type passedOver struct {
	Schema, Table, Message, Remedy string
	Changes                        int64
}

// read takes all of it in one round trip.
func (s store) read(ctx context.Context, facility string) (record, error) {
	var r record
	b := &pgx.Batch{}
	b.Queue(`SELECT epoch, seq, source_lsn::text, source_commit_at, applied_at FROM holdfast.position WHERE facility = $1`, facility).
		QueryRow(func(row pgx.Row) error {
			p := &position{}
			if err := row.Scan(&p.Epoch, &p.Seq, &p.SourceLSN, &p.CommitAt, &p.AppliedAt); err != nil {
				return none(err)
			}
			r.Position = p
			return nil
		})
	b.Queue(`
		SELECT t.schema_name, t.table_name, t.class, coalesce(f.state, 'waiting'), coalesce(f.problem, ''), coalesce(f.remedy, ''),
		       coalesce(f.rows_loaded, 0), coalesce(f.changes, 0), coalesce(f.last_seq, 0), f.updated_at,
		       t.region_schema, coalesce(f.fingerprint, 0), coalesce(f.columns, '[]')
		FROM holdfast.synced_table t
		LEFT JOIN holdfast.facility_table f ON f.schema_name = t.schema_name AND f.table_name = t.table_name AND f.facility = $1
		WHERE t.schema_name <> 'holdfast' -- its own tables are not the customer's
		ORDER BY f.state = 'refused' DESC NULLS LAST, t.schema_name, t.table_name
		LIMIT 500`, facility).
		Query(func(rows pgx.Rows) (err error) {
			r.Tables, err = pgx.CollectRows(rows, pgx.RowToStructByPos[tableAt])
			return err
		})
	verified := map[[2]string]*v1.Verified{}
	b.Queue(verifiedSQL, facility).Query(func(rows pgx.Rows) error { return readVerified(rows, verified) })
	b.Queue(`SELECT at, kind, epoch, seq, detail FROM holdfast.stream_event WHERE facility = $1 ORDER BY id DESC LIMIT $2`, facility, eventsShown).
		Query(func(rows pgx.Rows) (err error) {
			r.Events, err = pgx.CollectRows(rows, pgx.RowToStructByPos[streamEvent])
			return err
		})
	b.Queue(`SELECT count(*) FROM holdfast.parked WHERE facility = $1 AND direction = 'up' AND state = 'waiting'`, facility).
		QueryRow(func(row pgx.Row) error { return row.Scan(&r.Parked) })
	b.Queue(`SELECT coalesce(sum(waiting), 0)::bigint FROM holdfast.parked_at_box WHERE facility = $1`, facility).
		QueryRow(func(row pgx.Row) error { return row.Scan(&r.AtBox) })
	b.Queue(`SELECT schema_name, table_name, message, remedy, passed_over FROM holdfast.parked_table
		WHERE facility = $1 AND (reason <> 'row_missing' OR asked_at IS NOT NULL) ORDER BY direction, 1, 2 LIMIT 50`, facility).
		Query(func(rows pgx.Rows) (err error) {
			r.Passed, err = pgx.CollectRows(rows, pgx.RowToStructByPos[passedOver])
			return err
		})
	b.Queue(`SELECT enrolment, enrolled_at, agent_version, certificate_not_after FROM holdfast.device WHERE facility = $1 AND state = 'active'`, facility).
		QueryRow(func(row pgx.Row) error {
			d := &device{}
			if err := row.Scan(&d.Enrolment, &d.EnrolledAt, &d.AgentVersion, &d.NotAfter); err != nil {
				return none(err)
			}
			r.Device = d
			return nil
		})
	if err := s.pool.SendBatch(ctx, b).Close(); err != nil {
		return record{}, fmt.Errorf("read facility %s: %w", facility, err)
	}
	for i := range r.Tables {
		r.Tables[i].Verified = verified[[2]string{r.Tables[i].Schema, r.Tables[i].Table}]
	}
	return r, nil
}

func none(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return err
}

// factTables are the tables whose rows both sides may change.
func (s store) factTables(ctx context.Context) ([]string, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT schema_name || '.' || table_name FROM holdfast.synced_table
		 WHERE class = 'fact' ORDER BY 1 LIMIT 1000`)
	if err != nil {
		return nil, fmt.Errorf("list fact tables: %w", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list fact tables: %w", err)
	}
	return out, nil
}

// dueStep is a step that an incident's escalation takes next, or an escalation
// that somebody has answered.
type dueStep struct {
	Policy    int64
	Name      string
	Step      int
	At, Early *time.Time
	Tenant    string // whose facilities it is about, of a region's incident
	AckedAt   *time.Time
	AckedBy   string
}

// dueSteps lists them, the next first.
func dueSteps(ctx context.Context, tx pgx.Tx, incident int64) ([]dueStep, error) {
	rows, err := tx.Query(ctx, `
		SELECT e.policy, coalesce(p.name, ''), e.step, e.next_at, e.early_at, e.tenant, e.acked_at, e.acked_by
		  FROM holdfast.escalation e LEFT JOIN holdfast.escalation_policy p ON p.id = e.policy
		 WHERE e.incident = $1 AND (e.next_at IS NOT NULL OR e.acked_at IS NOT NULL) ORDER BY e.next_at, e.tenant, e.policy LIMIT 200`, incident)
	if err != nil {
		return nil, fmt.Errorf("read the escalation: %w", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[dueStep])
	if err != nil {
		return nil, fmt.Errorf("read the escalation: %w", err)
	}
	return out, nil
}

// weekFigures is how fast one week's outages were known and told, in seconds.
type weekFigures struct {
	Back         int // 0 is the week that ends now
	Incidents    int
	ToldOf       int       // of how many of them a message was taken
	Detect, Tell []float64 // p50, p95, p99
}

// told measures the last weeks, as cloud/alert measures the last days: outages
// of facilities, but for those during announced work.
func (s store) told(ctx context.Context, now time.Time, weeks int) ([]weekFigures, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT floor(extract(epoch FROM $1::timestamptz - i.opened_at) / 604800)::int, count(*)::int, count(t.first)::int,
		       coalesce(percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM i.opened_at - i.since)), '{0,0,0}')::float8[],
		       coalesce(percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM t.first - i.since)), '{0,0,0}')::float8[]
		  FROM holdfast.incident i
		  LEFT JOIN LATERAL (SELECT min(d.accepted_at) AS first FROM holdfast.delivery d WHERE d.incident = i.id AND d.event = 'trigger') t ON true
		 WHERE i.kind = 'offline' AND i.opened_at > $2 AND i.opened_at <= $1
		   AND NOT EXISTS (SELECT FROM holdfast.maintenance m WHERE m.facility = i.facility AND m.starts_at <= coalesce(t.first, i.opened_at) AND coalesce(m.ended_at, m.ends_at) > i.opened_at)
		 GROUP BY 1`, now, now.Add(-time.Duration(weeks)*7*24*time.Hour))
	if err != nil {
		return nil, fmt.Errorf("measure how fast was told: %w", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[weekFigures])
	if err != nil {
		return nil, fmt.Errorf("measure how fast was told: %w", err)
	}
	return out, nil
}
