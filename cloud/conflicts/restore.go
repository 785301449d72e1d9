package conflicts

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/capture"
	"github.com/agogsaas/holdfast/internal/hint"
)

// errDry ends the transaction of a dry run.
var errDry = errors.New("dry run")

// Restore writes the version that does not stand, as an ordinary change of the
// region's row, which flows down. It is refused when the row has changed since
// the decision, unless forced. A dry run carries it out and takes it back, so
// that what the database would say is known.
func (d *Desk) Restore(ctx context.Context, id, by string, in v1.ConflictRestore) (v1.ConflictRestoration, error) {
	var out v1.ConflictRestoration
	in.Note = clean(in.Note)
	// In one snapshot: a row that appears meanwhile is met as a row that is there
	// already, and never written by mistake.
	err := pgx.BeginTxFunc(ctx, d.store.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		r, err := readRecord(ctx, tx, id, true)
		if err != nil {
			return explain(err)
		}
		side := in.Version
		if side == "" {
			log, err := readHistory(ctx, tx, r.ID)
			if err != nil {
				return err
			}
			side = r.other(log)
		}
		if side == "" {
			return refuse("Say which version to write: the facility's (edge) or the region's (cloud).", "both versions were merged, so none of them is the other one")
		}
		look, err := r.look(ctx, tx, true)
		if err != nil {
			return explain(err)
		}
		p, err := look.plan(ctx, tx, side)
		if err != nil {
			return err
		}
		out = p.doc
		out.DryRun = in.DryRun
		if in.Seen != "" && in.Seen != out.Seen {
			return refuse("Look at it again, then decide.", "the row has changed since you looked at it")
		}
		objections := look.objections(p)
		if !in.DryRun && !in.Force && len(objections) > 0 {
			return hint.Wrap(&refusal{strings.Join(objections, "; ")}, "Look at the row first (holdfastctl conflicts show %s). To write the version all the same, force it.", r.ID)
		}
		out.Warnings = append(objections, out.Warnings...)
		if err := p.write(ctx, tx, by); err != nil {
			return explain(err)
		}
		if in.DryRun {
			return errDry
		}
		detail := r.about(in.Note)
		detail["version"], detail["write"], detail["changes"], detail["forced"] = side, out.Write, out.Changes, len(objections) > 0
		if err := audit(ctx, tx, by, auditRestore, detail); err != nil {
			return err
		}
		return explain(putReview(ctx, tx, r.ID, v1.ConflictRestored, by, in.Note))
	})
	if errors.Is(err, errDry) {
		return out, nil
	}
	if err != nil {
		return v1.ConflictRestoration{}, err
	}
	d.forget()
	return out, nil
}

// plan is what a version means for the row as it is now.
type plan struct {
	look  *sight
	doc   v1.ConflictRestoration
	image row // what is written; nil deletes the row
}

func (s *sight) plan(ctx context.Context, tx pgx.Tx, side string) (*plan, error) {
	r := s.r
	p := &plan{look: s, doc: v1.ConflictRestoration{
		ID: r.ID, Version: side, Schema: s.layout.Schema, Table: s.layout.Name, Write: "none", Seen: s.seen(),
		Changes: []v1.ConflictWrite{}, Since: []v1.ConflictWrite{},
	}}
	want := s.version(side)
	if want == nil {
		if s.now != nil {
			p.doc.Write = "delete"
			for _, c := range s.layout.Columns {
				p.doc.Changes = append(p.doc.Changes, v1.ConflictWrite{Column: c.Name, From: s.now[c.Name]})
			}
		}
		return p, nil
	}
	for c := range r.version(side) {
		if !s.layout.Has(c) {
			p.doc.Skipped = append(p.doc.Skipped, c)
		}
	}
	key, err := s.layout.Normalize(ctx, tx, s.where)
	if err != nil {
		return nil, explain(err)
	}
	for c := range key {
		if v, ok := want[c]; ok && !equal(v, key[c]) {
			return nil, refuse("Change the row by hand where it belongs.", "that version gives the row another %s", c)
		}
	}
	if s.now == nil {
		other, err := s.layout.ReadRow(ctx, tx, s.key, false)
		if err != nil {
			return nil, explain(err)
		}
		if other != nil {
			return nil, refuse("Change the row by hand where it belongs.", "the row with this key belongs to another facility now")
		}
		p.insert(want, s.version(opposite(side)))
	} else {
		p.update(want)
	}
	s.since(p, want)
	return p, nil
}

func opposite(side string) string {
	if side == cloud {
		return edge
	}
	return cloud
}

