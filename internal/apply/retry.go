package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
)

// ParkConfig configures the retrying of what is parked.
type ParkConfig struct {
	// Direction is which way the changes came. Default Up.
	Direction Direction
	// Registry returns the tables that are synced now.
	Registry func() *Registry
	// Local is Config.Local, for the Direction Down.
	Local Local
	// OnLook is called after each look with how much waits and, on the way down,
	// the least that the sender had seen when it made any of that: from there on
	// Local must be able to tell. It must not block. May be nil.
	OnLook func(facility string, waiting int64, seen change.Position)
	// Every is how often what waits is looked at, and the shortest wait
	// between two attempts at a change. Default 2 s.
	Every time.Duration
	// Heal asks a facility to send a table (schema.name) again, and reports
	// whether it could be asked. May be nil.
	Heal func(facility, table, reason string) bool
	// Loading reports whether a facility's table (schema.name) is on its way as a
	// whole already, so that rows that are not there are not asked for. May be nil.
	Loading func(ctx context.Context, facility, table string) bool
	// Patience is how long rows that a partial update did not find may be on their
	// way before their table is asked for. Default 30 s.
	Patience time.Duration
	Log      *slog.Logger
}

type parksetKey struct {
	facility  string
	direction Direction
}

// openParked reads what waits for the facility.
func (a *Applier) openParked(ctx context.Context) error {
	s, err := a.pool.session(ctx)
	if err != nil {
		return err
	}
	defer s.release()
	a.parked = a.pool.newParkset()
	a.pool.mu.Lock()
	a.pool.parksets[parksetKey{a.cfg.Facility, a.cfg.Direction}] = a.parked
	a.pool.mu.Unlock()
	return a.parked.load(ctx, s, a.cfg.Facility, a.cfg.Direction)
}

// ended tells the facility's stream that some of what waited does not any more.
func (p *Pool) ended(facility string, d Direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if set := p.parksets[parksetKey{facility, d}]; set != nil {
		set.stale.Store(true)
	}
}

// RetryNow has what is parked of a facility looked at again at once: a change
// was edited or discarded, or somebody believes that a cause is gone.
func (p *Pool) RetryNow(facility string) {
	p.mu.Lock()
	p.again[facility] = struct{}{}
	for k, set := range p.parksets {
		if k.facility == facility {
			set.stale.Store(true)
		}
	}
	p.mu.Unlock()
	signal(p.kick)
}

// Parked is how many changes wait, by facility, as of the last look.
func (p *Pool) Parked() map[string]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.parked)
}

// Retry tries parked changes again until ctx ends, and returns its error.
// Exactly one must run for each pool whose appliers park.
func (p *Pool) Retry(ctx context.Context, c ParkConfig) error {
	if c.Direction == "" {
		c.Direction = Up
	}
	if c.Every <= 0 {
		c.Every = 2 * time.Second
	}
	if c.Log == nil {
		c.Log = p.log
	}
	if c.Heal == nil {
		c.Heal = func(string, string, string) bool { return false }
	}
	if c.Loading == nil {
		c.Loading = func(context.Context, string, string) bool { return false }
	}
	if c.Patience <= 0 {
		c.Patience = lackPatience
	}
	if c.OnLook == nil {
		c.OnLook = func(string, int64, change.Position) {}
	}
	if (c.Direction == Down) != (c.Local != nil) {
		return fmt.Errorf("try parked rows of the way %s again: who else writes there must be told when, and only when, changes come down", c.Direction)
	}
	r := &retrier{pool: p, cfg: c, prints: map[string]string{}, misfits: map[string]time.Time{}, renewed: map[string]time.Time{}, askedFor: map[string]askedFor{}, log: c.Log.With("part", "parked")}
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	for {
		if err := r.look(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.say(err)
		} else {
			r.say(nil)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.kick:
		case <-tick.C:
		}
	}
}

