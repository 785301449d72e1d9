package router

import (
	"fmt"
	"maps"
	"slices"

	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/change"
)

// Splitting a captured batch: each change goes to the builder of its bucket,
// and the builders are sealed in an order that every listener may follow.
//
// A facility listens to three buckets. What it gets from one batch it commits
// at once, so that only the order of one table's changes matters, and only if
// they are in different buckets: a row's owner may not be known when it is
// deleted. So the builders make a layer, in which each table is in buckets of
// one kind. A change that would break that begins the next layer.
//
// Notes of what the region had seen of a facility stand before what follows
// them in all three buckets: they are in the facility's own bucket, which comes
// first in its layer, and what is already in a wide bucket ends the layer.

// splitState is what is known between batches; a batch works on a copy, which
// counts once the log has what was made of it.
type splitState struct {
	seq     uint64 // last number in the log
	counted uint64 // captured transactions so far
	lsn     uint64 // of the last one
	open    bool   // the log ends in a transaction that goes on
	tx      source // that transaction
	// seen is what the region has applied of each facility, in the WAL's order.
	// Each batch tells all that has grown in it.
	seen map[string]change.Position
	told []string // facilities that were told in the transaction that goes on
}

// source is what is known of the captured transaction that is being split.
type source struct {
	id     uint64
	micros int64
	tagged bool   // the other side's: nobody gets it, save an echo, which is to somebody
	to     string // the only facility that gets it
	by     string
}

func (s *splitState) restart(x *index) {
	*s = splitState{
		seq: x.last, lsn: x.lsn, open: len(x.waiting) > 0, seen: map[string]change.Position{},
	}
}

// splitter splits one batch.
type splitter struct {
	splitState
	epoch  uint64
	lsn    uint64 // that all of the batch gets; 0 when its last transaction goes on
	routes *routes
	free   *[]*change.Builder
	seenIn map[string]change.Position // what has grown in this batch
	grown  map[string]bool            // facilities that were not told of it yet
	layer  layer
	ids    uint64
	out    []change.Sealed
	passed func(table string) // a table that is not sent; may be nil
	// nobodys is a table of which a row was removed that nobody is told of; may be nil.
	nobodys func(table string)
}

// layer is the builders that are open.
type layer struct {
	pieces map[string]*piece
	order  []*piece        // facilities' first, in the order in which they began
	wide   []*piece        // those of tenants and of everybody
	kinds  map[string]kind // of each table's buckets
}

// piece is one bucket's part of a layer.
type piece struct {
	bucket string
	b      *change.Builder
	tx     uint64 // the source of its last transaction
	tables map[*way]int
}

func newSplitter(s splitState, epoch, lsn uint64, r *routes, free *[]*change.Builder) *splitter {
	p := &splitter{
		splitState: s, epoch: epoch, lsn: lsn, routes: r, free: free,
		seenIn: map[string]change.Position{}, grown: map[string]bool{},
	}
	p.told = slices.Clip(s.told) // never the array of what it is a copy of
	p.reset()
	return p
}

// seenOf is what the region has applied of a facility so far.
func (p *splitter) seenOf(facility string) change.Position {
	if at, ok := p.seenIn[facility]; ok {
		return at
	}
	return p.seen[facility]
}

// commit returns the state that counts once the log has what was made.
func (p *splitter) commit() splitState {
	maps.Copy(p.seen, p.seenIn)
	return p.splitState
}

func (p *splitter) reset() {
	p.layer = layer{pieces: map[string]*piece{}, kinds: map[string]kind{}}
}

