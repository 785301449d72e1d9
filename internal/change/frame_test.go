package change

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"
)

func sample(txs, rows int) (Header, *Body) {
	b := &Body{Tables: []Table{{Schema: "public", Name: "orders", Columns: []Column{
		{Name: "id", Type: "uuid", Key: true},
		{Name: "facility_id", Type: "text"},
		{Name: "customer", Type: "text"},
		{Name: "quantity", Type: "integer"},
		{Name: "created_at", Type: "timestamp with time zone"},
		{Name: "notes", Type: "text"},
	}}}}
	for i := range txs {
		tx := Tx{Seq: uint64(i + 1), LSN: uint64(1000 * (i + 1)), CommitMicros: 1700000000000000 + int64(i)}
		for j := range rows {
			var u [16]byte
			rand.Read(u[:])
			tx.Changes = append(tx.Changes, Change{Op: Insert, Row: Row{
				fmt.Appendf(nil, "%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]), []byte("la"),
				fmt.Appendf(nil, "customer %d", i*j%977), fmt.Append(nil, i*j), []byte("2026-11-23 02:14:05.123456+00"), nil,
			}})
		}
		b.Txs = append(b.Txs, tx)
	}
	last := &b.Txs[len(b.Txs)-1]
	return Header{Kind: Changes, Epoch: 1 << 32, First: 1, Last: uint64(txs), LSN: last.LSN, CommitMicros: b.Txs[0].CommitMicros}, b
}

func TestSealedFrameOpensToWhatWasSealed(t *testing.T) {
	h, b := sample(3, 2)
	b.Txs[1].Changes = append(b.Txs[1].Changes,
		Change{Op: Update, Key: Row{[]byte("old")}, Row: Row{[]byte("new"), []byte("la"), []byte(""), nil, []byte("x"), nil}, Absent: []int{5}},
		Change{Op: Delete, Key: Row{[]byte("k")}}, Change{Op: Truncate},
		Change{Op: Range, Range: &KeyRange{After: Row{[]byte("a")}, Rows: []Row{{[]byte("b"), nil, nil, nil, nil, []byte{}}}}})
	s, err := Seal(h, b)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse(s.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(p.Header, s.Header) {
		t.Fatalf("header %+v, sealed %+v", p.Header, s.Header)
	}
	got, err := p.Open()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, b) {
		t.Fatalf("opened\n%+v\nsealed\n%+v", got, b)
	}
	bounds, err := p.OpenBounds()
	if err != nil {
		t.Fatal(err)
	}
	if withoutRangeRows(b); !reflect.DeepEqual(bounds, b) {
		t.Fatalf("opened without the rows of ranges\n%+v\nsealed\n%+v", bounds, b)
	}
}

func withoutRangeRows(b *Body) {
	for i := range b.Txs {
		for _, c := range b.Txs[i].Changes {
			if c.Range != nil {
				c.Range.Rows = nil
			}
		}
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	h, b := sample(2, 1)
	s, err := Seal(h, b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(s.Bytes) * 8 {
		s.Bytes[i/8] ^= 1 << (i % 8)
		if _, err := Parse(s.Bytes); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("bit %d flipped: %v", i, err)
		}
		s.Bytes[i/8] ^= 1 << (i % 8)
	}
	for n := range len(s.Bytes) {
		if _, err := Parse(s.Bytes[:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestAFewBytesCannotAskForMuchMemory(t *testing.T) {
	columns := make([]Column, 1600)
	for i := range columns {
		columns[i] = Column{Name: "c", Type: "text", Key: i == 0}
	}
	tx := Tx{Seq: 1}
	for range partsMax/len(columns) + 1 {
		tx.Changes = append(tx.Changes, Change{Op: Insert, Row: make(Row, len(columns))})
	}
	s, err := Seal(Header{Kind: Changes, First: 1, Last: 1, Epoch: 1},
		&Body{Tables: []Table{{Schema: "s", Name: "t", Columns: columns}}, Txs: []Tx{tx}})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Bytes) > 1<<16 {
		t.Fatalf("the frame has %d bytes; the test wants a small one", len(s.Bytes))
	}
	if _, err := s.Open(); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("%d bytes that unpack to %d values were opened: %v", len(s.Bytes), partsMax, err)
	}
}

func TestTablesAndDigestsCannotAskForMuchMemory(t *testing.T) {
	many := append(appendHead(nil, cborArray, partsMax), bytes.Repeat([]byte{cborNull}, partsMax)...)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, body := range map[string][]byte{
		"tables":  join([]byte{cborArray | 2}, many, []byte{cborNull}),
		"columns": join([]byte{cborArray | 2, cborArray | 1, cborArray | 3, majorText<<5 | 1, 's', majorText<<5 | 1, 't'}, many, []byte{cborNull}),
	} {
		s, err := seal(Header{Kind: Gap, First: 1, Last: 1, Epoch: 1}, body)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Bytes) > 1<<16 {
			t.Fatalf("the frame has %d bytes; the test wants a small one", len(s.Bytes))
		}
		if _, err := s.Open(); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "more than") {
			t.Errorf("%d bytes that unpack to %d %s were opened: %v", len(s.Bytes), partsMax, name, err)
		}
	}
	keys := join([]byte{cborArray | 7, 1, 0, cborNull, cborArray | 1, cborArray | 3}, many, []byte{0, 0, cborFalse, cborNull, cborNull})
	if _, err := ReadDigest(&digestTable, keys); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a digest of %d values was read: %v", partsMax, err)
	}
}

// FuzzFrame feeds whole frames with a good checksum, as a hostile box could: any
// header with any body, which is packed here or comes as it is.
func FuzzFrame(f *testing.F) {
	for _, frame := range frozenFrames() {
		s, err := Seal(frame.header, &frame.body)
		if err != nil {
			f.Fatal(err)
		}
		body, err := encMode.Marshal(&frame.body)
		if err != nil {
			f.Fatal(err)
		}
		hlen := int(binary.BigEndian.Uint16(s.Bytes[4:]))
		header, packed := s.Bytes[prefixBytes:prefixBytes+hlen], s.Bytes[prefixBytes+hlen:]
		f.Add(header, packed, false)
		f.Add(header, body, true)
	}
	f.Fuzz(func(t *testing.T, header, body []byte, pack bool) {
		if len(header) > 0xffff {
			return
		}
		if pack {
			var h Header
			if decMode.Unmarshal(header, &h) == nil {
				h.BodyBytes = uint32(len(body))
				header = must(encMode.Marshal(&h))
			}
			body = zenc().EncodeAll(body, nil)
		}
		b := binary.BigEndian.AppendUint16(make([]byte, 4), uint16(len(header)))
		b = append(append(b, header...), body...)
		binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
		s, err := Parse(b)
		if err != nil {
			return
		}
		if peeked, err := Peek(b); err != nil || !reflect.DeepEqual(peeked, s.Header) {
			t.Fatalf("peeked %+v, %v; the header is %+v", peeked, err, s.Header)
		}
		got, err := s.Open()
		if err != nil {
			return
		}
		for _, tx := range got.Txs {
			for _, c := range tx.Changes {
				if c.Op == Digest {
					_, _ = ReadDigest(&got.Tables[c.Table], c.Row[0]) // must not panic
				}
			}
		}
		// What was taken is sealed to the same again.
		sealed, err := Seal(s.Header, got)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := sealed.Open(); err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("%v: opened\n%+v\nand again\n%+v", err, got, again)
		}
	})
}

