package change

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strings"
	"sync"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"
)

// A sealed frame is
//
//	crc32c  4 bytes, big endian, over all that follows
//	hlen    2 bytes, big endian
//	header  hlen bytes, CBOR (Header)
//	body    zstd of the CBOR of Body
//
// so that a reader can number, skip and verify frames without unpacking them.

// Limits of a frame. A sender splits what is larger; a receiver refuses it.
const (
	MaxFrameBytes = 64 << 20  // sealed
	MaxBodyBytes  = 256 << 20 // unpacked; one row may be large
	prefixBytes   = 6
	// maxReasonBytes bounds Header.Reason, which the receiver stores.
	maxReasonBytes = 4096
	maxNoteWords   = 4
	// FormatVersion grows only when an older reader could not understand.
	FormatVersion = 1
)

// Kind is what a frame carries.
type Kind uint8

const (
	// Changes carries whole transactions, or one part of a big one.
	Changes Kind = 1
	// Gap says that First to Last are lost at the sender: the receiver moves
	// on past them, records why, and Range changes that follow heal the rows.
	Gap Kind = 2
)

// ErrCorrupt is returned for bytes that are not a frame that was sealed: torn,
// flipped or foreign.
var ErrCorrupt = errors.New("frame is corrupt")

// Header is what is readable without unpacking the body.
type Header struct {
	_       struct{} `cbor:",toarray"`
	Version uint8
	Kind    Kind
	Epoch   uint64
	// First and Last are the transaction numbers in the frame, inclusive.
	First, Last uint64
	// Part counts the parts of a transaction that spans frames, from 0, and
	// More is true when the next frame goes on with it (First == Last then).
	Part uint32
	More bool
	// Changes is the number of row changes in the body.
	Changes uint32
	// LSN is the end of Last's commit record; 0 while More.
	LSN uint64
	// CommitMicros is the commit time of First (the oldest in the frame).
	CommitMicros int64
	// BodyBytes is the size of the unpacked body.
	BodyBytes uint32
	// Reason is for people: why a Gap is there. In the log of a region it names
	// the bucket that a frame of Changes belongs to.
	Reason string
}

// Body is the packed part of a frame.
type Body struct {
	_      struct{} `cbor:",toarray"`
	Tables []Table
	Txs    []Tx
}

// Sealed is a frame's bytes with its header already read.
type Sealed struct {
	Header Header
	Bytes  []byte
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	encMode = func() cbor.EncMode {
		m, err := cbor.EncOptions{Sort: cbor.SortNone}.EncMode()
		if err != nil {
			panic(err) // options are constants
		}
		return m
	}()
	decMode = func() cbor.DecMode {
		m, err := cbor.DecOptions{
			MaxNestedLevels:  maxDepth,
			MaxArrayElements: 1 << 24,
			MaxMapPairs:      16,
			IndefLength:      cbor.IndefLengthForbidden,
			TagsMd:           cbor.TagsForbidden,
		}.DecMode()
		if err != nil {
			panic(err)
		}
		return m
	}()

	// One encoder and one decoder for the process: both may be used by many
	// goroutines at once, and their windows are what costs memory.
	zenc = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(err)
		}
		return e
	})
	zdec = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2),
			zstd.WithDecoderMaxMemory(MaxBodyBytes), zstd.WithDecoderLowmem(true))
		if err != nil {
			panic(err)
		}
		return d
	})
)

// Seal packs a frame. It fills in Version, Changes and BodyBytes.
func Seal(h Header, b *Body) (Sealed, error) {
	body, err := encMode.Marshal(b)
	if err != nil {
		return Sealed{}, fmt.Errorf("encode frame: %w", err)
	}
	h.Changes = 0
	for i := range b.Txs {
		h.Changes += uint32(len(b.Txs[i].Changes))
	}
	return seal(h, body)
}

