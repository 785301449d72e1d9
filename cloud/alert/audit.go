package alert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/cloud/detect"
)

// The auditor watches the alerter itself, from what the tables say and not from
// what the code believes. While it finds nothing wrong it fetches the dead man's
// switch; who misses that calls somebody who is not told by us.

const (
	// overdueAfter is how late a step or a reminder may be.
	overdueAfter = time.Minute
	// soonWithin is within what those are told next who were not reached.
	soonWithin = 5 * time.Minute
	// lateAfter is how long a page may wait without a reason.
	lateAfter = 10 * time.Second
	// leaseMax is how old a lease may be.
	leaseMax = time.Minute
	// proofMax is how old the proof of a channel may be.
	proofMax = 7 * 24 * time.Hour
	// drillEvery and drillFor are when the test contact is told of nothing, and how long that lasts.
	drillEvery = 24 * time.Hour
	drillFor   = 5 * time.Minute
	// leftOpenFor is how long it is said that PagerDuty was not told the end of something.
	leftOpenFor = 24 * time.Hour
)

const (
	sqlOverdue = `
SELECT i.id, i.kind, coalesce(i.facility, '')
FROM holdfast.incident i
WHERE i.resolved_at IS NULL AND NOT i.maintenance AND i.kind <> ALL($2::text[]) AND i.opened_at < $1
  AND (i.acked_at IS NOT NULL AND (i.remind_at IS NULL OR i.remind_at < $1 AND NOT ` + sqlUnsure + `)
       OR EXISTS (SELECT FROM holdfast.escalation e WHERE e.incident = i.id AND e.next_at < $1 AND ` + sqlSure + `))
ORDER BY i.id LIMIT 20`

	// Escalations of which nobody knows: no message of the last round was taken, and
	// nothing more happens soon. One that had nobody to tell (another may have told
	// all of them) counts only when its incident has none that tells or has told
	// somebody. Whose messages are capped has had many.
	sqlUntold = `
SELECT DISTINCT i.id, i.kind, coalesce(i.facility, ''), CASE WHEN o.n > 0 THEN e.audience ELSE '' END, CASE WHEN o.n > 0 THEN e.tenant ELSE '' END
FROM holdfast.incident i
LEFT JOIN holdfast.escalation e ON e.incident = i.id
LEFT JOIN LATERAL (
    SELECT count(*) AS n, bool_or(` + sqlKnown + `) AS known FROM holdfast.delivery d
    WHERE d.incident = i.id AND d.policy = e.policy AND d.event = 'trigger' AND d.round = (
          SELECT max(l.round) FROM holdfast.delivery l WHERE l.incident = i.id AND l.policy = e.policy AND l.event = 'trigger')) o ON true
WHERE i.resolved_at IS NULL AND NOT i.maintenance AND i.kind <> ALL($5::text[]) AND i.opened_at < $2
  AND CASE WHEN e.tenant <> '' THEN e.acked_at IS NULL ELSE i.acked_at IS NULL END
  AND CASE WHEN o.n > 0 THEN
           NOT o.known AND (e.next_at IS NULL OR e.next_at > $6) AND (i.parent IS NULL OR e.audience = 'customer')
           AND (e.tenant = '' OR EXISTS (SELECT FROM holdfast.incident p JOIN holdfast.facility f ON f.id = p.facility
                                         WHERE p.parent = i.id AND f.tenant = e.tenant AND p.resolved_at IS NULL AND NOT p.maintenance))
      ELSE (e.incident IS NOT NULL OR i.severity = 'critical' AND i.parent IS NULL)
           AND NOT EXISTS (SELECT FROM holdfast.escalation e WHERE e.incident = i.id AND (e.next_at > $1 OR NOT ` + sqlSure + `))
           AND NOT EXISTS (SELECT FROM holdfast.delivery d WHERE d.incident = i.id AND d.event = 'trigger' AND ` + sqlKnown + `) END
ORDER BY i.id LIMIT 20`
	sqlKnown = `(d.state IN ('pending', 'held', 'leased', 'capped') OR d.accepted_at IS NOT NULL AND d.state <> 'failed')`

	sqlOldLeases = `SELECT count(*) FROM holdfast.delivery WHERE state = 'leased' AND lease_until < $1`

	// What PagerDuty was told of stays open there until it is told the end.
	sqlLeftOpen = `
SELECT i.id, i.kind, coalesce(i.facility, ''), coalesce(c.name, '')
FROM holdfast.delivery d JOIN holdfast.incident i ON i.id = d.incident LEFT JOIN holdfast.contact c ON c.id = d.contact
WHERE d.channel = 'pagerduty' AND d.event = 'resolve' AND d.state IN ('failed', 'expired') AND d.done_at > $1
ORDER BY d.done_at DESC LIMIT 20`

	// What waits behind another message of the same incident may take until that one's lease has run out.
	sqlLate = `
SELECT min(not_before) FROM holdfast.delivery
WHERE state = 'pending' AND not_before < CASE WHEN event IN ('trigger', 'test') THEN $1::timestamptz ELSE $2::timestamptz END`

	// The last drill went to a real person by real ways. That he did not answer his
	// phone is no fault of the channel, but an SMS that did not arrive is. What has
	// worked since is mended.
	sqlFailedDrill = `
SELECT DISTINCT d.channel FROM holdfast.delivery d LEFT JOIN holdfast.contact_method m ON m.id = d.method
WHERE d.incident = (SELECT max(id) FROM holdfast.incident WHERE kind = $1) AND d.event = 'trigger' AND d.state IN ('failed', 'expired')
  AND (d.accepted_at IS NULL OR d.channel = 'sms') AND coalesce(CASE WHEN d.channel = 'sms' THEN m.proved_at ELSE greatest(m.proved_at, m.taken_at) END < d.created_at, true) ORDER BY 1`

	// Channels in use by which the test contact has no address.
	sqlUndrilled = `
SELECT DISTINCT channel FROM holdfast.contact_method WHERE removed_at IS NULL AND channel = ANY($1::text[])
EXCEPT SELECT channel FROM holdfast.contact_method WHERE removed_at IS NULL AND contact = $2 ORDER BY 1`

	sqlMute = `SELECT DISTINCT channel FROM holdfast.contact_method WHERE removed_at IS NULL AND channel <> ALL($1::text[]) ORDER BY channel`

	// $3 are those whose providers say no more than that they take a message: with
	// that credentials and path are proved, and that nobody answers is no fault of ours.
	sqlUnproved = `
SELECT channel, channel = ANY($3::text[]) AND coalesce(max(taken_at) >= $2, false) FROM holdfast.contact_method WHERE removed_at IS NULL AND channel = ANY($1::text[])
GROUP BY channel HAVING min(created_at) < $2 AND coalesce(max(proved_at), '-infinity') < $2 ORDER BY channel`
)

