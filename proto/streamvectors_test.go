package proto

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

const streamVectorDir = "testdata/stream"

// streamRules are the rules in stream.cddl, by type.
var streamRules = map[StreamType]string{
	TypeHello: "hello", TypeWelcome: "welcome", TypeAck: "ack", TypeFrame: "frame", TypeTables: "tables", TypeTableStates: "table-states",
	TypeHeal: "heal", TypeGoodbye: "goodbye", TypeProblem: "problem", TypeCheck: "check", TypeChecked: "checked", TypeDown: "down", TypePace: "pace", TypeWhole: "whole",
	TypeVerify: "verify", TypeUnverified: "unverified",
	TypeParked: "parked", TypeParkedOrder: "parked-order", TypeParkedDone: "parked-done",
}

// streamVectors are the messages that are frozen, by the names of their files:
// the type's number, then what is special. Those of the first build are there as
// well as those with what came later: both must be read for as long as boxes in
// the field say them.
func streamVectors() map[string]any {
	const epoch = 1<<32 | 1
	v := map[string]any{
		"01-hello-new-box": &Hello{Version: 1, VersionMin: 1, Facility: "la", Epoch: 1 << 32},
		"01-hello-both-ways": &Hello{
			Version: 1, VersionMin: 1, Facility: "frankfurt", Epoch: epoch, First: 41, Last: 99, Agent: "v0.2.0", Boot: "1f2e3d4c", TablesVersion: 7,
			AckedEpoch: epoch, AckedSeq: 40, Reason: "the queue was damaged on disk", DownEpoch: 9 << 32, DownSeq: 12_345,
		},
		"02-welcome-both-ways": &Welcome{Version: 1, Epoch: epoch, Seq: 8, WindowBytes: 1 << 24, Region: "us-east", DownEpoch: 9 << 32, Tables: Tables{Version: 7, Tables: []SyncedTable{
			{Schema: "public", Name: "orders", Class: "fact", FacilityColumn: "facility_id", RegionSchema: "{schema}", Policy: PolicyColumns, CloudColumns: []string{"price", "discount"}},
			{Schema: "public", Name: "products", Class: "master", RegionSchema: "{schema}", TenantColumn: "tenant"},
		}}},
		"02-welcome-with-a-pace": &Welcome{Version: 2, Epoch: epoch, Seq: 8, WindowBytes: 1 << 24, Tables: Tables{Version: 7, Tables: []SyncedTable{}}, BytesPerSecond: 500_000},
		"13-pace-without-limit":  &Pace{},
		"06-table-states-with-columns": &TableStates{Tables: []TableState{{
			Schema: "public", Name: "orders", State: TableStreaming, RowsLoaded: 7, Fingerprint: 1<<64 - 1,
			Columns: []TableColumn{
				{Name: "id", Type: "uuid", Key: true, Required: true}, {Name: "price", Type: "numeric(10,2)"}, {Name: "total", Type: "numeric", Generated: true},
			},
		}}},
		"24-parked-asked":      &Parked{Rows: []ParkedRow{}, PassedOver: []ParkedTable{{Schema: "public", Name: "t", Reason: "row_missing", Message: "no row", Changes: 1, Since: 1, Asked: 1_790_000_000_000_000}}},
		"01-hello-restored":    &Hello{Version: 2, VersionMin: 1, Facility: "la", Epoch: epoch, DownEpoch: 9 << 32, DownSeq: 12_345, Restores: true, Restored: true},
		"02-welcome-went-back": &Welcome{Version: 2, Epoch: epoch, Seq: 8, WindowBytes: 1 << 24, Tables: Tables{Version: 7, Tables: []SyncedTable{}}, WentBack: true},
		"02-welcome-restoring": &Welcome{Version: 2, Epoch: epoch, Seq: 8, WindowBytes: 1 << 24, DownEpoch: 9 << 32, Tables: Tables{Version: 7, Tables: []SyncedTable{}}, Restoring: true, Lacking: true},
		"07-heal-restored":     &Heal{Reason: "all rows were sent", Restored: true},
		"07-heal-mend":         &Heal{Tables: []string{"public.orders"}, Reason: "the way down was mended", Mend: "3@1796000000000000"},
		"26-parked-done-tried": &ParkedDone{ID: 4, TriedAt: 1_796_000_000_000_000},
		"12-down":              &Down{PrevEpoch: 9 << 32, PrevSeq: 12_340, Frame: []byte{1, 2, 3}, More: true},
	}
	for typ, sample := range streamSamples() {
		v[fmt.Sprintf("%02d-first", typ)] = sample
	}
	return v
}

func typeOf(name string) StreamType {
	var n uint8
	if _, err := fmt.Sscanf(name, "%02d-", &n); err != nil {
		panic(err)
	}
	return StreamType(n)
}