// Parse checks a sealed frame's checksum and limits and reads its header. The
// result shares b. The error wraps ErrCorrupt whenever the bytes are at fault.
func Parse(b []byte) (Sealed, error) {
	if len(b) < prefixBytes || len(b) > MaxFrameBytes {
		return Sealed{}, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(b))
	}
	if binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return Sealed{}, fmt.Errorf("%w: checksum differs", ErrCorrupt)
	}
	hlen := int(binary.BigEndian.Uint16(b[4:]))
	if prefixBytes+hlen > len(b) {
		return Sealed{}, fmt.Errorf("%w: header of %d bytes in a frame of %d", ErrCorrupt, hlen, len(b))
	}
	s := Sealed{Bytes: b}
	if err := decMode.Unmarshal(b[prefixBytes:prefixBytes+hlen], &s.Header); err != nil {
		return Sealed{}, fmt.Errorf("%w: header: %w", ErrCorrupt, err)
	}
	return s, s.Header.check()
}

func (h *Header) check() error {
	switch {
	case h.Version != FormatVersion:
		return fmt.Errorf("frame has format %d, this build reads %d: update the older side", h.Version, FormatVersion)
	case h.Kind != Changes && h.Kind != Gap:
		return fmt.Errorf("%w: kind %d", ErrCorrupt, h.Kind)
	case h.First == 0 || h.Last < h.First:
		return fmt.Errorf("%w: transactions %d to %d", ErrCorrupt, h.First, h.Last)
	case (h.More || h.Part > 0) && h.First != h.Last:
		return fmt.Errorf("%w: a part with transactions %d to %d", ErrCorrupt, h.First, h.Last)
	case h.BodyBytes > MaxBodyBytes:
		return fmt.Errorf("%w: body of %d bytes", ErrCorrupt, h.BodyBytes)
	case h.Epoch > math.MaxInt64 || h.Last > math.MaxInt64:
		// A database keeps them as bigint, next to those of other senders.
		return fmt.Errorf("%w: position %d:%d is out of range", ErrCorrupt, h.Epoch, h.Last)
	case len(h.Reason) > maxReasonBytes || strings.ContainsRune(h.Reason, 0):
		return fmt.Errorf("%w: a reason of %d bytes, or one that is no text", ErrCorrupt, len(h.Reason))
	}
	return nil
}

// Open unpacks the body and checks that it is what the header says: numbers
// dense, tables and rows in range. What it returns shares nothing with s.
func (s *Sealed) Open() (*Body, error) { return s.open(false) }

// OpenBounds is Open without the rows of key ranges, for who asks what a frame may
// have touched: those of a table's first load are many.
func (s *Sealed) OpenBounds() (*Body, error) { return s.open(true) }

func (s *Sealed) open(bounds bool) (*Body, error) {
	hlen := int(binary.BigEndian.Uint16(s.Bytes[4:]))
	raw, err := zdec().DecodeAll(s.Bytes[prefixBytes+hlen:], make([]byte, 0, s.Header.BodyBytes))
	if err != nil {
		return nil, fmt.Errorf("%w: unpack: %w", ErrCorrupt, err)
	}
	if len(raw) != int(s.Header.BodyBytes) {
		return nil, fmt.Errorf("%w: body of %d bytes, header says %d", ErrCorrupt, len(raw), s.Header.BodyBytes)
	}
	b, err := decodeBody(raw, bounds)
	if err != nil {
		return nil, fmt.Errorf("%w: body: %w", ErrCorrupt, err)
	}
	return b, b.check(&s.Header)
}

