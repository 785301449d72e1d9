package unseen_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agogsaas/holdfast/internal/apply"
)

// write is what one side did to one row, and what it knew.
type write struct {
	edge    bool
	key     int
	token   string // what v became; "" when the row was deleted
	was     string // what v was before; "" when there was no row
	seq     uint64 // of the edge's own transaction
	applied uint64 // what the region had applied of the edge's when it wrote
}

type world struct {
	*rig
	rng    *rand.Rand
	next   int
	writes []write
}

const keys = 5

// act makes one transaction on a side.
func (w *world) act(edge bool) {
	w.t.Helper()
	s, name := w.region, "c"
	if edge {
		s, name = w.edge, "e"
	}
	ctx := context.Background()
	from := len(w.writes)
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		for range 1 + w.rng.IntN(3) {
			key := 1 + w.rng.IntN(keys)
			w.next++
			token := fmt.Sprint(name, w.next)
			var was *string
			rows, err := tx.Query(ctx, `SELECT v FROM t WHERE id = $1 FOR UPDATE`, key)
			if err != nil {
				return err
			}
			if list, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
				return err
			} else if len(list) > 0 {
				was = &list[0]
			}
			it := write{edge: edge, key: key, token: token}
			if was != nil {
				it.was = *was
			}
			switch what := w.rng.IntN(100); {
			case was == nil && what < 60:
				_, err = tx.Exec(ctx, `INSERT INTO t (id, v, big) VALUES ($1, $2, repeat(md5($2), 200))`, key, token)
			case was == nil:
				continue
			case what < 50:
				_, err = tx.Exec(ctx, `UPDATE t SET v = $2 WHERE id = $1`, key, token)
			case what < 65:
				_, err = tx.Exec(ctx, `UPDATE t SET v = $2, big = repeat(md5($2), 200) WHERE id = $1`, key, token)
			case what < 80:
				it.token = ""
				_, err = tx.Exec(ctx, `DELETE FROM t WHERE id = $1`, key)
			case what < 95:
				to := 1 + w.rng.IntN(keys)
				sql := `UPDATE t SET id = $3, v = $2 WHERE id = $1 AND NOT EXISTS (SELECT FROM t WHERE id = $3)`
				if !edge {
					// What the cloud does not send of a row that the edge has deleted is nowhere.
					sql = strings.Replace(sql, "v = $2", "v = $2, big = repeat(md5($2), 200)", 1)
				}
				tag, rerr := tx.Exec(ctx, sql, key, token, to)
				if err = rerr; err == nil && tag.RowsAffected() == 0 {
					continue
				}
				w.writes = append(w.writes, write{edge: edge, key: key, was: it.was})
				it.key, it.was = to, ""
			default:
				rows, err = tx.Query(ctx, `SELECT id, v FROM t`)
				if err != nil {
					return err
				}
				_, err = pgx.ForEachRow(rows, []any{&it.key, &it.was}, func() error {
					w.writes = append(w.writes, write{edge: edge, key: it.key, was: it.was})
					return nil
				})
				if err != nil {
					return err
				}
				if _, err = tx.Exec(ctx, `TRUNCATE t`); err != nil {
					return err
				}
				continue
			}
			if err != nil {
				return err
			}
			w.writes = append(w.writes, it)
		}
		return nil
	})
	if err != nil {
		w.writes = w.writes[:from]
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "23505" {
			return // what came down made the row meanwhile
		}
		w.t.Fatal(err)
	}
	s.settle()
	for i := range w.writes[from:] {
		w.writes[from+i].seq = w.edge.tail().Seq
		w.writes[from+i].applied = w.upward.Applied().Seq
	}
}

