package change

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// addFrozen only ever adds: a frozen frame is what waits in queues in the field.
var addFrozen = flag.Bool("update", false, "write frames that are missing in testdata/frames")

type frozenFrame struct {
	header Header
	body   Body
}

// frozenFrames are the frames that builds before this one have sealed, and what
// is in them. Their bytes are in testdata/frames. One is only ever added, when
// something new can be in a frame.
func frozenFrames() map[string]frozenFrame {
	orders := Table{Schema: "public", Name: "orders", Columns: []Column{
		{Name: "id", Type: "uuid", Key: true}, {Name: "facility_id", Type: "text"}, {Name: "Größe", Type: "numeric(10,2)"}, {Name: "note", Type: "text"},
	}}
	log := Table{Schema: "sales", Name: "Log Book", Columns: []Column{{Name: "at", Type: "timestamp with time zone"}}}
	row := func(values ...string) Row {
		var r Row
		for _, v := range values {
			switch v {
			case "NULL":
				r = append(r, nil)
			default:
				r = append(r, []byte(v))
			}
		}
		return r
	}
	const epoch, micros = 3<<32 | 2, 1_795_401_064_123_456
	_, digest, err := DecodeDigest(must(EncodeDigest(&orders, &DigestRecord{
		ID: 7, TookMicros: 1500, After: row("5"), Parts: []DigestPart{{UpTo: row("9"), Count: 2, Sum: 1 << 63}},
		Listed: true, Keys: []Row{row("6"), row("9")}, Hashes: []uint64{1 << 62, 1 << 62},
	})))
	if err != nil {
		panic(err) // it was just encoded
	}
	return map[string]frozenFrame{
		"digest": {
			Header{Kind: Changes, Epoch: epoch, First: 102, Last: 102, LSN: 0x1_5A70000, CommitMicros: micros},
			Body{Tables: []Table{orders}, Txs: []Tx{{Seq: 102, LSN: 0x1_5A70000, CommitMicros: micros, Changes: []Change{{Op: Digest, Row: Row{digest}}}}}},
		},
		"every-operation": {
			Header{Kind: Changes, Epoch: epoch, First: 41, Last: 43, LSN: 0x1_5A3F1C8, CommitMicros: micros},
			Body{Tables: []Table{orders, log}, Txs: []Tx{
				{Seq: 41, LSN: 0x1_5A3F000, CommitMicros: micros, Changes: []Change{
					{Op: Insert, Table: 0, Row: row("1", "la", "12.50", "NULL")},
					{Op: Insert, Table: 1, Row: row("2026-11-26 10:43:00+00")},
					{Op: Update, Table: 0, Row: row("1", "la", "13.00", "")},
				}},
				{Seq: 42, LSN: 0x1_5A3F100, CommitMicros: micros + 5, Changes: []Change{
					{Op: Update, Table: 0, Key: row("1"), Row: row("2", "la", "13.00", "NULL"), Absent: []int{3}},
					{Op: Delete, Table: 0, Key: row("2")},
				}},
				{Seq: 43, LSN: 0x1_5A3F1C8, CommitMicros: micros + 9, Changes: []Change{{Op: Truncate, Table: 0}}},
			}},
		},
		"range": {
			Header{Kind: Changes, Epoch: epoch, First: 44, Last: 44, LSN: 0x1_5A40000, CommitMicros: micros},
			Body{Tables: []Table{orders}, Txs: []Tx{{Seq: 44, LSN: 0x1_5A40000, CommitMicros: micros, Changes: []Change{
				{Op: Range, Table: 0, Range: &KeyRange{After: row("5"), UpTo: row("9"), Rows: []Row{row("6", "la", "1", "x"), row("9", "la", "NULL", "")}}},
				{Op: Range, Table: 0, Range: &KeyRange{Rows: []Row{row("6", "la", "1", "x")}}},
			}}}},
		},
		"first-part-of-a-big-transaction": {
			Header{Kind: Changes, Epoch: epoch, First: 45, Last: 45, More: true, CommitMicros: micros},
			Body{Tables: []Table{log}, Txs: []Tx{{Seq: 45, CommitMicros: micros, Changes: []Change{{Op: Insert, Row: row("2026-11-26 10:43:00+00")}}}}},
		},
		"last-part-of-a-big-transaction": {
			Header{Kind: Changes, Epoch: epoch, First: 45, Last: 45, Part: 1, LSN: 0x1_5A50000, CommitMicros: micros},
			Body{Tables: []Table{log}, Txs: []Tx{{Seq: 45, LSN: 0x1_5A50000, CommitMicros: micros, Changes: []Change{{Op: Insert, Row: row("NULL")}}}}},
		},
		"gap": {
			Header{Kind: Gap, Epoch: epoch, First: 46, Last: 99, Reason: "the box's queue was damaged on disk; its tables follow"},
			Body{},
		},
		"notes-in-a-bucket": {
			Header{Kind: Changes, Epoch: epoch, First: 100, Last: 101, LSN: 0x1_5A60000, CommitMicros: micros, Reason: "f:la"},
			Body{Tables: []Table{orders}, Txs: []Tx{
				{Seq: 100, LSN: 0x1_5A5F000, CommitMicros: micros, Changes: []Change{
					{Op: Note, Row: row(NoteSeen, "12884901890:99")},
					{Op: Note, Row: row(NoteBy, "maria")},
					{Op: Insert, Row: row("7", "la", "2", "")},
				}},
				{Seq: 101, LSN: 0x1_5A60000, CommitMicros: micros, Changes: []Change{
					{Op: Note, Row: row(NoteOrigin, "up la 12884901890:99")}, {Op: Note, Row: row(NoteTo, "la")},
				}},
			}},
		},
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// What earlier builds have sealed, in queues on disk and on the wire, is read by
// this one; and what this one packs is, byte for byte, what they can read.
func TestFramesOfEarlierBuildsAreRead(t *testing.T) {
	t.Parallel()
	for name, want := range frozenFrames() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now, err := Seal(want.header, &want.body)
			if err != nil {
				t.Fatal(err)
			}
			raw := frozenBytes(t, name, now.Bytes)
			s, err := Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			if s.Header != now.Header {
				t.Errorf("header %+v, want %+v", s.Header, now.Header)
			}
			got, err := s.Open()
			if err != nil {
				t.Fatal(err)
			}
			again, err := Seal(want.header, got)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(unpack(t, again.Bytes), unpack(t, now.Bytes)) {
				t.Errorf("body %+v, want %+v", got, want.body)
			}
			if !bytes.Equal(unpack(t, raw), unpack(t, now.Bytes)) {
				t.Errorf("it is packed as\n%x, frozen is\n%x", unpack(t, now.Bytes), unpack(t, raw))
			}
			if hlen := int(binary.BigEndian.Uint16(raw[4:])); !bytes.Equal(raw[prefixBytes:prefixBytes+hlen], now.Bytes[prefixBytes:prefixBytes+hlen]) {
				t.Errorf("its header is %x, frozen is %x", now.Bytes[prefixBytes:prefixBytes+hlen], raw[prefixBytes:prefixBytes+hlen])
			}
			for i := range got.Txs {
				for j := range got.Txs[i].Changes {
					if a, b := got.Txs[i].Changes[j].Op, want.body.Txs[i].Changes[j].Op; a != b {
						t.Errorf("change %d of transaction %d is %s, want %s", j, i, a, b)
					}
				}
			}
		})
	}
}

