package capture

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgtest"
)

// far is what the other side makes of the stream: rows by key. Keys are
// compared with less.
type far struct {
	t    testing.TB
	rows map[string]string
	less func(a, b string) bool
	seq  uint64
}

func (f *far) apply(b *change.Body) {
	for _, tx := range b.Txs {
		f.seq = tx.Seq
		for i := range tx.Changes {
			f.change(&b.Tables[tx.Changes[i].Table], &tx.Changes[i])
		}
	}
}

func (f *far) change(table *change.Table, c *change.Change) {
	key := func(row change.Row) string {
		var k change.Row
		for _, i := range table.KeyColumns() {
			k = append(k, row[i])
		}
		return text(k)
	}
	switch c.Op {
	case change.Insert:
		if _, there := f.rows[key(c.Row)]; there {
			f.t.Errorf("insert of %s, which is there", text(c.Row))
		}
		f.rows[key(c.Row)] = text(c.Row)
	case change.Update:
		// Before its range has come the other side does not have the row.
		if c.Key != nil {
			delete(f.rows, text(c.Key))
		}
		f.rows[key(c.Row)] = text(c.Row)
	case change.Delete:
		delete(f.rows, text(c.Key))
	case change.Truncate:
		clear(f.rows)
	case change.Range:
		after, upTo := text(c.Range.After), text(c.Range.UpTo)
		for k := range f.rows {
			if (c.Range.After == nil || f.less(after, k)) && (c.Range.UpTo == nil || !f.less(upTo, k)) {
				delete(f.rows, k)
			}
		}
		for _, row := range c.Range.Rows {
			f.rows[key(row)] = text(row)
		}
	}
}

// catchUp applies the stream until the marker row has come.
func (f *far) catchUp(t testing.TB, r *rig, marker string) {
	t.Helper()
	for f.rows[marker] == "" {
		_, b := r.frame(t)
		f.apply(b)
	}
}

// near reads the table as the stream would show it.
func near(t testing.TB, conn *pgx.Conn, query string) map[string]string {
	t.Helper()
	rows := map[string]string{}
	result := conn.PgConn().ExecParams(t.Context(), query, nil, nil, nil, nil).Read()
	if result.Err != nil {
		t.Fatal(result.Err)
	}
	for _, row := range result.Rows {
		rows[string(row[0])] = text(change.Row(row))
	}
	return rows
}

func wantEqual(t testing.TB, near, far map[string]string) {
	t.Helper()
	if maps.Equal(near, far) {
		return
	}
	n := 0
	for k, v := range near {
		if far[k] != v {
			t.Errorf("row %s is %q, on the other side %q", k, v, far[k])
			n++
		}
		if n > 10 {
			break
		}
	}
	for k := range far {
		if _, there := near[k]; !there {
			t.Errorf("row %s is only on the other side: %q", k, far[k])
		}
	}
	t.Errorf("%d rows here, %d there", len(near), len(far))
}

func byNumber(a, b string) bool {
	x, _ := strconv.Atoi(a)
	y, _ := strconv.Atoi(b)
	return x < y
}