// retrier is the state of Retry, owned by its goroutine.
type retrier struct {
	pool   *Pool
	cfg    ParkConfig
	log    *slog.Logger
	bad    bool // the last look failed
	pruned time.Time
	// prints are fingerprints of target tables of which something waits.
	prints map[string]string
	// misfits are when tables that do not fit are looked at again, by facility and table.
	misfits map[string]time.Time
	// renewed is when a facility's tables changed last, or somebody asked: all that
	// was tried before is due.
	renewed map[string]time.Time
	// askedFor are tables that were asked for because of lacking rows, by facility and table.
	askedFor map[string]askedFor
}

// say logs when looking begins or ceases to fail.
func (r *retrier) say(err error) {
	if (err != nil) == r.bad {
		return
	}
	if r.bad = err != nil; r.bad {
		r.log.Warn("parked rows cannot be tried again", "err", err)
	} else {
		r.log.Info("parked rows are tried again")
	}
}

// What has ended is kept for people for a while.
const (
	keepEnded  = 30 * 24 * time.Hour
	pruneEvery = time.Hour
	pruneSQL   = `DELETE FROM holdfast.parked WHERE state <> 'waiting' AND ended_at < now() - $1::float8 * interval '1 second'`
)

const parkedFacilitiesSQL = `SELECT facility, sum(n)::bigint FROM (
  SELECT facility, count(*) AS n FROM holdfast.parked WHERE state = 'waiting' AND direction = $1 GROUP BY 1
  UNION ALL SELECT facility, 0 FROM holdfast.parked_table WHERE direction = $1) p GROUP BY 1 ORDER BY 1`

// look goes through all facilities of which something waits.
func (r *retrier) look(ctx context.Context) error {
	p := r.pool
	s, err := p.session(ctx)
	if err != nil {
		return err
	}
	defer s.release()
	counts, err := r.counts(ctx, s)
	if err != nil {
		return err
	}
	p.mu.Lock()
	again := p.again // not before it can be done
	p.again = map[string]struct{}{}
	p.mu.Unlock()
	var first error
	for _, facility := range slices.Sorted(maps.Keys(counts)) {
		if _, ok := again[facility]; ok {
			r.renew(facility)
		}
		for more := true; more && err == nil; {
			more, err = r.round(ctx, s, facility)
		}
		if err != nil {
			s.rollback(context.WithoutCancel(ctx))
			p.ended(facility, r.cfg.Direction) // the commit may have taken place
			if p.afterLoss(s) || ctx.Err() != nil {
				return err
			}
			if !passing(err) && first == nil { // a busy stream is no trouble
				first = fmt.Errorf("try the parked rows of %s: %w", facility, err)
			}
			err = nil
		}
		if err := r.heal(ctx, s, facility); err != nil {
			return err
		}
		if err := r.lacking(ctx, s, facility); err != nil {
			return err
		}
	}
	if time.Since(r.pruned) > pruneEvery {
		r.pruned = time.Now()
		if _, err := s.conn.Exec(ctx, pruneSQL, keepEnded.Seconds()); err != nil {
			return fmt.Errorf("remove what ended long ago: %w", err)
		}
	}
	if len(counts) > 0 {
		if _, err := r.counts(ctx, s); err != nil {
			return err
		}
	}
	return first
}

func (r *retrier) counts(ctx context.Context, s *session) (map[string]int64, error) {
	rows, err := s.conn.Conn().Query(ctx, parkedFacilitiesSQL, string(r.cfg.Direction))
	if err != nil {
		r.pool.afterLoss(s)
		return nil, fmt.Errorf("count parked rows: %w", err)
	}
	counts := map[string]int64{}
	var facility string
	var n int64
	if _, err = pgx.ForEachRow(rows, []any{&facility, &n}, func() error { counts[facility] = n; return nil }); err != nil {
		return nil, fmt.Errorf("count parked rows: %w", err)
	}
	r.pool.mu.Lock()
	before := r.pool.parked
	r.pool.parked = maps.Clone(counts)
	r.pool.mu.Unlock()
	for facility := range before {
		if _, ok := counts[facility]; !ok {
			r.cfg.OnLook(facility, 0, change.Position{})
		}
	}
	for facility, n := range counts {
		seen, err := r.leastSeen(ctx, s, facility)
		if err != nil {
			return nil, err
		}
		r.cfg.OnLook(facility, n, seen)
	}
	return counts, nil
}