// unpack is the body's CBOR: how well zstd packs it is no matter of the format.
func unpack(t *testing.T, sealed []byte) []byte {
	t.Helper()
	hlen := int(binary.BigEndian.Uint16(sealed[4:]))
	raw, err := zdec().DecodeAll(sealed[prefixBytes+hlen:], nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Each operation and each kind of note is in some frozen frame.
func TestEachOperationIsFrozen(t *testing.T) {
	t.Parallel()
	ops, notes := map[Op]bool{}, map[string]bool{}
	for _, f := range frozenFrames() {
		for _, tx := range f.body.Txs {
			for _, c := range tx.Changes {
				ops[c.Op] = true
				if c.Op == Note {
					notes[string(c.Row[0])] = true
				}
			}
		}
	}
	for op := Insert; !strings.HasPrefix(op.String(), "op"); op++ {
		if !ops[op] {
			t.Errorf("no frozen frame has the operation %s", op)
		}
		if op > 100 {
			t.Fatal("an unknown operation has a name")
		}
	}
	if !reflect.DeepEqual(notes, map[string]bool{NoteSeen: true, NoteBy: true, NoteOrigin: true, NoteTo: true}) {
		t.Errorf("frozen notes: %v", notes)
	}
}

func frozenBytes(t *testing.T, name string, now []byte) []byte {
	t.Helper()
	file := filepath.Join("testdata", "frames", name+".hex")
	text, err := os.ReadFile(file)
	if os.IsNotExist(err) && *addFrozen {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		text = []byte(hex.EncodeToString(now) + "\n")
		err = os.WriteFile(file, text, 0o644)
	}
	if err != nil {
		t.Fatalf("%v (a new frame is written by go test ./internal/change -update)", err)
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