// report is what the auditor found last, since this process leads; at is zero before its first look.
type report struct {
	at       time.Time
	since    time.Time // when it began to find something
	problems []string
	asks     []string // what works as far as can be known, and needs somebody's answer
	lasting  []string // those that were there the time before, too
}

// audits looks after the alerter until ctx is done.
func (a *Alerter) audits(ctx context.Context) error {
	look, beat := time.NewTicker(a.timing.audit), time.NewTicker(a.timing.deadMan)
	defer look.Stop()
	defer beat.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			if a.Leading() {
				a.audit(ctx, a.moment())
			}
		case <-beat.C:
			if a.c.DeadMan == "" || !a.well(a.moment()) {
				continue
			}
			err := a.beat(ctx)
			if (err != nil) != failing {
				failing = err != nil
				if failing {
					a.log.Warn("the dead man's switch does not answer", "err", err)
				} else {
					a.log.Info("the dead man's switch answers again")
				}
			}
			a.counts.beat(err == nil, a.moment())
		}
	}
}

// audit looks, and keeps what it found.
func (a *Alerter) audit(ctx context.Context, now time.Time) {
	problems, asks, err := a.store.problems(ctx, now, a.unsure(now), a.ready(), a.timing.lease)
	if err != nil {
		problems = append(problems, "the database does not say how the alerter is: "+err.Error())
	}
	mute, untried, err := a.mute(ctx)
	if err != nil {
		problems = append(problems, "the database does not say by what people are to be told: "+err.Error())
	}
	problems, asks = append(problems, mute...), append(asks, untried...)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.leads { // any more
		return
	}
	for name, t := range a.lead.trouble {
		if now.Sub(t.at) > overdueAfter { // nobody wants it any more
			delete(a.lead.trouble, name)
			continue
		}
		problems = append(problems, name+" cannot be stored: "+t.why)
	}
	slices.Sort(problems)
	r := report{at: now, problems: problems, asks: asks}
	fresh := unlike(problems, a.report.problems)
	r.lasting = slices.DeleteFunc(slices.Clone(problems), func(p string) bool { return slices.Contains(fresh, p) })
	if len(problems) > 0 {
		r.since = now
		if len(a.report.problems) > 0 {
			r.since = a.report.since
		}
	}
	a.report = r
}

