package apply

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/schema"
)

// A digest in the stream is compared with the receiver's own rows in the
// transaction that applied everything before it, and nothing behind it: the
// gatherer ends a batch with it. Nothing that a comparison finds, and no failure
// of one, holds the stream up; it is reported.
//
// The work is bounded by what the sender has: of a part in which the receiver
// has more rows, only one more is read.

// Verdict is what became of one digest.
type Verdict struct {
	Schema, Name string // the sender's
	Class        Class
	Position     change.Position // at which both sides were compared
	Digest       *change.DigestRecord
	// Bytes is what the digest took on its way, before it was packed.
	Bytes int
	// Mine are the receiver's rows in each part. Where it has more than the
	// sender, Count is one more than the sender's and Sum means nothing.
	Mine []change.DigestPart
	// Key names the key columns. Different are the rows of a listed digest that
	// the two sides do not have alike, in no order.
	Key       []string
	Different []Different
	// More: the receiver has more rows that the sender has not.
	More bool
	Took time.Duration
	// Err is why nothing could be compared.
	Err error
}

// Different is one row that the two sides do not have alike.
type Different struct {
	Kind DifferenceKind
	Key  change.Row
	// Theirs and Mine are the hashes of the row at the sender and here.
	Theirs, Mine uint64
}

// DifferenceKind says how a row differs, seen from the receiver.
type DifferenceKind string

// The kinds.
const (
	RowDiffers DifferenceKind = "differs"
	RowMissing DifferenceKind = "missing" // the sender has it, the receiver has not
	RowExtra   DifferenceKind = "extra"   // the receiver has it, the sender has not
)

// Equal reports whether everything in the digest is the same on both sides. The
// receiver of an event table may have more: what the sender has pruned.
func (v *Verdict) Equal() bool {
	if v.Err != nil || len(v.Different) > 0 {
		return false
	}
	if v.Digest.Listed {
		return true
	}
	for i := range v.Mine {
		if !v.Mine[i].Same(v.Digest.Parts[i]) {
			return false
		}
	}
	return true
}

// extraMax is how many rows that only the receiver has are listed at once.
const extraMax = 1000

// isDigest reports whether a transaction is nothing but digests, and notes about it.
func isDigest(tx *change.Tx) bool {
	found := false
	for i := range tx.Changes {
		switch tx.Changes[i].Op {
		case change.Digest:
			found = true
		case change.Note:
		default:
			return false
		}
	}
	return found
}

// compare compares the digests at the end of the batch with the rows here, in
// its transaction, after everything else in it.
func (a *Applier) compare(ctx context.Context, s *session, b *batch) error {
	b.verdicts = nil
	if a.cfg.OnDigest == nil || len(b.txs) == 0 {
		return nil
	}
	t := b.txs[len(b.txs)-1]
	if !isDigest(t.tx) {
		return nil
	}
	for i := range t.tx.Changes {
		c := &t.tx.Changes[i]
		if c.Op != change.Digest {
			continue
		}
		v, err := a.compareOne(ctx, s, &t.body.Tables[c.Table], c.Row[0])
		if err != nil {
			return err
		}
		if v != nil {
			v.Position = b.to
			b.verdicts = append(b.verdicts, *v)
		}
	}
	return nil
}

// compareOne returns nil for a table that is not synced any more.
func (a *Applier) compareOne(ctx context.Context, s *session, t *change.Table, value []byte) (*Verdict, error) {
	began := time.Now()
	d, err := change.ReadDigest(t, value)
	if err != nil {
		return nil, fmt.Errorf("read a digest of %s: %w", a.cfg.Facility, err)
	}
	if err := s.exec(ctx, "SAVEPOINT digest; SET LOCAL search_path = ''"); err != nil {
		return nil, fmt.Errorf("begin to compare: %w", err)
	}
	v := &Verdict{Schema: t.Schema, Name: t.Name, Key: keyNames(t), Digest: d, Bytes: len(value)}
	sh, err := a.shape(ctx, s, a.cfg.Registry(), t)
	if err == nil && !sh.passedOver {
		v.Class = sh.class
		err = a.measure(ctx, s, sh, t, v)
	}
	v.Took = time.Since(began)
	switch {
	case err == nil && sh.passedOver:
		return nil, s.exec(ctx, "RELEASE digest")
	case err == nil:
		return v, s.exec(ctx, "RELEASE digest")
	case gone(ctx) || !refused(err):
		return nil, err
	}
	v.Err, v.Mine, v.Different = err, nil, nil
	if err := s.exec(ctx, "ROLLBACK TO digest"); err != nil {
		return nil, fmt.Errorf("end a comparison: %w", err)
	}
	return v, nil
}

