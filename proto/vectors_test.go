package proto

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// addVectors only ever adds: a frozen vector is what boxes in the field send.
var addVectors = flag.Bool("update", false, "write vectors that are missing in testdata/mqtt")

const vectorDir = "testdata/mqtt"

// message is what all messages of this package have.
type message interface{ Encode() ([]byte, error) }

// codecs has each message's decoder and the rule in its CDDL file.
var codecs = map[string]struct {
	rule   string
	max    int
	decode func([]byte) (message, error)
}{
	"heartbeat": {"heartbeat", HeartbeatMaxBytes, func(b []byte) (message, error) { return DecodeHeartbeat(b) }},
	"status":    {"status", StatusMaxBytes, func(b []byte) (message, error) { return DecodeStatus(b) }},
	"conn":      {"conn", ConnMaxBytes, func(b []byte) (message, error) { return DecodeConn(b) }},
	"event":     {"event", EventMaxBytes, func(b []byte) (message, error) { return DecodeEvent(b) }},
	"command":   {"command", CommandMaxBytes, func(b []byte) (message, error) { return DecodeCommand(b) }},
	"ack":       {"command-ack", CommandMaxBytes, func(b []byte) (message, error) { return DecodeCommandAck(b) }},
}

// vectors are the messages that are frozen, by kind and name.
func vectors() map[string]message {
	boot := BootID{0x1f, 0x2e, 0x3d, 0x4c, 0x5b, 0x6a, 0x79, 0x88, 0x97, 0xa6, 0xb5, 0xc4, 0xd3, 0xe2, 0xf1, 0x00}
	id := CommandID{0xc0, 0xff, 0xee, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}
	const big, wall = 1<<64 - 1, 1_795_401_064_123
	hot, full := int64(61_250), uint64(111_600)
	return map[string]message{
		"heartbeat-first": Heartbeat{
			Who: WhoDigest("foo", "la"), BootID: boot, Session: SessionEpoch(1, 1), Seq: 1,
			MonoMs: 12_345, WallMs: wall, Clock: ClockSynced, EverySeconds: 5,
		},
		"heartbeat-offline-for-an-hour": Heartbeat{
			Who: WhoDigest("foo", "frankfurt"), BootID: boot, Session: SessionEpoch(2, 7), Seq: 720,
			MonoMs: 9_876_543, WallMs: wall, Clock: ClockUnsynced, Health: HealthDegraded, StatusDigest: Digest{1, 2, 3, 4, 5, 6, 7, 8},
			QueueTransactions: 160_000, QueueChanges: 560_000, QueueBytes: 29_680_000, OldestSeconds: 3600,
			Faults: []FaultCode{FaultClockUnsynced, FaultTunnelDown}, EverySeconds: 5,
		},
		"heartbeat-longest": Heartbeat{
			Who: Digest{255, 255, 255, 255, 255, 255, 255, 255}, BootID: boot, Session: big, Seq: big, MonoMs: big, WallMs: -1 << 63,
			Clock: ClockSynced, Health: HealthFailing, StatusDigest: Digest{255}, QueueTransactions: big, QueueChanges: big,
			QueueBytes: big, OldestSeconds: big, EverySeconds: 3600,
			Faults: []FaultCode{60000, 60001, 60002, 60003, 60004, 60005, 60006, 60007, 60008, 60009, 60010, 60011, 60012, 60013, 60014, 60015},
		},
		"status-full": Status{
			Tenant: "foo", Facility: "la", BootID: boot, Session: SessionEpoch(1, 3), MonoMs: 86_400_000, WallMs: wall, Clock: ClockSynced,
			Health: HealthDegraded, Faults: []FaultCode{FaultStateDiskLow}, BootedMs: wall - 86_400_000, StartedMs: wall - 86_000_000,
			Versions: Versions{"v0.1.0", "6.12.41+rpt-rpi-v8", "15.18", "Raspberry Pi 4 Model B Rev 1.5"},
			Queue: Queue{
				Frames: 12, Transactions: 340, Changes: 1200, Bytes: 65_536, OldestSeconds: 4, LimitBytes: 8 << 30,
				Epoch: SessionEpoch(1, 1), LastSeq: 4711, AckedEpoch: SessionEpoch(1, 1), AckedSeq: 4371,
			},
			Database: Database{"up", 16 << 20, "active", 512 << 20},
			Disks:    []Disk{{"state", 4 << 30, 300 << 20}, {"data", 100 << 30, 60 << 30}}, MilliCelsius: &hot,
			Load:   Load{1250, 4, 4 << 30, 2 << 30, 58 << 20},
			Tunnel: Tunnel{"up", 17, 123_456, 7_654_321},
			Tables: []TableStatus{{"public.labels", "refused", "It has no primary key."}, {"public.orders", "streaming", ""}},
		},
		"status-stalled": Status{
			Tenant: "foo", Facility: "la", BootID: boot, Session: SessionEpoch(1, 3), MonoMs: 86_400_000, WallMs: wall, Clock: ClockSynced,
			Health: HealthDegraded, Faults: []FaultCode{FaultTunnelDown, FaultStalled},
			Queue:  Queue{Transactions: 340, Bytes: 3 << 30, LimitBytes: 8 << 30, FullSeconds: &full, FillBytesPerSecond: 48_000},
			Stalls: []Stall{{"capture", 75, 1 << 20}, {"load", 3600, 2}},
		},
		"status-watchdog-unarmed": Status{
			Tenant: "foo", Facility: "la", BootID: boot, Session: SessionEpoch(1, 3), MonoMs: 86_400_000, WallMs: wall, Clock: ClockSynced,
			Faults: []FaultCode{FaultWatchdogOff}, Watchdog: &Watchdog{WatchdogUnarmed, "Broadcom BCM2835 Watchdog timer", 15},
		},
		"status-watchdog-none": Status{Tenant: "foo", Facility: "la", BootID: boot, Watchdog: &Watchdog{State: WatchdogNone}},
		"status-least":         Status{Tenant: "a", Facility: "b", BootID: boot},
		"conn-birth": Conn{
			Tenant: "foo", Facility: "la", BootID: boot, Session: SessionEpoch(1, 3), Connection: 2, State: ConnBirth,
			WallMs: wall, Clock: ClockSynced, Agent: "v0.1.0",
		},
		"conn-will": Conn{
			Tenant: "foo", Facility: "la", BootID: boot, Session: SessionEpoch(1, 3), Connection: 2, State: ConnWill,
			Reason: "connection lost", WallMs: wall, Clock: ClockUnknown, Agent: "v0.1.0",
		},
		"conn-bye": Conn{
			Tenant: "foo", Facility: "la", BootID: boot, Session: SessionEpoch(1, 3), Connection: 2, State: ConnBye,
			Reason: "restarting for an update", WallMs: wall, Clock: ClockSynced, BackSeconds: 90,
		},
		"event": Event{
			Tenant: "foo", Facility: "la", BootID: boot, Session: SessionEpoch(1, 3), Seq: 5, MonoMs: 777, WallMs: wall,
			Clock: ClockUnsynced, Kind: "queue_healed", Severity: SeverityWarning, Text: "Un cadre illisible a été relu. 读取成功",
			Attrs: map[string]string{"seq": "4711", "bytes": "4096", "z": ""},
		},
		"command-status": Command{
			Tenant: "foo", Facility: "la", ID: id, Kind: CommandStatus, IssuedMs: wall, ExpiresMs: wall + 30_000,
		},
		"command-args": Command{
			Tenant: "foo", Facility: "la", ID: id, Kind: "x", IssuedMs: -5, ExpiresMs: -1, Args: map[string]string{"b": "2", "aa": "1"},
		},
		"ack-refused": CommandAck{Tenant: "foo", Facility: "la", ID: id, Result: AckRefused, Text: "this version does not know the command", WallMs: wall},
		"ack-done":    CommandAck{Tenant: "foo", Facility: "la", ID: id, Result: AckDone, WallMs: wall},
	}
}

