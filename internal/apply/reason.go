package apply

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agogsaas/holdfast/internal/hint"
)

// Reason says why a change is parked.
type Reason string

// The reasons.
const (
	ReasonUnique        Reason = "unique"
	ReasonCheck         Reason = "check"
	ReasonNotNull       Reason = "not_null"
	ReasonExclusion     Reason = "exclusion"
	ReasonType          Reason = "type"
	ReasonMissingTable  Reason = "missing_table"
	ReasonMissingColumn Reason = "missing_column"
	ReasonPrivilege     Reason = "privilege"
	ReasonForeign       Reason = "foreign" // the row names another facility, or has its key
	ReasonBehind        Reason = "behind"  // an earlier change of the row is parked
	ReasonParent        Reason = "parent"  // the row that it refers to is parked
	ReasonUnread        Reason = "unread"  // what was changed here of its table is not known; see Table.Unread
	ReasonOther         Reason = "other"
)

// Reasons are all reasons, for those who check input.
var Reasons = []Reason{
	ReasonUnique, ReasonCheck, ReasonNotNull, ReasonExclusion, ReasonType, ReasonMissingTable,
	ReasonMissingColumn, ReasonPrivilege, ReasonForeign, ReasonBehind, ReasonParent, ReasonUnread, ReasonOther,
}

// cause is a Reason with what is known of it.
type cause struct {
	reason           Reason
	code, constraint string
	message, remedy  string
}

var (
	behindCause = cause{
		reason: ReasonBehind, message: "an earlier change of this row waits",
		remedy: "Look at the first change of the row that waits; this one follows it by itself.",
	}
	parentCause = cause{
		reason: ReasonParent, message: "the row that this one refers to waits",
		remedy: "Look at the row that it refers to; this one follows it by itself.",
	}
)

// misfit says why a table as a whole cannot take the sender's rows. It wraps a
// RowError with ErrTable.
type misfit struct {
	reason Reason
	err    error
}

func (m misfit) Error() string { return m.err.Error() }
func (m misfit) Unwrap() error { return m.err }

// rowFaultClasses are the classes of SQLSTATE by which PostgreSQL says that it
// will not have a row as it is.
var rowFaultClasses = []string{"0A", "21", "22", "23", "38", "39", "3F", "42", "44", "54", "P0"}

// causeOf tells whether err is the fault of one change, or of its table, so
// that the change can be parked. Whatever passes by itself (a deadlock, a full
// disk, a lost connection) is not.
func causeOf(err error, table string, d Direction) (cause, bool) {
	if errors.Is(err, errFull) {
		return cause{}, false
	}
	if errors.Is(err, ErrForeignRow) {
		return cause{
			reason: ReasonForeign, message: innermost(err),
			remedy: "Correct the application at the facility that wrote the row, or discard it here. It is never written over the other facility's row.",
		}, true
	}
	if errors.Is(err, ErrTable) {
		c := cause{reason: ReasonOther, message: innermost(err), remedy: hint.Of(err)}
		if m, ok := errors.AsType[misfit](err); ok {
			c.reason = m.reason
		}
		return c, true
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(pg.Code) != 5 || !slices.Contains(rowFaultClasses, pg.Code[:2]) {
		return cause{}, false
	}
	c := cause{reason: reasonOf(pg.Code), code: pg.Code, constraint: pg.ConstraintName, message: pg.Message}
	if pg.Detail != "" {
		c.message += ": " + pg.Detail
	}
	c.remedy = remedyFor(c, pg, table, d)
	return c, true
}

func reasonOf(code string) Reason {
	switch code {
	case "23505":
		return ReasonUnique
	case "23514", "44000":
		return ReasonCheck
	case "23502":
		return ReasonNotNull
	case "23P01":
		return ReasonExclusion
	case "42501":
		return ReasonPrivilege
	case "42P01", "3F000":
		return ReasonMissingTable
	case "42703":
		return ReasonMissingColumn
	}
	if strings.HasPrefix(code, "22") || code == "42804" {
		return ReasonType
	}
	return ReasonOther
}

func remedyFor(c cause, pg *pgconn.PgError, table string, d Direction) string {
	here, there := d.here(), d.there()
	switch c.reason {
	case ReasonUnique:
		return fmt.Sprintf("Another row of %s table has the same value in the constraint %s. Change one of the two, at the facility or in the region, or discard this one.", here.its, pg.ConstraintName)
	case ReasonExclusion:
		return fmt.Sprintf("Another row of %s table excludes it (%s). Change one of the two, at the facility or in the region, or discard this one.", here.its, pg.ConstraintName)
	case ReasonCheck, ReasonNotNull:
		return fmt.Sprintf("The table %s is stricter %s than %s. Give it the same constraints, or correct the row.", table, here.in, there.in)
	case ReasonPrivilege:
		return fmt.Sprintf("Give %s database role the right to write the table %s.", here.its, table)
	case ReasonType:
		return fmt.Sprintf("A value does not fit its column in %s table %s. Give the column the type that it has %s, or correct the row.", here.its, table, there.in)
	}
	return fmt.Sprintf("Compare %s table %s with %s.", here.its, table, there.its)
}

// innermost is what the RowError says without the transaction around it.
func innermost(err error) string {
	if re, ok := errors.AsType[*RowError](err); ok {
		err = re.Err
	}
	return err.Error()
}

// errFull means that more waits than is kept, of a table that cannot be sent again.
var errFull = errors.New("too many changes wait")