// unsure is what the leader leaves as it is, so that nothing of it is late.
func (a *Alerter) unsure(now time.Time) unsure {
	w := a.c.Word()
	w.Held = w.Held || now.Sub(w.At) > staleAfter
	return unsureOf(w)
}

// mute is by what nobody can be told though somebody counts on it, and by what nobody
// tries each day. A new region's test contact has no address yet, and that is as it
// should be.
func (a *Alerter) mute(ctx context.Context) (problems, untried []string, err error) {
	rows, err := a.db.Query(ctx, sqlMute, a.ready())
	if err != nil {
		return nil, nil, err
	}
	kinds, err := pgx.CollectRows(rows, pgx.RowTo[channel.Kind])
	if err != nil {
		return nil, nil, err
	}
	for _, k := range kinds {
		if d := a.deliverers[k]; d != nil {
			problems = append(problems, fmt.Sprintf("people are to be told by %s, and nothing can be sent there: %s", k, d.missing()))
		}
	}
	if a.c.TestContact == 0 {
		return problems, nil, nil
	}
	last, err := a.store.lastDrill(ctx)
	if err != nil || last == nil {
		return problems, nil, err
	}
	able, err := a.store.hasWays(ctx, a.c.TestContact)
	if err != nil {
		return problems, nil, err
	}
	if !able {
		return append(problems, "there is no daily test any more: its contact has no address. Give it one of each channel"), nil, nil
	}
	if rows, err = a.db.Query(ctx, sqlUndrilled, a.ready(), a.c.TestContact); err != nil {
		return problems, nil, err
	}
	kinds, err = pgx.CollectRows(rows, pgx.RowTo[channel.Kind])
	for _, k := range kinds {
		untried = append(untried, fmt.Sprintf("%s is not part of the daily test: its contact has no such address. Give it one", k))
	}
	return problems, untried, err
}

// ready lists the channels that are set up.
func (a *Alerter) ready() []string {
	all := []string{}
	for _, k := range channels {
		if a.deliverers[k].sender != nil {
			all = append(all, string(k))
		}
	}
	return all
}

// well reports whether this process decides, and its auditor has found nothing wrong.
func (a *Alerter) well(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.leads && len(a.report.problems) == 0 && now.Sub(a.report.at) < 2*a.timing.audit+lateAfter
}

// troubles returns the auditor's finding, for the word: what it has found twice in a
// row. What is late for a moment wakes nobody, and what only needs an answer is
// for information; and until whoever leads anew has looked twice, what is open stays.
func (a *Alerter) troubles(open []subject) (detect.Finding, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.report
	if r.at.Equal(r.since) { // also: nobody has looked
		i := slices.IndexFunc(open, func(s subject) bool { return s.Kind == detect.Alerting })
		if i >= 0 {
			return detect.Finding{Kind: detect.Alerting, Severity: open[i].Severity, Summary: open[i].Summary}, true
		}
	}
	switch {
	case len(r.lasting) > 0:
		return detect.Finding{
			Kind: detect.Alerting, Severity: detect.Critical, Since: r.since,
			Summary: "The alerter itself does not work as it should", Evidence: slices.Concat(r.lasting, r.asks),
		}, true
	case len(r.asks) > 0:
		return detect.Finding{
			Kind: detect.Alerting, Severity: detect.Info, Since: r.at,
			Summary: "Of some channels it is not known whether people see what is sent there", Evidence: r.asks,
		}, true
	}
	return detect.Finding{}, false
}

// beat fetches the dead man's switch. Its URL is a secret and in no error.
func (a *Alerter) beat(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.c.DeadMan, nil)
	if err != nil {
		return errors.New("the dead man's switch is not a URL")
	}
	resp, err := a.snitch.Do(req)
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if err != nil {
		return fmt.Errorf("fetch the dead man's switch: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection can be used again
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the dead man's switch answers %s", resp.Status)
	}
	return nil
}

