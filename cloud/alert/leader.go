package alert

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/cloud/detect"
)

const (
	// batchMax is how many incidents one transaction opens, changes or resolves.
	batchMax = 2000
	// timersMax is how many timers one transaction takes: of so many incidents, or of
	// one of the region's. The next look takes more.
	timersMax = 500
	// staleAfter is how old a word may be: what does not change any more is no
	// evidence that anything holds, or is over.
	staleAfter = 10 * time.Second
	// stuckAfter is from when on that is told, in looks: a region that starts takes
	// a while until it judges, and one that stood still goes on by itself.
	stuckAfter = time.Minute
	// unfitAfter is how long nobody decides until somebody does who cannot judge: there
	// is more to tell than that.
	unfitAfter = time.Minute
	// strangeFor is how long a finding waits whose facility is not in the table (yet, or any more).
	strangeFor = 2 * time.Second
	// quietWords is how often a summary alone is written anew.
	quietWords = 10 * time.Second
)

// errNotLeader means that another process decides now. What was being done did not happen.
var errNotLeader = errors.New("another process decides now")

// leading is what the leader keeps between two looks.
type leading struct {
	renewAt   time.Time // when the lease is taken next
	windowsAt time.Time // when is looked for announced work next
	pruneAt   time.Time // when what is old is removed next
	wordsAt   map[int64]time.Time
	strangers map[key]time.Time // findings of facilities that are not there, until they are tried again
	drillAt   time.Time         // when the last drill began
	drillable bool              // the test contact can be told
	stale     int               // looks in a row at which the word was old
	// trouble is what could not be stored, by what it is; the auditor reads it, so a.mu guards it.
	trouble map[string]trouble
}

// trouble is why something cannot be stored, and when that was last tried.
type trouble struct {
	why string
	at  time.Time
}

