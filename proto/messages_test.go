package proto

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOnlyCanonicalBytesAreRead(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ hex, want string }{
		"empty":               {"", "ends early"},
		"cut head":            {"b8", "ends early"},
		"cut text":            {"6361", "ends early"},
		"huge text":           {"7b7fffffffffffffff61", "ends early"},
		"huge array":          {"9b0000000100000000", "an array has 4294967296 elements"},
		"huge map":            {"b90101", "a map has 257 entries"},
		"trailing":            {"0000", "follow"},
		"long integer":        {"1800", "longer than needed"},
		"long length":         {"780161", "longer than needed"},
		"long 64 bit":         {"1b00000000ffffffff", "longer than needed"},
		"indefinite array":    {"9fff", "indefinite"},
		"indefinite text":     {"7fff", "indefinite"},
		"reserved":            {"1c", "indefinite and reserved"},
		"float 16":            {"f93c00", "float"},
		"float 64":            {"fb3ff0000000000000", "float"},
		"null":                {"f6", "not allowed"},
		"tag":                 {"c000", "tags"},
		"duplicate key":       {"a200000001", "duplicate"},
		"keys out of order":   {"a201000000", "out of order"},
		"not UTF-8":           {"61ff", "UTF-8"},
		"a zero in a text":    {"6100", "U+0000"},
		"nested too deep":     {strings.Repeat("81", 9) + "00", "nested"},
		"nested just so":      {strings.Repeat("81", 8) + "00", ""},
		"largest unsigned":    {"1bffffffffffffffff", ""},
		"largest in one byte": {"17", ""},
		"true":                {"f5", ""},
		"two keys":            {"a2000020f4", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw, err := hex.DecodeString(tc.hex)
			if err != nil {
				t.Fatal(err)
			}
			err = checkCanonical(raw)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("checkCanonical: %v, want %q", err, tc.want)
			}
		})
	}
}

func TestMessagesWithBadContentAreRefused(t *testing.T) {
	t.Parallel()
	good := vectors()
	for name, tc := range map[string]struct {
		m    message
		want string
	}{
		"tenant json":          {Conn{Tenant: "json", Facility: "la", State: ConnBirth}, "reserved"},
		"facility with slash":  {Conn{Tenant: "foo", Facility: "la/x", State: ConnBirth}, "small letters"},
		"no facility":          {Status{Tenant: "foo"}, "empty"},
		"heartbeat unnumbered": {Heartbeat{EverySeconds: 5}, "sequence number"},
		"heartbeat too slow":   {Heartbeat{Seq: 1, EverySeconds: 3601}, "pace"},
		"faults out of order":  {Heartbeat{Seq: 1, EverySeconds: 5, Faults: []FaultCode{2, 1}}, "rising"},
		"conn without state":   {Conn{Tenant: "foo", Facility: "la"}, "birth"},
		"command without id":   {Command{Tenant: "foo", Facility: "la", Kind: "x", ExpiresMs: 1}, "id"},
		"command expired":      {Command{Tenant: "foo", Facility: "la", Kind: "x", ID: CommandID{1}, IssuedMs: 2, ExpiresMs: 1}, "expires"},
		"ack without result":   {CommandAck{Tenant: "foo", Facility: "la", ID: CommandID{1}}, "result"},
		"event without kind":   {Event{Tenant: "foo", Facility: "la", Seq: 1}, "kind"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if b, err := tc.m.Encode(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Encode: %x, %v, want an error about %q", b, err, tc.want)
			}
		})
	}
	// A byte string that is a byte short or long is not padded or cut.
	raw, err := good["conn-birth"].Encode()
	if err != nil {
		t.Fatal(err)
	}
	boot := bytes.Index(raw, []byte{0x50, 0x1f, 0x2e})
	short := append(append(bytes.Clone(raw[:boot]), 0x4f), raw[boot+2:]...)
	if _, err := DecodeConn(short); err == nil || !strings.Contains(err.Error(), "expected 16 bytes") {
		t.Errorf("a boot id of 15 bytes: %v", err)
	}
}

func TestNewerMessagesAreStillRead(t *testing.T) {
	t.Parallel()
	old, err := vectors()["command-status"].Encode()
	if err != nil {
		t.Fatal(err)
	}
	// One more key (99) at the end, an experiment (-1) after it, schema 2.
	newer := append(bytes.Clone(old), 0x18, 99, 0x81, 0x01, 0x20, 0xf5)
	newer[0] += 2
	newer[2] = 2
	c, err := DecodeCommand(newer)
	if err != nil {
		t.Fatal(err)
	}
	if c.Kind != CommandStatus || c.Schema != 2 {
		t.Errorf("read %+v", c)
	}
}

// A box of the build before says nothing of its watchdog, which is no fault; a
// region of the build before does not know the key, and reads the rest.
func TestTheWatchdogIsNewsToTheBuildBefore(t *testing.T) {
	t.Parallel()
	before, err := DecodeStatus(frozen(t, "status-full"))
	if err != nil || before.Watchdog != nil || slices.Contains(before.Faults, FaultWatchdogOff) {
		t.Errorf("the build before is said to have told %v, %v, %v", before.Watchdog, before.Faults, err)
	}
	raw := frozen(t, "status-watchdog-unarmed")
	now, err := DecodeStatus(raw)
	if err != nil || now.Watchdog == nil || *now.Watchdog != (Watchdog{WatchdogUnarmed, "Broadcom BCM2835 Watchdog timer", 15}) {
		t.Errorf("this build reads %v, %v", now.Watchdog, err)
	}
	// What the build before has of a document and of a watchdog's faults.
	var known struct {
		Facility string      `cbor:"2,keyasint"`
		Faults   []FaultCode `cbor:"9,keyasint,omitempty"`
		Queue    Queue       `cbor:"13,keyasint"`
		Stalls   []Stall     `cbor:"21,keyasint,omitempty"`
	}
	if err := decode("status", raw, &known, StatusMaxBytes); err != nil || known.Facility != "la" || checkFaults(known.Faults) != nil {
		t.Errorf("the build before reads %+v, %v", known, err)
	}
}

