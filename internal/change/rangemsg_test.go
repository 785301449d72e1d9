package change

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestRangeMessageIsReadAsWritten(t *testing.T) {
	_, b := sample(1, 1)
	r := &KeyRange{After: Row{[]byte("a")}, Rows: []Row{{[]byte("b"), nil, {}, nil, nil, nil}}}
	raw, err := EncodeRange(&b.Tables[0], r)
	if err != nil {
		t.Fatal(err)
	}
	table, got, err := DecodeRange(raw)
	if err != nil || !reflect.DeepEqual(table, &b.Tables[0]) || !reflect.DeepEqual(got, r) {
		t.Fatalf("%+v %+v %v", table, got, err)
	}
}

// TestRangeMessageIsWhatItAlwaysWas: what is in the WAL when a box is updated, or
// put back, is read by the build that is there then.
func TestRangeMessageIsWhatItAlwaysWas(t *testing.T) {
	_, b := sample(1, 1)
	row := Row{[]byte("b"), nil, {}, []byte(strings.Repeat("x", 300)), nil, nil}
	for _, r := range []*KeyRange{{}, {After: Row{[]byte("a")}, Rows: []Row{row}}, {UpTo: Row{{}}, Rows: slices.Repeat([]Row{row}, 300)}} {
		want, err := encMode.Marshal(&rangeMessage{Table: b.Tables[0], Range: *r})
		if err != nil {
			t.Fatal(err)
		}
		got, err := EncodeRange(&b.Tables[0], r)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d rows: %d bytes, want %d, %v", len(r.Rows), len(got), len(want), err)
		}
		// A range that is not read is sealed as one that is.
		table, raw, err := ScanRange(got)
		if err != nil || !reflect.DeepEqual(table, &b.Tables[0]) {
			t.Fatalf("%+v, %v", table, err)
		}
		var one, two Builder
		one.Begin(1, 1)
		one.AddRange(one.AddTable(*table), r)
		two.Begin(1, 1)
		two.AddRawRange(two.AddTable(*table), raw)
		first, err := one.Seal(Header{Kind: Changes, Epoch: 1}, 0, 1)
		second, err2 := two.Seal(Header{Kind: Changes, Epoch: 1}, 0, 1)
		if err != nil || err2 != nil || !bytes.Equal(first.Bytes, second.Bytes) {
			t.Errorf("%d rows: the frames differ, %v %v", len(r.Rows), err, err2)
		}
	}
}

func TestMalformedRangeIsRefused(t *testing.T) {
	_, b := sample(1, 1)
	row := Row{[]byte("b"), nil, {}, nil, nil, nil}
	good, err := EncodeRange(&b.Tables[0], &KeyRange{After: row[:1], Rows: []Row{row}})
	if err != nil {
		t.Fatal(err)
	}
	bad := map[string][]byte{"nothing": nil, "one byte more": append(slices.Clone(good), cborNull)}
	for i := range good {
		bad[fmt.Sprintf("the first %d bytes", i)] = good[:i]
	}
	for what, r := range map[string]*KeyRange{
		"a row of two values": {Rows: []Row{row[:2]}}, "a row that is none": {Rows: []Row{nil}}, "a bound of two values": {UpTo: row[:2]},
	} {
		if bad[what], err = EncodeRange(&b.Tables[0], r); err != nil {
			t.Fatal(err)
		}
	}
	for what, raw := range bad {
		if _, _, err := ScanRange(raw); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
		if _, _, err := DecodeRange(raw); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s is read: %v", what, err)
		}
	}
}

func FuzzDecodeRange(f *testing.F) {
	_, b := sample(1, 1)
	for _, r := range []*KeyRange{{}, {After: Row{[]byte("a")}}, {UpTo: Row{nil}, Rows: []Row{{[]byte("b"), nil, {}, nil, nil, nil}}}, {Rows: []Row{{}}}} {
		raw, err := EncodeRange(&b.Tables[0], r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		table, r, err := ScanRange(raw)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if _, _, err := DecodeRange(raw); err != nil {
			t.Fatalf("it can be passed on and not be read: %v", err)
		}
		// What is accepted can be sealed into a frame that is accepted.
		var w Builder
		w.Begin(1, 1)
		w.AddRawRange(w.AddTable(*table), r)
		s, err := w.Seal(Header{Kind: Changes, Epoch: 1}, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Open(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRowMessageIsReadAsWritten(t *testing.T) {
	_, b := sample(1, 1)
	row := Row{[]byte("b"), nil, []byte{}, nil, nil, nil}
	for _, c := range []*Change{{Op: Insert, Row: row}, {Op: Update, Key: row[:1], Row: row, Absent: []int{2}}, {Op: Delete, Key: row[:1]}} {
		raw, err := EncodeRow(&b.Tables[0], c)
		if err != nil {
			t.Fatal(err)
		}
		table, got, err := DecodeRow(raw)
		if err != nil || !reflect.DeepEqual(table, &b.Tables[0]) || !reflect.DeepEqual(got, c) {
			t.Fatalf("%+v %+v %v", table, got, err)
		}
	}
	for _, c := range []*Change{{Op: Truncate}, {Op: Note, Row: row[:2]}, {Op: Insert}, {Op: Delete, Row: row}, {Op: Insert, Row: row[:2]}} {
		if _, err := EncodeRow(&b.Tables[0], c); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func FuzzDecodeRow(f *testing.F) {
	_, b := sample(1, 1)
	row := Row{[]byte("b"), nil, []byte{}, nil, nil, nil}
	for _, c := range []*Change{{Op: Insert, Row: row}, {Op: Update, Key: row[:1], Row: row, Absent: []int{2}}, {Op: Delete, Key: row[:1]}} {
		raw, err := EncodeRow(&b.Tables[0], c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		table, c, err := DecodeRow(raw)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		// What is accepted can be sealed into a frame that is accepted.
		var w Builder
		w.Begin(1, 1)
		w.Add(c.Op, w.AddTable(*table), c.Key, c.Row, c.Absent)
		s, err := w.Seal(Header{Kind: Changes, Epoch: 1}, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Open(); err != nil {
			t.Fatal(err)
		}
	})
}
