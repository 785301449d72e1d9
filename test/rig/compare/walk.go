package compare

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// walk reads both sides in the order of their keys' text and returns the
// first rows that differ.
func walk(ctx context.Context, a, b pgx.Tx, t Table, s shape) ([]Row, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ra, err := open(ctx, a, t, s)
	if err != nil {
		return nil, fmt.Errorf("read its rows in A: %w", err)
	}
	defer ra.rows.Close()
	rb, err := open(ctx, b, t.inB(), s)
	if err != nil {
		return nil, fmt.Errorf("read its rows in B: %w", err)
	}
	defer rb.rows.Close()
	var found []Row
	for len(found) < shownMax && (ra.more || rb.more) {
		switch {
		case !rb.more || ra.more && ra.key < rb.key:
			found = append(found, Row{Key: ra.key, A: ra.row})
			err = ra.next()
		case !ra.more || rb.key < ra.key:
			found = append(found, Row{Key: rb.key, B: rb.row})
			err = rb.next()
		default:
			if ra.row != rb.row {
				found = append(found, Row{Key: ra.key, A: ra.row, B: rb.row})
			}
			if err = ra.next(); err == nil {
				err = rb.next()
			}
		}
		if err != nil {
			return nil, fmt.Errorf("read its rows: %w", err)
		}
	}
	return found, nil
}

type reader struct {
	rows     pgx.Rows
	more     bool
	key, row string
}

func open(ctx context.Context, tx pgx.Tx, t Table, s shape) (*reader, error) {
	rows, err := tx.Query(ctx, `SELECT `+rowText(s.key)+` COLLATE "C" AS k, `+rowText(s.columns)+` COLLATE "C" AS r
		FROM `+t.from()+` ORDER BY k, r`)
	if err != nil {
		return nil, err
	}
	r := &reader{rows: rows}
	return r, r.next()
}

func (r *reader) next() error {
	if r.more = r.rows.Next(); !r.more {
		return r.rows.Err()
	}
	return r.rows.Scan(&r.key, &r.row)
}
