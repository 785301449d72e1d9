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