// leadSession decides as long as this process is the leader, and tries to become it.
func (a *Alerter) leadSession(ctx context.Context, up func()) error {
	defer a.setLeading(false)
	a.mu.Lock()
	a.lead = leading{wordsAt: make(map[int64]time.Time), strangers: make(map[key]time.Time), trouble: make(map[string]trouble)}
	a.mu.Unlock()
	tick := time.NewTicker(a.timing.poll)
	defer tick.Stop()
	for {
		if err := a.look(ctx); err != nil {
			return err
		}
		up()
		select {
		case <-ctx.Done():
			a.release(ctx)
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// look takes the lease when it is time to, and does what is to be done.
func (a *Alerter) look(ctx context.Context) error {
	now := a.moment()
	if !now.Before(a.lead.renewAt) {
		led, err := a.take(ctx, now)
		if err != nil {
			return err
		}
		a.lead.renewAt = now.Add(a.timing.renew)
		if led && !a.Leading() {
			if err := a.begin(ctx); err != nil {
				return err
			}
		}
		a.setLeading(led)
	}
	if !a.Leading() {
		return nil
	}
	err := a.decide(ctx, now)
	if errors.Is(err, errNotLeader) {
		a.setLeading(false)
		return nil
	}
	return err
}

// begin reads what a leader knows beyond the tables' state.
func (a *Alerter) begin(ctx context.Context) error {
	at, err := a.store.lastDrill(ctx)
	if err == nil && at != nil {
		a.lead.drillAt = *at
	}
	return err
}

func (a *Alerter) take(ctx context.Context, now time.Time) (bool, error) {
	// Whoever holds it may be in the middle of a transaction, for ever if it is frozen.
	ctx, cancel := context.WithTimeout(ctx, a.timing.leader)
	defer cancel()
	var holder string
	fit, harmless := a.fit(now)
	err := a.db.QueryRow(ctx, sqlLead, a.id, now.Add(a.timing.leader), now, fit, now.Add(-unfitAfter), harmless).Scan(&holder)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("take the alerter's lease: %w", err)
	}
	return true, nil
}

// fit reports whether this process can judge: another one may hear what it does not.
// One that hears no facility and has just started is harmless: what it does not
// hear it takes for unknown, and all else it can tell.
func (a *Alerter) fit(now time.Time) (fit, harmless bool) {
	w := a.c.Word()
	able := now.Sub(w.At) <= staleAfter && !w.Held
	return able && !w.Deaf, able && w.Fresh
}

// release lets another process take over at once.
func (a *Alerter) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if _, err := a.db.Exec(ctx, sqlRelease, a.id, a.moment()); err != nil {
		a.log.Debug("the alerter's lease was not given back; it runs out by itself", "err", err)
	}
}

func (a *Alerter) setLeading(yes bool) {
	a.mu.Lock()
	was := a.leads
	a.leads = yes
	if was != yes {
		a.report = report{} // whoever leads now looks for himself
	}
	a.mu.Unlock()
	if was != yes {
		a.log.Info("who decides on incidents has changed", "leader", yes)
	}
}

// decide makes the open incidents equal to what holds, and takes the steps that are due.
func (a *Alerter) decide(ctx context.Context, now time.Time) error {
	open, err := a.store.open(ctx)
	if err != nil {
		return err
	}
	w := a.word(now, open)
	t, u := plan(w, open), unsureOf(w)
	t.updates = a.worthWriting(now, t.updates)
	maps.DeleteFunc(a.lead.strangers, func(_ key, until time.Time) bool { return !now.Before(until) })
	t.opens = slices.DeleteFunc(t.opens, func(f detect.Finding) bool { return !a.lead.strangers[key{f.Kind, f.Facility}].IsZero() })
	for _, part := range t.chunks(batchMax) {
		if err := a.settle(ctx, now, part); err != nil {
			return err
		}
	}
	if !now.Before(a.lead.windowsAt) {
		a.lead.windowsAt = now.Add(a.timing.windows)
		if err := a.bear(ctx, "announced work", a.lookForWork(ctx, now, open, u)); err != nil {
			return err
		}
		if a.lead.drillable, err = a.store.hasWays(ctx, a.c.TestContact); err != nil {
			return err
		}
	}
	if !now.Before(a.lead.pruneAt) {
		a.lead.pruneAt = now.Add(pruneEvery)
		if err := a.bear(ctx, "the removal of old incidents", a.prune(ctx, now)); err != nil {
			return err
		}
	}
	timers, reminders, err := a.store.due(ctx, now, u)
	if err != nil {
		return err
	}
	if timers {
		if err := a.steps(ctx, now, u); err != nil {
			return err
		}
	}
	if reminders {
		return a.bear(ctx, "reminders", a.commit(ctx, now, func(ctx context.Context, tx pgx.Tx, b *batch) error { return a.remind(ctx, tx, b, u) }))
	}
	return nil
}

// word is what is judged now, with what this room has to add.
func (a *Alerter) word(now time.Time, open []subject) detect.Word {
	w := a.c.Word()
	a.lead.stale++
	if now.Sub(w.At) <= staleAfter {
		a.lead.stale = 0
	} else { // also: nothing was judged so far
		w.Held, w.Why = true, "nothing has been judged since "+w.At.Format(time.TimeOnly)
		w.Findings = keep(open)
		if f, ok := a.stuck(now, w.At); ok {
			w.Findings = append(w.Findings, f)
		}
	}
	w.Findings = append([]detect.Finding{}, w.Findings...) // it is not ours
	if f, ok := a.troubles(open); ok {
		w.Findings = append(w.Findings, f)
	}
	if f, ok := a.drill(now, open); ok {
		w.Findings = append(w.Findings, f)
	}
	return w
}

// stuck is told when whoever judges hangs: he cannot say it himself.
func (a *Alerter) stuck(now, judged time.Time) (detect.Finding, bool) {
	if a.lead.stale < int(stuckAfter/a.timing.poll) {
		return detect.Finding{}, false
	}
	if judged.IsZero() {
		judged = now.Add(-stuckAfter)
	}
	return detect.Finding{
		Kind: detect.Blind, Severity: detect.Critical, Since: judged, Summary: "This region does not judge its facilities any more: what does that hangs.",
		Evidence: []string{"The last time that anything was judged: " + judged.UTC().Format(clock) + ".", "Facilities that fail now are not noticed. Restart the region's process."},
	}, true
}

// keep returns findings of the region's own incidents as they are: for a moment
// at which nothing is known.
func keep(open []subject) []detect.Finding {
	var all []detect.Finding
	for _, s := range open {
		if s.Facility == "" && s.Kind != detect.Alerting && s.Kind != detect.Drill {
			all = append(all, detect.Finding{Kind: s.Kind, Severity: s.Severity, Summary: s.Summary, Unsure: s.Severity != detect.Critical})
		}
	}
	return all
}

// worthWriting leaves out updates of nothing but the words, when the words have
// been written a moment ago: there are numbers in them.
func (a *Alerter) worthWriting(now time.Time, list []update) []update {
	var out []update
	for _, u := range list {
		if u.to.Severity == u.Severity && !u.joined && !u.parted && now.Sub(a.lead.wordsAt[u.ID]) < quietWords {
			continue
		}
		a.lead.wordsAt[u.ID] = now
		out = append(out, u)
	}
	maps.DeleteFunc(a.lead.wordsAt, func(_ int64, at time.Time) bool { return now.Sub(at) > quietWords })
	return out
}

// chunks divides what is to be done so that no transaction grows without end.
func (t todo) chunks(most int) []todo {
	if t.size() == 0 {
		return nil
	}
	if t.size() <= most {
		return []todo{t}
	}
	var all []todo
	for list := t.opens; len(list) > 0; list = list[min(most, len(list)):] {
		all = append(all, todo{opens: list[:min(most, len(list))]})
	}
	for list := t.updates; len(list) > 0; list = list[min(most, len(list)):] {
		all = append(all, todo{updates: list[:min(most, len(list))]})
	}
	for list := t.resolves; len(list) > 0; list = list[min(most, len(list)):] {
		all = append(all, todo{resolves: list[:min(most, len(list))]})
	}
	return all
}

// settle stores a todo in one transaction. When that fails although the database
// works, each incident is tried alone: one that cannot be stored keeps none of the
// others waiting. It is in the auditor's report until it can be.
func (a *Alerter) settle(ctx context.Context, now time.Time, t todo) error {
	err := a.commit(ctx, now, func(ctx context.Context, tx pgx.Tx, b *batch) error { return a.reconcile(ctx, tx, b, t) })
	if err == nil {
		for _, one := range t.split() {
			a.setTrouble(one.name(), nil)
		}
		return nil
	}
	if t.size() == 1 {
		return a.bear(ctx, t.name(), err)
	}
	if a.fatal(ctx, err) {
		return err
	}
	for _, one := range t.split() {
		if err := a.settle(ctx, now, one); err != nil {
			return err
		}
	}
	return nil
}

// steps takes the steps that are due, all in one transaction; or, when that
// fails, each incident's in one of its own.
func (a *Alerter) steps(ctx context.Context, now time.Time, u unsure) error {
	ids, err := a.store.dueIncidents(ctx, now, u)
	if err != nil || len(ids) == 0 {
		return err
	}
	take := func(ids []int64) error {
		return a.commit(ctx, now, func(ctx context.Context, tx pgx.Tx, b *batch) error { return a.takeSteps(ctx, tx, b, ids, u) })
	}
	if err = take(ids); err == nil {
		for _, id := range ids {
			a.setTrouble(stepOfIncident(id), nil)
		}
		return nil
	}
	if a.fatal(ctx, err) {
		return err
	}
	for _, id := range ids {
		if err := a.bear(ctx, stepOfIncident(id), take([]int64{id})); err != nil {
			return err
		}
	}
	return nil
}

func stepOfIncident(id int64) string { return fmt.Sprintf("the next step of incident %d", id) }

// fatal reports whether an error is about more than what was being stored.
func (a *Alerter) fatal(ctx context.Context, err error) bool {
	return errors.Is(err, errNotLeader) || ctx.Err() != nil || a.db.Ping(ctx) != nil
}

// bear keeps an error that is about one thing only for the auditor, so that all
// else goes on. It returns the others.
func (a *Alerter) bear(ctx context.Context, what string, err error) error {
	if err != nil && a.fatal(ctx, err) {
		return err
	}
	a.setTrouble(what, err)
	return nil
}

func (a *Alerter) setTrouble(name string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		delete(a.lead.trouble, name)
		return
	}
	if _, known := a.lead.trouble[name]; !known {
		a.log.Error("what was decided could not be stored, will try again", "what", name, "err", err)
	}
	a.lead.trouble[name] = trouble{err.Error(), a.moment()}
}

// commit runs fn in one transaction, in which this process is the leader, and
// writes what fn has put into the batch.
func (a *Alerter) commit(ctx context.Context, now time.Time, fn func(ctx context.Context, tx pgx.Tx, b *batch) error) error {
	b := newBatch(now)
	err := a.faults.Commit.Do(func() error {
		return pgx.BeginFunc(ctx, a.db, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, sqlFence, a.id)
			if err != nil {
				return fmt.Errorf("hold the alerter's lease: %w", err)
			}
			if tag.RowsAffected() == 0 {
				return errNotLeader
			}
			if err := fn(ctx, tx, b); err != nil {
				return err
			}
			return b.flush(ctx, tx)
		})
	})
	if err == nil {
		for _, fn := range b.after {
			fn()
		}
	}
	a.tell()
	return err
}
