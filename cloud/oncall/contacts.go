package oncall

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/channel"
)

// methodsMax is how many ways of one contact there may be.
const methodsMax = 20

// ListContacts lists up to limit contacts behind the one with the id after; tenant
// "" is all.
func (r *Room) ListContacts(ctx context.Context, tenant string, after int64, limit int) ([]v1.Contact, error) {
	return contacts(ctx, r.db, tenant, nil, after, limit)
}

// Contact returns one contact.
func (r *Room) Contact(ctx context.Context, id int64) (v1.Contact, error) {
	return contact(ctx, r.db, id)
}

// AddContact makes a contact without any way to be reached.
func (r *Room) AddContact(ctx context.Context, in v1.Contact, by string) (v1.Contact, error) {
	var id int64
	err := r.change(ctx, by, "contact.add", func(tx pgx.Tx) (map[string]any, error) {
		if err := checkTenant(ctx, tx, in.Tenant); err != nil {
			return nil, err
		}
		if err := checkContact(ctx, tx, 0, &in); err != nil {
			return nil, err
		}
		var err error
		id, err = insertContact(ctx, tx, in, by)
		return map[string]any{"contact": id, "name": in.Name, "tenant": in.Tenant}, err
	})
	if err != nil {
		return v1.Contact{}, err
	}
	return r.Contact(ctx, id)
}

// ChangeContact gives a contact another name or time zone.
func (r *Room) ChangeContact(ctx context.Context, id int64, in v1.Contact, by string) (v1.Contact, error) {
	err := r.change(ctx, by, "contact.change", func(tx pgx.Tx) (map[string]any, error) {
		was, err := contact(ctx, tx, id)
		if err != nil {
			return nil, err
		}
		if in.Tenant != was.Tenant {
			return nil, wrong("tenant", fmt.Sprintf("%s cannot go over to another tenant", was.Name), "Add a contact there, and remove this one.")
		}
		saw := in.Version
		in.ID, in.Edition, in.Methods = was.ID, was.Edition, was.Methods
		if err := checkContact(ctx, tx, id, &in); err != nil {
			return nil, err
		}
		if err := unseen("contact", was.Name, saw, was.Edition, in, was); err != nil {
			return nil, err
		}
		return map[string]any{"contact": id, "name": in.Name, "time_zone": in.TimeZone}, updateContact(ctx, tx, id, in, by)
	})
	if err != nil {
		return v1.Contact{}, err
	}
	return r.Contact(ctx, id)
}

// checkContact also brings what it was given into form. id is its own.
func checkContact(ctx context.Context, tx pgx.Tx, id int64, in *v1.Contact) error {
	var err error
	if in.Name, err = name(in.Name); err != nil {
		return err
	}
	if in.TimeZone == "" {
		in.TimeZone = "UTC"
	}
	if _, err := loadZone(in.TimeZone); err != nil {
		return invalid("time_zone", err)
	}
	other, err := contactNamed(ctx, tx, in.Tenant, in.Name)
	if err != nil {
		return err
	}
	if other != 0 && other != id {
		return refused(fmt.Sprintf("there is a contact %q already", in.Name), "Choose another name, or add ways to be reached to that one (number %d).", other)
	}
	return nil
}

// RemoveContact ends a contact that no policy and no schedule needs.
func (r *Room) RemoveContact(ctx context.Context, id int64, by string, now time.Time) error {
	return r.change(ctx, by, "contact.remove", func(tx pgx.Tx) (map[string]any, error) {
		c, err := contact(ctx, tx, id)
		if err != nil {
			return nil, err
		}
		users, err := usersOf(ctx, tx, id, now)
		if err != nil {
			return nil, err
		}
		if len(users) > 0 {
			return nil, refused(fmt.Sprintf("%s is needed by %s", c.Name, strings.Join(users, ", ")), "Take %s out there first; then remove the contact.", c.Name)
		}
		return map[string]any{"contact": id, "name": c.Name, "tenant": c.Tenant}, removeContact(ctx, tx, id, now)
	})
}

// AddMethod adds a way to reach a contact. The channel looks at the address
// first; what it finds wrong is kept with it, as its problem.
func (r *Room) AddMethod(ctx context.Context, contactID int64, in v1.MethodAdd, by string, now time.Time) (v1.Method, error) {
	kind := channel.Kind(in.Channel)
	address, err := Normalise(kind, in.Address)
	if err != nil {
		return v1.Method{}, invalid("address", err)
	}
	if err := checkSettings(kind, in.Settings); err != nil {
		return v1.Method{}, invalid("settings", err)
	}
	if _, err := r.Contact(ctx, contactID); err != nil {
		return v1.Method{}, err
	}
	m := methodRow{Contact: contactID, Channel: in.Channel, Address: address, Settings: in.Settings, Problem: r.problemWith(ctx, kind, address, in.Settings)}
	if m.Problem == "" {
		m.CheckedAt = &now
	}
	err = r.change(ctx, by, "method.add", func(tx pgx.Tx) (map[string]any, error) {
		c, err := contact(ctx, tx, contactID)
		if err != nil {
			return nil, err
		}
		if len(c.Methods) >= methodsMax {
			return nil, refused(fmt.Sprintf("%s can be reached in %d ways already", c.Name, methodsMax), "Remove one first.")
		}
		twin, err := sameMethod(ctx, tx, m)
		if err != nil {
			return nil, err
		}
		if twin != 0 {
			return nil, refused(fmt.Sprintf("%s has this %s address already", c.Name, in.Channel), "It is number %d.", twin)
		}
		m.ID, err = insertMethod(ctx, tx, m)
		return map[string]any{"contact": contactID, "name": c.Name, "method": m.ID, "channel": in.Channel, "address": Shown(kind, address)}, err
	})
	if err != nil {
		return v1.Method{}, err
	}
	return m.shown(), nil
}

// CheckMethod has the channel look at an address again, and keeps what it finds.
func (r *Room) CheckMethod(ctx context.Context, id int64, now time.Time) (v1.Method, error) {
	m, err := method(ctx, r.db, id)
	if err != nil {
		return v1.Method{}, err
	}
	m.Problem = r.problemWith(ctx, channel.Kind(m.Channel), m.Address, m.Settings)
	if m.Problem == "" {
		m.CheckedAt = &now
	}
	if err := checkedMethod(ctx, r.db, m); err != nil {
		return v1.Method{}, err
	}
	return m.shown(), nil
}

// RemoveMethod ends a way to reach a contact. The last one of somebody whom a
// policy or a schedule needs stays.
func (r *Room) RemoveMethod(ctx context.Context, id int64, by string, now time.Time) error {
	return r.change(ctx, by, "method.remove", func(tx pgx.Tx) (map[string]any, error) {
		m, err := method(ctx, tx, id)
		if err != nil {
			return nil, err
		}
		c, err := contact(ctx, tx, m.Contact)
		if err != nil {
			return nil, err
		}
		if len(c.Methods) == 1 {
			users, err := usersOf(ctx, tx, c.ID, now)
			if err != nil {
				return nil, err
			}
			if len(users) > 0 {
				return nil, refused(fmt.Sprintf("%s could not be reached any more, and is needed by %s", c.Name, strings.Join(users, ", ")),
					"Add another way first, or take %s out there.", c.Name)
			}
		}
		detail := map[string]any{"contact": c.ID, "name": c.Name, "method": id, "channel": m.Channel, "address": Shown(channel.Kind(m.Channel), m.Address)}
		return detail, removeMethod(ctx, tx, id, now)
	})
}