const leastSeenSQL = `SELECT seen_epoch, seen_seq FROM holdfast.parked WHERE state = 'waiting' AND facility = $1 AND direction = 'down'
  ORDER BY seen_epoch, seen_seq LIMIT 1`

// leastSeen is the least that the sender had seen of what waits on the way down.
func (r *retrier) leastSeen(ctx context.Context, s *session, facility string) (seen change.Position, err error) {
	if r.cfg.Direction != Down {
		return seen, nil
	}
	err = s.conn.QueryRow(ctx, leastSeenSQL, facility).Scan(&seen.Epoch, &seen.Seq)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return seen, fmt.Errorf("read what the parked rows of %s had seen: %w", facility, err)
	}
	return seen, nil
}

// healAgain is after how long a facility that sent nothing is asked again.
const healAgain = time.Minute

// passedTable is a table that is due to be asked for.
type passedTable struct {
	Schema, Name string
	Columns      []byte
}

const passedSQL = `SELECT schema_name, table_name, columns FROM holdfast.parked_table t
WHERE facility = $1 AND direction = $2 AND reason <> '` + string(ReasonRowMissing) + `' AND (asked_at IS NULL OR now() - asked_at NOT BETWEEN interval '-1 minute' AND $3::float8 * interval '1 second')
  AND (SELECT count(*) FROM holdfast.parked p WHERE p.state = 'waiting' AND p.facility = t.facility AND p.direction = t.direction) <= $4`

const askedSQL = `UPDATE holdfast.parked_table SET asked_at = CASE WHEN $5 THEN now() END
WHERE facility = $1 AND direction = $2 AND schema_name = $3 AND table_name = $4`

// heal asks for the tables whose changes were passed over, when they fit again
// and there is room for what may still be refused.
func (r *retrier) heal(ctx context.Context, s *session, facility string) error {
	conn := s.conn.Conn()
	rows, err := conn.Query(ctx, passedSQL, facility, string(r.cfg.Direction), healAgain.Seconds(), r.pool.cfg.ParkRows/2)
	if err != nil {
		return fmt.Errorf("ask for the tables of %s: %w", facility, err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[passedTable])
	if err != nil {
		return fmt.Errorf("ask for the tables of %s: %w", facility, err)
	}
	if len(tables) == 0 {
		return nil
	}
	r.pool.catalog.forget()
	for i := range tables {
		t := &tables[i]
		fits, err := r.pool.fitsAgain(ctx, s, Config{Facility: facility, Direction: r.cfg.Direction, Registry: r.cfg.Registry}, t)
		if err != nil {
			return fmt.Errorf("ask for the tables of %s: %w", facility, err)
		}
		if !fits {
			continue
		}
		why := "changes of it were passed over while " + r.cfg.Direction.here().the + " could not apply them"
		if _, err := r.askFor(ctx, conn, facility, t.Schema, t.Name, why); err != nil {
			return err
		}
	}
	return nil
}

// askFor has the table sent again, and reports whether somebody could be asked.
func (r *retrier) askFor(ctx context.Context, conn *pgx.Conn, facility, schema, name, why string) (bool, error) {
	asked := func(yes bool) error {
		if _, err := conn.Exec(ctx, askedSQL, facility, string(r.cfg.Direction), schema, name, yes); err != nil {
			return fmt.Errorf("ask for the tables of %s: %w", facility, err)
		}
		r.pool.ended(facility, r.cfg.Direction)
		return nil
	}
	// First the word, so that the stream knows the ranges that come for what they are.
	if err := asked(true); err != nil {
		return false, err
	}
	id := schema + "." + name
	if !r.cfg.Heal(facility, id, why) {
		return false, asked(false)
	}
	r.log.Info("a table is asked for again", "facility", facility, "table", id, "reason", why)
	return true, nil
}
