package proto

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// The sync stream is one WebSocket inside the tunnel. Each binary message is
// the CBOR array [type, payload]. The edge speaks first (Hello), the region
// answers (Welcome), and from then on both send as they like.
//
// Payloads are maps with integer keys; unknown keys are ignored, so that a
// newer side can say more to an older one. stream.cddl describes them.

// StreamVersion is the newest version of the stream that this build speaks,
// and StreamVersionMin the oldest. The region picks the newest that both know.
const (
	StreamVersion    = 2
	StreamVersionMin = 1
	// StreamVersionDown is the first that has a way down.
	StreamVersionDown = 2
)

// StreamPath is the WebSocket's path on the hub's stream port.
const StreamPath = "/stream/v1"

// StreamPort is the TCP port of the stream inside the tunnel.
const StreamPort = 7400

// MaxStreamMessageBytes bounds one message: a sealed frame and its envelope.
const MaxStreamMessageBytes = 64<<20 + 1024

// StreamType says what a stream message is. The numbers are on the wire.
type StreamType uint8

// Stream message types.
const (
	TypeHello       StreamType = 1  // edge → region, first
	TypeWelcome     StreamType = 2  // region → edge, the answer
	TypeAck         StreamType = 3  // receiver of frames → sender
	TypeFrame       StreamType = 4  // a sealed frame (internal/change), as a byte string
	TypeTables      StreamType = 5  // region → edge: what is synced, whole, after a change
	TypeTableStates StreamType = 6  // edge → region: how each table fares here
	TypeHeal        StreamType = 7  // region → edge: load these tables again
	TypeGoodbye     StreamType = 8  // either: why the stream ends
	TypeProblem     StreamType = 9  // region → edge: frames cannot be applied, and why; an empty text: now they can
	TypeCheck       StreamType = 10 // region → edge: could this table be synced?
	TypeChecked     StreamType = 11 // edge → region: the answer
	TypeDown        StreamType = 12 // region → edge: a frame of the way down; the edge's Ack is about these
	TypePace        StreamType = 13 // region → edge: how fast frames may be sent from now on
	TypeWhole       StreamType = 14 // region → edge: it has all rows of a table
	TypeVerify      StreamType = 20 // region → edge: what do a table's rows come to?
	TypeUnverified  StreamType = 21 // edge → region: why there is no answer to that
	TypeParked      StreamType = 24 // edge → region: changes from the region that wait at the box
	TypeParkedOrder StreamType = 25 // region → edge: what to do about one of them
	TypeParkedDone  StreamType = 26 // edge → region: the answer
)

// Hello opens the stream. Who is speaking is known from the tunnel address;
// the names here only let a mix-up be noticed.
type Hello struct {
	Version    uint8  `cbor:"1,keyasint"`
	VersionMin uint8  `cbor:"2,keyasint"`
	Facility   string `cbor:"3,keyasint"`
	// Epoch is the edge's current epoch; First and Last are the transaction
	// numbers of it that the queue holds (0, 0 when it holds none).
	Epoch uint64 `cbor:"4,keyasint"`
	First uint64 `cbor:"5,keyasint"`
	Last  uint64 `cbor:"6,keyasint"`
	Agent string `cbor:"7,keyasint,omitempty"`
	Boot  string `cbor:"8,keyasint,omitempty"`
	// TablesVersion is the version of the table list that the edge works by.
	TablesVersion uint64 `cbor:"9,keyasint,omitempty"`
	// AckedEpoch and AckedSeq are the last transaction that the region has told
	// this edge to be durable. A region that stands before it was restored from
	// an older backup.
	AckedEpoch uint64 `cbor:"10,keyasint,omitempty"`
	AckedSeq   uint64 `cbor:"11,keyasint,omitempty"`
	// Reason is why the epoch before this one ended, for people.
	Reason string `cbor:"12,keyasint,omitempty"`
	// DownEpoch and DownSeq are the last of the region's transactions that is
	// durable here; 0, 0 when none is.
	DownEpoch uint64 `cbor:"13,keyasint,omitempty"`
	DownSeq   uint64 `cbor:"14,keyasint,omitempty"`
	// Restores is true of an edge that knows what to do when its database was put
	// back from a backup. Restored is true while it was, and the region's rows are
	// still to come: the edge sends nothing of this epoch before that.
	Restores bool `cbor:"15,keyasint,omitempty"`
	Restored bool `cbor:"16,keyasint,omitempty"`
}

