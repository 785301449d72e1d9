package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// step is one thing that happens. weight says how often.
type step struct {
	name   string
	weight int
	do     func(w *world, ctx context.Context) error
}

// steps are all that may happen. A step that does not fit the moment (to cut
// what is cut) does nothing.
var steps = []step{
	{"edge commits", 30, (*world).edgeCommits},
	{"cloud commits", 30, (*world).cloudCommits},
	{"both commit", 10, (*world).bothCommit},
	{"row moves", 4, (*world).rowMoves},
	{"price changes", 6, (*world).priceChanges},
	{"cut", 8, (*world).cutCable},
	{"restore", 12, (*world).restoreCable},
	{"restore for a while", 6, (*world).restoreForAWhile},
	{"reconnect storm", 2, (*world).storm},
	{"rest", 8, (*world).restIfJoined},
	{"agent crashes", 4, (*world).edgeCrashes},
	{"region crashes", 3, (*world).regionCrashes},
	{"queue write fails", 3, (*world).queueFails},
	{"queue disk is full", 2, (*world).queueFull},
	{"disk of the region is full", 2, (*world).regionFull},
	{"log of the way down fails", 3, (*world).logFails},
	{"slot of the edge is lost", 1, (*world).edgeSlotLost},
	{"slot of the region is lost", 1, (*world).regionSlotLost},
	{"region is backed up", 2, (*world).regionBackedUp},
	{"region is restored", 1, (*world).regionRestored},
	{"database of the region crashes", 1, (*world).regionDatabaseCrashes},
	{"database of an edge crashes", 1, (*world).edgeDatabaseCrashes},
	{"clock of a database jumps", 3, (*world).clockJumps},
	{"box is replaced", 2, (*world).boxReplaced},
	{"replaced box comes again", 2, (*world).replacedBoxComes},
}

// next picks the next step.
func (w *world) next() step {
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	n := w.rand.IntN(total)
	for _, s := range steps {
		if n -= s.weight; n < 0 {
			return s
		}
	}
	panic("weights do not add up")
}

// run takes n steps, and looks at both sides after each as a reader would.
func (w *world) run(ctx context.Context, n int) error {
	for i := range n {
		s := w.next()
		fmt.Fprintf(&w.told, "\n%3d %s", i, s.name)
		if err := s.do(w, ctx); err != nil {
			return fmt.Errorf("step %d, %s: %w", i, s.name, err)
		}
		if err := w.checkBoundaries(ctx); err != nil {
			return fmt.Errorf("after step %d, %s: %w", i, s.name, err)
		}
	}
	return nil
}

func (w *world) tell(format string, args ...any) { fmt.Fprintf(&w.told, " "+format, args...) }

func (w *world) someEdge() *edge {
	e := w.edges[w.rand.IntN(len(w.edges))]
	w.tell("%s", e.id)
	return e
}

func (w *world) someOps() []op {
	ops := make([]op, 1+w.rand.IntN(3))
	for i := range ops {
		ops[i] = op{row: row{"doc", w.rand.IntN(keysMax)}, delete: w.rand.IntN(4) == 0, memo: memo(w.rand.IntN(int(memoKinds)))}
	}
	ops[0].grow = w.growing && w.rand.IntN(2) == 0
	switch w.rand.IntN(4) {
	case 0:
		ops = append(ops, op{row: row{"plan", w.rand.IntN(keysMax)}, delete: w.rand.IntN(4) == 0})
	case 1:
		ops = append(ops, op{row: row{"job", w.rand.IntN(keysMax)}})
	}
	return ops
}

func (w *world) edgeCommits(ctx context.Context) error {
	e := w.someEdge()
	return w.edgeCommit(ctx, e, w.someOps())
}

func (w *world) edgeCommit(ctx context.Context, e *edge, ops []op) error {
	b := w.books[e.id]
	t, err := commit(ctx, e.pool, edgeSide, e.id, len(b.edge)+1, ops)
	if err != nil {
		return err
	}
	t.untold = b.clear == unclear
	whole, err := w.whole(ctx, e)
	if err != nil {
		return err
	}
	t.early = !whole
	b.edge = append(b.edge, t)
	w.tell("%d (has seen %d) %v memo %v", t.n, t.saw, t.writes, t.memos)
	return nil
}

func (w *world) cloudCommits(ctx context.Context) error {
	e := w.someEdge()
	return w.cloudCommit(ctx, e, w.someOps())
}

func (w *world) cloudCommit(ctx context.Context, e *edge, ops []op) error {
	b := w.books[e.id]
	if err := w.lookAtNewBox(ctx, e); err != nil {
		return err
	}
	t, err := commit(ctx, w.region.pool, cloudSide, e.id, len(b.cloud)+1, ops)
	if err != nil {
		return err
	}
	w.enter(e, t)
	return nil
}

