package alert

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
)

// partedAfter is how long nobody is told of a facility that is out of a region's
// condition and still in trouble: most come back one after the other.
const partedAfter = time.Minute

// own is what belongs to an incident's own acknowledgement; see sqlCancel.
const own = "own"

// Who of the policies' audiences is told.
func everybody(Audience) bool     { return true }
func operations(of Audience) bool { return of == Operations }

// reconcile stores what is to be done.
func (a *Alerter) reconcile(ctx context.Context, tx pgx.Tx, b *batch, t todo) error {
	// The region's own first: the facilities' may be parts of them.
	first := slices.IndexFunc(t.opens, func(f detect.Finding) bool { return f.Facility != "" })
	if first < 0 {
		first = len(t.opens)
	}
	for _, list := range [][]detect.Finding{t.opens[:first], t.opens[first:]} {
		if err := a.open(ctx, tx, b, list); err != nil {
			return err
		}
	}
	if len(t.updates) > 0 {
		if err := a.update(ctx, tx, b, t.updates); err != nil {
			return err
		}
	}
	if len(t.resolves) > 0 {
		return a.resolve(ctx, tx, b, t.resolves)
	}
	return nil
}

// open stores new incidents and tells the first people.
func (a *Alerter) open(ctx context.Context, tx pgx.Tx, b *batch, list []detect.Finding) error {
	if len(list) == 0 {
		return nil
	}
	all, err := insert(ctx, tx, b.now, list)
	if err != nil {
		return err
	}
	since := make(map[key]time.Time, len(list))
	for _, f := range list {
		since[key{f.Kind, f.Facility}] = f.Since
	}
	if len(all) < len(list) {
		b.after = append(b.after, func() { a.strangers(list, all, b.now.Add(strangeFor)) })
	}
	for _, s := range all {
		b.note(s.ID, "opened", "", s.Summary)
		if s.Kind == detect.Drill {
			if err := a.tellTestContact(ctx, tx, b, s); err != nil {
				return err
			}
			continue
		}
		if err := a.start(ctx, tx, b, s, 0, b.now, everybody); err != nil {
			return err
		}
		b.after = append(b.after, func() { a.counts.opened(s, since[key{s.Kind, s.Facility}]) })
	}
	return nil
}

// strangers keeps findings that could not be opened from being tried at each look.
func (a *Alerter) strangers(list []detect.Finding, opened []subject, until time.Time) {
	for _, f := range list {
		a.lead.strangers[key{f.Kind, f.Facility}] = until
	}
	for _, s := range opened {
		delete(a.lead.strangers, key{s.Kind, s.Facility})
	}
}