// Welcome answers a Hello: where the region stands, and what is synced.
type Welcome struct {
	Version uint8 `cbor:"1,keyasint"`
	// Epoch and Seq are the last transaction that the region has applied
	// durably; 0, 0 when it has none of this facility.
	Epoch  uint64 `cbor:"2,keyasint"`
	Seq    uint64 `cbor:"3,keyasint"`
	Tables Tables `cbor:"4,keyasint"`
	// WindowBytes is how many bytes of frames may be sent ahead of the
	// acknowledgement.
	WindowBytes uint32 `cbor:"5,keyasint"`
	Region      string `cbor:"6,keyasint,omitempty"`
	// DownEpoch is the epoch of the region's own changes; 0 when it sends none in
	// this stream.
	DownEpoch uint64 `cbor:"7,keyasint,omitempty"`
	// BytesPerSecond is how fast the edge may send frames; 0 is as fast as it can.
	BytesPerSecond uint64 `cbor:"8,keyasint,omitempty"`
	// WentBack is true when the edge has less of the way down than it had told to
	// be durable: its database was put back from a backup.
	WentBack bool `cbor:"9,keyasint,omitempty"`
	// Restoring answers Restored: the region's rows come, and a Heal behind them.
	Restoring bool `cbor:"10,keyasint,omitempty"`
	// Lacking is true when the region passed over changes of the edge: what it does
	// not have may never have been deleted.
	Lacking bool `cbor:"11,keyasint,omitempty"`
}

// Pace is how fast the edge may send frames from now on. The region knows the
// facility's limits and its clock's time zone, and says what holds at the time.
type Pace struct {
	BytesPerSecond uint64 `cbor:"1,keyasint,omitempty"` // 0: as fast as it can
}

// Down is one frame on the way down. The numbers of one facility's frames have
// gaps, because the region numbers the transactions for all facilities
// together: Prev says what must have come before.
type Down struct {
	PrevEpoch uint64 `cbor:"1,keyasint"`
	PrevSeq   uint64 `cbor:"2,keyasint"`
	// Frame is a sealed frame (internal/change).
	Frame []byte `cbor:"3,keyasint"`
	// More is true when the next frame belongs to the same transactions of the
	// region, so that nobody may see the one without the other.
	More bool `cbor:"4,keyasint,omitempty"`
}

// Ack says that everything up to Epoch:Seq is committed and on the receiver's disk.
type Ack struct {
	Epoch uint64 `cbor:"1,keyasint"`
	Seq   uint64 `cbor:"2,keyasint"`
}

// SyncedTable is one entry of the list of synced tables.
type SyncedTable struct {
	Schema string `cbor:"1,keyasint" json:"schema"`
	Name   string `cbor:"2,keyasint" json:"name"`
	// Class is fact, event or master.
	Class string `cbor:"3,keyasint" json:"class"`
	// FacilityColumn says whose row it is; empty with a schema per facility.
	FacilityColumn string `cbor:"4,keyasint,omitempty" json:"facility_column,omitempty"`
	// RegionSchema is where the rows live in the region: "{schema}", or a
	// pattern with {facility}.
	RegionSchema string `cbor:"5,keyasint,omitempty" json:"region_schema,omitempty"`
	// Policy says whose version stands when both sides changed a row without
	// knowing of each other: edge (also when empty), cloud, or columns. A master
	// table has none: the region alone writes it.
	Policy string `cbor:"6,keyasint,omitempty" json:"policy,omitempty"`
	// CloudColumns are the columns that the cloud owns; only with the policy
	// columns. All others are the edge's.
	CloudColumns []string `cbor:"7,keyasint,omitempty" json:"cloud_columns,omitempty"`
	// TenantColumn says which tenant a row of a master table belongs to; empty
	// sends it to every facility of the region.
	TenantColumn string `cbor:"8,keyasint,omitempty" json:"tenant_column,omitempty"`
}