// enter notes a transaction of the cloud.
func (w *world) enter(e *edge, t *tx) {
	b := w.books[e.id]
	t.met = len(b.edge)
	b.cloud = append(b.cloud, t)
	w.tell("%d (has seen %d) %v memo %v", t.n, t.saw, t.writes, t.memos)
}

// bothCommit makes both sides change one row, one right after the other.
func (w *world) bothCommit(ctx context.Context) error {
	e, ops := w.someEdge(), w.someOps()
	if err := w.cloudCommit(ctx, e, ops); err != nil {
		return err
	}
	w.tell("and")
	return w.edgeCommit(ctx, e, []op{{row: ops[w.rand.IntN(len(ops))].row}})
}

func (w *world) priceChanges(ctx context.Context) error {
	id, n := w.rand.IntN(3), w.rand.IntN(1000)
	_, err := w.region.pool.Exec(ctx, `INSERT INTO price VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET val = EXCLUDED.val`, id, fmt.Sprint(n))
	return err
}

func (w *world) cutCable(context.Context) error {
	w.someEdge().cable.cut()
	return nil
}

func (w *world) restoreCable(context.Context) error {
	w.someEdge().cable.restore(-1)
	return nil
}

func (w *world) restoreForAWhile(context.Context) error {
	e, n := w.someEdge(), 500+w.rand.IntN(20_000)
	w.tell("%d bytes", n)
	e.cable.restore(n)
	return nil
}

func (w *world) storm(context.Context) error {
	for range 10 {
		for _, e := range w.edges {
			e.cable.cut()
			e.cable.restore(-1)
		}
	}
	return nil
}

func (w *world) edgeCrashes(ctx context.Context) error {
	e := w.someEdge()
	if err := e.crash(); err != nil {
		return err
	}
	return e.start(ctx)
}

func (w *world) regionCrashes(ctx context.Context) error {
	if err := w.region.stop(); err != nil {
		return err
	}
	return w.region.start(ctx)
}

// queueFails breaks one of the next writes or fsyncs of a queue, before or
// after it took effect.
func (w *world) queueFails(context.Context) error {
	e, n := w.someEdge(), 1+w.rand.IntN(4)
	p := &e.write
	if w.rand.IntN(2) == 0 {
		p = &e.sync
	}
	if w.rand.IntN(2) == 0 {
		w.tell("before, at %d", n)
		p.FailBefore(n)
	} else {
		w.tell("after, at %d", n)
		p.FailAfter(n)
	}
	return nil
}

func (w *world) logFails(context.Context) error {
	n := 1 + w.rand.IntN(3)
	if w.rand.IntN(2) == 0 {
		w.tell("before, at %d", n)
		w.region.toLog.FailBefore(n)
	} else {
		w.tell("after, at %d", n)
		w.region.toLog.FailAfter(n)
	}
	return nil
}

func (w *world) queueFull(ctx context.Context) error {
	e := w.someEdge()
	e.write.Break(syscall.ENOSPC)
	err := w.edgeCommit(ctx, e, w.someOps())
	e.write.Heal()
	return err
}

// regionFull lets the region refuse what a facility sends, once or more, where it
// is joined. Nothing of it may be taken for a fault of the rows.
func (w *world) regionFull(ctx context.Context) error {
	e, db := w.someEdge(), w.region.pool
	var before, hits int
	if err := db.QueryRow(ctx, hitsSQL).Scan(&before); err != nil {
		return err
	}
	if _, err := db.Exec(ctx, `UPDATE disk SET is_full = true`); err != nil {
		return err
	}
	err := w.edgeCommit(ctx, e, w.someOps())
	if err == nil && e.cable.joined() {
		_ = until(ctx, fullWithin, func() (bool, error) { // or it does not come so far
			err := db.QueryRow(ctx, hitsSQL).Scan(&hits)
			return hits > before, err
		})
		w.tell("refused %d times", max(hits-before, 0))
	}
	_, err2 := db.Exec(ctx, `UPDATE disk SET is_full = false`)
	return errors.Join(err, err2)
}

// fullWithin is how long a full disk waits for somebody to notice.
const fullWithin = time.Second

const hitsSQL = `SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM disk_hits`

// edgeSlotLost is a loss: what had not been read comes again by ranges, in which
// nobody can tell what the edge had changed, so that all of its rows stand.
// What has no key does not come again.
func (w *world) edgeSlotLost(ctx context.Context) error {
	e := w.someEdge()
	w.lossy = true
	w.ticksLost[e.id] = true
	if err := e.crash(); err != nil {
		return err
	}
	if err := dropSlots(ctx, e.pool); err != nil {
		return err
	}
	return e.start(ctx)
}

// regionSlotLost is one too: what the cloud had changed and nobody had read
// comes down by ranges, in which the edge's version stands wherever it touched
// the row since, whatever the cloud had seen.
func (w *world) regionSlotLost(ctx context.Context) error {
	w.lossy = true
	if err := w.region.stop(); err != nil {
		return err
	}
	if err := dropSlots(ctx, w.region.pool); err != nil {
		return err
	}
	return w.region.start(ctx)
}