// update changes incidents that go on. One that has become critical is told anew,
// and so is another fault of the alerter: it must not hide behind the first.
func (a *Alerter) update(ctx context.Context, tx pgx.Tx, b *batch, list []update) error {
	ids := make([]int64, len(list))
	for i, u := range list {
		ids[i] = u.ID
	}
	before, err := lock(ctx, tx, ids)
	if err != nil {
		return err
	}
	for i, u := range list {
		fresh, err := news(ctx, tx, u)
		if err != nil {
			return err
		}
		for _, line := range fresh {
			b.note(u.ID, "noted", "", "new: "+line)
		}
		list[i].worse = u.worse || len(fresh) > 0
	}
	if err := change(ctx, tx, list); err != nil {
		return err
	}
	after, err := lock(ctx, tx, ids)
	if err != nil {
		return err
	}
	was, is := byID(before), byID(after)
	var worse, joined []int64
	for _, u := range list {
		s, there := is[u.ID]
		if !there {
			continue // it was resolved meanwhile
		}
		if u.to.Severity != was[u.ID].Severity {
			b.note(s.ID, "noted", "", fmt.Sprintf("now %s: %s", s.Severity, s.Summary))
		}
		if u.joined {
			joined = append(joined, s.ID)
			b.note(s.ID, "noted", "", "it is part of the region's: operations are told of that one")
		}
		if u.worse && !s.Maintenance {
			worse = append(worse, s.ID)
		}
	}
	if len(joined) > 0 {
		if err := write(ctx, tx, "leave it to the region's incident", sqlCancel, joined, b.now, []string{"trigger", "update"}, string(Operations)); err != nil {
			return err
		}
		if err := write(ctx, tx, "leave it to the region's incident", sqlEndTimers, joined, string(Operations)); err != nil {
			return err
		}
	}
	rounds, err := nextRounds(ctx, tx, ids)
	if err != nil {
		return err
	}
	told, err := ints(ctx, tx, sqlToldCustomer, ids)
	if err != nil {
		return err
	}
	toldOwn := make(map[int64]bool, len(told))
	for _, id := range told {
		toldOwn[id] = true
	}
	if len(worse) > 0 {
		if err := a.again(ctx, tx, b, worse); err != nil {
			return err
		}
	}
	for _, u := range list {
		s, there := is[u.ID]
		switch {
		case !there || s.Maintenance:
		case u.worse:
			s.Acked = false
			err = a.start(ctx, tx, b, s, rounds[s.ID], b.now, everybody)
		case u.parted && !s.Acked:
			b.note(s.ID, "noted", "", "it is no longer part of the region's")
			who := everybody
			if toldOwn[s.ID] {
				who = operations // its people were told before it became a part
			}
			err = a.start(ctx, tx, b, s, rounds[s.ID], b.now.Add(partedAfter), who)
		case u.joined && u.Parent != nil && !s.Acked && !toldOwn[s.ID]:
			err = a.start(ctx, tx, b, s, 0, b.now, everybody) // they were told that the one before is over
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// news is what an incident of the alerter itself did not say so far.
func news(ctx context.Context, tx pgx.Tx, u update) ([]string, error) {
	if u.Kind != detect.Alerting {
		return nil, nil
	}
	rows, err := tx.Query(ctx, `SELECT unnest(evidence) FROM holdfast.incident WHERE id = $1`, u.ID)
	if err != nil {
		return nil, fmt.Errorf("read what incident %d says: %w", u.ID, err)
	}
	known, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read what incident %d says: %w", u.ID, err)
	}
	return unlike(u.to.Evidence, known), nil
}

// unlike returns those problems that others have nothing like, but for their figures.
func unlike(problems, others []string) []string {
	words := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return -1
			}
			return r
		}, s)
	}
	return slices.DeleteFunc(slices.Clone(problems), func(p string) bool {
		return slices.ContainsFunc(others, func(o string) bool { return words(o) == words(p) })
	})
}

// again clears the way for incidents to be told anew: nobody has them, and what
// waits from before does not go out any more.
func (a *Alerter) again(ctx context.Context, tx pgx.Tx, b *batch, ids []int64) error {
	if err := write(ctx, tx, "take the acknowledgement back", sqlUnack, ids); err != nil {
		return err
	}
	return write(ctx, tx, "cancel what waits", sqlCancel, ids, b.now, []string{"trigger", "update"}, own)
}

// resolve ends incidents. Announced work or not: who was told, or may have been,
// is told that it is over, by each way by which he was told.
func (a *Alerter) resolve(ctx context.Context, tx pgx.Tx, b *batch, list []subject) error {
	ids := make([]int64, len(list))
	for i, s := range list {
		ids[i] = s.ID
	}
	open, err := lock(ctx, tx, ids)
	if err != nil {
		return err
	}
	ids = ids[:0]
	for _, s := range open {
		ids = append(ids, s.ID)
		b.note(s.ID, "resolved", "", "after "+span(b.now.Sub(s.OpenedAt)))
	}
	if err := write(ctx, tx, "resolve incidents", sqlResolve, ids, b.now); err != nil {
		return err
	}
	if err := write(ctx, tx, "cancel what waits", sqlCancel, ids, b.now, []string{"trigger", "update"}, ""); err != nil {
		return err
	}
	if err := write(ctx, tx, "end the escalations", sqlEndTimers, ids, ""); err != nil {
		return err
	}
	return write(ctx, tx, "tell that it is over", sqlResolves, ids, b.now,
		priority(channel.Resolve, "", Customer), priority(channel.Resolve, "", Operations))
}

