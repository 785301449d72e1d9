package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/test/rig/compare"
	"github.com/agogsaas/holdfast/test/rig/site"
)

// Three applications that know nothing of Holdfast, each in a schema of its own:
// pgbench's, and two public sample databases. No table has a column that says
// whose row it is, and their keys are small numbers from sequences. In the region
// the schema carries the facility's name, and the applications run there too.

// place is one of the two databases with the applications in it.
type place struct {
	name   string
	dsn    string
	db     *pgxpool.Pool
	prefix string // of its schemas
	parity int    // of the numbers that it gives out
}

// at connects with an application's schema as the one that names mean.
func (p *place) at(t *testing.T, schemas ...string) *pgxpool.Pool {
	t.Helper()
	c, err := pgxpool.ParseConfig(p.dsn)
	if err != nil {
		t.Fatal(err)
	}
	c.ConnConfig.RuntimeParams["search_path"] = strings.Join(schemas, ",")
	db, err := pgxpool.NewWithConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// pgbench runs it in the place's schema bench.
func (p *place) pgbench(ctx context.Context, args ...string) error {
	programs, err := pgcluster.FindBinaries("")
	if err != nil {
		return err
	}
	c, err := pgx.ParseConfig(p.dsn)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, programs.Path("pgbench"), args...)
	cmd.Env = append(os.Environ(), "PGHOST="+c.Host, "PGPORT="+strconv.Itoa(int(c.Port)), "PGUSER="+c.User, "PGPASSWORD="+c.Password,
		"PGDATABASE="+c.Database, "PGSSLMODE=disable", "PGOPTIONS=-c search_path="+p.prefix+"bench")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pgbench %v in %s: %w\n%s", args, p.name, err, bytes.TrimSpace(out))
	}
	return nil
}

