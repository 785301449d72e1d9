package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/agogsaas/holdfast/cloud/migrations"
	"github.com/agogsaas/holdfast/cloud/router"
	"github.com/agogsaas/holdfast/cloud/stream"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/internal/transfer"
	"github.com/agogsaas/holdfast/proto"
)

// cluster is a region's PostgreSQL with nothing else on it, so that all that its
// processes use is for the way down, or for the peer.
type cluster struct {
	server *pgcluster.Server
}

func (l *lab) startCluster(ctx context.Context) (*cluster, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	server, err := pgcluster.NewServer(pgcluster.ServerConfig{Managed: pgcluster.Config{
		Dir: filepath.Join(l.dir, "fan"), Port: port, Profile: pgcluster.NUC,
		Settings: map[string]string{"max_wal_senders": "130", "max_replication_slots": "130", "max_connections": "200", "autovacuum": "off"},
	}}, l.log)
	if err != nil {
		return nil, err
	}
	if err := server.Open(ctx); err != nil {
		return nil, fmt.Errorf("start the region's server: %w", err)
	}
	return &cluster{server}, nil
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a port: %w", err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	return port, ln.Close()
}

func (c *cluster) dsn(database string) string {
	return c.server.Managed().DSN(pgcluster.Superuser, database)
}

// busy is what the server's processes have used so far.
func (c *cluster) busy() (time.Duration, error) {
	pid, err := pgcluster.ReadPostmasterPID(c.server.Managed().DataDir())
	if err != nil {
		return 0, err
	}
	return allTime(pid)
}

// ownTime is what this process has used so far.
func ownTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // it cannot fail for oneself
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fan is a region's way down for some simulated facilities, in a database of
// its own. The router runs in this process.
type fan struct {
	l        *lab
	cluster  *cluster
	n        int
	database string
	pool     *pgxpool.Pool
	config   router.Config
	has      []change.Position // what each facility has
}

const fanTables = `CREATE TABLE price (id int PRIMARY KEY, product text NOT NULL, customer text NOT NULL, price numeric(10,2) NOT NULL, notes text, changed_at timestamptz NOT NULL);
INSERT INTO price SELECT i, 'corrugated box B ' || i, 'Bluebird Coffee Roasters', i, 'two-colour print, ' || md5(i::text), now() FROM generate_series(1, 5000) i;
INSERT INTO holdfast.synced_table (schema_name, table_name, class, facility_column, region_schema, tenant_column, added_by) VALUES ('public', 'price', 'master', '', '{schema}', '', 'bench')`

func fanFacility(i int) string { return fmt.Sprintf("plant-%04d", i) }

