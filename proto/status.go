package proto

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// StatusMaxBytes is the longest status document, encoded.
const StatusMaxBytes = 4096

// Limits within a status document.
const (
	disksMax      = 8
	tablesMax     = 256
	stallsMax     = 16
	shortTextMax  = 64  // states, versions
	tableNameMax  = 140 // schema and name as PostgreSQL allows them, and a dot
	problemMax    = 200
	longTextBytes = 512 // reasons and event texts
)

// BootID is the kernel's random boot id: it differs after each boot.
type BootID [16]byte

// ParseBootID reads what /proc/sys/kernel/random/boot_id holds.
func ParseBootID(text string) (BootID, error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(text), "-", ""))
	if err != nil || len(raw) != len(BootID{}) {
		return BootID{}, fmt.Errorf("%q is not a boot id", text)
	}
	return BootID(raw), nil
}

// String is the boot id as the kernel prints it.
func (b BootID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// MarshalText is String.
func (b BootID) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText is ParseBootID.
func (b *BootID) UnmarshalText(text []byte) (err error) {
	*b, err = ParseBootID(string(text))
	return err
}

// UnmarshalCBOR reads a byte string of exactly 16 bytes.
func (b *BootID) UnmarshalCBOR(data []byte) error { return fixedBytes(b[:], data) }

// Status is what a box knows of itself. It is sent when something in it that
// matters has changed, now and then, and when the region asks.
type Status struct {
	Schema   uint         `cbor:"0,keyasint" json:"schema"`
	Tenant   string       `cbor:"1,keyasint" json:"tenant"`
	Facility string       `cbor:"2,keyasint" json:"facility"`
	BootID   BootID       `cbor:"3,keyasint" json:"boot_id"`
	Session  uint64       `cbor:"4,keyasint" json:"session"`
	MonoMs   uint64       `cbor:"5,keyasint" json:"mono_ms"`
	WallMs   int64        `cbor:"6,keyasint" json:"wall_ms"`
	Clock    ClockQuality `cbor:"7,keyasint" json:"clock"`
	Health   Health       `cbor:"8,keyasint" json:"health"`
	Faults   []FaultCode  `cbor:"9,keyasint,omitempty" json:"faults,omitempty"`
	// BootedMs and StartedMs are when the box and the agent were started, by
	// the box's wall clock, which may have been wrong then.
	BootedMs  int64    `cbor:"10,keyasint" json:"booted_ms"`
	StartedMs int64    `cbor:"11,keyasint" json:"started_ms"`
	Versions  Versions `cbor:"12,keyasint" json:"versions"`
	Queue     Queue    `cbor:"13,keyasint" json:"queue"`
	Database  Database `cbor:"14,keyasint" json:"database"`
	Disks     []Disk   `cbor:"15,keyasint,omitempty" json:"disks,omitempty"`
	// MilliCelsius is the hottest sensor; absent where there is none.
	MilliCelsius *int64 `cbor:"16,keyasint,omitempty" json:"milli_celsius,omitempty"`
	Load         Load   `cbor:"17,keyasint" json:"load"`
	Tunnel       Tunnel `cbor:"18,keyasint" json:"tunnel"`
	// Tables are the synced tables, as many as fit; TablesLeftOut counts the
	// others. Those with a problem come first.
	Tables        []TableStatus `cbor:"19,keyasint,omitempty" json:"tables,omitempty"`
	TablesLeftOut uint          `cbor:"20,keyasint,omitempty" json:"tables_left_out,omitempty"`
	// Stalls are the stages that have work and make no progress.
	Stalls []Stall `cbor:"21,keyasint,omitempty" json:"stalls,omitempty"`
	// Watchdog is absent where the box cannot tell, and from a build that does not know it.
	Watchdog *Watchdog `cbor:"22,keyasint,omitempty" json:"watchdog,omitempty"`
}

// Stall is a stage on the way of a row that has work and makes no progress.
type Stall struct {
	Stage   string `cbor:"0,keyasint" json:"stage"`   // capture, transfer, acknowledge, load
	Seconds uint64 `cbor:"1,keyasint" json:"seconds"` // for how long
	Work    uint64 `cbor:"2,keyasint" json:"work"`    // how much there is to do
}

// Versions names what runs on the box.
type Versions struct {
	Agent    string `cbor:"0,keyasint" json:"agent"`
	Kernel   string `cbor:"1,keyasint" json:"kernel"`
	Postgres string `cbor:"2,keyasint" json:"postgres"`
	Hardware string `cbor:"3,keyasint" json:"hardware"` // board or machine type
}

// Queue is what waits on the box's disk for the region.
type Queue struct {
	Frames        uint64 `cbor:"0,keyasint" json:"frames"`
	Transactions  uint64 `cbor:"1,keyasint" json:"transactions"`
	Changes       uint64 `cbor:"2,keyasint" json:"changes"`
	Bytes         uint64 `cbor:"3,keyasint" json:"bytes"`
	OldestSeconds uint64 `cbor:"4,keyasint" json:"oldest_seconds"`
	LimitBytes    uint64 `cbor:"5,keyasint" json:"limit_bytes"`
	// Epoch and LastSeq are the newest transaction captured, AckedEpoch and
	// AckedSeq the last one that the region has acknowledged.
	Epoch      uint64 `cbor:"6,keyasint" json:"epoch"`
	LastSeq    uint64 `cbor:"7,keyasint" json:"last_seq"`
	AckedEpoch uint64 `cbor:"8,keyasint" json:"acked_epoch"`
	AckedSeq   uint64 `cbor:"9,keyasint" json:"acked_seq"`
	// FullSeconds is when it will be full at the rate at which it fills now;
	// absent when that is not to be expected.
	FullSeconds        *uint64 `cbor:"10,keyasint,omitempty" json:"full_seconds,omitempty"`
	FillBytesPerSecond uint64  `cbor:"11,keyasint,omitempty" json:"fill_bytes_per_second,omitempty"`
}

// Database is the box's own PostgreSQL.
type Database struct {
	State            string `cbor:"0,keyasint" json:"state"` // up, down, starting, recovering
	WALRetainedBytes uint64 `cbor:"1,keyasint" json:"wal_retained_bytes"`
	Slot             string `cbor:"2,keyasint" json:"slot"` // active, inactive, lost, missing
	SizeBytes        uint64 `cbor:"3,keyasint" json:"size_bytes"`
}

// Disk is one file system.
type Disk struct {
	Role       string `cbor:"0,keyasint" json:"role"` // state, data
	TotalBytes uint64 `cbor:"1,keyasint" json:"total_bytes"`
	FreeBytes  uint64 `cbor:"2,keyasint" json:"free_bytes"` // for ordinary users
}

// Load is how busy the box is.
type Load struct {
	Load1Milli           uint64 `cbor:"0,keyasint" json:"load1_milli"` // load average of a minute, in thousandths
	CPUs                 uint   `cbor:"1,keyasint" json:"cpus"`
	MemoryTotalBytes     uint64 `cbor:"2,keyasint" json:"memory_total_bytes"`
	MemoryAvailableBytes uint64 `cbor:"3,keyasint" json:"memory_available_bytes"`
	AgentRSSBytes        uint64 `cbor:"4,keyasint" json:"agent_rss_bytes"`
}

// What a machine's watchdog may be.
const (
	WatchdogArmed   = "armed"
	WatchdogUnarmed = "unarmed" // there is one, and nobody feeds it
	WatchdogNone    = "none"    // the kernel knows of none
)

// Watchdog is the machine's hardware watchdog: a timer that restarts it when
// it has not been fed for a while.
type Watchdog struct {
	State   string `cbor:"0,keyasint" json:"state"`                       // armed, unarmed, none
	Name    string `cbor:"1,keyasint,omitempty" json:"name,omitempty"`    // its driver's word for it
	Seconds uint64 `cbor:"2,keyasint,omitempty" json:"seconds,omitempty"` // unfed, until it restarts the machine
}

// String says it to people.
func (w Watchdog) String() string {
	s := w.State
	if s == WatchdogUnarmed {
		s = "not armed"
	}
	if w.Name == "" || w.Seconds == 0 {
		return s
	}
	return fmt.Sprintf("%s (%s, %d s)", s, w.Name, w.Seconds)
}

// Tunnel is the box's side of the tunnel.
type Tunnel struct {
	State            string `cbor:"0,keyasint" json:"state"`                       // up, down, off
	HandshakeSeconds uint64 `cbor:"1,keyasint,omitempty" json:"handshake_seconds"` // since the last one; 0 when there was none
	ReceivedBytes    uint64 `cbor:"2,keyasint" json:"received_bytes"`
	SentBytes        uint64 `cbor:"3,keyasint" json:"sent_bytes"`
}

// TableStatus is one synced table, as the box sees it.
type TableStatus struct {
	Name    string `cbor:"0,keyasint" json:"name"`  // schema.table
	State   string `cbor:"1,keyasint" json:"state"` // loading, streaming, refused
	Problem string `cbor:"2,keyasint,omitempty" json:"problem,omitempty"`
}

// Encode returns the document's bytes, at most StatusMaxBytes. Texts that are
// too long are cut, and tables that do not fit are left out and counted.
func (s Status) Encode() ([]byte, error) {
	s.Schema = schemaNow
	s.cutTexts()
	all := len(s.Tables)
	leftOut := s.TablesLeftOut
	for {
		b, err := encode("status", s, 1<<20)
		if err != nil {
			return nil, err
		}
		if len(b) <= StatusMaxBytes {
			if err := s.check(); err != nil {
				return nil, fmt.Errorf("encode status: %w", err)
			}
			return b, nil
		}
		if len(s.Tables) == 0 {
			return nil, fmt.Errorf("encode status: it has %d bytes without tables, at most %d are allowed", len(b), StatusMaxBytes)
		}
		s.Tables = s.Tables[:len(s.Tables)*3/4]
		s.TablesLeftOut = leftOut + uint(all-len(s.Tables))
	}
}

// cutTexts makes the texts fit. It copies the slices that it changes.
func (s *Status) cutTexts() {
	for _, p := range []*string{
		&s.Versions.Agent, &s.Versions.Kernel, &s.Versions.Postgres, &s.Versions.Hardware,
		&s.Database.State, &s.Database.Slot, &s.Tunnel.State,
	} {
		*p = cut(*p, shortTextMax)
	}
	s.Disks = append([]Disk(nil), s.Disks...)
	for i := range s.Disks {
		s.Disks[i].Role = cut(s.Disks[i].Role, shortTextMax)
	}
	tables := append([]TableStatus(nil), s.Tables...)
	if len(tables) > tablesMax {
		s.TablesLeftOut += uint(len(tables) - tablesMax)
		tables = tables[:tablesMax]
	}
	for i := range tables {
		t := &tables[i]
		t.Name, t.State, t.Problem = cut(t.Name, tableNameMax), cut(t.State, shortTextMax), cut(t.Problem, problemMax)
	}
	s.Tables = tables
	s.Stalls = append([]Stall(nil), s.Stalls[:min(len(s.Stalls), stallsMax)]...)
	for i := range s.Stalls {
		s.Stalls[i].Stage = cut(s.Stalls[i].Stage, shortTextMax)
	}
	if s.Watchdog != nil {
		w := *s.Watchdog
		w.State, w.Name = cut(w.State, shortTextMax), cut(w.Name, shortTextMax)
		s.Watchdog = &w
	}
}

// cut shortens text to at most n bytes, between two runes, and drops what is
// not UTF-8.
func cut(text string, n int) string {
	text = strings.ToValidUTF8(text, "")
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// StatusDigest is what a heartbeat says of the status document with these bytes.
func StatusDigest(encoded []byte) Digest {
	sum := sha256.Sum256(encoded)
	return Digest(sum[:8])
}

// DecodeStatus reads what Encode wrote, or a newer build's document.
func DecodeStatus(data []byte) (Status, error) {
	var s Status
	if err := decode("status", data, &s, StatusMaxBytes); err != nil {
		return Status{}, err
	}
	if err := s.check(); err != nil {
		return Status{}, fmt.Errorf("decode status: %w", err)
	}
	return s, nil
}

func (s Status) check() error {
	if err := checkWho(s.Schema, s.Tenant, s.Facility); err != nil {
		return err
	}
	if len(s.Disks) > disksMax {
		return fmt.Errorf("%d disks, at most %d are allowed", len(s.Disks), disksMax)
	}
	if len(s.Tables) > tablesMax {
		return fmt.Errorf("%d tables, at most %d are allowed", len(s.Tables), tablesMax)
	}
	if len(s.Stalls) > stallsMax {
		return fmt.Errorf("%d stalls, at most %d are allowed", len(s.Stalls), stallsMax)
	}
	return checkFaults(s.Faults)
}

// checkWho checks what each message but the heartbeat begins with.
func checkWho(schema uint, tenant, facility string) error {
	if schema == 0 {
		return errNoSchema
	}
	return errors.Join(CheckTenant(tenant), CheckID(facility))
}