func TestLoadWhileWorkersWriteEndsEqual(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	table := Table{Schema: "public", Name: "stock"}
	r := newRig(t, db, `CREATE TABLE stock (id int PRIMARY KEY, v text NOT NULL);
		INSERT INTO stock SELECT i * 3, 'before ' || repeat('x', i % 50) FROM generate_series(1, 15000) i`, table)
	// The other side has rubbish, as after a loss.
	f := &far{t: t, less: byNumber, rows: map[string]string{"3": "3|wrong", "4": "4|gone here", "60000": "60000|gone here"}}

	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 3 {
		conn := db.Conn(t)
		writers.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				// Each writer has keys of its own, so that none waits for another.
				id := r.IntN(15000)*3 + w
				err := pgx.BeginFunc(context.Background(), conn, func(tx pgx.Tx) error {
					for range 1 + r.IntN(3) {
						var err error
						switch id++; r.IntN(4) {
						case 0, 1:
							_, err = tx.Exec(context.Background(), `INSERT INTO stock VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v`, id, fmt.Sprint("w", w, n))
						case 2:
							_, err = tx.Exec(context.Background(), `UPDATE stock SET v = $2 WHERE id = $1`, id, fmt.Sprint("u", w, n))
						case 3:
							_, err = tx.Exec(context.Background(), `DELETE FROM stock WHERE id = $1`, id)
						}
						if err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil && !busy(err) {
					t.Error(err)
					return
				}
			}
		})
	}
	conn := db.Conn(t)
	var loaded int64
	progress := func(ctx context.Context, tx pgx.Tx, after change.Row, rows int64) error {
		loaded += rows
		return nil
	}
	err := LoadTable(t.Context(), conn, table, nil, progress)
	close(stop)
	writers.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if loaded < 5000 {
		t.Errorf("%d rows loaded", loaded)
	}
	db.Exec(t, `INSERT INTO stock VALUES (1000000, 'end')`)
	for f.rows["1000000"] == "" {
		// A row that a writer inserted may have come with a range of the wrong
		// order: insert of what is there fails the test.
		_, b := r.frame(t)
		f.apply(b)
	}
	wantEqual(t, near(t, conn, `SELECT id, v FROM stock`), f.rows)
}

func TestLoadIsTakenUpWhereItStopped(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	table := Table{Schema: "public", Name: "t"}
	r := newRig(t, db, `CREATE TABLE t (a int, b text, v bytea, g int GENERATED ALWAYS AS (a) STORED, PRIMARY KEY (b, a));
		INSERT INTO t SELECT i % 7, 'k' || i, decode(repeat('ab', 600), 'hex') FROM generate_series(1, 5000) i`, table)
	conn := db.Conn(t)
	errStop := errors.New("stop")
	var after change.Row
	var rows int64
	chunks := 0
	for {
		err := LoadTable(t.Context(), conn, table, after, func(ctx context.Context, tx pgx.Tx, to change.Row, n int64) error {
			if chunks++; chunks%3 == 0 {
				return errStop // this chunk is rolled back
			}
			after, rows = to, rows+n
			return nil
		})
		if err == nil {
			break
		}
		if !errors.Is(err, errStop) {
			t.Fatal(err)
		}
	}
	if rows != 5000 {
		t.Errorf("%d rows in %d chunks", rows, chunks)
	}
	db.Exec(t, `INSERT INTO t VALUES (99, 'zz', '\x')`)
	f := &far{t: t, rows: map[string]string{}, less: func(a, b string) bool {
		x, y, _ := strings.Cut(a, "|")
		v, w, _ := strings.Cut(b, "|")
		return byNumber(x, v) || x == v && y < w // numbers, then bytes
	}}
	f.catchUp(t, r, "99|zz")
	got := map[string]string{}
	for _, v := range near(t, conn, `SELECT a || '|' || b, v FROM t`) {
		p := strings.SplitN(v, "|", 3)
		got[p[0]+"|"+p[1]] = v
	}
	wantEqual(t, got, f.rows)
}

func TestEmptyTableClearsTheOtherSide(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	table := Table{Schema: "Sch", Name: "T"}
	r := newRig(t, db, `CREATE SCHEMA "Sch"; CREATE TABLE "Sch"."T" ("Id" uuid PRIMARY KEY)`, table)
	if err := LoadTable(t.Context(), db.Conn(t), table, change.Row{}, nil); err != nil {
		t.Fatal(err)
	}
	r.expect(t, "range Sch.T after [] up to [] 0 rows")
}