// drill returns the incident that is none while it is time for it, and the test
// contact can be told. Whoever leads next knows by the table when the last one was.
func (a *Alerter) drill(now time.Time, open []subject) (detect.Finding, bool) {
	if a.c.TestContact == 0 {
		return detect.Finding{}, false
	}
	under := false
	for _, s := range open {
		if s.Kind == detect.Drill {
			under, a.lead.drillAt = true, s.OpenedAt
		}
	}
	since := now.Sub(a.lead.drillAt)
	if !under && !a.lead.drillable {
		return detect.Finding{}, false
	}
	if under && since >= drillFor || !under && since < drillEvery {
		return detect.Finding{}, false
	}
	return detect.Finding{
		Kind: detect.Drill, Severity: detect.Info, Since: now,
		Summary: "Daily test of all channels: nothing is wrong",
	}, true
}

// problems returns what is wrong, and what only needs somebody's answer. Leases are
// taken for that long.
func (s store) problems(ctx context.Context, now time.Time, u unsure, ready []string, lease time.Duration) (list, asks []string, err error) {
	ours, late := []string{string(detect.Alerting), string(detect.Drill)}, now.Add(-overdueAfter)
	rows, err := s.db.Query(ctx, sqlOverdue, late, ours, u.all, u.of)
	if err != nil {
		return nil, nil, err
	}
	var (
		id                               int64
		kind, facility, audience, tenant string
	)
	what := func() string { return fmt.Sprintf("incident %d (%s %s): ", id, kind, facility) }
	_, err = pgx.ForEachRow(rows, []any{&id, &kind, &facility}, func() error {
		list = append(list, what()+"its next step is overdue")
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	var silent []channel.Kind // whose providers tell nothing later
	for _, k := range channels {
		if !k.Confirms() {
			silent = append(silent, k)
		}
	}
	if rows, err = s.db.Query(ctx, sqlUntold, now, late, u.all, u.of, ours, now.Add(soonWithin)); err != nil {
		return list, asks, err
	}
	_, err = pgx.ForEachRow(rows, []any{&id, &kind, &facility, &audience, &tenant}, func() error {
		switch {
		case audience == "":
			list = append(list, what()+"nobody was told of it, and nobody will be. Give it a policy with people who can be reached")
		case audience == string(Operations):
			list = append(list, what()+"no message of it to operations could be sent")
		default:
			list = append(list, what()+"no message of it to "+cmp.Or(tenant, "the customer")+"'s people could be sent. Call them")
		}
		return nil
	})
	if err != nil {
		return list, asks, err
	}
	if rows, err = s.db.Query(ctx, sqlLeftOpen, now.Add(-leftOpenFor)); err != nil {
		return list, asks, err
	}
	var contact string
	_, err = pgx.ForEachRow(rows, []any{&id, &kind, &facility, &contact}, func() error {
		list = append(list, what()+"it is over, and PagerDuty could not be told ("+contact+"). Resolve it there")
		return nil
	})
	if err != nil {
		return list, asks, err
	}
	var leases int
	if err := s.db.QueryRow(ctx, sqlOldLeases, now.Add(lease-leaseMax)).Scan(&leases); err != nil {
		return list, asks, err
	}
	if leases > 0 {
		list = append(list, fmt.Sprintf("%d messages are on their way for more than %s", leases, span(leaseMax)))
	}
	var oldest *time.Time
	if err := s.db.QueryRow(ctx, sqlLate, now.Add(-lateAfter), late).Scan(&oldest); err != nil {
		return list, asks, err
	}
	if oldest != nil {
		list = append(list, "a message should have been sent at "+oldest.UTC().Format(clock))
	}
	rows, err = s.db.Query(ctx, sqlUnproved, ready, now.Add(-proofMax), silent)
	if err != nil {
		return list, asks, err
	}
	var k channel.Kind
	var taken bool
	_, err = pgx.ForEachRow(rows, []any{&k, &taken}, func() error {
		if taken {
			asks = append(asks, fmt.Sprintf("what goes by %s is taken, and nobody has answered by it for a week: whether it is seen is not known. Open the link of a test or of the daily drill, and press its button", k))
		} else {
			list = append(list, fmt.Sprintf("%s has not been proved for a week. Send a test and acknowledge it", k))
		}
		return nil
	})
	if err != nil {
		return list, asks, err
	}
	if rows, err = s.db.Query(ctx, sqlFailedDrill, detect.Drill); err != nil {
		return list, asks, err
	}
	failed, err := pgx.CollectRows(rows, pgx.RowTo[channel.Kind])
	for _, k := range failed {
		list = append(list, fmt.Sprintf("the last daily test could not be sent by %s", k))
	}
	return list, asks, err
}