// frame splits one captured frame.
func (p *splitter) frame(h *change.Header, body *change.Body) error {
	ways := make([]*way, len(body.Tables))
	for i := range body.Tables {
		if ways[i] = p.routes.wayOf(&body.Tables[i]); ways[i] == nil && p.passed != nil {
			p.passed(body.Tables[i].ID())
		}
	}
	for i := range body.Txs {
		tx := &body.Txs[i]
		if h.Part == 0 || i > 0 {
			p.tx = source{micros: tx.CommitMicros}
		}
		// A transaction's parts are transactions of their own here.
		p.ids++
		p.tx.id = p.ids
		for j := range tx.Changes {
			c := &tx.Changes[j]
			switch {
			case c.Op == change.Note:
				p.note(c.Row)
			case p.tx.tagged && p.tx.to == "" || !c.Op.OfRows() || ways[c.Table] == nil:
			default:
				if err := p.change(ways[c.Table], c); err != nil {
					return err
				}
			}
		}
	}
	if !h.More {
		p.counted = h.Last
	}
	return nil
}

func (p *splitter) note(words change.Row) {
	switch string(words[0]) {
	case change.NoteOrigin:
		p.tx.tagged = true
		o, err := apply.ParseOrigin(string(words[1]))
		if err != nil || o.Direction != apply.Up || len(o.Facility) > maxIDBytes {
			return
		}
		if p.seenOf(o.Facility).Before(o.Position) {
			p.seenIn[o.Facility] = o.Position
		}
		p.grown[o.Facility] = true // even if it has not: it is asked to be said again
	case change.NoteTo:
		p.tx.to = string(words[1])
	case change.NoteBy:
		p.tx.by = string(words[1])
		for _, t := range p.layer.pieces {
			if t.tx == p.tx.id {
				t.b.AddNote(change.NoteBy, p.tx.by)
			}
		}
	}
}

// change puts a change where it belongs.
func (p *splitter) change(w *way, c *change.Change) error {
	if p.tx.to != "" {
		return p.add(destination{forFacility, p.tx.to}, w, c)
	}
	if c.Op == change.Range {
		return nil // nobody's: the loader says for whom its ranges are
	}
	to, ok, old := w.destinations(c)
	if old != nil {
		if err := p.add(*old, w, w.trim(&change.Change{Op: change.Delete, Key: c.Key})); err != nil {
			return err
		}
		moved := *c
		moved.Key = nil
		if len(moved.Absent) == 0 {
			moved.Op = change.Insert
		}
		c = &moved
	}
	if !ok {
		if p.nobodys != nil && c.Op == change.Delete {
			p.nobodys(w.schema + "." + w.table.Name)
		}
		return nil
	}
	return p.add(to, w, w.trim(c))
}

// add puts a change into a bucket, behind what its listeners must hear first.
func (p *splitter) add(to destination, w *way, c *change.Change) error {
	id := w.table.ID()
	if k, ok := p.layer.kinds[id]; ok && k != to.kind {
		if err := p.endLayer(); err != nil {
			return err
		}
	}
	switch {
	case to.kind == forFacility:
		if err := p.tell(to.id, false); err != nil {
			return err
		}
	case !w.master: // nothing at a facility conflicts with master data
		if err := p.tellAll(); err != nil {
			return err
		}
	}
	p.layer.kinds[id] = to.kind
	t := p.piece(to)
	p.begin(t, p.tx.id)
	at, ok := t.tables[w]
	if !ok {
		at = t.b.AddTable(w.sent)
		t.tables[w] = at
	}
	if c.Op == change.Range {
		t.b.AddRange(at, c.Range)
	} else {
		t.b.Add(c.Op, at, c.Key, c.Row, c.Absent)
	}
	return nil
}

// tell notes what was seen of a facility in its own bucket, if that has grown.
// Alone, the note is a transaction of its own.
func (p *splitter) tell(facility string, alone bool) error {
	if !p.grown[facility] {
		return nil
	}
	if len(p.layer.wide) > 0 {
		// What is in there had not seen this.
		if err := p.endLayer(); err != nil {
			return err
		}
	}
	t, id := p.piece(destination{forFacility, facility}), p.tx.id
	if alone {
		p.ids++
		id = p.ids
	}
	if t.tx != id {
		t.b.Begin(0, p.tx.micros)
		t.tx = id
		t.b.AddNote(change.NoteSeen, p.seenOf(facility).String())
		if !alone {
			p.describe(t)
		}
	} else {
		t.b.AddNote(change.NoteSeen, p.seenOf(facility).String())
	}
	delete(p.grown, facility)
	if p.lsn == 0 {
		p.told = append(p.told, facility)
	}
	return nil
}