func TestStatusDocumentAlwaysFits(t *testing.T) {
	t.Parallel()
	s := Status{Tenant: strings.Repeat("t", 63), Facility: strings.Repeat("f", 63)}
	for range 8 {
		s.Disks = append(s.Disks, Disk{Role: strings.Repeat("d", 500), TotalBytes: 1 << 63})
	}
	for range 1000 {
		s.Tables = append(s.Tables, TableStatus{Name: strings.Repeat("ü", 500), State: "refused", Problem: strings.Repeat("p", 5000)})
	}
	s.Versions.Agent = strings.Repeat("v", 10_000) + "\xff"
	s.Watchdog = &Watchdog{Name: strings.Repeat("w", 10_000)}
	raw, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeStatus(raw)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Tables) == 0 || got.TablesLeftOut != uint(1000-len(got.Tables)) {
		t.Errorf("%d tables, %d left out, of 1000", len(got.Tables), got.TablesLeftOut)
	}
	if len(s.Tables) != 1000 || len(s.Disks[0].Role) != 500 || len(s.Watchdog.Name) != 10_000 {
		t.Error("Encode has changed what it was given")
	}
}

func TestTopicsComeApartAsTheyWerePut(t *testing.T) {
	t.Parallel()
	for _, k := range append(append([]Kind(nil), KindsUp...), KindsDown...) {
		tenant, facility, got, err := ParseTopic(Topic("foo", "la", k))
		if err != nil || tenant != "foo" || facility != "la" || got != k {
			t.Errorf("%s: %s %s %s %v", k, tenant, facility, got, err)
		}
	}
	for _, bad := range []string{
		"", "hf/v1/foo/la", "hf/v1/foo/la/hb/x", "hf/v1/foo/la/nope", "hf/v2/foo/la/hb", "hf/v1/json/la/hb", "hf/v1/Foo/la/hb",
		"hf/v1//la/hb", "hf/v1/+/la/hb", MirrorTopic("foo", "la", "state"),
	} {
		if _, _, _, err := ParseTopic(bad); err == nil {
			t.Errorf("%q was taken for a topic", bad)
		}
	}
}

func TestClientIDsAreShortAndUnlike(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 63)
	seen := map[string]bool{RegionClientID: true}
	for _, tenant := range []string{"foo", "foo-", "at-foo", "f", long} {
		for _, facility := range []string{"la", "la-", "la-at-foo", long} {
			for _, n := range []uint32{1, 11, 1<<32 - 1} {
				id := ClientID(tenant, facility, n)
				if seen[id] {
					t.Errorf("%q names two boxes", id)
				}
				seen[id] = true
				if len(id) > 64 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
					t.Errorf("%q is too long or has other characters", id)
				}
			}
		}
	}
	if got := ClientID("foo", "la", 3); got != "la-AT-foo-E3" {
		t.Errorf("ClientID is %q: certificates in the field say otherwise", got)
	}
}

func TestCommandExpires(t *testing.T) {
	t.Parallel()
	now := time.Now()
	c := Command{ExpiresMs: now.Add(time.Second).UnixMilli()}
	if c.Expired(now) || !c.Expired(now.Add(2*time.Second)) {
		t.Error("it expires at the wrong time")
	}
}

// FuzzDecodeMessage feeds every decoder the same bytes: none may panic, and what one
// accepts must be writable again, to the same bytes unless it was newer.
func FuzzDecodeMessage(f *testing.F) {
	for _, m := range vectors() {
		raw, err := m.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	for _, text := range []string{"", "a0", "bf", "9bffffffffffffffff", strings.Repeat("81", 5000), "a10001", "a1001b7fffffffffffffff"} {
		raw, _ := hex.DecodeString(text)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for kind, codec := range codecs {
			m, err := codec.decode(raw)
			if err != nil {
				continue
			}
			if len(raw) > codec.max {
				t.Errorf("%s: %d bytes were read, at most %d are allowed", kind, len(raw), codec.max)
			}
			out, err := m.Encode()
			if err != nil {
				t.Errorf("%s: %x was read and cannot be written: %v", kind, raw, err)
				continue
			}
			back, err := codec.decode(out)
			if err != nil {
				t.Errorf("%s: %x was written and cannot be read: %v", kind, out, err)
				continue
			}
			if again, err := back.Encode(); err != nil || !bytes.Equal(again, out) {
				t.Errorf("%s: %x becomes %x, %v", kind, out, again, err)
			}
		}
	})
}

// FuzzTopic holds ParseTopic to its promise: what it accepts, Topic makes.
func FuzzTopic(f *testing.F) {
	f.Add(Topic("foo", "la", KindHeartbeat))
	f.Add("hf/v1/json/foo/la/state")
	f.Fuzz(func(t *testing.T, topic string) {
		tenant, facility, k, err := ParseTopic(topic)
		if err == nil && Topic(tenant, facility, k) != topic {
			t.Errorf("%q came apart as %s, %s, %s", topic, tenant, facility, k)
		}
	})
}
