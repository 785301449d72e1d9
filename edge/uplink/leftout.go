package uplink

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/proto"
)

// What capture leaves out is written down here, and told with the state of its
// table until that is sent again: then it is in, or left out anew.

const (
	// leftOutMax is how much is written down.
	leftOutMax = 1000
	// leftOutKeys is how many keys of a table are told.
	leftOutKeys = 5
)

// leftOut is what was left out of one table for one reason.
type leftOut struct {
	Table  string // schema.name
	Reason string
	Rows   int64
	Keys   []string // the first of them
}

// leftOutOf is one thing that capture has left out.
type leftOutOf struct{ schema, table, reason, key string }

// leaveOut takes what capture left out; Tables writes it down.
func (u *Uplink) leaveOut(l capture.LeftOut) {
	one := leftOutOf{l.Table.Schema, l.Table.Name, string(l.Reason), l.KeyText()}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.leftNew) < leftOutMax && !slices.Contains(u.leftNew, one) {
		u.leftNew = append(u.leftNew, one)
		u.orders.give(order{})
	}
}

// keepLeftOut writes down what is new, and reads what there is.
func (u *Uplink) keepLeftOut(ctx context.Context) error {
	u.mu.Lock()
	news := slices.Clone(u.leftNew)
	u.mu.Unlock()
	if err := u.store.leaveOut(ctx, news); err != nil {
		return err
	}
	list, err := u.store.leftOut(ctx)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.leftNew, u.left = u.leftNew[len(news):], list
	return nil
}

// LeftOut is how many rows, or tables without a key, were left out.
func (u *Uplink) LeftOut() (n int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.left {
		n += u.left[i].Rows
	}
	return n
}

// LeftOutProblems says it in words.
func (u *Uplink) LeftOutProblems() []proto.Problem {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.leftOutLocked("")
}

// leftOutLocked says what was left out of a table, of all when it is "".
func (u *Uplink) leftOutLocked(table string) (list []proto.Problem) {
	for _, l := range u.left {
		if table == "" || l.Table == table {
			r := capture.LeftOutReason(l.Reason)
			list = append(list, proto.Problem{Text: r.Text(l.Table, l.Rows, l.Keys), Remedy: r.Remedy(l.Table, u.Facility)})
		}
	}
	return list
}

func (s store) leaveOut(ctx context.Context, list []leftOutOf) error {
	if len(list) == 0 {
		return nil
	}
	var b pgx.Batch
	for _, l := range list {
		b.Queue(`INSERT INTO holdfast.left_out (schema_name, table_name, reason, key)
			SELECT $1, $2, $3, $4 WHERE (SELECT count(*) FROM holdfast.left_out) < $5
			ON CONFLICT (schema_name, table_name, reason, key) DO UPDATE SET at = now()`, l.schema, l.table, l.reason, l.key, leftOutMax)
	}
	if err := s.db.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("write down what was left out: %w", err)
	}
	return nil
}

func (s store) leftOut(ctx context.Context) ([]leftOut, error) {
	rows, err := s.db.Query(ctx, `SELECT l.schema_name || '.' || l.table_name, l.reason, count(*), (array_agg(l.key ORDER BY l.at))[1:$1]
		FROM holdfast.left_out l JOIN holdfast.synced_table USING (schema_name, table_name) GROUP BY 1, 2 ORDER BY 1, 2`, leftOutKeys)
	if err != nil {
		return nil, fmt.Errorf("read what was left out: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[leftOut])
	if err != nil {
		return nil, fmt.Errorf("read what was left out: %w", err)
	}
	return list, nil
}