func (b *Body) check(h *Header) error {
	if h.Kind == Gap {
		if len(b.Txs) != 0 {
			return fmt.Errorf("%w: a gap with transactions", ErrCorrupt)
		}
		return nil
	}
	if uint64(len(b.Txs)) != h.Last-h.First+1 {
		return fmt.Errorf("%w: %d transactions in %d to %d", ErrCorrupt, len(b.Txs), h.First, h.Last)
	}
	for i := range b.Txs {
		tx := &b.Txs[i]
		if tx.Seq != h.First+uint64(i) {
			return fmt.Errorf("%w: transaction %d where %d belongs", ErrCorrupt, tx.Seq, h.First+uint64(i))
		}
		for j := range tx.Changes {
			if err := b.checkChange(&tx.Changes[j]); err != nil {
				return fmt.Errorf("%w: transaction %d, change %d: %w", ErrCorrupt, tx.Seq, j, err)
			}
		}
	}
	return nil
}

func (b *Body) checkChange(c *Change) error {
	if c.Op == Note {
		if len(c.Row) < 2 || len(c.Row) > maxNoteWords || c.Key != nil || c.Absent != nil || c.Range != nil {
			return fmt.Errorf("note of %d words", len(c.Row))
		}
		return nil
	}
	if c.Table < 0 || c.Table >= len(b.Tables) {
		return fmt.Errorf("table %d of %d", c.Table, len(b.Tables))
	}
	t := &b.Tables[c.Table]
	keys := 0
	for i := range t.Columns {
		if t.Columns[i].Key {
			keys++
		}
	}
	if c.Op == Digest {
		if len(c.Row) != 1 || c.Key != nil || c.Absent != nil || c.Range != nil || keys == 0 {
			return fmt.Errorf("digest of %s with %d values", t.ID(), len(c.Row))
		}
		return nil
	}
	if c.Range != nil && c.Op != Range {
		return fmt.Errorf("%s of %s with a range", c.Op, t.ID())
	}
	wantRow, wantKey := false, false
	switch c.Op {
	case Insert:
		wantRow = true
	case Update:
		wantRow, wantKey = true, c.Key != nil
	case Delete:
		wantKey = true
	case Truncate:
	case Range:
		return checkRange(c.Range, len(t.Columns), keys)
	default:
		return fmt.Errorf("operation %d", c.Op)
	}
	if wantRow && len(c.Row) != len(t.Columns) || !wantRow && c.Row != nil {
		return fmt.Errorf("%s of %s with %d values for %d columns", c.Op, t.ID(), len(c.Row), len(t.Columns))
	}
	if wantKey && len(c.Key) != keys || !wantKey && c.Key != nil {
		return fmt.Errorf("%s of %s with %d key values for %d key columns", c.Op, t.ID(), len(c.Key), keys)
	}
	for _, a := range c.Absent {
		if a < 0 || a >= len(c.Row) || t.Columns[a].Key && c.Key == nil && c.Op == Insert {
			return fmt.Errorf("column %d absent", a)
		}
	}
	return nil
}

func checkRange(r *KeyRange, columns, keys int) error {
	if r == nil {
		return errors.New("range without its rows")
	}
	for _, k := range []Row{r.After, r.UpTo} {
		if k != nil && len(k) != keys {
			return fmt.Errorf("range bound with %d values for %d key columns", len(k), keys)
		}
	}
	for _, row := range r.Rows {
		if len(row) != columns {
			return fmt.Errorf("range row with %d values for %d columns", len(row), columns)
		}
	}
	return nil
}

// Peek reads the header from the beginning of a sealed frame without verifying
// the checksum, which needs all of it. Only Parse tells whether it is true.
func Peek(b []byte) (Header, error) {
	var h Header
	if len(b) < prefixBytes {
		return h, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(b))
	}
	hlen := int(binary.BigEndian.Uint16(b[4:]))
	if prefixBytes+hlen > len(b) {
		return h, fmt.Errorf("%w: header of %d bytes in %d", ErrCorrupt, hlen, len(b))
	}
	if err := decMode.Unmarshal(b[prefixBytes:prefixBytes+hlen], &h); err != nil {
		return h, fmt.Errorf("%w: header: %w", ErrCorrupt, err)
	}
	return h, h.check()
}
