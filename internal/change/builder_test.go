package change

import (
	"bytes"
	"reflect"
	"testing"
)

// build puts a Body through a Builder.
func build(b *Body) *Builder {
	var w Builder
	for _, t := range b.Tables {
		w.AddTable(t)
	}
	for _, tx := range b.Txs {
		w.Begin(tx.Seq, tx.CommitMicros)
		for _, c := range tx.Changes {
			if c.Op == Range {
				w.AddRange(c.Table, c.Range)
			} else {
				w.Add(c.Op, c.Table, c.Key, c.Row, c.Absent)
			}
		}
		w.Commit(tx.LSN)
	}
	return &w
}

func TestBuilderSealsWhatSealSeals(t *testing.T) {
	h, b := sample(400, 3)
	b.Txs[1].CommitMicros = -5
	b.Txs[1].Changes = append(b.Txs[1].Changes,
		Change{Op: Update, Key: Row{[]byte("old")}, Row: Row{[]byte("new"), []byte("la"), []byte(""), nil, bytes.Repeat([]byte("x"), 70000), nil}, Absent: []int{5, 300}},
		Change{Op: Delete, Key: Row{bytes.Repeat([]byte("k"), 300)}}, Change{Op: Truncate},
		Change{Op: Range, Range: &KeyRange{After: Row{[]byte("a")}, Rows: []Row{{[]byte("b"), nil, nil, nil, nil, []byte{}}}}},
		Change{Op: Range, Range: &KeyRange{UpTo: Row{[]byte("a")}}})
	want, err := Seal(h, b)
	if err != nil {
		t.Fatal(err)
	}
	w := build(b)
	got, err := w.Seal(Header{Kind: Changes, Epoch: h.Epoch}, 0, w.Txs())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("built %+v, sealed %+v", got.Header, want.Header)
	}
}

func TestBuilderGoesOnAfterACut(t *testing.T) {
	h, b := sample(5, 4)
	w := build(b)
	var rest Builder
	w.MoveTail(&rest, 3)
	if w.Changes() != 12 || rest.Changes() != 8 {
		t.Fatalf("%d and %d changes", w.Changes(), rest.Changes())
	}
	for i, half := range []*Builder{w, &rest} {
		s, err := half.Seal(Header{Kind: Changes, Epoch: h.Epoch}, 0, half.Txs())
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Open()
		if err != nil {
			t.Fatal(err)
		}
		if want := [][]Tx{b.Txs[:3], b.Txs[3:]}[i]; !reflect.DeepEqual(got.Txs, want) {
			t.Fatalf("half %d:\n%+v\nwant\n%+v", i, got.Txs, want)
		}
	}
	rest.Begin(6, 1)
	rest.Add(Delete, 0, Row{[]byte("k")}, nil, nil)
	rest.Abandon()
	if rest.Txs() != 2 || rest.Changes() != 8 {
		t.Fatalf("%d transactions, %d changes", rest.Txs(), rest.Changes())
	}
}

func BenchmarkBuildAndSeal(b *testing.B) {
	h, body := sample(1000, 20)
	var w Builder
	b.ReportAllocs()
	for b.Loop() {
		w.Reset()
		for _, t := range body.Tables {
			w.AddTable(t)
		}
		for i := range body.Txs {
			tx := &body.Txs[i]
			w.Begin(tx.Seq, tx.CommitMicros)
			for j := range tx.Changes {
				c := &tx.Changes[j]
				w.Add(c.Op, c.Table, c.Key, c.Row, c.Absent)
			}
			w.Commit(tx.LSN)
		}
		if _, err := w.Seal(Header{Kind: Changes, Epoch: h.Epoch}, 0, w.Txs()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(20000*b.N)/b.Elapsed().Seconds(), "changes/s")
}

func TestChangeThatDoesNotFitIsTakenBack(t *testing.T) {
	var w Builder
	w.AddTable(Table{Schema: "s", Name: "t", Columns: []Column{{Name: "id", Type: "text", Key: true}}})
	w.Begin(1, 1)
	w.Add(Delete, 0, Row{[]byte("small")}, nil, nil)
	if !w.Fits(100, 100) {
		t.Error("a small one does not fit")
	}
	w.Add(Delete, 0, Row{bytes.Repeat([]byte("x"), 5000)}, nil, nil)
	if !w.Fits(100, 10_000) || w.Fits(100, 1000) || w.Fits(10, 10_000) {
		t.Error("one that packs well")
	}
	w.Undo()
	w.Commit(1)
	s, err := w.Seal(Header{Kind: Changes, Epoch: 1}, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := s.Open(); err != nil || len(b.Txs[0].Changes) != 1 || w.Changes() != 1 {
		t.Errorf("%+v %v", b, err)
	}
}
