package change

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

var digestTable = Table{Schema: "public", Name: "stock", Columns: []Column{{Name: "id", Type: "integer", Key: true}, {Name: "v", Type: "text"}}}

func digestSamples() []*DigestRecord {
	key := func(s string) Row { return Row{[]byte(s)} }
	return []*DigestRecord{
		{ID: 1, Parts: []DigestPart{{}}},
		{ID: 2, TookMicros: 7, After: key("3"), Parts: []DigestPart{{UpTo: key("9"), Count: 4, Sum: 1 << 63}, {UpTo: nil, Count: 1, Sum: 5}}},
		{ID: 3, Listed: true, Parts: []DigestPart{{UpTo: key("9"), Count: 2, Sum: 3}}, Keys: []Row{key("1"), key("9")}, Hashes: []uint64{1, 2}},
	}
}

func TestDigestsArriveAsSent(t *testing.T) {
	for _, want := range digestSamples() {
		b, err := EncodeDigest(&digestTable, want)
		if err != nil {
			t.Fatal(err)
		}
		table, value, err := DecodeDigest(b)
		if err != nil || !reflect.DeepEqual(*table, digestTable) {
			t.Fatalf("got %+v, %v", table, err)
		}
		got, err := ReadDigest(table, value)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("sent %+v, got %+v, %v", want, got, err)
		}
		// And through a frame.
		var builder Builder
		builder.Begin(1, 0)
		builder.Add(Digest, builder.AddTable(*table), nil, Row{value}, nil)
		builder.Commit(9)
		sealed, err := builder.Seal(Header{Kind: Changes, Epoch: 1}, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		body, err := sealed.Open()
		if err != nil || body.Txs[0].Changes[0].Op != Digest || !bytes.Equal(body.Txs[0].Changes[0].Row[0], value) {
			t.Errorf("from the frame: %+v, %v", body, err)
		}
	}
}

func TestBadDigestsAreRefused(t *testing.T) {
	k, two := Row{[]byte("1")}, Row{[]byte("1"), []byte("2")}
	for name, d := range map[string]*DigestRecord{
		"no part":         {},
		"open in between": {Parts: []DigestPart{{}, {UpTo: k}}},
		"wide bound":      {Parts: []DigestPart{{UpTo: two}}},
		"wide after":      {After: two, Parts: []DigestPart{{}}},
		"unlisted keys":   {Parts: []DigestPart{{Count: 1}}, Keys: []Row{k}, Hashes: []uint64{1}},
		"short hashes":    {Listed: true, Parts: []DigestPart{{Count: 1}}, Keys: []Row{k}},
		"wrong count":     {Listed: true, Parts: []DigestPart{{Count: 2}}, Keys: []Row{k}, Hashes: []uint64{1}},
		"wide key":        {Listed: true, Parts: []DigestPart{{Count: 1}}, Keys: []Row{two}, Hashes: []uint64{1}},
		"too many parts":  {Parts: make([]DigestPart, MaxDigestParts+1)},
	} {
		b, err := EncodeDigest(&digestTable, d)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := DecodeDigest(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	keyless := Table{Schema: "public", Name: "log", Columns: []Column{{Name: "v", Type: "text"}}}
	b, err := EncodeDigest(&keyless, &DigestRecord{Parts: []DigestPart{{}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := DecodeDigest(b); !errors.Is(err, ErrCorrupt) {
		t.Errorf("without a key: %v", err)
	}
}

func TestRootDependsOnEachChildAndTheirOrder(t *testing.T) {
	a, b := DigestPart{Count: 1, Sum: 2}, DigestPart{Count: 2, Sum: 1}
	seen := map[Root]string{}
	for name, children := range map[string][]DigestPart{
		"none": nil, "a": {a}, "b": {b}, "ab": {a, b}, "ba": {b, a}, "aa": {a, a}, "a0": {a, {}}, "count": {{Count: 2, Sum: 2}}, "sum": {{Count: 1, Sum: 3}},
	} {
		r := Root{}.Over(children...)
		if other, there := seen[r]; there {
			t.Errorf("%s and %s have the same root", name, other)
		}
		seen[r] = name
	}
}

func TestMendingArrivesAsSent(t *testing.T) {
	want := &Mending{Table: digestTable, Rows: []Row{{[]byte("1"), nil}}, Gone: []Row{{[]byte("2")}}}
	b, err := EncodeMending(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeMending(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, m := range map[string]*Mending{
		"nothing":   {Table: digestTable},
		"short row": {Table: digestTable, Rows: []Row{{nil}}},
		"wide key":  {Table: digestTable, Gone: []Row{{nil, nil}}},
		"too many":  {Table: digestTable, Gone: make([]Row, MaxMendRows+1)},
	} {
		b, err := EncodeMending(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeMending(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecodeDigest(f *testing.F) {
	for _, d := range digestSamples() {
		b, err := EncodeDigest(&digestTable, d)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	b, err := EncodeMending(&Mending{Table: digestTable, Gone: []Row{{[]byte("2")}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if table, value, err := DecodeDigest(b); err == nil {
			d, err := ReadDigest(table, value)
			if err != nil {
				t.Fatal(err)
			}
			again, err := EncodeDigest(table, d)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := DecodeDigest(again); err != nil {
				t.Fatal(err)
			}
		}
		if m, err := DecodeMending(b); err == nil {
			if _, err := EncodeMending(m); err != nil {
				t.Fatal(err)
			}
		}
	})
}