func script(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "schemas", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestApplicationsThatKnowNothingOfUsAreSyncedBothWays(t *testing.T) {
	t.Parallel()
	_, rng := seeded(t)
	s := startSite(t)
	la := addEdge(t, s, "la")
	edge := &place{name: "la", dsn: la.DSN(pgcluster.App, pgcluster.Database), db: edgeDB(t, la), parity: 1}
	region := &place{name: "the region", dsn: s.RegionDSN(pgcluster.App, pgcluster.Database), db: regionDB(t, s), prefix: "la_"}

	// The applications are installed on both sides, each as it installs itself.
	for _, p := range []*place{edge, region} {
		for _, app := range []string{"pagila", "chinook", "bench"} {
			write(t, p.at(t), `CREATE SCHEMA `+p.prefix+app)
		}
		write(t, p.at(t), `CREATE SCHEMA IF NOT EXISTS pagila`)
		write(t, p.at(t, "pagila"), script(t, "pagila_shared.sql"))
		write(t, p.at(t, p.prefix+"pagila", "pagila"), script(t, "pagila.sql"))
		write(t, p.at(t, p.prefix+"chinook"), script(t, "chinook.sql"))
	}
	if err := errors.Join(edge.pgbench(t.Context(), "-i", "-q"), region.pgbench(t.Context(), "-i", "-I", "dtp")); err != nil {
		t.Fatal(err)
	}

	// What all stores share is the region's; the rest is the facility's.
	write(t, region.at(t, "pagila"), pagilaSharedRows)
	shared := []compare.Table{{Schema: "pagila", Name: "language"}, {Schema: "pagila", Name: "country"}, {Schema: "pagila", Name: "city"}}
	for _, table := range shared {
		addTable(t, s, table.String(), "master")
	}
	same(t, edge.db, region.db, shared...)
	write(t, edge.at(t, "pagila"), pagilaRows)
	write(t, edge.at(t, "chinook"), chinookRows)
	facts := map[string][]compare.Table{}
	for _, app := range []string{"pagila", "chinook", "bench"} {
		list, err := compare.UserTables(t.Context(), edge.db, app)
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range list {
			switch {
			case slices.ContainsFunc(shared, func(m compare.Table) bool { return m.String() == table.String() }):
			case table.Name == "pgbench_history": // it has no key: rows are only added
				addTable(t, s, table.String(), "event")
			default:
				warned := strings.Contains(addTable(t, s, table.String(), "fact"), "is counted by a sequence on each side")
				if counted := app != "bench" && !slices.Contains([]string{"film_actor", "film_category", "playlist_track"}, table.Name); warned != counted {
					t.Errorf("%s: a warning of equal numbers: %t", table, warned)
				}
				table.SchemaB = "la_" + app
				facts[app] = append(facts[app], table)
			}
		}
	}
	if len(facts["pagila"]) != 12 || len(facts["chinook"]) != 11 || len(facts["bench"]) != 3 {
		t.Fatalf("registered are %v", facts)
	}
	equal := func() {
		t.Helper()
		eventually(t, func(ctx context.Context) error {
			for _, tables := range [][]compare.Table{shared, facts["pagila"], facts["chinook"], facts["bench"]} {
				if err := compare.Tables(ctx, edge.db, region.db, tables...); err != nil {
					return err
				}
			}
			return nil
		})
	}
	equal()
	published(t, edge.db, "pgbench_history")

	// As the warning says: odd numbers at the facility, even ones in the region.
	for _, p := range []*place{edge, region} {
		for _, app := range []string{"pagila", "chinook"} {
			write(t, p.at(t, p.prefix+app), fmt.Sprintf(`DO $$ DECLARE s regclass; BEGIN
				FOR s IN SELECT oid FROM pg_class WHERE relkind = 'S' AND relnamespace = current_schema()::regnamespace
					AND relname !~ '^(language|country|city)_' LOOP
					EXECUTE format('ALTER SEQUENCE %%s INCREMENT BY 2 RESTART WITH %d', s);
				END LOOP; END $$`, 1000+p.parity))
		}
	}

	// People work on both sides at once: connected, cut off, and connected again.
	const steps, transactions = 150, 100
	rounds := 0
	work := func() {
		t.Helper()
		g, ctx := errgroup.WithContext(within(t))
		for _, p := range []*place{edge, region} {
			for app, list := range map[string][]string{"pagila": pagilaWork, "chinook": chinookWork} {
				db, seed := p.at(t, p.prefix+app, app), rng.Uint64()
				g.Go(func() error { return random(ctx, db, seed, steps, 2*rounds*steps+p.parity, list) })
			}
			g.Go(func() error {
				return p.pgbench(ctx, "-n", "-c", "2", "-t", strconv.Itoa(transactions), "--max-tries=20")
			})
		}
		db, seed := region.at(t, "pagila"), rng.Uint64()
		g.Go(func() error { return random(ctx, db, seed, 10, 2*rounds*steps, sharedWork) })
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		rounds++
	}
	work()
	la.Cut()
	work()
	la.Restore()
	work()
	equal()
	wantHistory(t, edge.db, region.db, rounds*2*transactions)
	for _, p := range []*place{edge, region} {
		wantWhole(t, p)
	}
	count(t, region.db, `SELECT count(*) FROM holdfast.parked`, 0)
	var conflicts int
	if err := region.db.QueryRow(t.Context(), `SELECT count(*) FROM holdfast.conflict`).Scan(&conflicts); err != nil || conflicts == 0 {
		t.Errorf("%d rows were changed on both sides, %v", conflicts, err)
	}

	// Where a row's key changes, what refers to it follows by the application's own
	// foreign keys, on both sides once.
	write(t, edge.at(t, "pagila"), `UPDATE actor SET actor_id = 9001 WHERE actor_id = 1`)
	write(t, region.at(t, "la_pagila", "pagila"), `UPDATE actor SET actor_id = 9002 WHERE actor_id = 2; UPDATE inventory SET inventory_id = 90002 WHERE inventory_id = 3`)
	equal()
	for _, p := range []*place{edge, region} {
		count(t, p.at(t, p.prefix+"pagila", "pagila"), `SELECT count(DISTINCT actor_id) FROM actor JOIN film_actor USING (actor_id) WHERE actor_id IN (9001, 9002)`, 2)
		wantWhole(t, p)
	}

	// The operator's own view of it: both sides have the same columns and rows,
	// in all tables with a key, Holdfast's record of conflicts among them.
	out, _ := ctl(t, s, "verify", "la") // it fails for the one that cannot be compared
	if strings.Count(out, "● equal") != 12+11+3+1 || strings.Count(out, "not compared") != 1 {
		t.Errorf("verify:\n%s", out)
	}
	list, err := s.API.Tables(t.Context(), "la")
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range list {
		for _, at := range table.Facilities {
			if at.Problem != "" || len(at.Differs) > 0 {
				t.Errorf("%s.%s: %+v", table.Schema, table.Table, at)
			}
		}
	}
}

// addTable registers a table as an operator does and returns what is said.
func addTable(t *testing.T, s *site.Site, name, class string) string {
	t.Helper()
	args := []string{"tables", "add", name, "--class", class}
	if class != "master" {
		args = append(args, "--region-schema", "{facility}_{schema}")
	}
	out, err := ctl(t, s, args...)
	if err != nil {
		t.Fatalf("add %s: %v\n%s", name, err, out)
	}
	return out
}

// published waits until what is written to a table without a key is captured.
func published(t *testing.T, db *pgxpool.Pool, table string) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		var n int
		err := db.QueryRow(ctx, `SELECT count(*) FROM pg_publication_tables WHERE tablename = $1`, table).Scan(&n)
		if err == nil && n == 0 {
			err = fmt.Errorf("%s is not published", table)
		}
		return err
	})
}

