package change

import (
	"errors"
	"reflect"
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
		table, r, err := DecodeRange(raw)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		// What is accepted can be sealed into a frame that is accepted.
		var w Builder
		w.Begin(1, 1)
		w.AddRange(w.AddTable(*table), r)
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