func dropSlots(ctx context.Context, db *pgxpool.Pool) error {
	return until(ctx, time.Minute, func() (bool, error) {
		var left int
		_, err := db.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database() AND NOT active`)
		if err == nil {
			err = db.QueryRow(ctx, `SELECT count(*) FROM pg_replication_slots WHERE database = current_database()`).Scan(&left)
		}
		return err == nil && left == 0, nil
	})
}

func (w *world) regionBackedUp(ctx context.Context) error {
	for _, e := range w.edges {
		heard, err := w.heard(ctx, e)
		if err != nil {
			return err
		}
		if e.whole, err = w.whole(ctx, e); err != nil {
			return err
		}
		e.backedUp = 0
		if heard {
			e.backedUp = e.enrolment
		}
	}
	return w.replaceRegion(ctx, func(ctx context.Context, admin *pgx.Conn, name, backup string) error {
		w.backedUp = true
		_, err := admin.Exec(ctx, "DROP DATABASE IF EXISTS "+backup)
		if err == nil {
			_, err = admin.Exec(ctx, "CREATE DATABASE "+backup+" TEMPLATE "+name+" STRATEGY file_copy")
		}
		return err
	})
}

// regionRestored puts the region's database back. What the cloud did since is
// lost with it; what the facilities did is not.
func (w *world) regionRestored(ctx context.Context) error {
	if !w.backedUp {
		w.tell("no backup")
		return nil
	}
	if slices.ContainsFunc(w.edges, func(e *edge) bool { return e.backedUp != e.enrolment }) {
		w.tell("it would not let the new box in")
		return nil
	}
	w.lossy = true
	for _, e := range w.edges {
		w.comeBack[e.id] = w.comeBack[e.id] || !e.whole
		w.ticksLost[e.id] = true
	}
	return w.replaceRegion(ctx, func(ctx context.Context, admin *pgx.Conn, name, backup string) error {
		_, err := admin.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
		if err == nil {
			_, err = admin.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+backup+" STRATEGY file_copy")
		}
		return err
	}, dropSlots)
}

// replaceRegion stops the region, does something to its database and starts it.
func (w *world) replaceRegion(ctx context.Context, do func(ctx context.Context, admin *pgx.Conn, name, backup string) error, before ...func(context.Context, *pgxpool.Pool) error) error {
	r := w.region
	if err := r.stop(); err != nil {
		return err
	}
	for _, f := range before {
		if err := f(ctx, r.pool); err != nil {
			return err
		}
	}
	name := pgx.Identifier{r.pool.Config().ConnConfig.Database}.Sanitize()
	backup := pgx.Identifier{r.pool.Config().ConnConfig.Database + "_backup"}.Sanitize()
	r.pool.Close()
	admin, err := pgx.Connect(ctx, r.server.ConnString())
	if err != nil {
		return err
	}
	defer admin.Close(context.WithoutCancel(ctx))
	err = until(ctx, time.Minute, func() (bool, error) { // connections end a little later
		last := do(ctx, admin, name, backup)
		var pg *pgconn.PgError
		if errors.As(last, &pg) && pg.Code == "55006" {
			return false, nil
		}
		return true, last
	})
	if err != nil {
		return err
	}
	if r.pool, err = pgxpool.New(ctx, r.conn); err != nil {
		return err
	}
	return r.start(ctx)
}

// regionDatabaseCrashes takes back what was applied and is not in the WAL's
// file: it comes right behind a commit of a facility that has arrived.
func (w *world) regionDatabaseCrashes(ctx context.Context) error {
	if w.joined() && !w.lossy {
		if err := w.rest(ctx); err != nil {
			return err
		}
		if err := w.edgeCommit(ctx, w.someEdge(), nil); err != nil {
			return err
		}
		if err := w.rest(ctx); err != nil {
			return err
		}
	}
	w.region.server.Kill9(w.t)
	w.region.server.Start(w.t)
	w.region.pool.Reset()
	return nil
}

func (w *world) edgeDatabaseCrashes(context.Context) error {
	e := w.someEdge()
	e.server.Kill9(w.t)
	e.server.Start(w.t)
	e.pool.Reset()
	return nil
}

// joined reports that nothing keeps the sides from coming to rest.
func (w *world) joined() bool {
	return !slices.ContainsFunc(w.edges, func(e *edge) bool { return !e.cable.joined() })
}

func (w *world) restIfJoined(ctx context.Context) error {
	if !w.joined() {
		w.tell("not joined")
		return nil
	}
	return w.rest(ctx)
}

// heal takes every cause of trouble away.
func (w *world) heal() {
	for _, e := range w.edges {
		e.write.Heal()
		e.sync.Heal()
		e.cable.restore(-1)
	}
	w.region.toLog.Heal()
}
