package change

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

var thinTables = []Table{
	{Schema: "public", Name: "orders", Columns: []Column{{Name: "id", Type: "int", Key: true}, {Name: "v", Type: "text"}}},
	{Schema: "public", Name: "moves", Columns: []Column{{Name: "id", Type: "int", Key: true}, {Name: "v", Type: "text"}}},
}

func isOrders(t *Table) bool { return t.Name == "orders" }

func framed(t *testing.T, txs ...Tx) Sealed {
	t.Helper()
	f, err := Seal(Header{Kind: Changes, Epoch: 1, First: txs[0].Seq, Last: txs[len(txs)-1].Seq, LSN: 7}, &Body{Tables: thinTables, Txs: txs})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func opened(t *testing.T, f Sealed) *Body {
	t.Helper()
	parsed, err := Parse(f.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	b, err := parsed.Open()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func row(id int, v string) Row { return Row{fmt.Append(nil, id), []byte(v)} }

func TestThinFrameKeepsItsNumbersAndOtherTables(t *testing.T) {
	t.Parallel()
	f := framed(t,
		Tx{Seq: 4, LSN: 5, Changes: []Change{{Op: Note, Row: Row{[]byte(NoteBy), []byte("maria")}}, {Op: Insert, Row: row(1, "a")}, {Op: Insert, Table: 1, Row: row(1, "m")}}},
		Tx{Seq: 5, LSN: 7, Changes: []Change{{Op: Insert, Row: row(2, "b")}}})
	thin, err := Thin(f, isOrders)
	if err != nil {
		t.Fatal(err)
	}
	if h := thin.Header; h.First != 4 || h.Last != 5 || h.LSN != 7 || h.Changes != 2 || h.Reason != Thinned {
		t.Errorf("%+v", h)
	}
	b := opened(t, thin)
	if len(b.Txs[0].Changes) != 2 || b.Txs[0].Changes[1].Table != 1 || len(b.Txs[1].Changes) != 0 || b.Txs[1].LSN != 7 {
		t.Errorf("%+v", b.Txs)
	}
	if again, err := Thin(thin, isOrders); err != nil || !reflect.DeepEqual(again, thin) {
		t.Errorf("%+v, %v", again.Header, err)
	}
	if same, err := Thin(f, func(*Table) bool { return false }); err != nil || !reflect.DeepEqual(same, f) {
		t.Errorf("%+v, %v", same.Header, err)
	}
}

// keeper is a receiver without rules: what it has after all frames is what counts.
type keeper map[string]string

func (k keeper) apply(b *Body) {
	for i := range b.Txs {
		for _, c := range b.Txs[i].Changes {
			name := b.Tables[c.Table].Name + " "
			if c.Key != nil {
				delete(k, name+string(c.Key[0]))
			}
			switch {
			case c.Op == Truncate:
				for key := range k {
					if len(key) > len(name) && key[:len(name)] == name {
						delete(k, key)
					}
				}
			case c.Row == nil:
			case len(c.Absent) > 0:
				if old, ok := k[name+string(c.Row[0])]; ok {
					k[name+string(c.Row[0])] = old // the value was not sent
				}
			default:
				k[name+string(c.Row[0])] = string(c.Row[1])
			}
		}
	}
}

func TestFoldedFramesComeToTheSame(t *testing.T) {
	t.Parallel()
	left := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		var frames []Sealed
		for first := uint64(1); first < 40; first += 4 {
			var txs []Tx
			for seq := first; seq < first+4; seq++ {
				var list []Change
				for range 1 + r.IntN(3) {
					id, table := r.IntN(4), r.IntN(2)
					c := Change{Op: Update, Table: table, Row: row(id, fmt.Sprint(seq, len(list)))}
					switch r.IntN(12) {
					case 0, 1:
						c.Op = Insert
					case 2, 3:
						c = Change{Op: Delete, Table: table, Key: row(id, "")[:1]}
					case 4:
						c.Row[1], c.Absent = nil, []int{1}
					case 5:
						c.Key = row(r.IntN(4), "")[:1]
					case 6:
						if r.IntN(4) == 0 {
							c = Change{Op: Truncate, Table: table}
						}
					}
					list = append(list, c)
				}
				txs = append(txs, Tx{Seq: seq, LSN: seq, Changes: list})
			}
			frames = append(frames, framed(t, txs...))
		}
		want, got := keeper{}, keeper{}
		x := &Fold{Of: isOrders}
		for i := range frames {
			want.apply(opened(t, frames[i]))
			if err := x.Look(&frames[i]); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range frames {
			folded, err := x.Fold(f)
			if err != nil {
				t.Fatal(err)
			}
			b, was := opened(t, folded), opened(t, f)
			got.apply(b)
			left += int(f.Header.Changes) - int(folded.Header.Changes)
			moves := func(b *Body) (list []Change) {
				for i := range b.Txs {
					list = append(list, slices.DeleteFunc(slices.Clone(b.Txs[i].Changes), func(c Change) bool { return c.Table == 0 })...)
				}
				return list
			}
			if !reflect.DeepEqual(moves(b), moves(was)) || folded.Header.First != f.Header.First || folded.Header.Last != f.Header.Last {
				t.Fatalf("seed %d: events are missing in %+v", seed, folded.Header)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: %v, want %v", seed, got, want)
		}
	}
	if left < 300 {
		t.Errorf("only %d changes were left out", left)
	}
}