// Policies of a SyncedTable.
const (
	PolicyEdge    = "edge"
	PolicyCloud   = "cloud"
	PolicyColumns = "columns"
)

// ID is "schema.name", for messages and maps; it is not quoted for SQL.
func (t SyncedTable) ID() string { return t.Schema + "." + t.Name }

// ConflictTable is where an edge writes what it decided about conflicts. Its
// rows go up like any other's.
const ConflictTable = "holdfast.conflict"

// System reports whether the table is one of Holdfast's own: it is registered
// by a migration, and nobody adds or removes it.
func (t SyncedTable) System() bool { return t.Schema == "holdfast" }

// Tables is the whole list of synced tables at a version.
type Tables struct {
	Version uint64        `cbor:"1,keyasint"`
	Tables  []SyncedTable `cbor:"2,keyasint"`
}

// States of a table at the edge.
const (
	TableLoading   = "loading"   // its rows are being sent for the first time, or again
	TableStreaming = "streaming" // its changes are captured and all earlier rows were sent
	TableRefused   = "refused"   // the edge's own database cannot serve it; see Problems
)

// Problem is what is wrong with a table, and what to do about it.
type Problem struct {
	Text   string `cbor:"1,keyasint" json:"problem"`
	Remedy string `cbor:"2,keyasint,omitempty" json:"remedy,omitempty"`
}

// String is both, as sentences.
func (p *Problem) String() string {
	if p.Remedy == "" {
		return p.Text
	}
	return p.Text + ". " + p.Remedy
}

// TableState is how one table fares at the edge.
type TableState struct {
	Schema      string    `cbor:"1,keyasint" json:"schema"`
	Name        string    `cbor:"2,keyasint" json:"name"`
	State       string    `cbor:"3,keyasint" json:"state"`
	Problems    []Problem `cbor:"4,keyasint,omitempty" json:"problems,omitempty"`
	RowsLoaded  uint64    `cbor:"5,keyasint,omitempty" json:"rows_loaded,omitempty"`
	Fingerprint uint64    `cbor:"6,keyasint,omitempty" json:"fingerprint,omitempty"`
	// Columns are told once for each fingerprint of a session; none means as
	// told before, or a box that does not tell.
	Columns []TableColumn `cbor:"7,keyasint,omitempty" json:"columns,omitempty"`
}

// TableColumn is one column of a table as a side has it.
type TableColumn struct {
	Name      string `cbor:"1,keyasint" json:"name"`
	Type      string `cbor:"2,keyasint" json:"type"` // as PostgreSQL writes it, with its modifier
	Key       bool   `cbor:"3,keyasint,omitempty" json:"key,omitempty"`
	Generated bool   `cbor:"4,keyasint,omitempty" json:"generated,omitempty"` // computed, not sent
	// Required is true when a row cannot be without a value that the sender gives.
	Required bool `cbor:"5,keyasint,omitempty" json:"required,omitempty"`
}

// TableStates is the state of every synced table at the edge.
type TableStates struct {
	Tables []TableState `cbor:"1,keyasint"`
}

// Heal asks the edge to send these tables' rows again, or all when empty.
type Heal struct {
	Tables []string `cbor:"1,keyasint,omitempty"` // IDs, schema.name
	Reason string   `cbor:"2,keyasint"`
	// Restored is true once an edge whose database was put back has been sent all
	// that the region has of it. Tables is empty then.
	Restored bool `cbor:"3,keyasint,omitempty"`
	// Mend names the occasion, where the region cannot know whether the edge has heard
	// it and asks again until it does: of one occasion a table is sent once.
	Mend string `cbor:"4,keyasint,omitempty"`
}

// Whole tells an edge that took another's place that it has all rows of the table that
// its facility had then, once the way down has come to a position there: from
// then on its key ranges say also which rows there are not (change.NoteWhole).
type Whole struct {
	Table string `cbor:"1,keyasint"` // ID, schema.name
	Epoch uint64 `cbor:"2,keyasint"`
	Seq   uint64 `cbor:"3,keyasint"`
}