// start runs an incident through its policies from their first step, their times
// counted from at. While there is announced work nobody is told.
func (a *Alerter) start(ctx context.Context, tx pgx.Tx, b *batch, s subject, round int, at time.Time, who func(Audience) bool) error {
	w, err := a.windowOf(ctx, tx, b, s.Facility)
	if err != nil {
		return err
	}
	if w.ok {
		b.hold(s.ID, w)
		return nil
	}
	policies, err := a.c.Roster.Policies(ctx, tx, s.roster())
	if err != nil {
		return fmt.Errorf("find who is told of incident %d: %w", s.ID, err)
	}
	told := 0
	for _, p := range policies {
		if s.Parent != nil && b.ops[p] {
			continue // operations are told of the region's incident
		}
		first, err := a.stepOf(ctx, tx, b, s, p, 0)
		if err != nil {
			return err
		}
		if !first.ok || !who(first.audience) || s.Parent != nil && first.audience == Operations {
			continue
		}
		told++
		t := &timer{Incident: s.ID, Policy: p, Audience: first.audience, Round: round, StartedAt: at}
		if s.Parent != nil {
			first, err := a.joinGroup(ctx, tx, b, s, t)
			if err != nil {
				return err
			}
			if !first {
				continue
			}
		}
		next := at.Add(first.after)
		t.NextAt = &next
		if err := a.advance(ctx, tx, b, s, t); err != nil {
			return err
		}
		b.timers = append(b.timers, t)
	}
	switch {
	case told == 0 && s.Parent == nil:
		b.note(s.ID, "noted", "", "no policy says who is told of this")
	case told > 0 && s.Parent != nil:
		b.note(s.ID, "escalated", "", fmt.Sprintf("its people are told with the region's incident %d", *s.Parent))
	}
	return nil
}

// joinGroup makes a timer one of the region's incident. A customer with many
// facilities hears of a region's condition once, with the list of those that are
// his, and once of its end: each of his policies runs there one time. first is
// false when it does already.
func (a *Alerter) joinGroup(ctx context.Context, tx pgx.Tx, b *batch, s subject, t *timer) (first bool, err error) {
	group := b.groups[*s.Parent]
	if group == nil {
		ids, err := ints(ctx, tx, sqlGroup, *s.Parent)
		if err != nil {
			return false, err
		}
		group = make(map[int64]bool, len(ids))
		for _, id := range ids {
			group[id] = true
		}
		b.groups[*s.Parent] = group
	}
	if group[t.Policy] {
		return false, nil
	}
	group[t.Policy] = true
	t.Incident, t.Tenant, t.Round = *s.Parent, s.Tenant, 0
	return true, nil
}

// nextRounds returns, of incidents that are told anew, the number that this has.
func nextRounds(ctx context.Context, tx pgx.Tx, ids []int64) (map[int64]int, error) {
	rows, err := tx.Query(ctx, sqlRounds, ids)
	if err != nil {
		return nil, fmt.Errorf("read the escalations: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		Incident, Policy int64
		Round            int
	}])
	if err != nil {
		return nil, fmt.Errorf("read the escalations: %w", err)
	}
	next := make(map[int64]int)
	for _, r := range list {
		next[r.Incident] = max(next[r.Incident], r.Round+1)
	}
	return next, nil
}

func byID(list []subject) map[int64]subject {
	m := make(map[int64]subject, len(list))
	for _, s := range list {
		m[s.ID] = s
	}
	return m
}

func write(ctx context.Context, tx pgx.Tx, what, sql string, args ...any) error {
	if _, err := tx.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// clock is a time for people.
const clock = "15:04:05 MST"

// span is a duration for people.
func span(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

// lines makes one text of evidence.
func lines(list []string) string {
	clean := make([]string, len(list))
	for i, l := range list {
		clean[i] = strings.ReplaceAll(l, "\n", " ")
	}
	return strings.Join(clean, "\n")
}