// insert writes the whole row. A column that the version did not send, because
// its change had not touched it, is the other side's.
func (p *plan) insert(want, other row) {
	p.doc.Write, p.image = "insert", row{}
	for _, c := range p.look.layout.Columns {
		v, ok := want[c.Name]
		if !ok {
			v, ok = other[c.Name]
		}
		switch {
		case c.Computed:
		case has(p.look.key, c.Name): // written as the key
			p.doc.Changes = append(p.doc.Changes, v1.ConflictWrite{Column: c.Name, To: v})
		case ok:
			p.image[c.Name] = v
			p.doc.Changes = append(p.doc.Changes, v1.ConflictWrite{Column: c.Name, To: v})
		default:
			p.doc.Warnings = append(p.doc.Warnings, "the column "+c.Name+" is in neither version; it gets its default")
		}
	}
}

// update writes what differs.
func (p *plan) update(want row) {
	image := row{}
	for _, c := range p.look.layout.Columns {
		v, ok := want[c.Name]
		if !ok || c.Computed || equal(v, p.look.now[c.Name]) {
			continue
		}
		image[c.Name] = v
		p.doc.Changes = append(p.doc.Changes, v1.ConflictWrite{Column: c.Name, From: p.look.now[c.Name], To: v})
	}
	if len(image) > 0 {
		p.doc.Write, p.image = "update", image
	}
}

// since lists what would be overwritten of what came after the decision.
func (s *sight) since(p *plan, want row) {
	for _, c := range s.layout.Columns {
		if !s.isChanged(c.Name) {
			continue
		}
		v, wanted := want[c.Name]
		if !wanted || equal(v, s.now[c.Name]) {
			continue // it stays as it is
		}
		stood, _ := s.stood(c.Name)
		p.doc.Since = append(p.doc.Since, v1.ConflictWrite{Column: c.Name, From: stood, To: s.now[c.Name]})
	}
}

// objections are what speaks against writing; force overrules them.
func (s *sight) objections(p *plan) []string {
	var out []string
	r := s.r
	if r.FacilityGone {
		out = append(out, "the facility was removed, so the change reaches no box")
	}
	if r.Action != nil && *r.Action == v1.ConflictRestored {
		out = append(out, "a version was written already: "+r.reviewed())
	}
	if p.doc.Write == "none" {
		return out // nothing is overwritten
	}
	switch {
	case s.now == nil && s.stoodRow():
		out = append(out, "the row has been deleted since the decision")
	case s.now != nil && !s.stoodRow():
		out = append(out, "a row with this key has been added since the decision")
	case s.version(p.doc.Version) == nil && s.changed():
		out = append(out, "the row has changed since the decision, and would be deleted")
	case len(p.doc.Since) > 0:
		var names []string
		for _, w := range p.doc.Since {
			names = append(names, w.Column)
		}
		out = append(out, "the row has changed since the decision, in "+list(names))
	}
	return out
}

// write carries the plan out, with the author's name in the same transaction.
func (p *plan) write(ctx context.Context, tx pgx.Tx, by string) error {
	if p.doc.Write == "none" {
		return nil
	}
	if _, err := tx.Exec(ctx, `SELECT pg_logical_emit_message(true, $1, $2)`, capture.AuthorPrefix, by); err != nil {
		return fmt.Errorf("say who writes the row: %w", err)
	}
	l := p.look.layout
	written, err := apply.WriteRow(ctx, tx, l.Schema, l.Name, p.look.key, p.image)
	if err != nil {
		return err
	}
	if !written { // the row is locked: it cannot have gone
		return fmt.Errorf("nothing was written to %s.%s", l.Schema, l.Name)
	}
	// What is checked at the commit is checked now, so that it can be explained.
	if _, err := tx.Exec(ctx, `SET CONSTRAINTS ALL IMMEDIATE`); err != nil {
		return fmt.Errorf("check the constraints: %w", err)
	}
	return nil
}

// explain turns the database's own refusal into words for people.
func explain(err error) error {
	switch {
	case errors.Is(err, errNotSynced):
		return refuse("Add it again with holdfastctl tables add, or change the row by hand in the region.", "%s", err)
	case errors.Is(err, apply.ErrNoTable), errors.Is(err, apply.ErrImage):
		advice := hint.Of(err)
		if advice == "" {
			advice = "Change the row by hand in the region."
		}
		return refuse(advice, "%s", err)
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(pg.Code) != 5 {
		return err
	}
	detail := pg.Message
	if pg.Detail != "" {
		detail += " (" + pg.Detail + ")"
	}
	advice := "Change the row by hand in the region."
	switch {
	case pg.Code == "23503":
		advice = "A row that it belongs to is missing, or others still belong to it. Put that right first."
	case pg.Code == "23505":
		advice = "Another row has this value now. Change that one first."
	case pg.Code == "42501":
		advice = "Give the region's database role the right to write the table."
	case pg.Code == "55P03" || pg.Code == "40001" || pg.Code == "40P01":
		return refuse("Try again in a moment.", "somebody else is changing the row, or dealing with the conflict")
	case pg.Code[:2] == "22" || pg.Code[:2] == "23" || pg.Code[:2] == "42" || pg.Code == "P0001":
	default:
		return err // not about the row
	}
	return refuse(advice, "the region's database does not take it: %s", detail)
}