// FuzzBody feeds the decoder bodies, and holds it to what the general decoder reads.
func FuzzBody(f *testing.F) {
	h, b := sample(2, 2)
	raw, err := encMode.Marshal(b)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint64(1), uint64(2), raw)
	f.Fuzz(func(t *testing.T, first, last uint64, raw []byte) {
		hh := h
		hh.First, hh.Last = first, last
		got, err := decodeBody(raw, false)
		bounds, boundsErr := decodeBody(raw, true)
		if (err == nil) != (boundsErr == nil) {
			t.Fatalf("read: %v, without the rows of ranges: %v", err, boundsErr)
		}
		if err == nil {
			var want Body
			if err := decMode.Unmarshal(raw, &want); err != nil {
				t.Fatalf("read what the general decoder refuses: %v", err)
			}
			if !reflect.DeepEqual(got, &want) {
				t.Fatalf("read\n%+v\nthe general decoder\n%+v", got, &want)
			}
			_ = got.check(&hh) // must not panic
			if withoutRangeRows(got); !reflect.DeepEqual(bounds, got) {
				t.Fatalf("read without the rows of ranges\n%+v\nread\n%+v", bounds, got)
			}
		}
	})
}

func BenchmarkSeal(bm *testing.B) {
	h, b := sample(5000, 4)
	for bm.Loop() {
		s, err := Seal(h, b)
		if err != nil {
			bm.Fatal(err)
		}
		bm.ReportMetric(float64(len(s.Bytes))/20000, "bytes/change")
	}
}

func BenchmarkOpen(bm *testing.B) {
	h, b := sample(5000, 4)
	s, _ := Seal(h, b)
	for bm.Loop() {
		if _, err := s.Open(); err != nil {
			bm.Fatal(err)
		}
	}
}

func TestWhatTheReceiverCouldNotStoreIsRefused(t *testing.T) {
	gap := Header{Kind: Gap, Epoch: 1 << 32, First: 1, Last: 9, Reason: "the disk was damaged"}
	for name, spoil := range map[string]func(h *Header){
		"a negative epoch as bigint":  func(h *Header) { h.Epoch = 1 << 63 },
		"a negative number as bigint": func(h *Header) { h.Last = 1 << 63 },
		"a NUL, which is no text":     func(h *Header) { h.Reason = "lost\x00" },
		"a reason without end":        func(h *Header) { h.Reason = strings.Repeat("x", maxReasonBytes+1) },
	} {
		h := gap
		spoil(&h)
		s, err := Seal(h, &Body{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(s.Bytes); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRangeInAnotherOperationIsRefused(t *testing.T) {
	h, b := sample(1, 1)
	b.Txs[0].Changes[0].Range = &KeyRange{Rows: []Row{{}}}
	s, err := Seal(h, b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("an insert with a range: %v", err)
	}
}