// newFan makes the database, and the way down up to where every facility has it.
func (l *lab) newFan(ctx context.Context, c *cluster, database string, n int) (*fan, error) {
	f := &fan{l: l, cluster: c, n: n, database: database, has: make([]change.Position, n)}
	admin, err := pgx.Connect(ctx, c.dsn("postgres"))
	if err != nil {
		return nil, fmt.Errorf("reach the region's server: %w", err)
	}
	defer admin.Close(context.WithoutCancel(ctx))
	if _, err := admin.Exec(ctx, `CREATE DATABASE `+f.database); err != nil {
		return nil, fmt.Errorf("make a database: %w", err)
	}
	if f.pool, err = connect(ctx, c.dsn(f.database)); err != nil {
		return nil, err
	}
	if _, err := f.pool.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS holdfast`); err != nil {
		return nil, fmt.Errorf("make the schema: %w", err)
	}
	db := stdlib.OpenDBFromPool(f.pool)
	defer db.Close()
	if err := migrations.Up(ctx, db); err != nil {
		return nil, err
	}
	if _, err := f.pool.Exec(ctx, fanTables); err != nil {
		return nil, fmt.Errorf("make the tables: %w", err)
	}
	facilities, ids := make([]router.Facility, n), make([]string, n)
	for i := range facilities {
		ids[i] = fanFacility(i)
		facilities[i] = router.Facility{ID: ids[i], Tenant: "foo", Enrolments: 1}
	}
	if _, err := f.pool.Exec(ctx, `INSERT INTO holdfast.facility (id, tenant, enrolments) SELECT f, 'foo', 1 FROM unnest($1::text[]) f`, ids); err != nil {
		return nil, fmt.Errorf("make the facilities: %w", err)
	}
	f.config = router.Config{
		ConnString: c.dsn(f.database), DB: f.pool, Dir: filepath.Join(l.dir, "down", f.database), Slot: "down_" + f.database,
		Tables: func() (proto.Tables, <-chan struct{}) {
			return proto.Tables{Tables: []proto.SyncedTable{{Schema: "public", Name: "price", Class: "master", RegionSchema: "{schema}"}}}, nil
		},
		Facilities: func(context.Context) ([]router.Facility, error) { return facilities, nil },
		Log:        slog.New(slog.NewTextHandler(logTo{l.log}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	// The facilities join: what the table has now they are taken to have.
	return f, f.during(ctx, func(ctx context.Context, r *router.Router) error {
		readers, err := f.attach(ctx, r)
		if err != nil {
			return err
		}
		defer closeAll(readers)
		for i, d := range readers {
			f.has[i] = d.Position()
		}
		if _, err := f.pool.Exec(ctx, `UPDATE holdfast.down_load SET done_at = now()`); err != nil {
			return fmt.Errorf("take the table for loaded: %w", err)
		}
		return nil
	})
}

// logTo passes a router's warnings on.
type logTo struct{ log *slog.Logger }

func (t logTo) Write(b []byte) (int, error) {
	t.log.Warn("the router says", "line", string(b))
	return len(b), nil
}

// during runs the router while fn does.
func (f *fan) during(ctx context.Context, fn func(context.Context, *router.Router) error) error {
	r, err := router.New(f.config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) }) // it ends with ctx
	defer wg.Wait()
	defer cancel()
	return fn(ctx, r)
}

func (f *fan) attach(ctx context.Context, r *router.Router) ([]*router.Reader, error) {
	list := make([]*router.Reader, f.n)
	for i := range list {
		var err error
		if list[i], err = r.Attach(ctx, router.Facility{ID: fanFacility(i), Tenant: "foo", Enrolments: 1}, f.has[i]); err != nil {
			return list, fmt.Errorf("attach a facility: %w", err)
		}
	}
	return list, nil
}

func closeAll(readers []*router.Reader) {
	for _, d := range readers {
		if d != nil {
			d.Close()
		}
	}
}

// write commits transactions of one changed row each, and returns a place in
// the WAL that is behind all but the last of them.
func (f *fan) write(ctx context.Context, txs int) (lsn string, err error) {
	conn, err := f.pool.Acquire(ctx)
	if err != nil {
		return "", fmt.Errorf("reach the region's server: %w", err)
	}
	defer conn.Release()
	_, err = conn.Exec(ctx, `SET synchronous_commit = off`)
	if err != nil {
		return "", fmt.Errorf("prepare to write: %w", err)
	}
	_, err = conn.Exec(ctx, fmt.Sprintf(`DO $$ BEGIN
		FOR i IN 1..%d LOOP
			UPDATE price SET price = price + 0.01, changed_at = clock_timestamp() WHERE id = 1 + i %% 5000;
			COMMIT;
		END LOOP; END $$`, txs))
	if err != nil {
		return "", fmt.Errorf("write the changes: %w", err)
	}
	if _, err := conn.Exec(ctx, `RESET synchronous_commit`); err != nil {
		return "", fmt.Errorf("write the changes: %w", err)
	}
	if _, err := conn.Exec(ctx, `CHECKPOINT`); err != nil {
		return "", fmt.Errorf("checkpoint: %w", err)
	}
	return f.last(ctx)
}

// last commits one change.
func (f *fan) last(ctx context.Context) (lsn string, err error) {
	err = pgx.BeginFunc(ctx, f.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE price SET price = price + 0.01 WHERE id = 1`); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&lsn)
	})
	if err != nil {
		return "", fmt.Errorf("write the last change: %w", err)
	}
	return lsn, nil
}

// routed waits until the log has what was committed up to lsn.
func (f *fan) routed(ctx context.Context, lsn string) error {
	return f.l.until(ctx, 10*time.Minute, func(ctx context.Context) (there bool, err error) {
		err = f.pool.QueryRow(ctx, `SELECT coalesce(confirmed_flush_lsn >= $2::pg_lsn, false) FROM pg_replication_slots WHERE slot_name = $1`, f.config.Slot, lsn).Scan(&there)
		if err == nil && !there {
			err = pause(ctx, 50*time.Millisecond)
		}
		return there, err
	})
}

// plant is one simulated facility with a stream of its own over loopback: it
// takes what comes and acknowledges it, and has no database.
type plant struct {
	i    int
	link *transfer.Link
}

// session is the way up, on which nothing comes.
type session struct{ durable chan change.Position }

