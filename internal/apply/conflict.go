package apply

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
)

// RowPrefix is the prefix of the logical message that carries a row's change
// back (change.EncodeRow), where the cloud's version stands and the other side
// does not know it.
const RowPrefix = "holdfast.row"

// conflict is one record of a version that did not stand.
type conflict struct {
	shape   *shape
	verdict *verdict
	policy  Policy
	key     change.Row
	entry   *entry
	local   change.Row
	touch   *Touch
	// echo: the entry is the edge's version, and the local row the cloud's.
	echo bool
}

// policyCorrected is what a record has for its policy where no table's policy
// decided, but whoever corrected the row while it was parked.
const policyCorrected Policy = "corrected"

const conflictColumns = 15

// conflictSQL takes an array of text for each of conflictColumns, then the
// facility and the time.
const conflictSQL = `INSERT INTO holdfast.conflict (id, facility_id, at, schema_name, table_name, key, kind, policy, decision,
  edge_row, cloud_row, fields, edge_seq, cloud_seq, edge_at, cloud_at, edge_by, cloud_by)
SELECT gen_random_uuid(), $16::text, 'epoch'::timestamptz + $17::bigint * interval '1 microsecond',
  c0, c1, c2::jsonb, c3, c4, c5, c6::jsonb, c7::jsonb, ARRAY(SELECT jsonb_array_elements_text(c8::jsonb)), c9, c10,
  'epoch'::timestamptz + c11::bigint * interval '1 microsecond', 'epoch'::timestamptz + c12::bigint * interval '1 microsecond', c13, c14
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
  $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[])
  AS u(c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14)`

// conflictCall records conflicts.
func conflictCall(list []conflict, facility string, now time.Time) (call, error) {
	rows := make([]change.Row, len(list))
	for i := range list {
		row, err := list[i].record()
		if err != nil {
			return call{}, err
		}
		rows[i] = row
	}
	c := call{sql: conflictSQL}
	for i := range conflictColumns {
		c.args = append(c.args, textArray(len(rows), func(n int) []byte { return rows[n][i] }))
	}
	c.args = append(c.args, textArg(facility), number(now.UnixMicro()))
	return c, nil
}

func (c *conflict) record() (change.Row, error) {
	sh, e := c.shape, c.entry
	key := make(map[string]*string, len(sh.key))
	for i, k := range sh.key {
		key[sh.to[k].name] = textOf(c.key[i])
	}
	fields := make([]string, len(c.verdict.fields))
	for i, f := range c.verdict.fields {
		fields[i] = sh.to[f].name
	}
	var edge, cloud map[string]*string
	if c.local != nil {
		edge = sh.image(c.local, nil)
	}
	if e.state != rowGone {
		cloud = sh.image(e.row, e.absent)
	}
	touch := c.touch
	if c.echo {
		edge, cloud = cloud, edge
		touch = &Touch{Position: e.src.seen, CommitMicros: e.src.tx.CommitMicros}
	}
	var edgeAt any // not known of what was parked
	if c.policy != policyCorrected {
		edgeAt = fmt.Sprint(touch.CommitMicros)
	}
	row := make(change.Row, 0, conflictColumns)
	for _, v := range []any{
		sh.target.schema, sh.target.name, key, string(c.verdict.kind), string(c.policy), string(c.verdict.decision),
		edge, cloud, fields, touch.Position.String(), e.src.position().String(),
		edgeAt, fmt.Sprint(e.src.tx.CommitMicros), touch.By, e.src.by(),
	} {
		switch v := v.(type) {
		case nil:
			row = append(row, nil)
		case string:
			row = append(row, []byte(v))
		case map[string]*string:
			if v == nil {
				row = append(row, nil)
				continue
			}
			b, err := json.Marshal(v)
			if err != nil {
				return nil, fmt.Errorf("record a conflict of %s: %w", sh.name, err)
			}
			row = append(row, b)
		default:
			b, err := json.Marshal(v)
			if err != nil {
				return nil, fmt.Errorf("record a conflict of %s: %w", sh.name, err)
			}
			row = append(row, b)
		}
	}
	return row, nil
}

// image is a row as people and the record see it: what is not known is missing.
func (sh *shape) image(row change.Row, absent []int) map[string]*string {
	m := make(map[string]*string, len(sh.columns))
	for _, c := range sh.columns {
		if !slices.Contains(absent, c) {
			m[sh.to[c].name] = textOf(row[c])
		}
	}
	return m
}

func textOf(v []byte) *string {
	if v == nil {
		return nil
	}
	s := string(v)
	return &s
}

// assertCall sends a row's change back.
func assertCall(sh *shape, c *change.Change) (call, error) {
	t := change.Table{Schema: sh.target.schema, Name: sh.target.name}
	place := make(map[int]int, len(sh.columns)) // of the sender's columns in t
	for _, col := range sh.columns {
		place[col] = len(t.Columns)
		t.Columns = append(t.Columns, change.Column{Name: sh.to[col].name, Type: sh.sent[col], Key: slices.Contains(sh.key, col)})
	}
	out := change.Change{Op: c.Op, Key: c.Key}
	if c.Row != nil {
		out.Row = make(change.Row, len(t.Columns))
		for _, col := range sh.columns {
			if !slices.Contains(c.Absent, col) {
				out.Row[place[col]] = c.Row[col]
			}
		}
		for _, col := range c.Absent {
			out.Absent = append(out.Absent, place[col])
		}
	}
	b, err := change.EncodeRow(&t, &out)
	if err != nil {
		return call{}, fmt.Errorf("send the row of a conflict back: %w", err)
	}
	return call{
		sql:  "SELECT pg_logical_emit_message(true, '" + RowPrefix + "', $1::bytea)",
		args: []arg{{value: b, binary: true}},
	}, nil
}
