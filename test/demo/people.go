package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/agogsaas/holdfast/internal/durable"
	"github.com/agogsaas/holdfast/test/rig/people"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// speak is how long a call takes to say a letter: faster than people, who would wait.
const speak = 20 * time.Millisecond

// startPeople starts the phones and chats, and has the region know of them. They
// are there before the region, which looks at its channels when it starts.
func (d *demo) startPeople(region *site.Options) error {
	p, err := people.Start(people.Options{
		Dir: d.place.file("people"), Region: regionURL(), Page: peoplePage, Mail: peopleMail, Speak: speak,
	})
	if err != nil {
		return err
	}
	d.people = p
	d.parts.Close("phones and chats", p.Close)
	region.Extra, err = p.Config()
	return err
}

// setUpPeople says who is told, once: whoever changes it later has it as he wants.
func (d *demo) setUpPeople(ctx context.Context) error {
	done := d.place.file("people", "set-up")
	if _, err := os.Stat(done); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.people.SetUp(ctx, d.site.API, tenant); err != nil {
		return fmt.Errorf("say who is told of an outage: %w", err)
	}
	return durable.WriteFile(done, nil, 0o600)
}