func (p *splitter) tellAll() error {
	if len(p.grown) == 0 {
		return nil
	}
	for _, f := range slices.Sorted(maps.Keys(p.grown)) {
		if err := p.tell(f, true); err != nil {
			return err
		}
	}
	return nil
}

// begin starts a transaction in a piece if its last one has another source.
func (p *splitter) begin(t *piece, id uint64) {
	if t.tx == id {
		return
	}
	t.tx = id
	t.b.Begin(0, p.tx.micros)
	p.describe(t)
}

// describe says of the transaction that begins in a piece what is known of it.
func (p *splitter) describe(t *piece) {
	if p.tx.by != "" {
		t.b.AddNote(change.NoteBy, p.tx.by)
	}
	if p.tx.tagged && p.tx.to != "" {
		t.b.AddNote(change.NoteEcho, p.tx.to)
	}
}

func (p *splitter) piece(to destination) *piece {
	name := to.bucket()
	t := p.layer.pieces[name]
	if t != nil {
		return t
	}
	t = &piece{bucket: name, tables: map[*way]int{}}
	if n := len(*p.free); n > 0 {
		t.b, *p.free = (*p.free)[n-1], (*p.free)[:n-1]
	} else {
		t.b = new(change.Builder)
	}
	p.layer.pieces[name] = t
	if to.kind == forFacility {
		p.layer.order = append(p.layer.order, t)
	} else {
		p.layer.wide = append(p.layer.wide, t)
	}
	return t
}

// Builders that are kept for the next batch.
const (
	freeMax      = 64
	freeMaxBytes = 1 << 20
)

// endLayer seals what is open.
func (p *splitter) endLayer() error {
	for _, t := range append(p.layer.order, p.layer.wide...) {
		t.b.Renumber(p.seq+1, p.lsn)
		f, err := t.b.Seal(change.Header{Kind: change.Changes, Epoch: p.epoch, Reason: t.bucket}, 0, t.b.Txs())
		if err != nil {
			return fmt.Errorf("seal the changes for %s: %w", t.bucket, err)
		}
		p.seq = f.Header.Last
		p.out = append(p.out, f)
		if t.b.Bytes() <= freeMaxBytes && len(*p.free) < freeMax {
			t.b.Reset()
			*p.free = append(*p.free, t.b)
		}
	}
	p.reset()
	return nil
}

// void says that the frames of the transaction that goes on do not count: it
// comes again from its beginning, or not at all.
func (p *splitter) void() error {
	for _, f := range p.told {
		p.grown[f] = true
	}
	p.told, p.open, p.tx = nil, false, source{}
	return p.empty(void, 0)
}

// empty adds a frame that only says something of those before it.
func (p *splitter) empty(name string, lsn uint64) error {
	var b change.Builder
	b.Begin(0, p.tx.micros)
	b.Renumber(p.seq+1, lsn)
	f, err := b.Seal(change.Header{Kind: change.Changes, Epoch: p.epoch, Reason: name}, 0, 1)
	if err != nil {
		return fmt.Errorf("seal an empty frame: %w", err)
	}
	p.seq = f.Header.Last
	p.out = append(p.out, f)
	return nil
}

// end seals the rest. All that was seen is told with the last transaction, so
// that nothing of it is lost when the slot moves on.
func (p *splitter) end() error {
	if p.lsn != 0 {
		if err := p.tellAll(); err != nil {
			return err
		}
	}
	if err := p.endLayer(); err != nil {
		return err
	}
	if p.lsn == 0 {
		p.open = p.open || len(p.out) > 0
		return nil
	}
	if p.open && len(p.out) == 0 {
		if err := p.empty(closing, p.lsn); err != nil {
			return err
		}
	}
	p.open, p.told, p.splitState.lsn = false, nil, p.lsn
	return nil
}