// check holds what must be true at rest.
func (w *world) check(policy apply.Policy) {
	w.t.Helper()
	if !w.equal() {
		w.t.Error("the sides differ")
	}
	w.mu.Lock()
	if n := w.missing["downpublic.t"]; n > 0 {
		w.t.Errorf("%d updates from the cloud found no row", n)
	}
	w.mu.Unlock()
	final := map[int]string{}
	for key := range keys {
		final[key+1] = strings.Trim(strings.Join(w.edge.lines(fmt.Sprintf(`SELECT v FROM t WHERE id = %d`, key+1)), ""), "()")
	}
	audit := strings.Join(w.region.lines(`SELECT edge_row->>'v', cloud_row->>'v' FROM holdfast.conflict`), " ") + " "
	replaced := map[string]bool{}
	for _, x := range w.writes {
		replaced[x.was] = true
	}
	for _, x := range w.writes {
		if x.token == "" || replaced[x.token] || final[x.key] == x.token {
			continue
		}
		if !strings.Contains(audit, "("+x.token+",") && !strings.Contains(audit, ","+x.token+")") {
			w.t.Errorf("%q of key %d is lost: nobody replaced it, and it is in no record", x.token, x.key)
		}
	}
	if policy != apply.PolicyEdge {
		return
	}
	last := map[int]write{}
	seen := map[int]bool{} // the cloud wrote it, knowing of the edge's last
	for _, x := range w.writes {
		if x.edge {
			last[x.key], seen[x.key] = x, false
		}
	}
	for _, x := range w.writes {
		if l, ok := last[x.key]; ok && !x.edge && x.applied >= l.seq {
			seen[x.key] = true
		}
	}
	for key, l := range last {
		if !seen[key] && final[key] != l.token {
			w.t.Errorf("key %d is %q, and the edge's last word was %q, which the cloud had not seen when it wrote", key, final[key], l.token)
		}
	}
}

// run makes a world of random transactions on both sides, whose changes are
// delivered at random.
func run(t *testing.T, seed uint64, steps int, o options) *world {
	t.Helper()
	w := &world{rig: newRig(t, o), rng: rand.New(rand.NewPCG(seed, 77))}
	for range steps {
		switch what := w.rng.IntN(10); {
		case what < 3:
			w.act(true)
		case what < 6:
			w.act(false)
		case what < 7:
			w.up(1 + w.rng.IntN(3))
		case what < 8:
			w.downSend(1 + w.rng.IntN(3))
		default:
			w.downAll(1 + w.rng.IntN(3))
		}
	}
	w.downWait()
	w.rest()
	return w
}

func TestBothSidesComeToTheSame(t *testing.T) {
	t.Parallel()
	for _, policy := range []apply.Policy{apply.PolicyEdge, apply.PolicyCloud, apply.PolicyColumns} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprint(policy, seed), func(t *testing.T) {
				t.Parallel()
				o := options{policy: policy}
				if policy == apply.PolicyColumns {
					o.columns = []string{"price"}
				}
				run(t, seed, 60, o).check(policy)
			})
		}
	}
}

// forgetful is a Local that does not know what the box's own WAL still holds.
type forgetful struct{ apply.Local }

func (forgetful) Settled(context.Context) error { return nil }

// A commit that nobody has read from the WAL yet must not be overwritten. Without
// the wait for it this very test finds the sides different.
func TestACommitThatIsNotCapturedYetStands(t *testing.T) {
	t.Parallel()
	for _, careful := range []bool{true, false} {
		o := options{linger: time.Second}
		if !careful {
			o.local = func(l apply.Local) apply.Local { return forgetful{l} }
		}
		r := newRig(t, o)
		r.edge.tx(`INSERT INTO t (id, v) VALUES (1, 'base')`)
		r.rest()
		r.region.tx(`UPDATE t SET v = 'C' WHERE id = 1`)
		r.edge.db.Exec(t, `UPDATE t SET v = 'E' WHERE id = 1`)
		r.downAll(10)
		r.rest()
		if r.equal() != careful {
			t.Errorf("waiting for capture: %v, and yet the sides are equal: %v", careful, !careful)
		}
		if careful {
			r.wantConflicts("(update_origin_differs,edge,1,E,C,{v},\"\",\"\")")
		}
	}
}

// What the region had seen when it changed a row is no conflict. Without the
// numbers of what it had seen this very test finds the sides different.
func TestAChangeMadeOnTopIsNoConflict(t *testing.T) {
	t.Parallel()
	for _, told := range []bool{true, false} {
		r := newRig(t, options{dropSeen: !told})
		r.edge.tx(`INSERT INTO t (id, v) VALUES (1, 'E')`)
		r.rest()
		r.region.tx(`UPDATE t SET v = 'C' WHERE id = 1`)
		r.rest()
		if r.equal() != told {
			t.Errorf("seen numbers: %v, and yet the sides are equal: %v", told, !told)
		}
		if told {
			r.wantConflicts()
		}
	}
}