func kindOf(name string) string { kind, _, _ := strings.Cut(name, "-"); return kind }

func TestBytesOnTheWireNeverChange(t *testing.T) {
	t.Parallel()
	for name, m := range vectors() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := m.Encode()
			if err != nil {
				t.Fatal(err)
			}
			want := vector(t, name, got)
			if !bytes.Equal(got, want) {
				t.Errorf("encodes to\n%x, frozen is\n%x", got, want)
			}
			codec := codecs[kindOf(name)]
			if len(got) > codec.max {
				t.Errorf("it has %d bytes, at most %d are allowed", len(got), codec.max)
			}
			back, err := codec.decode(want)
			if err != nil {
				t.Fatal(err)
			}
			again, err := back.Encode()
			if err != nil || !bytes.Equal(again, want) {
				t.Errorf("decoded and encoded again: %x, %v", again, err)
			}
		})
	}
}

// TestEachFrozenVectorIsTried finds vectors that no message stands for any more.
func TestEachFrozenVectorIsTried(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(vectorDir + "/*.hex")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	known := vectors()
	for _, f := range files {
		if name := strings.TrimSuffix(filepath.Base(f), ".hex"); known[name] == nil {
			t.Errorf("%s: nothing tries it", f)
		}
	}
}

// vector reads a frozen message: hex, and beside it the same for people.
func vector(t *testing.T, name string, now []byte) []byte {
	t.Helper()
	edn, err := cbor.Diagnose(now)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(vectorDir, name+".hex")
	_, err = os.Stat(file)
	if os.IsNotExist(err) && *addVectors {
		if err := os.MkdirAll(vectorDir, 0o755); err != nil {
			t.Fatal(err)
		}
		for path, content := range map[string]string{file: hex.EncodeToString(now) + "\n", filepath.Join(vectorDir, name+".edn"): edn + "\n"} {
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	} else if err != nil {
		t.Fatalf("%v (a new vector is written by go test ./proto -update)", err)
	}
	raw := frozen(t, name)
	forPeople, err := os.ReadFile(filepath.Join(vectorDir, name+".edn"))
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := cbor.Diagnose(raw); strings.TrimSpace(string(forPeople)) != want {
		t.Errorf("%s.edn says something else than %s.hex", name, name)
	}
	return raw
}

// frozen is the vector's bytes as they are on disk.
func frozen(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(vectorDir, name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
