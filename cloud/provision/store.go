package provision

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agogsaas/holdfast/proto"
)

// ErrNotFound is answered for a facility that is not there (any more), or has
// no box to revoke.
var ErrNotFound = errors.New("not found")

// Box is one box that enrolled, with its facility.
type Box struct {
	Tenant, Facility string
	// Number is the facility's, for its tunnel address.
	Number uint32
	// Enrolment counts the facility's boxes.
	Enrolment uint32
	TunnelKey proto.Bytes32
	// State is active, replaced or revoked.
	State               string
	AgentVersion        string
	EnrolledAt          time.Time
	CertificateNotAfter time.Time
}

// ID is the box's name at the broker and in its certificate.
func (b Box) ID() string { return proto.ClientID(b.Tenant, b.Facility, b.Enrolment) }

// store is all SQL of this package. The time is a parameter everywhere.
type store struct{ db *pgxpool.Pool }

// tokenRow is a token with its facility, locked until the transaction ends.
type tokenRow struct {
	Facility  string
	Tenant    string
	Number    int64
	ExpiresAt time.Time
	UsedAt    *time.Time
	UsedKey   []byte
	Removed   bool
}

// deviceRow is a box with its facility, locked until the transaction ends.
type deviceRow struct {
	ID        int64
	Facility  string
	Tenant    string
	Number    int64
	Enrolment int64
	TunnelKey []byte
	State     string
	Removed   bool
}

func (d deviceRow) box() Box {
	b := Box{Tenant: d.Tenant, Facility: d.Facility, Number: uint32(d.Number), Enrolment: uint32(d.Enrolment), State: d.State}
	copy(b.TunnelKey[:], d.TunnelKey)
	return b
}

// newToken keeps a token and ends the facility's unused ones.
func (s store) newToken(ctx context.Context, sum [32]byte, facility, by string, now, expires time.Time) error {
	return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		var removed bool
		err := tx.QueryRow(ctx, `SELECT removed_at IS NOT NULL FROM holdfast.facility WHERE id = $1 FOR UPDATE`, facility).Scan(&removed)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && removed {
			return fmt.Errorf("facility %s: %w", facility, ErrNotFound)
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM holdfast.enrol_token WHERE facility = $1 AND used_at IS NULL`, facility); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO holdfast.enrol_token (token_sha256, facility, created_at, created_by, expires_at)
			VALUES ($1, $2, $3, $4, $5)`, sum[:], facility, now, by, expires)
		return err
	})
}