func TestStreamMessagesNeverChange(t *testing.T) {
	t.Parallel()
	rules := loadCDDL(t, "stream.cddl")
	for name, msg := range streamVectors() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now, err := EncodeStream(typeOf(name), msg)
			if err != nil {
				t.Fatal(err)
			}
			raw := streamVector(t, name, now)
			if !bytes.Equal(raw, now) {
				t.Errorf("encodes to\n%x, frozen is\n%x", now, raw)
			}
			typ, got, err := DecodeStream(raw)
			if err != nil || typ != typeOf(name) || !reflect.DeepEqual(got, msg) {
				t.Errorf("decodes to %d %+v, %v", typ, got, err)
			}
			var e streamEnvelope
			if err := streamDec.Unmarshal(raw, &e); err != nil {
				t.Fatal(err)
			}
			if rule, ok := streamRules[typ]; !ok {
				t.Errorf("stream.cddl: no rule is named for type %d", typ)
			} else if err := rules.check(rule, generic(t, e.Payload)); err != nil {
				t.Errorf("stream.cddl: %v", err)
			}
		})
	}
}

// A type that this build speaks without a frozen message could change unseen.
func TestEachStreamTypeIsFrozen(t *testing.T) {
	t.Parallel()
	frozen := map[StreamType]bool{}
	for name := range streamVectors() {
		frozen[typeOf(name)] = true
	}
	for typ := StreamType(1); typ < 100; typ++ {
		raw, err := EncodeStream(typ, map[int]int{})
		if err != nil {
			t.Fatal(err)
		}
		if _, v, err := DecodeStream(raw); (v != nil || err != nil) && !frozen[typ] {
			t.Errorf("type %d is spoken, and no message of it is frozen: add it to streamSamples", typ)
		}
	}
	files, err := filepath.Glob(streamVectorDir + "/*.hex")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	known := streamVectors()
	for _, f := range files {
		if known[strings.TrimSuffix(filepath.Base(f), ".hex")] == nil {
			t.Errorf("%s: nothing tries it", f)
		}
	}
}

// The build before this one sends messages without the keys that came since:
// they are read as what that build meant.
func TestMessagesWithoutLaterKeysAreRead(t *testing.T) {
	t.Parallel()
	read := func(name string) any {
		t.Helper()
		_, v, err := DecodeStream(streamVector(t, name, nil))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	hello, ok := read("01-first").(*Hello)
	if !ok || hello.Epoch == 0 || hello.DownEpoch != 0 || hello.DownSeq != 0 {
		t.Errorf("hello: %+v", hello) // nothing of the way down is on that box
	}
	welcome, ok := read("02-first").(*Welcome)
	if !ok || welcome.DownEpoch != 0 || len(welcome.Tables.Tables) != 1 {
		t.Fatalf("welcome: %+v", welcome) // that region sends nothing down
	}
	if table := welcome.Tables.Tables[0]; table.Policy != "" || table.CloudColumns != nil || table.TenantColumn != "" {
		t.Errorf("table: %+v", table) // the edge's version stands
	}
	states, ok := read("06-first").(*TableStates)
	if !ok || states.Tables[0].Columns != nil || states.Tables[0].Fingerprint == 0 {
		t.Errorf("states: %+v", states)
	}
}

// The build after this one may say more: what is not known is left out, and the
// rest is read.
func TestUnknownKeysAreIgnored(t *testing.T) {
	t.Parallel()
	for name, msg := range streamVectors() {
		var e streamEnvelope
		if err := streamDec.Unmarshal(streamVector(t, name, nil), &e); err != nil {
			t.Fatal(err)
		}
		var payload map[uint64]cbor.RawMessage
		if streamDec.Unmarshal(e.Payload, &payload) != nil {
			continue // a frame is its bytes
		}
		more, err := streamEnc.Marshal(map[string]any{"of": "a newer build"})
		if err != nil {
			t.Fatal(err)
		}
		payload[60] = more
		raw, err := EncodeStream(e.Type, payload)
		if err != nil {
			t.Fatal(err)
		}
		if _, got, err := DecodeStream(raw); err != nil || !reflect.DeepEqual(got, msg) {
			t.Errorf("%s with a key more: %+v, %v", name, got, err)
		}
	}
	for _, typ := range []StreamType{0, 99, 255} {
		raw, err := EncodeStream(typ, map[int]string{1: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if got, v, err := DecodeStream(raw); got != typ || v != nil || err != nil {
			t.Errorf("type %d: %v, %v", typ, v, err)
		}
	}
}

// streamVector reads a frozen message; one that is missing is made of now, when
// that is asked for.
func streamVector(t *testing.T, name string, now []byte) []byte {
	t.Helper()
	file := filepath.Join(streamVectorDir, name+".hex")
	text, err := os.ReadFile(file)
	if os.IsNotExist(err) && *addVectors && now != nil {
		edn, derr := cbor.Diagnose(now)
		if derr != nil {
			t.Fatal(derr)
		}
		text = []byte(hex.EncodeToString(now) + "\n")
		err = os.MkdirAll(streamVectorDir, 0o755)
		for path, content := range map[string]string{file: string(text), filepath.Join(streamVectorDir, name+".edn"): edn + "\n"} {
			if err == nil {
				err = os.WriteFile(path, []byte(content), 0o644)
			}
		}
	}
	if err != nil {
		t.Fatalf("%v (a new vector is written by go test ./proto -update)", err)
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	forPeople, err := os.ReadFile(filepath.Join(streamVectorDir, name+".edn"))
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := cbor.Diagnose(raw); strings.TrimSpace(string(forPeople)) != want {
		t.Errorf("%s.edn says something else than %s.hex", name, name)
	}
	return raw
}
