package queue

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/hashicorp/raft-wal/types"

	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/durable"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// pair keeps a small value in two files that are overwritten in turn, each with
// a generation and a checksum: a torn write leaves the one before. The files
// have their space from the start, so that they can be written when the disk
// is full; dropping frames, which gives space back, needs that.
type pair struct {
	f   [2]*os.File
	gen uint64
}

const (
	pairHeader  = 16 // crc32c, length, generation
	pairReserve = 32 << 10
	pairMax     = 16 << 20
)

// openPair opens or creates name.0 and name.1 and returns the newest value that
// is whole, nil if there is none. found is true when the files were there.
func openPair(dir, name string) (p *pair, value []byte, found bool, err error) {
	p = new(pair)
	for i := range p.f {
		path := filepath.Join(dir, name+"."+strconv.Itoa(i))
		if p.f[i], err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
			return nil, nil, false, errors.Join(err, p.close())
		}
		info, err := p.f[i].Stat()
		if err != nil {
			return nil, nil, false, errors.Join(err, p.close())
		}
		if info.Size() < pairReserve {
			if _, err := p.f[i].WriteAt(make([]byte, pairReserve-info.Size()), info.Size()); err != nil {
				return nil, nil, false, errors.Join(err, p.close())
			}
			if err := errors.Join(p.f[i].Sync(), durable.SyncDir(dir)); err != nil {
				return nil, nil, false, errors.Join(err, p.close())
			}
		}
		found = found || info.Size() > 0
		if gen, v, ok := readSlot(p.f[i]); ok && gen > p.gen {
			p.gen, value = gen, v
		}
	}
	return p, value, found, nil
}

func readSlot(f *os.File) (gen uint64, value []byte, ok bool) {
	var h [pairHeader]byte
	if _, err := f.ReadAt(h[:], 0); err != nil {
		return 0, nil, false
	}
	n := binary.BigEndian.Uint32(h[4:])
	if n > pairMax {
		return 0, nil, false
	}
	value = make([]byte, n)
	if _, err := f.ReadAt(value, pairHeader); err != nil {
		return 0, nil, false
	}
	sum := crc32.Update(crc32.Checksum(h[4:], castagnoli), castagnoli, value)
	return binary.BigEndian.Uint64(h[8:]), value, sum == binary.BigEndian.Uint32(h[:])
}

// save makes value the newest; when it fails the one before stays.
func (p *pair) save(value []byte) error {
	if len(value) > pairMax {
		return fmt.Errorf("%d bytes are more than %d", len(value), pairMax)
	}
	b := make([]byte, pairHeader, pairHeader+len(value))
	binary.BigEndian.PutUint32(b[4:], uint32(len(value)))
	binary.BigEndian.PutUint64(b[8:], p.gen+1)
	b = append(b, value...)
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	f := p.f[(p.gen+1)%2]
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	if err := syscall.Fdatasync(int(f.Fd())); err != nil {
		return err
	}
	p.gen++
	return nil
}

func (p *pair) close() error {
	var errs []error
	for _, f := range p.f {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// note is what the queue remembers beside the frames.
type note struct {
	Mark  uint64
	Acked change.Position
	// Tail is the last whole transaction at that time. A queue that ends before
	// it has lost its end on the disk, and Mark is not true any more.
	Tail change.Position
	// GaveWay is the last transaction that GiveWay gave up.
	GaveWay change.Position
}

type noteFile struct {
	note
	p *pair
}

func openNote(dir string) (*noteFile, error) {
	p, raw, _, err := openPair(dir, "note")
	if err != nil {
		return nil, err
	}
	n := &noteFile{p: p}
	if raw != nil {
		// A note that is lost costs frames sent twice and a slower slot.
		_ = json.Unmarshal(raw, &n.note)
	}
	return n, nil
}

func (n *noteFile) save(v note) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return n.p.save(raw)
}

// meta is the log's list of segments. The log's own store is not used: closing
// the log does not close it, and leaves it locked.
type meta struct {
	p     *pair
	state types.PersistentState
}

var _ types.MetaStore = (*meta)(nil)

// openMeta returns the list; known is false when there was one and it is lost.
func openMeta(dir string) (m *meta, known bool, err error) {
	p, raw, found, err := openPair(dir, "segments")
	if err != nil {
		return nil, false, err
	}
	m = &meta{p: p}
	if raw == nil {
		return m, !found, nil
	}
	if err := json.Unmarshal(raw, &m.state); err != nil {
		return m, false, nil
	}
	return m, true, nil
}

// Load implements types.MetaStore.
func (m *meta) Load(string) (types.PersistentState, error) { return m.state, nil }

// CommitState implements types.MetaStore.
func (m *meta) CommitState(s types.PersistentState) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := m.p.save(raw); err != nil {
		return fmt.Errorf("note the segments: %w", err)
	}
	m.state = s
	return nil
}

// GetStable implements types.MetaStore; nothing is kept there.
func (m *meta) GetStable([]byte) ([]byte, error) { return nil, nil }

// SetStable implements types.MetaStore; nothing is kept there.
func (m *meta) SetStable([]byte, []byte) error { return errors.ErrUnsupported }

// Close implements types.MetaStore.
func (m *meta) Close() error { return m.p.close() }
