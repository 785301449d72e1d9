package workspace

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// errReused: the key of this request made something else before.
var errReused = errors.New("this key was used for another request")

// requestDays is how long is known what a key was used for.
const requestDays = 90

// request is what is to be done once, however often it is sent.
type request struct {
	key    string
	sha256 []byte // of what was asked; nil where nobody can send it again
}

// requestOf digests a JSON body, whatever the order and the spacing of its fields.
func requestOf(key, path string, body []byte) (request, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return request{}, fmt.Errorf("read the body: %w", err)
	}
	same, err := json.Marshal(v)
	if err != nil {
		return request{}, fmt.Errorf("digest the body: %w", err)
	}
	return digested(key, path, same), nil
}

func digested(key, path string, asked []byte) request {
	sum := sha256.Sum256(append([]byte(path+"\x00"), asked...))
	return request{key, sum[:]}
}

// remember keeps what was asked beside the row that it made, in the same
// transaction. Where the row was there already it is errReused if that was
// made by another request; of a row about which nothing is known it is not.
func (r request) remember(ctx context.Context, tx pgx.Tx, id string, made bool) error {
	if r.sha256 == nil {
		return nil
	}
	if !made {
		var before []byte
		err := tx.QueryRow(ctx, `SELECT sha256 FROM holdfast.request WHERE row_id = $1`, id).Scan(&before)
		if err == nil && !bytes.Equal(before, r.sha256) {
			return errReused
		}
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("read what the key was used for: %w", err)
		}
		return nil
	}
	if _, err := tx.Exec(ctx, `
		INSERT INTO holdfast.request (row_id, sha256) VALUES ($1, $2)
		ON CONFLICT (row_id) DO UPDATE SET sha256 = excluded.sha256, created_at = now()`, id, r.sha256); err != nil {
		return fmt.Errorf("keep what the key was used for: %w", err)
	}
	// Two old ones go for each that comes, so that the table stays small.
	if _, err := tx.Exec(ctx, `
		DELETE FROM holdfast.request WHERE row_id IN (
			SELECT row_id FROM holdfast.request WHERE created_at < now() - make_interval(days => $1)
			ORDER BY created_at LIMIT 2 FOR UPDATE SKIP LOCKED)`, requestDays); err != nil {
		return fmt.Errorf("forget old keys: %w", err)
	}
	return nil
}
