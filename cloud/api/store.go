package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// store reads and writes what the API itself owns in the region's schema.
type store struct{ db *pgxpool.Pool }

// isUnique says whether err is a violated unique constraint.
func isUnique(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "23505"
}

// audited runs change and writes who did what in the same transaction.
func (s store) audited(ctx context.Context, what string, detail map[string]any, change func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if err := change(tx); err != nil {
			return err
		}
		return audit(ctx, tx, who(ctx), what, detail)
	})
}

// execer is a pool or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

func audit(ctx context.Context, db execer, name, what string, detail map[string]any) error {
	if detail == nil {
		detail = map[string]any{}
	}
	_, err := db.Exec(ctx, `INSERT INTO holdfast.audit (who, what, detail) VALUES ($1, $2, $3)`, name, what, detail)
	if err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	return nil
}

// facilityRow is a facility with its active box and waiting token.
type facilityRow struct {
	ID, Tenant, Name, TimeZone string
	Number, Enrolments         int
	CreatedAt                  time.Time
	RemovedAt                  *time.Time

	DeviceID            *int64
	DeviceEnrolment     *int
	EnrolledAt          *time.Time
	AgentVersion        *string
	CertificateNotAfter *time.Time
	TokenExpiresAt      *time.Time
}

const selectFacility = `
	SELECT f.id, f.tenant, f.name, f.time_zone, f.number, f.enrolments, f.created_at, f.removed_at,
	       d.id, d.enrolment, d.enrolled_at, d.agent_version, d.certificate_not_after,
	       (SELECT max(t.expires_at) FROM holdfast.enrol_token t
	         WHERE t.facility = f.id AND t.used_at IS NULL AND t.expires_at > now())
	  FROM holdfast.facility f
	  LEFT JOIN holdfast.device d ON d.facility = f.id AND d.state = 'active'`

func (s store) facilities(ctx context.Context, after string, removed bool, limit int) ([]facilityRow, error) {
	rows, err := s.db.Query(ctx, selectFacility+`
	 WHERE f.id > $1 AND (f.removed_at IS NULL OR $2)
	 ORDER BY f.id LIMIT $3`, after, removed, limit)
	if err != nil {
		return nil, fmt.Errorf("list facilities: %w", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[facilityRow])
	if err != nil {
		return nil, fmt.Errorf("list facilities: %w", err)
	}
	return out, nil
}

// facility returns pgx.ErrNoRows when there is none.
func (s store) facility(ctx context.Context, id string) (facilityRow, error) {
	rows, err := s.db.Query(ctx, selectFacility+` WHERE f.id = $1`, id)
	if err != nil {
		return facilityRow{}, fmt.Errorf("read facility: %w", err)
	}
	f, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[facilityRow])
	if err != nil {
		return facilityRow{}, fmt.Errorf("read facility: %w", err)
	}
	return f, nil
}
