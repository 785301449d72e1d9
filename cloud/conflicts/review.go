package conflicts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

// What the audit log calls what is done here.
const (
	auditAcknowledge = "conflict.acknowledge"
	auditReopen      = "conflict.reopen"
	auditRestore     = "conflict.restore"
)

// refuse makes an ErrRefused with advice.
func refuse(advice, format string, args ...any) error {
	return hint.Wrap(&refusal{fmt.Sprintf(format, args...)}, "%s", advice)
}

type refusal struct{ why string }

func (r *refusal) Error() string        { return r.why }
func (r *refusal) Is(target error) bool { return target == ErrRefused }

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// reviewed says who has dealt with the conflict, and how.
func (r *record) reviewed() string {
	return fmt.Sprintf("%s %s it on %s", *r.ReviewBy, *r.Action, stamp(*r.ReviewAt))
}

// before is the present review for the audit log, nil if there is none.
func (r *record) before() map[string]any {
	if r.Action == nil {
		return nil
	}
	return map[string]any{"action": *r.Action, "by": *r.ReviewBy, "at": *r.ReviewAt, "note": *r.Note}
}

// about is the audit log's detail of everything that is done to a conflict.
func (r *record) about(note string) map[string]any {
	d := map[string]any{"conflict": r.ID, "facility": r.Facility, "table": r.Schema + "." + r.Table, "key": r.Key}
	if note != "" {
		d["note"] = note
	}
	if b := r.before(); b != nil {
		d["before"] = b
	}
	return d
}

// Acknowledge leaves a conflict as it was decided.
func (d *Desk) Acknowledge(ctx context.Context, id, by, note string) (v1.Conflict, error) {
	note = clean(note)
	return d.review(ctx, id, func(tx pgx.Tx, r *record) error {
		if r.Action != nil {
			return refuse("Nothing is left to do. holdfastctl conflicts show "+r.ID+" tells what happened.", "it has been dealt with: %s", r.reviewed())
		}
		if err := putReview(ctx, tx, r.ID, v1.ConflictAcknowledged, by, note); err != nil {
			return err
		}
		return audit(ctx, tx, by, auditAcknowledge, r.about(note))
	})
}

// Reopen takes an acknowledgement back.
func (d *Desk) Reopen(ctx context.Context, id, by string) (v1.Conflict, error) {
	return d.review(ctx, id, func(tx pgx.Tx, r *record) error {
		switch {
		case r.Action == nil:
			return refuse("Nothing is left to do.", "it is open already")
		case *r.Action != v1.ConflictAcknowledged:
			return refuse("A restored version is an ordinary change of the row: change the row again, or write the other version.", "it is not just acknowledged: %s", r.reviewed())
		}
		if err := endReview(ctx, tx, r.ID); err != nil {
			return err
		}
		return audit(ctx, tx, by, auditReopen, r.about(""))
	})
}

// review changes one conflict's review and returns it as it is then.
func (d *Desk) review(ctx context.Context, id string, change func(pgx.Tx, *record) error) (v1.Conflict, error) {
	var out v1.Conflict
	err := pgx.BeginFunc(ctx, d.store.db, func(tx pgx.Tx) error {
		r, err := readRecord(ctx, tx, id, true)
		if err != nil {
			return err
		}
		if err := change(tx, r); err != nil {
			return err
		}
		if r, err = readRecord(ctx, tx, id, false); err != nil {
			return err
		}
		out = r.conflict()
		return nil
	})
	if err == nil {
		d.forget()
	}
	return out, err
}

// errCount takes back an acknowledgement of another number than was meant.
var errCount = errors.New("another number")

// AcknowledgeAll acknowledges every open conflict that matches, if they are
// count. It is all or nothing.
func (d *Desk) AcknowledgeAll(ctx context.Context, f v1.ConflictFilter, count int64, by, note string) error {
	var n int64
	note = clean(note)
	err := pgx.BeginFunc(ctx, d.store.db, func(tx pgx.Tx) (err error) {
		if n, err = reviewAll(ctx, tx, f, by, note); err != nil {
			return err
		}
		if n != count {
			return errCount
		}
		f.State = v1.ConflictOpen
		return audit(ctx, tx, by, auditAcknowledge, map[string]any{"filter": f, "count": n, "note": note})
	})
	if errors.Is(err, errCount) {
		return refuse("Look at the list again, then give that number. Nothing was changed.", "%d open conflicts match, not %d", n, count)
	}
	if err == nil {
		d.forget()
	}
	return err
}
