package oncall

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/internal/hint"
)

// Checker finds what is wrong with an address when it is entered: the region's
// channels. One that is not set up has no entry.
type Checker = map[channel.Kind]channel.Sender

// Room keeps who is told of what.
type Room struct {
	db    *pgxpool.Pool
	check Checker
	log   *slog.Logger

	mu   sync.Mutex
	seen *snapshot // the last transaction's
}

// New returns the room. Without a channel in check addresses of its kind are
// kept, with the problem that nothing can be sent to them.
func New(db *pgxpool.Pool, check Checker, log *slog.Logger) *Room {
	return &Room{db: db, check: check, log: log}
}

// NotFoundError is something that is not there.
type NotFoundError struct {
	What string // such as contact
	ID   string
}

func (e *NotFoundError) Error() string { return fmt.Sprintf("there is no %s %q", e.What, e.ID) }

// InvalidError is something that cannot be as it was asked for.
type InvalidError struct {
	Field string // of the v1 document
	Text  string
}

func (e *InvalidError) Error() string { return e.Text }

// RefusedError is something that cannot be done as things are.
type RefusedError struct{ Text string }

func (e *RefusedError) Error() string { return e.Text }

// StaleError is a change of something that somebody else has changed meanwhile.
type StaleError struct {
	What, Name string // such as policy, plant
	Now        v1.Edition
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("%s changed the %s %s at %s, after it was read to be changed", e.Now.ChangedBy, e.What, e.Name, e.Now.ChangedAt.Format("2006-01-02 15:04:05 MST"))
}

// unseen refuses a change of was to in by somebody who has not seen the last one.
// Who does not say what he saw is not asked, and who wants what is there has it: a
// button may be pressed twice.
func unseen(what, name string, saw int64, now v1.Edition, in, was any) error {
	if saw == 0 || saw == now.Version {
		return nil
	}
	a, errA := json.Marshal(in) // an empty list and none are the same then
	b, errB := json.Marshal(was)
	if errA == nil && errB == nil && bytes.Equal(a, b) {
		return nil
	}
	if now.ChangedAt == nil { // nobody has changed it: such a version was never there
		return wrong("version", fmt.Sprintf("there is no version %d of the %s %s", saw, what, name), "Read it, and send the version that it has.")
	}
	return hint.Wrap(&StaleError{What: what, Name: name, Now: now}, "Read it again, make the change to what is there now, and send that.")
}

func missing(what string, id int64) error {
	return &NotFoundError{What: what, ID: strconv.FormatInt(id, 10)}
}

// invalid keeps the advice of an error that explains a field.
func invalid(field string, err error) error {
	return hint.Wrap(&InvalidError{Field: field, Text: err.Error()}, hint.Of(err))
}

func wrong(field, text, advice string, args ...any) error {
	return hint.Wrap(&InvalidError{Field: field, Text: text}, advice, args...)
}

func refused(text, advice string, args ...any) error {
	return hint.Wrap(&RefusedError{Text: text}, advice, args...)
}

// change runs one change of who is told. Two never run at once, so that what one
// of them checks is still so when it commits. What it was is kept in the audit log;
// fn returns the details, which hold no secret.
func (r *Room) change(ctx context.Context, by, what string, fn func(tx pgx.Tx) (map[string]any, error)) error {
	err := pgx.BeginFunc(ctx, r.db, func(tx pgx.Tx) error {
		if err := lock(ctx, tx); err != nil {
			return err
		}
		detail, err := fn(tx)
		if err != nil {
			return err
		}
		return audit(ctx, tx, by, what, detail)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

var tenantName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// checkTenant says whether a tenant has a facility; "" is the region itself.
func checkTenant(ctx context.Context, tx pgx.Tx, tenant string) error {
	if tenant == "" {
		return nil
	}
	if !tenantName.MatchString(tenant) {
		return wrong("tenant", fmt.Sprintf("%.80q cannot be a tenant", tenant), "Tenants are written with small letters, digits, _ and -.")
	}
	all, err := tenants(ctx, tx)
	if err != nil {
		return err
	}
	for _, t := range all {
		if t == tenant {
			return nil
		}
	}
	if len(all) == 0 {
		return wrong("tenant", fmt.Sprintf("no facility belongs to tenant %q", tenant), "Add its facility first: holdfastctl facility add ID --tenant %s", tenant)
	}
	return wrong("tenant", fmt.Sprintf("no facility belongs to tenant %q", tenant), "The tenants are %s. Add a facility of a new one first.", strings.Join(all, ", "))
}

// name is what people call something: one line, without blanks around it.
func name(s string) (string, error) {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > 200 || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return "", wrong("name", fmt.Sprintf("%.80q cannot be a name", s), "Write one line of at most 200 bytes.")
	}
	return s, nil
}

const (
	// checkWithin bounds a channel's look at an address.
	checkWithin = 10 * time.Second
	// unchecked begins a problem that says nothing of the address: the channel could
	// not look at it.
	unchecked = "not checked yet: "
)

// problemWith asks the channel what is wrong with an address, "" for nothing.
// The answer never holds an address that is a secret.
func (r *Room) problemWith(ctx context.Context, kind channel.Kind, address string, settings map[string]string) string {
	sender := r.check[kind]
	if sender == nil {
		return fmt.Sprintf("%s is not set up in this region, so nothing is sent to it; the region's configuration says how", kind)
	}
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	err := sender.Check(ctx, address, settings)
	if err == nil {
		return ""
	}
	text := err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		text = fmt.Sprintf("no answer within %s", checkWithin)
	} else if advice := hint.Of(err); advice != "" {
		text += ". " + advice
	}
	if secretIs(kind) {
		text = strings.ReplaceAll(text, address, Shown(kind, address))
	}
	for _, v := range settings {
		if len(v) >= 8 {
			text = strings.ReplaceAll(text, v, "…")
		}
	}
	if !channel.IsPermanent(err) {
		return unchecked + text
	}
	return text
}