// token finds a token by the hash of its secret; pgx.ErrNoRows when there is
// none.
func (s store) token(ctx context.Context, tx pgx.Tx, sum [32]byte) (tokenRow, error) {
	rows, err := tx.Query(ctx, `
		SELECT t.facility, f.tenant, f.number::bigint, t.expires_at, t.used_at, t.used_key_sha256, f.removed_at IS NOT NULL
		  FROM holdfast.enrol_token t JOIN holdfast.facility f ON f.id = t.facility
		 WHERE t.token_sha256 = $1
		   FOR UPDATE`, sum[:])
	if err != nil {
		return tokenRow{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[tokenRow])
}

// device finds a box by the hash of its certificate key; pgx.ErrNoRows when
// there is none.
func (s store) device(ctx context.Context, tx pgx.Tx, key [32]byte) (deviceRow, error) {
	rows, err := tx.Query(ctx, selectDevice+` WHERE d.identity_key_sha256 = $1 FOR UPDATE OF d`, key[:])
	if err != nil {
		return deviceRow{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[deviceRow])
}

const selectDevice = `
	SELECT d.id, d.facility, f.tenant, f.number::bigint, d.enrolment::bigint, d.wireguard_key, d.state, f.removed_at IS NOT NULL
	  FROM holdfast.device d JOIN holdfast.facility f ON f.id = d.facility`

// endBox makes the facility's active box something else, and returns it;
// pgx.ErrNoRows when there is none.
func (s store) endBox(ctx context.Context, tx pgx.Tx, facility, state string) (deviceRow, error) {
	rows, err := tx.Query(ctx, `
		WITH d AS (
			UPDATE holdfast.device SET state = $2 WHERE facility = $1 AND state = 'active' RETURNING *
		)
		SELECT d.id, d.facility, f.tenant, f.number::bigint, d.enrolment::bigint, d.wireguard_key, d.state, f.removed_at IS NOT NULL
		  FROM d JOIN holdfast.facility f ON f.id = d.facility`, facility, state)
	if err != nil {
		return deviceRow{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[deviceRow])
}

// nextEnrolment counts one more box of the facility.
func (s store) nextEnrolment(ctx context.Context, tx pgx.Tx, facility string) (uint32, error) {
	var n int64
	err := tx.QueryRow(ctx, `UPDATE holdfast.facility SET enrolments = enrolments + 1 WHERE id = $1 RETURNING enrolments`, facility).Scan(&n)
	return uint32(n), err
}

// addDevice inserts an active box and its first certificate, and marks the
// token as used by it.
func (s store) addDevice(ctx context.Context, tx pgx.Tx, sum [32]byte, facility string, enrolment uint32, r *request, cert *x509.Certificate, now time.Time) error {
	var id int64
	err := tx.QueryRow(ctx, `
		INSERT INTO holdfast.device (facility, enrolment, identity_key_sha256, identity_key, wireguard_key,
		                             certificate_serial, certificate_not_after, hardware, agent_version, enrolled_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id`,
		facility, int64(enrolment), r.keySum[:], r.spki, r.msg.TunnelKey[:],
		serialText(cert), cert.NotAfter, r.msg.Hardware, r.msg.Agent, now).Scan(&id)
	if err != nil {
		return err
	}
	if err := s.addCertificate(ctx, tx, id, cert, now); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE holdfast.enrol_token SET used_at = $2, used_key_sha256 = $3 WHERE token_sha256 = $1`, sum[:], now, r.keySum[:])
	return err
}

func (s store) addCertificate(ctx context.Context, tx pgx.Tx, device int64, cert *x509.Certificate, now time.Time) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO holdfast.device_certificate (serial, device, certificate, issued_at, not_after) VALUES ($1, $2, $3, $4, $5)`,
		serialText(cert), device, cert.Raw, now, cert.NotAfter)
	return err
}

// renewed records a box's next certificate and forgets those that have expired.
func (s store) renewed(ctx context.Context, tx pgx.Tx, device int64, cert *x509.Certificate, agent string, now time.Time) error {
	if err := s.addCertificate(ctx, tx, device, cert, now); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `
		UPDATE holdfast.device SET certificate_serial = $2, certificate_not_after = $3, agent_version = $4 WHERE id = $1`,
		device, serialText(cert), cert.NotAfter, agent); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM holdfast.device_certificate WHERE device = $1 AND not_after < $2`, device, now)
	return err
}

// certificate is a box's latest, with the time it was issued.
func (s store) certificate(ctx context.Context, tx pgx.Tx, device int64) (*x509.Certificate, time.Time, error) {
	var der []byte
	var issued time.Time
	err := tx.QueryRow(ctx, `
		SELECT certificate, issued_at FROM holdfast.device_certificate WHERE device = $1 ORDER BY issued_at DESC, serial LIMIT 1`,
		device).Scan(&der, &issued)
	if err != nil {
		return nil, time.Time{}, err
	}
	c, err := x509.ParseCertificate(der)
	return c, issued, err
}

// boxes lists boxes, the latest of each facility first.
func (s store) boxes(ctx context.Context, onlyActive bool) ([]Box, error) {
	rows, err := s.db.Query(ctx, `
		SELECT f.tenant, d.facility, f.number::bigint, d.enrolment::bigint, d.wireguard_key, d.state, d.agent_version, d.enrolled_at, d.certificate_not_after
		  FROM holdfast.device d JOIN holdfast.facility f ON f.id = d.facility
		 WHERE NOT $1 OR (d.state = 'active' AND f.removed_at IS NULL)
		 ORDER BY d.facility, d.enrolment DESC`, onlyActive)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Box, error) {
		var b Box
		var number, enrolment int64
		var key []byte
		err := row.Scan(&b.Tenant, &b.Facility, &number, &enrolment, &key, &b.State, &b.AgentVersion, &b.EnrolledAt, &b.CertificateNotAfter)
		b.Number, b.Enrolment = uint32(number), uint32(enrolment)
		copy(b.TunnelKey[:], key)
		return b, err
	})
}

// revoked lists the certificates of boxes that are not active, as far as they
// have not expired.
func (s store) revoked(ctx context.Context, now time.Time) ([]x509.RevocationListEntry, error) {
	rows, err := s.db.Query(ctx, `
		SELECT c.serial, c.issued_at FROM holdfast.device_certificate c
		  JOIN holdfast.device d ON d.id = c.device JOIN holdfast.facility f ON f.id = d.facility
		 WHERE (d.state <> 'active' OR f.removed_at IS NOT NULL) AND c.not_after > $1
		 ORDER BY c.serial`, now)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (x509.RevocationListEntry, error) {
		var serial string
		var issued time.Time
		if err := row.Scan(&serial, &issued); err != nil {
			return x509.RevocationListEntry{}, err
		}
		n, ok := new(big.Int).SetString(serial, 16)
		if !ok {
			return x509.RevocationListEntry{}, fmt.Errorf("certificate serial %q is not a number", serial)
		}
		return x509.RevocationListEntry{SerialNumber: n, RevocationTime: issued}, nil
	})
}

func (s store) audit(ctx context.Context, tx pgx.Tx, what string, detail map[string]any) error {
	_, err := tx.Exec(ctx, `INSERT INTO holdfast.audit (who, what, detail) VALUES ('provision', $1, $2)`, what, detail)
	return err
}

func serialText(c *x509.Certificate) string { return c.SerialNumber.Text(16) }

func isUnique(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "23505"
}