// measure fills in what the receiver has.
func (a *Applier) measure(ctx context.Context, s *session, sh *shape, t *change.Table, v *Verdict) error {
	h, err := sh.hashed(t)
	if err != nil {
		return err
	}
	if v.Digest.Listed {
		return a.measureRows(ctx, s, h, v)
	}
	after := v.Digest.After
	for _, p := range v.Digest.Parts {
		l := sh.limits(a.cfg.Facility, after, p.UpTo)
		sql := h.partSQL(l, p.Count+1)
		args := l.args(sh, sh.facilityArg(nil, a.cfg.Facility), after, p.UpTo)
		rows, err := s.read(ctx, sql, args, 0)
		if err != nil {
			return err
		}
		var mine change.DigestPart
		for _, row := range rows {
			mine.Add(binary.BigEndian.Uint64(row[0]))
		}
		v.Mine = append(v.Mine, mine)
		after = p.UpTo
	}
	return nil
}

func (a *Applier) measureRows(ctx context.Context, s *session, h *hashed, v *Verdict) error {
	d := v.Digest
	keys := make([]arg, len(h.sh.key))
	for i := range keys {
		keys[i] = textArray(len(d.Keys), func(n int) []byte { return d.Keys[n][i] })
	}
	args := h.sh.facilityArg(keys, a.cfg.Facility)
	rows, err := s.read(ctx, h.matchSQL(), args, 1)
	if err != nil {
		return err
	}
	mine := make([]*uint64, len(d.Keys))
	for _, row := range rows {
		n, err := strconv.Atoi(string(row[0]))
		if err != nil || n < 1 || n > len(mine) {
			return fmt.Errorf("row %q of %d was not asked for", row[0], len(mine))
		}
		hash := binary.BigEndian.Uint64(row[1])
		mine[n-1] = &hash
	}
	for i, key := range d.Keys {
		switch {
		case mine[i] == nil:
			v.Different = append(v.Different, Different{Kind: RowMissing, Key: key, Theirs: d.Hashes[i]})
		case *mine[i] != d.Hashes[i]:
			v.Different = append(v.Different, Different{Kind: RowDiffers, Key: key, Theirs: d.Hashes[i], Mine: *mine[i]})
		}
	}
	if h.sh.class == Event {
		return nil // what the facility has pruned stays here
	}
	upTo := d.UpTo()
	l := h.sh.limits(a.cfg.Facility, d.After, upTo)
	args = l.args(h.sh, args[:len(args):len(args)], d.After, upTo)
	if rows, err = s.read(ctx, h.extraSQL(l), args, len(h.sh.key)); err != nil {
		return err
	}
	if v.More = len(rows) > extraMax; v.More {
		rows = rows[:extraMax]
	}
	for _, row := range rows {
		v.Different = append(v.Different, Different{Kind: RowExtra, Key: row[:len(h.sh.key)], Mine: binary.BigEndian.Uint64(row[len(h.sh.key)])})
	}
	return nil
}

// read runs a statement and returns its rows, as text but for the column hash,
// which is binary.
func (s *session) read(ctx context.Context, sql string, args []arg, hash int) ([][][]byte, error) {
	values, formats := make([][]byte, len(args)), make([]int16, len(args))
	for i, a := range args {
		values[i] = a.value
		if a.binary {
			formats[i] = 1
		}
	}
	results := make([]int16, hash+1)
	results[hash] = 1
	r := s.pg.ExecParams(ctx, sql, values, nil, formats, results).Read()
	if r.Err != nil {
		return nil, r.Err
	}
	for _, row := range r.Rows {
		if len(row) != hash+1 || len(row[hash]) != 8 {
			return nil, errors.New("a row's hash has not 8 bytes")
		}
	}
	return r.Rows, nil
}

// hashed is a shape whose rows can be hashed as the sender hashes its own.
type hashed struct {
	sh   *shape
	expr string   // of a row's hash
	keys []string // the key columns' text, in the sender's form
}

