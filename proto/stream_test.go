package proto

import (
	"bytes"
	"reflect"
	"testing"
)

func streamSamples() map[StreamType]any {
	return map[StreamType]any{
		TypeHello:   &Hello{Version: 1, VersionMin: 1, Facility: "la", Epoch: 1<<32 | 1, First: 3, Last: 9, Agent: "v0.1.0", Boot: "b"},
		TypeWelcome: &Welcome{Version: 1, Epoch: 1<<32 | 1, Seq: 8, Tables: Tables{Version: 2, Tables: []SyncedTable{{Schema: "public", Name: "orders", Class: "fact", FacilityColumn: "facility_id", RegionSchema: "{schema}"}}}, WindowBytes: 1 << 24, Region: "us-east"},
		TypeAck:     &Ack{Epoch: 1<<32 | 1, Seq: 9},
		TypeFrame:   []byte{1, 2, 3},
		TypeTables:  &Tables{Version: 3, Tables: []SyncedTable{}},
		TypeTableStates: &TableStates{Tables: []TableState{{
			Schema: "public", Name: "orders", State: TableRefused,
			Problems: []Problem{{Text: "no primary key", Remedy: "add one"}}, RowsLoaded: 7, Fingerprint: 1 << 63,
		}}},
		TypeHeal:    &Heal{Tables: []string{"public.orders"}, Reason: "rows were missing"},
		TypeGoodbye: &Goodbye{Code: GoodbyeFenced, Text: "a newer box took over"},
		TypeProblem: &Problem{Text: "public.orders is missing", Remedy: "create it"},
		TypeCheck:   &Check{ID: 4, Table: SyncedTable{Schema: "public", Name: "t", Class: "event"}},
		TypeChecked: &Checked{ID: 4, Problems: []Problem{{Text: "x"}}},
		TypeDown:    &Down{PrevEpoch: 9 << 32, PrevSeq: 4, Frame: []byte{4, 5, 6}},
		TypePace:    &Pace{BytesPerSecond: 500_000},
		TypeWhole:   &Whole{Table: "public.orders", Epoch: 9 << 32, Seq: 12_345},
		TypeVerify: &Verify{
			ID: 9, Schema: "public", Name: "orders", After: [][]byte{[]byte("a")}, UpTo: [][]byte{[]byte("b")},
			Rows: 1000, Parts: 64, List: true, Mend: [][][]byte{{[]byte("c")}},
		},
		TypeUnverified: &Unverified{ID: 9, Problem: Problem{Text: "not synced"}},
		TypeParked: &Parked{
			Waiting: 300, Rows: []ParkedRow{{
				ID: 7, Schema: "public", Name: "orders", Op: "update", Key: `{"id": "1"}`, Row: `{"id": "1"}`, Columns: `[{"name":"id","type":"integer","key":true}]`,
				Epoch: 9 << 32, Seq: 40, Reason: "unique", Code: "23505", Constraint: "orders_name_key", Message: "taken", Remedy: "change one",
				State: "discarded", CommitAt: 1, ParkedAt: 2, Attempts: 3, TriedAt: 4, EditedBy: "ann", EndedBy: "bob", EndedAt: 5,
			}},
			PassedOver: []ParkedTable{{Schema: "public", Name: "t", Reason: "missing_table", Message: "no table", Remedy: "make it", Changes: 9, Since: 1, Again: true}},
		},
		TypeParkedOrder: &ParkedOrder{ID: 3, Do: ParkedEdit, Row: 7, By: "ann", Set: []ParkedValue{{Column: "name"}}},
		TypeParkedDone:  &ParkedDone{ID: 3, Problem: &Problem{Text: "it has ended", Remedy: "look"}},
	}
}

func TestStreamMessagesArriveAsSent(t *testing.T) {
	for typ, want := range streamSamples() {
		b, err := EncodeStream(typ, want)
		if err != nil {
			t.Fatal(err)
		}
		gotType, got, err := DecodeStream(b)
		if err != nil || gotType != typ || !reflect.DeepEqual(got, want) {
			t.Errorf("type %d: sent %+v, got %d %+v, %v", typ, want, gotType, got, err)
		}
	}
}

func TestUnknownStreamMessageIsNoError(t *testing.T) {
	b, err := EncodeStream(200, &Ack{})
	if err != nil {
		t.Fatal(err)
	}
	if typ, v, err := DecodeStream(b); typ != 200 || v != nil || err != nil {
		t.Fatalf("got %d, %v, %v", typ, v, err)
	}
}

func FuzzDecodeStream(f *testing.F) {
	for typ, v := range streamSamples() {
		b, err := EncodeStream(typ, v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		typ, v, err := DecodeStream(b)
		if err != nil || v == nil {
			return
		}
		again, err := EncodeStream(typ, v)
		if err != nil {
			t.Fatal(err)
		}
		_, v2, err := DecodeStream(again)
		if err != nil {
			t.Fatal(err)
		}
		third, err := EncodeStream(typ, v2)
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("not stable: %x, %x, %v", again, third, err)
		}
	})
}
