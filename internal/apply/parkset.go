package apply

import (
	"context"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/internal/change"
)

// parkset is what waits for a facility, in memory: as long as it is empty the
// stream pays nothing for it. Only the stream parks, so only rows that are in
// it can hold a change back; what has ended elsewhere and is still in it makes
// a change wait for nothing, until the next retry. It is owned by the
// goroutine that applies batches, all but stale.
type parkset struct {
	maxRows  int
	maxBytes int64

	rows     int
	bytes    int64
	keys     map[keyHash]int // by rowHash
	provides map[keyHash]int
	tables   map[string]int // waiting changes by the sender's table
	marks    map[string]*mark

	// stale: changes have ended elsewhere, or a transaction failed.
	stale atomic.Bool
}

// mark is a table of which more waits than is kept.
type mark struct {
	table  *change.Table
	cause  cause
	asked  bool  // the facility was asked to send the table again
	lifted bool  // it is being sent again
	passed int64 // changes passed over that are not written down yet
}

func (p *Pool) newParkset() *parkset {
	set := &parkset{maxRows: p.cfg.ParkRows, maxBytes: p.cfg.ParkBytes}
	set.empty()
	return set
}

func (p *parkset) empty() {
	p.rows, p.bytes = 0, 0
	p.keys, p.provides, p.tables, p.marks = map[keyHash]int{}, map[keyHash]int{}, map[string]int{}, map[string]*mark{}
}

// active reports whether anything waits. It is all that a stream without
// parked rows pays.
func (p *parkset) active() bool { return p.rows > 0 || len(p.marks) > 0 }

const loadParkedSQL = `SELECT schema_name || '.' || table_name, key_hash, old_key_hash, provides, bytes
  FROM holdfast.parked WHERE facility = $1 AND direction = $2 AND state = 'waiting'`

const loadMarksSQL = `SELECT schema_name, table_name, reason, message, remedy, asked_at IS NOT NULL
  FROM holdfast.parked_table WHERE facility = $1 AND direction = $2`

// load reads what waits.
func (p *parkset) load(ctx context.Context, s *session, facility string, d Direction) error {
	p.stale.Store(false) // what ends from here on makes it stale again
	p.empty()
	conn := s.conn.Conn()
	rows, err := conn.Query(ctx, loadParkedSQL, facility, string(d))
	if err != nil {
		return fmt.Errorf("read the parked rows of %s: %w", facility, err)
	}
	var table string
	var hash, old []byte
	var provides [][]byte
	var size int64
	_, err = pgx.ForEachRow(rows, []any{&table, &hash, &old, &provides, &size}, func() error {
		p.rows++
		p.bytes += size
		p.tables[table]++
		p.keys[keyHash(hash)]++
		if old != nil {
			p.keys[keyHash(old)]++
		}
		for _, h := range toHashes(provides) {
			p.provides[h]++
		}
		return nil
	})
	if err != nil {
		p.stale.Store(true)
		return fmt.Errorf("read the parked rows of %s: %w", facility, err)
	}
	marks, err := conn.Query(ctx, loadMarksSQL, facility, string(d))
	if err != nil {
		p.stale.Store(true)
		return fmt.Errorf("read the tables of %s that are passed over: %w", facility, err)
	}
	var schema, name, reason string
	var m mark
	_, err = pgx.ForEachRow(marks, []any{&schema, &name, &reason, &m.cause.message, &m.cause.remedy, &m.asked}, func() error {
		one := m
		one.cause.reason = Reason(reason)
		p.marks[schema+"."+name] = &one
		return nil
	})
	if err != nil {
		p.stale.Store(true)
		return fmt.Errorf("read the tables of %s that are passed over: %w", facility, err)
	}
	return nil
}

// draft is what one target transaction parks, on top of what waits already. It
// is merged when that has committed.
type draft struct {
	base     *parkset
	rows     []*parkedRow
	stored   int // of rows, how many have been sent to the database
	bytes    int64
	keys     map[keyHash]int
	provides map[keyHash]int
	tables   map[string]int
	marks    map[string]*mark // news
	events   []streamEvent
}

func (p *parkset) draft() *draft {
	return &draft{
		base: p, keys: map[keyHash]int{}, provides: map[keyHash]int{}, tables: map[string]int{}, marks: map[string]*mark{},
	}
}