// Codes of a Goodbye.
const (
	GoodbyeFenced   = "fenced"   // a newer box or session of this facility took over
	GoodbyeVersion  = "version"  // no common version of the stream
	GoodbyeRefused  = "refused"  // what was sent breaks a rule; see Text
	GoodbyeStuck    = "stuck"    // frames cannot be applied now; a Problem before it says why
	GoodbyeShutdown = "shutdown" // the other side stops or restarts
)

// Goodbye says why the stream ends.
type Goodbye struct {
	Code string `cbor:"1,keyasint"`
	Text string `cbor:"2,keyasint"`
}

// Check asks whether the edge's database could serve a table.
type Check struct {
	ID    uint64      `cbor:"1,keyasint"`
	Table SyncedTable `cbor:"2,keyasint"`
}

// Checked answers a Check; no problems means yes.
type Checked struct {
	ID       uint64    `cbor:"1,keyasint"`
	Problems []Problem `cbor:"2,keyasint,omitempty"`
}

type streamEnvelope struct {
	_       struct{} `cbor:",toarray"`
	Type    StreamType
	Payload cbor.RawMessage
}

var (
	streamEnc = func() cbor.EncMode {
		m, err := cbor.CoreDetEncOptions().EncMode()
		if err != nil {
			panic(err) // options are constants
		}
		return m
	}()
	streamDec = func() cbor.DecMode {
		m, err := cbor.DecOptions{
			DupMapKey:        cbor.DupMapKeyEnforcedAPF,
			MaxNestedLevels:  8,
			MaxArrayElements: 65536,
			MaxMapPairs:      64,
			IndefLength:      cbor.IndefLengthForbidden,
			TagsMd:           cbor.TagsForbidden,
		}.DecMode()
		if err != nil {
			panic(err)
		}
		return m
	}()
)

// ErrMalformed is wrapped by every error about bytes that are not a message.
var ErrMalformed = errors.New("malformed message")

// EncodeStream encodes one stream message. A Frame's payload is its sealed
// bytes as a []byte.
func EncodeStream(t StreamType, payload any) ([]byte, error) {
	p, err := streamEnc.Marshal(payload)
	if err != nil {
		return nil, fmt.Errorf("encode stream message %d: %w", t, err)
	}
	return streamEnc.Marshal(streamEnvelope{Type: t, Payload: p})
}

// DecodeStream decodes one stream message into a pointer to its type, or
// []byte for a Frame. A type that this build does not know yields a nil
// payload and no error: a newer peer may say more than we understand.
func DecodeStream(b []byte) (StreamType, any, error) {
	var e streamEnvelope
	if err := streamDec.Unmarshal(b, &e); err != nil {
		return 0, nil, fmt.Errorf("%w: stream envelope: %w", ErrMalformed, err)
	}
	var v any
	switch e.Type {
	case TypeHello:
		v = new(Hello)
	case TypeWelcome:
		v = new(Welcome)
	case TypeAck:
		v = new(Ack)
	case TypeFrame:
		var frame []byte
		if err := streamDec.Unmarshal(e.Payload, &frame); err != nil {
			return e.Type, nil, fmt.Errorf("%w: frame: %w", ErrMalformed, err)
		}
		return e.Type, frame, nil
	case TypeTables:
		v = new(Tables)
	case TypeTableStates:
		v = new(TableStates)
	case TypeHeal:
		v = new(Heal)
	case TypeGoodbye:
		v = new(Goodbye)
	case TypeProblem:
		v = new(Problem)
	case TypeCheck:
		v = new(Check)
	case TypeChecked:
		v = new(Checked)
	case TypeDown:
		v = new(Down)
	case TypePace:
		v = new(Pace)
	case TypeWhole:
		v = new(Whole)
	case TypeVerify:
		v = new(Verify)
	case TypeUnverified:
		v = new(Unverified)
	case TypeParked:
		v = new(Parked)
	case TypeParkedOrder:
		v = new(ParkedOrder)
	case TypeParkedDone:
		v = new(ParkedDone)
	default:
		return e.Type, nil, nil
	}
	if err := streamDec.Unmarshal(e.Payload, v); err != nil {
		return e.Type, nil, fmt.Errorf("%w: stream message %d: %w", ErrMalformed, e.Type, err)
	}
	return e.Type, v, nil
}