func (sh *shape) hashed(t *change.Table) (*hashed, error) {
	if len(sh.key) == 0 {
		return nil, tableError(sh.name, "has no key to compare its rows by", "Create a unique index on the key in the region: CREATE UNIQUE INDEX ON %s (%s);",
			sh.target.sql(), quoteAll(keyNames(t)))
	}
	h := &hashed{sh: sh}
	columns := make([]schema.HashColumn, len(t.Columns))
	for i, c := range t.Columns {
		to := &sh.target.columns[sh.target.byName[c.Name]]
		expr, ok := asSent("t."+quote(c.Name), sh.sent[i], to.typ)
		if !ok {
			return nil, tableError(sh.name, fmt.Sprintf("has the column %q as %s, the region as %s, and the one's text is not the other's, so that its rows cannot be compared", c.Name, c.Type, to.typ),
				"Change it in the region: ALTER TABLE %s ALTER COLUMN %s TYPE %s;", sh.target.sql(), quote(c.Name), c.Type)
		}
		columns[i] = schema.HashColumn{Name: c.Name, Expr: expr}
		if c.Key {
			h.keys = append(h.keys, expr)
		}
	}
	h.expr = schema.RowHash(columns)
	return h, nil
}

func keyNames(t *change.Table) []string {
	var list []string
	for _, k := range t.KeyColumns() {
		list = append(list, t.Columns[k].Name)
	}
	return list
}

// asSent returns the SQL text of a value of the type to as the sender, where it
// has the type from, writes it. It reports false where that cannot be told.
func asSent(expr, from, to string) (string, bool) {
	in := func(typ string, types ...string) bool { return slices.Contains(types, typ) }
	texts, integers := []string{"text", "character varying"}, []string{"smallint", "integer", "bigint"}
	plain := expr + "::text"
	switch {
	case from == to,
		in(from, integers...) && in(to, integers...),
		in(from, texts...) && in(to, texts...),
		strings.Contains(from, ".") && (in(to, texts...) || !strings.Contains(to, ".")): // its text, or that of the type under a domain
		return plain, true
	case in(from, integers...) && to == "numeric":
		return "pg_catalog.trim_scale(" + expr + ")::text", true
	case in(to, texts...), strings.Contains(to, "."),
		from == "real" && to == "double precision",
		from == "date" && in(to, "timestamp without time zone", "timestamp with time zone"),
		from == "timestamp without time zone" && to == "timestamp with time zone",
		from == "jsonb" && to == "json":
		return expr + "::" + from + "::text", true
	}
	return "", false
}

// partSQL takes the facility, then the lower bound's values if there is one,
// the upper bound's likewise.
func (h *hashed) partSQL(l limits, limit uint64) string {
	where, next := h.sh.mine(1), 1
	if where != "" {
		next++
	}
	where += l.where(h.sh, &next)
	return "SELECT " + h.expr + " FROM " + h.sh.target.from() + " AS t WHERE true" + where + " LIMIT " + strconv.FormatUint(limit, 10)
}

// matchSQL takes an array for each key column, then the facility, and gives the
// place of each key that is here, and the row's hash.
func (h *hashed) matchSQL() string {
	from, by := h.given()
	return "SELECT u.n, " + h.expr + " FROM " + from + " JOIN " + h.sh.target.from() + " AS t ON " + by + h.sh.mine(len(h.sh.key)+1)
}

// given is the sender's keys as a table u, and how it is joined.
func (h *hashed) given() (from, by string) {
	a := arrays{h.sh, h.sh.key, true}
	u := strings.Replace(a.unnest(), " AS u(", " WITH ORDINALITY AS u(", 1)
	return strings.TrimSuffix(u, ")") + ", n)", a.byKey()
}

// extraSQL takes the same, and the bounds' values, and gives the keys of the
// rows that are here and were not given, and their hashes.
func (h *hashed) extraSQL(l limits) string {
	mine := h.sh.mine(len(h.sh.key) + 1)
	next := len(h.sh.key) + 1
	if mine != "" {
		next++
	}
	a := arrays{h.sh, h.sh.key, true}
	own, given := make([]string, len(h.sh.key)), make([]string, len(h.sh.key))
	for i, k := range h.sh.key {
		own[i], given[i] = "t."+h.sh.columnName(k), a.value(i)
	}
	from, _ := h.given()
	where := mine + l.where(h.sh, &next)
	return "SELECT " + strings.Join(h.keys, ", ") + ", " + h.expr + " FROM " + h.sh.target.from() + " AS t WHERE (" + strings.Join(own, ", ") +
		") NOT IN (SELECT " + strings.Join(given, ", ") + " FROM " + from + ")" + where + " LIMIT " + strconv.Itoa(extraMax+1)
}
