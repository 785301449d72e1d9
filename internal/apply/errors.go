package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/hint"
)

// Errors that end a stream. The sender begins again at the position that the
// receiver then tells it.
var (
	// ErrGap means that a frame does not follow the one before.
	ErrGap = errors.New("frame does not follow the position")
	// ErrOldEpoch means that the frame is from an epoch that a newer has replaced.
	ErrOldEpoch = errors.New("frame is from an older epoch")
	// ErrFenced means that somebody else moved the position: another session
	// of the same facility, or a database that went back in time.
	ErrFenced = errors.New("position was moved by another session")
)

// Causes of a RowError that are found here and not by PostgreSQL.
var (
	// ErrForeignRow means that a row belongs to another facility.
	ErrForeignRow = errors.New("row belongs to another facility")
	// ErrTable means that a table of the stream has no fitting table at the receiver.
	ErrTable = errors.New("table cannot receive the stream")
)

// RowError says what one transaction of the sender could not do at the
// receiver. Everything before the transaction is committed; the stream waits
// and goes on by itself when the cause is gone. Its advice is a hint.
type RowError struct {
	Facility string
	Position change.Position
	// Table is the sender's table, Key the row's key; both may be empty.
	Table, Key string
	// Column and Constraint are what was in the way, if known.
	Column, Constraint string
	// Code is PostgreSQL's SQLSTATE, if it was PostgreSQL that refused.
	Code string
	Err  error
}

func (e *RowError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "apply transaction %s of %s", e.Position, e.Facility)
	if e.Table != "" {
		fmt.Fprintf(&b, ", table %s", e.Table)
	}
	if e.Key != "" {
		fmt.Fprintf(&b, ", key %s", e.Key)
	}
	if e.Constraint != "" {
		fmt.Fprintf(&b, ", constraint %s", e.Constraint)
	}
	return b.String() + ": " + e.Err.Error()
}

func (e *RowError) Unwrap() error { return e.Err }

// tableError says why a table cannot be applied to, and what to do.
func tableError(table, why, advice string, args ...any) error {
	err := fmt.Errorf("%w: %s %s", ErrTable, table, why)
	return &RowError{Table: table, Err: hint.Wrap(err, advice, args...)}
}

// refused reports whether err is PostgreSQL, or this package, refusing the
// data, as opposed to a broken connection or a cancelled context. Only then
// does it help to apply less at once.
func refused(err error) bool {
	if _, ok := errors.AsType[*RowError](err); ok {
		return true
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(pg.Code) < 2 {
		return false
	}
	switch pg.Code[:2] {
	case "08", "53", "57", "58", "XX", "40", "55":
		return false // connection, resources, operator, disk, bug, deadlock, lock timeout
	}
	return true
}

// raced reports whether a local transaction was in the way, which most likely
// has ended.
func raced(err error) bool {
	if errors.Is(err, errRaced) {
		return true
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == "55P03" || pg.Code == "40P01" || pg.Code == "40001")
}

// stale reports whether err may come from a catalog that has changed since it
// was read.
func stale(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && len(pg.Code) >= 2 && (pg.Code[:2] == "42" || pg.Code[:2] == "0A")
}

// describe makes a RowError of err, adding what is known of the change.
func describe(err error, d Direction, facility string, pos change.Position, s *shape, c *change.Change) error {
	re, ok := errors.AsType[*RowError](err)
	if !ok {
		re = &RowError{Err: err}
	} else {
		cp := *re
		re = &cp
	}
	re.Facility, re.Position = facility, pos
	if errors.Is(err, ErrForeignRow) && hint.Of(err) == "" {
		re.Err = hint.Wrap(re.Err, "Correct the application at %s that wrote it. The stream goes on when the table is no longer synced (holdfastctl tables remove); add it again once its rows at %s are right.", facility, facility)
	}
	if s != nil {
		re.Table = s.name
		if c != nil && re.Key == "" {
			re.Key = s.printKey(c)
		}
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		re.Code, re.Constraint, re.Column = pg.Code, pg.ConstraintName, pg.ColumnName
		if hint.Of(err) == "" {
			re.Err = hint.Wrap(re.Err, "%s", adviceFor(pg, re, d))
		}
	}
	return re
}

func adviceFor(pg *pgconn.PgError, re *RowError, d Direction) string {
	here, there := d.here(), d.there()
	switch {
	case pg.Code == "23505":
		return fmt.Sprintf("Another row of %s table has the same value in the constraint %s. Change or remove that row %s; the stream then goes on by itself.", here.its, pg.ConstraintName, here.in)
	case pg.Code == "23514" || pg.Code == "23502" || pg.Code == "23P01":
		return fmt.Sprintf("The table %s is stricter %s than %s. Give it the same constraints; the stream then goes on by itself.", re.Table, here.in, there.in)
	case pg.Code == "42501":
		return fmt.Sprintf("Give %s database role the right to write the table %s.", here.its, re.Table)
	case strings.HasPrefix(pg.Code, "22"):
		return fmt.Sprintf("A value does not fit its column in %s table %s. Give the column the type that it has %s; the stream then goes on by itself.", here.its, re.Table, there.in)
	}
	return fmt.Sprintf("Compare %s table %s with %s. The stream goes on by itself when the cause is gone.", here.its, re.Table, there.its)
}

// gone reports whether the work ended because ctx did.
func gone(ctx context.Context) bool { return ctx.Err() != nil }

// passing reports whether err is a condition of the server that passes by
// itself while the connection stays: a deadlock, a lock timeout, a full disk.
func passing(err error) bool {
	if errors.Is(err, ErrUnsettled) || errors.Is(err, errRaced) {
		return true
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(pg.Code) < 2 {
		return false
	}
	switch pg.Code[:2] {
	case "40", "53", "55", "58":
		return true
	}
	return pg.Code == "57014"
}