// random does n things out of the list. In each, :a, :b and :c stand for some
// number up to 1200, and :n for one that nobody else has.
func random(ctx context.Context, db *pgxpool.Pool, seed uint64, n, first int, list []string) error {
	rng := rand.New(rand.NewPCG(seed, 7))
	for i := range n {
		some := func() string { return strconv.Itoa(1 + rng.IntN(1200)) }
		sql := strings.NewReplacer(":a", some(), ":b", some(), ":c", some(), ":n", strconv.Itoa(first+2*i)).Replace(list[rng.IntN(len(list))])
		for {
			_, err := db.Exec(ctx, sql)
			pg, refused := errors.AsType[*pgconn.PgError](err)
			if refused && (pg.Code[:2] == "40" || pg.Code[:2] == "55") {
				continue // it was another's turn
			}
			if refused && pg.Code == "23505" {
				break // two rows would have become one: the application is told, and does something else
			}
			if err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
			break
		}
	}
	return nil
}

// wantHistory waits until the region has all that pgbench did at the facility,
// beside what it did in the region itself.
func wantHistory(t *testing.T, edge, region *pgxpool.Pool, regions int) {
	t.Helper()
	read := func(ctx context.Context, db *pgxpool.Pool, schema string) ([]string, error) {
		rows, err := db.Query(ctx, `SELECT h::text FROM `+schema+`.pgbench_history h ORDER BY 1`)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowTo[string])
	}
	eventually(t, func(ctx context.Context) error {
		there, err := read(ctx, edge, "bench")
		if err != nil {
			return err
		}
		here, err := read(ctx, region, "la_bench")
		if err != nil {
			return err
		}
		lines := map[string]int{}
		for _, l := range here {
			lines[l]++
		}
		for _, l := range there {
			lines[l]--
			if lines[l] < 0 {
				return fmt.Errorf("the region lacks %s", l)
			}
		}
		if len(here) != len(there)+regions {
			return fmt.Errorf("the region has %d rows, %d of its own and the facility's %d", len(here), regions, len(there))
		}
		return nil
	})
}

// wantWhole checks that every row that a foreign key names is there.
func wantWhole(t *testing.T, p *place) {
	t.Helper()
	rows, err := p.db.Query(t.Context(), `SELECT conrelid::regclass::text, confrelid::regclass::text,
			ARRAY(SELECT format('a.%I = b.%I', x.attname, y.attname) FROM unnest(conkey, confkey) k(n, m)
				JOIN pg_attribute x ON x.attrelid = conrelid AND x.attnum = n JOIN pg_attribute y ON y.attrelid = confrelid AND y.attnum = m),
			ARRAY(SELECT format('a.%I IS NOT NULL', x.attname) FROM unnest(conkey) n JOIN pg_attribute x ON x.attrelid = conrelid AND x.attnum = n)
		FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 AND connamespace::regnamespace::text LIKE $1 || '%'
			AND connamespace::regnamespace::text ~ 'pagila|chinook'`, p.prefix)
	if err != nil {
		t.Fatal(err)
	}
	type link struct {
		From, To  string
		On, Given []string
	}
	links, err := pgx.CollectRows(rows, pgx.RowToStructByPos[link])
	if err != nil || len(links) < 30 {
		t.Fatalf("%d foreign keys, %v", len(links), err)
	}
	for _, l := range links {
		count(t, p.db, `SELECT count(*) FROM `+l.From+` a WHERE `+strings.Join(l.Given, " AND ")+
			` AND NOT EXISTS (SELECT FROM `+l.To+` b WHERE `+strings.Join(l.On, " AND ")+`)`, 0)
	}
}