func (session) Position() change.Position                 { return change.Position{} }
func (session) Push(context.Context, change.Sealed) error { return nil }
func (s session) Durable() <-chan change.Position         { return s.durable }
func (session) Err() error                                { return nil }
func (session) Close(context.Context)                     {}

// downOf is one facility's way down, as the stream knows it.
type downOf struct {
	*router.Reader
	r        *router.Router
	facility string
}

func (d downOf) Epoch() uint64           { return d.Position().Epoch }
func (d downOf) Acked(p change.Position) { d.r.Acked(d.facility, p) }
func (d downOf) Next(ctx context.Context) (stream.DownFrame, error) {
	p, err := d.Reader.Next(ctx)
	return stream.DownFrame{Prev: p.Prev, Frame: p.Frame, More: p.More}, err
}

// address is where a plant calls from: the region knows it by that.
func address(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 1, byte(i / 250), byte(1 + i%250)})
}

// plants opens the facilities' streams, has each take what comes until ctx is
// done, and calls fn when all are open. took is told of each position.
func (f *fan) plants(ctx context.Context, r *router.Router, took func(i int, at change.Position), fn func() error) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	numbers := make(map[netip.Addr]int, f.n)
	for i := range f.n {
		numbers[address(i)] = i
	}
	s := stream.New(stream.Config{
		Listener: ln, Log: slog.New(slog.DiscardHandler), Region: "bench",
		FacilityOf: func(a netip.Addr) (string, uint32, bool) {
			i, ok := numbers[a.Unmap()]
			return fanFacility(i), 1, ok
		},
		Open: func(context.Context, string) (stream.Session, error) {
			return session{make(chan change.Position)}, nil
		},
		Down: func(ctx context.Context, facility string, enrolment uint32, from change.Position, _ bool) (stream.Down, error) {
			d, err := r.Attach(ctx, router.Facility{ID: facility, Tenant: "foo", Enrolments: int(enrolment)}, from)
			if err != nil {
				return nil, err
			}
			return downOf{d, r, facility}, nil
		},
		Tables:      func() (proto.Tables, <-chan struct{}) { return proto.Tables{}, nil },
		TableStates: func(context.Context, string, []proto.TableState) error { return nil },
		Explain:     func(error) *proto.Problem { return nil },
		Event:       func(context.Context, string, string, string) {},
	})
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _ = s.Run(ctx) }) // it ends with ctx
	links := make([]*transfer.Link, 0, f.n)
	defer func() {
		cancel()
		for _, link := range links {
			link.Close()
		}
	}()
	failed := make(chan error, f.n)
	for i := range f.n {
		link, err := f.greet(ctx, ln.Addr().String(), i)
		if err != nil {
			return err
		}
		links = append(links, link)
		p := &plant{i, link}
		wg.Go(func() {
			err := p.take(f, took) // until its stream ends
			if ctx.Err() == nil {
				failed <- err
			}
		})
	}
	done := make(chan error, 1)
	wg.Go(func() { done <- fn() })
	select {
	case err := <-done:
		return err
	case err := <-failed:
		cancel()
		return fmt.Errorf("a facility's stream ended: %w", err)
	}
}

func (f *fan) greet(ctx context.Context, addr string, i int) (*transfer.Link, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(address(i), 0))}
	link, err := transfer.Dial(ctx, "ws://"+addr+proto.StreamPath, d.DialContext)
	if err != nil {
		return nil, err
	}
	err = link.Send(proto.TypeHello, &proto.Hello{
		Version: proto.StreamVersion, VersionMin: 1, Facility: fanFacility(i), Epoch: 1 << 32, DownEpoch: f.has[i].Epoch, DownSeq: f.has[i].Seq,
	})
	if err == nil {
		_, _, err = link.Receive() // its welcome
	}
	if err != nil {
		link.Close()
		return nil, fmt.Errorf("open a facility's stream: %w", err)
	}
	return link, nil
}

func (p *plant) take(f *fan, took func(i int, at change.Position)) error {
	for {
		_, msg, err := p.link.Receive()
		if err != nil {
			return err
		}
		m, ok := msg.(*proto.Down)
		if !ok {
			continue
		}
		frame, err := change.Parse(m.Frame)
		if err != nil {
			return err
		}
		at := change.Position{Epoch: frame.Header.Epoch, Seq: frame.Header.Last}
		f.has[p.i] = at
		if m.More {
			continue
		}
		took(p.i, at)
		if err := p.link.Send(proto.TypeAck, &proto.Ack{Epoch: at.Epoch, Seq: at.Seq}); err != nil {
			return err
		}
	}
}