// fork is a copy that can be thrown away.
func (d *draft) fork() *draft {
	c := *d
	c.keys, c.provides, c.tables, c.marks = maps.Clone(d.keys), maps.Clone(d.provides), maps.Clone(d.tables), maps.Clone(d.marks)
	for table, m := range c.marks {
		one := *m
		c.marks[table] = &one
	}
	return &c
}

func (d *draft) waits(h keyHash) bool     { return d.base.keys[h]+d.keys[h] > 0 }
func (d *draft) provided(h keyHash) bool  { return d.base.provides[h]+d.provides[h] > 0 }
func (d *draft) waitsOf(table string) int { return d.base.tables[table] + d.tables[table] }
func (d *draft) anyProvided() bool        { return len(d.base.provides)+len(d.provides) > 0 }
func (d *draft) count() (rows int)        { return d.base.rows + len(d.rows) }
func (d *draft) room(more int) bool {
	return d.count() < d.base.maxRows && d.base.bytes+d.bytes+int64(more) <= d.base.maxBytes
}

// mark returns the table's mark, or nil.
func (d *draft) mark(table string) *mark {
	m := d.marks[table]
	if m == nil {
		m = d.base.marks[table]
	}
	if m == nil || m.lifted {
		return nil
	}
	return m
}

// passOver counts a change that is not kept.
func (d *draft) passOver(tab *sifted, c cause) {
	if old := d.mark(tab.id); old == nil || old.asked {
		d.events = append(d.events, streamEvent{"passed_over", fmt.Sprintf(
			"changes of %s are passed over (%s); the facility is asked to send the table again when the cause is gone", tab.id, c.message)})
	}
	m := d.marks[tab.id]
	if m == nil || m.lifted {
		m = &mark{table: tab.table}
		d.marks[tab.id] = m
	}
	m.cause, m.asked = c, false
	m.passed++
}

// lift takes the table's mark away: it is being sent again.
func (d *draft) lift(tab *sifted) {
	d.marks[tab.id] = &mark{table: tab.table, lifted: true}
}

// add parks a change.
func (d *draft) add(p *parkedRow) {
	table := p.table.ID()
	if d.waitsOf(table) == 0 {
		d.events = append(d.events, streamEvent{"parked", fmt.Sprintf("a change of %s waits: %s", table, p.cause.message)})
	}
	d.rows = append(d.rows, p)
	d.bytes += int64(p.bytes())
	d.tables[table]++
	for _, h := range p.hashes() {
		d.keys[h]++
	}
	for _, h := range p.provides {
		d.provides[h]++
	}
}

// loosen notes that a change that waits holds back less.
func (d *draft) loosen(hashes, provides []keyHash) {
	for _, h := range hashes {
		d.keys[h]--
	}
	for _, h := range provides {
		d.provides[h]--
	}
}

// drop notes that a change that waited has been replaced.
func (d *draft) drop(table string, hashes, provides []keyHash) {
	d.tables[table]--
	d.loosen(hashes, provides)
}

// news reports whether the transaction has anything to write.
func (d *draft) news() bool {
	return d != nil && (len(d.rows) > d.stored || len(d.marks) > 0 || len(d.events) > 0)
}

// merge takes over what has been committed.
func (p *parkset) merge(d *draft) {
	if d == nil {
		return
	}
	p.rows += len(d.rows)
	p.bytes += d.bytes
	add := func(to, from map[keyHash]int) {
		for h, n := range from {
			if to[h] += n; to[h] == 0 {
				delete(to, h)
			}
		}
	}
	add(p.keys, d.keys)
	add(p.provides, d.provides)
	for t, n := range d.tables {
		if n < 0 {
			p.stale.Store(true) // rows and bytes are counted anew
		}
		p.tables[t] += n
	}
	for t, m := range d.marks {
		if m.lifted {
			delete(p.marks, t)
		} else {
			p.marks[t] = m
		}
	}
}

// retryAfter is when a change that was refused attempts times is tried again.
func retryAfter(every time.Duration, attempts int) time.Duration {
	return min(every<<min(attempts, 6), max(every, retryMax))
}

// retryMax is the longest wait between two attempts at a parked change.
const retryMax = 30 * time.Second