func TestTableWithoutKeyIsNotLoaded(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `CREATE TABLE t (a int); CREATE TABLE d (a int PRIMARY KEY DEFERRABLE)`)
	for _, name := range []string{"t", "d"} {
		if err := LoadTable(t.Context(), db.Conn(t), Table{Schema: "public", Name: name}, nil, nil); !errors.Is(err, ErrNoKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLoadWaitsForAWriterAndLetsOthersThrough(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	table := Table{Schema: "public", Name: "t"}
	r := newRig(t, db, `CREATE TABLE t (id int PRIMARY KEY)`, table)
	slow := db.Conn(t)
	tx, err := slow.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `INSERT INTO t VALUES (1)`); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- LoadTable(context.Background(), db.Conn(t), table, nil, nil) }()
	for i := range 20 {
		db.Exec(t, `INSERT INTO t VALUES ($1)`, i+10)
	}
	select {
	case err := <-done:
		t.Fatalf("loaded past a transaction that was open: %v", err)
	default:
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	got := r.changes(t, 22)
	if last := got[len(got)-1]; last != "range public.t after [] up to [] 21 rows" {
		t.Errorf("last: %s", last)
	}
}

func TestLoadTakesLargeRowsOneByOne(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	table := Table{Schema: "public", Name: "image"}
	r := newRig(t, db, `CREATE TABLE image (id int PRIMARY KEY, v bytea);
		INSERT INTO image SELECT i, (SELECT string_agg(sha256((i || ' ' || n)::bytea), '') FROM generate_series(1, 12500) n) FROM generate_series(1, 30) i;
		INSERT INTO image SELECT i, '' FROM generate_series(31, 3000) i`, table)
	conn := db.Conn(t)
	most := int64(0)
	if err := LoadTable(t.Context(), conn, table, nil, func(ctx context.Context, tx pgx.Tx, after change.Row, rows int64) error {
		if id, _ := strconv.Atoi(string(after[0])); id <= 30 {
			most = max(most, rows)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if most > 3 { // 800 kB of text each
		t.Errorf("a chunk of %d images", most)
	}
	db.Exec(t, `INSERT INTO image VALUES (99999, '')`)
	f := &far{t: t, less: byNumber, rows: map[string]string{}}
	f.catchUp(t, r, "99999")
	wantEqual(t, near(t, conn, `SELECT id, v FROM image`), f.rows)
}

func TestLargeRowsBehindSmallOnesMakeNoLargeChunk(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const small = 2*chunkRows + chunkRows/2
	db.Exec(t, `CREATE TABLE image (id int PRIMARY KEY, v bytea)`)
	db.Exec(t, `INSERT INTO image SELECT i, '' FROM generate_series(1, $1::int) i`, small)
	db.Exec(t, `INSERT INTO image SELECT $1::int + i, (SELECT string_agg(sha256((i || ' ' || n)::bytea), '') FROM generate_series(1, 12500) n) FROM generate_series(1, 30) i`, small)
	before, most, all := 0, 0, 0
	if err := LoadTable(t.Context(), db.Conn(t), Table{Schema: "public", Name: "image"}, nil, func(ctx context.Context, tx pgx.Tx, after change.Row, rows int64) error {
		id, _ := strconv.Atoi(string(after[0]))
		most, all = max(most, id-max(before, small)), all+int(rows)
		before = id
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if most > 3 || all != small+30 { // 800 kB of text each
		t.Errorf("a chunk of %d images, %d rows in all", most, all)
	}
}

func TestLoadSeesWhatCommittedWhileItWaited(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	table := Table{Schema: "public", Name: "t"}
	r := newRig(t, db, `CREATE TABLE t (id int PRIMARY KEY)`, table)
	// The database's default would take the snapshot before the lock.
	db.Exec(t, `ALTER DATABASE `+db.Name+` SET default_transaction_isolation = 'repeatable read'`)
	conn, watch := db.Conn(t), db.Conn(t)
	tx, err := db.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `INSERT INTO t VALUES (1)`); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- LoadTable(context.Background(), conn, table, nil, nil) }()
	eventually(t, "the load waits", func() bool {
		var waits bool
		err := watch.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND mode = 'ShareLock' AND relation = 't'::regclass)`).Scan(&waits)
		return err == nil && waits
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.expect(t, "insert public.t (1)", "range public.t after [] up to [] 1 rows")
}

func TestAPartIsLoadedForItsFacility(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, pgtest.New(t), Config{Origins: true}, `CREATE TABLE item (id int PRIMARY KEY, facility uuid, v text);
		INSERT INTO item SELECT n, CASE n % 3 WHEN 0 THEN NULL ELSE ('00000000-0000-0000-0000-00000000000' || n % 3)::uuid END, 'x' FROM generate_series(1, 9000) n`,
		Table{Schema: "public", Name: "item"})
	one := Part{Column: "facility", Value: "00000000-0000-0000-0000-000000000001", To: "la"}
	if err := LoadPart(t.Context(), r.db.Conn(t), Table{Schema: "public", Name: "item"}, one, change.Row{[]byte("1000")}, nil); err != nil {
		t.Fatal(err)
	}
	wantWords(t, r.words(t, 4), "1 note to|la", "1 range public.item after [1000] up to [7000] 2000 rows",
		"2 note to|la", "2 range public.item after [7000] up to [] 666 rows")
	one.OrNull, one.To = true, ""
	if err := LoadPart(t.Context(), r.db.Conn(t), Table{Schema: "public", Name: "item"}, one, nil, nil); err != nil {
		t.Fatal(err)
	}
	wantWords(t, r.words(t, 4), "3 range public.item after [] up to [3000] 2000 rows",
		"4 range public.item after [3000] up to [6000] 2000 rows", "5 range public.item after [6000] up to [9000] 2000 rows",
		"6 range public.item after [9000] up to [] 0 rows")
}

func TestChunksGrowUntilSomebodyWaitsForTheTable(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `CREATE TABLE item (id int PRIMARY KEY)`)
	db.Exec(t, `INSERT INTO item SELECT generate_series(1, $1::int)`, calmFrom*chunkRows+3*calmRows)
	conn, watch, other := db.Conn(t), db.Conn(t), db.Conn(t)
	wrote := make(chan error, 2)
	waits := func(mode string) {
		eventually(t, mode+" waits", func() (waits bool) {
			err := watch.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND mode = $1 AND relation = 'item'::regclass)`, mode).Scan(&waits)
			return err == nil && waits || len(wrote) > 0 // it had the table while the load tried again
		})
	}
	var chunks []int64
	before, err := db.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	part := Part{Between: func(ctx context.Context) error {
		if len(chunks) != calmFrom+1 {
			return nil
		}
		// The load waits for one writer, and another one waits behind the load.
		if _, err := before.Exec(ctx, `INSERT INTO item VALUES (-1)`); err != nil {
			return err
		}
		go func() {
			waits("ShareLock")
			go func() {
				_, err := other.Exec(context.Background(), `INSERT INTO item VALUES (-2)`)
				wrote <- err
			}()
			waits("RowExclusiveLock")
			wrote <- before.Commit(context.Background())
		}()
		return nil
	}}
	if err := LoadPart(t.Context(), conn, Table{Schema: "public", Name: "item"}, part, nil, func(_ context.Context, _ pgx.Tx, _ change.Row, rows int64) error {
		chunks = append(chunks, rows)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-wrote; err != nil {
			t.Error(err)
		}
	}
	for i, n := range chunks[:calmFrom+3] {
		switch {
		case i < calmFrom && n != chunkRows, i == calmFrom && n != calmRows:
			t.Errorf("nobody waits: chunk %d has %d rows", i, n)
		case i == calmFrom+2 && n != chunkRows:
			t.Errorf("somebody waited: chunk %d has %d rows", i, n)
		}
	}
}
