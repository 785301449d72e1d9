package queue

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sort"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// errDamaged says that the log cannot be used as it is on the disk.
var errDamaged = errors.New("the log on disk is damaged")

// raftLog is an open log.
type raftLog struct {
	wal      *wal.WAL
	meta     *meta
	first    uint64
	last     uint64 // when it was opened
	segments []types.SegmentInfo
	torn     bool
	repaired int
}

// openLog puts the files right (repair.go), then opens the log on them.
func openLog(o Options, v *files) (*raftLog, error) {
	m, known, err := openMeta(o.Dir)
	if err != nil {
		return nil, err
	}
	l := &raftLog{meta: m}
	if err := l.restore(o, v, known); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	l.wal, err = wal.Open(o.Dir, wal.WithMetaStore(m), wal.WithSegmentSize(o.SegmentBytes),
		wal.WithSegmentFiler(segment.NewFiler(o.Dir, v)), wal.WithLogger(hclog.NewNullLogger()))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", errDamaged, err), m.Close())
	}
	l.segments = m.state.Segments
	if l.first, err = l.wal.FirstIndex(); err == nil {
		l.last, err = l.wal.LastIndex()
	}
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// restore brings the list of segments and the files into agreement.
func (l *raftLog) restore(o Options, v *files, known bool) error {
	onDisk, err := segment.NewFiler(o.Dir, v).List()
	if err != nil {
		return fmt.Errorf("%w: a file has a foreign name: %w", errDamaged, err)
	}
	s := l.meta.state
	s.Segments = slices.Clone(s.Segments)
	changed := false
	if !known || len(s.Segments) == 0 {
		s, changed = listSegments(onDisk, o.SegmentBytes), true
	}
	// A list that is one write old may name files that were dropped since.
	for len(s.Segments) > 1 && onDisk[s.Segments[0].ID] == 0 {
		s.Segments, changed = s.Segments[1:], true
	}
	repaired, err := l.restoreFiles(o, &s, onDisk)
	if err != nil {
		return err
	}
	if newest(s, onDisk) {
		// A list that is older still: the log would delete what it does not
		// know. The names of the files tell all but what was dropped last.
		s, changed = listSegments(onDisk, o.SegmentBytes), true
		if _, err = l.restoreFiles(o, &s, onDisk); err != nil {
			return err
		}
	}
	if (changed || repaired) && len(s.Segments) > 0 {
		return l.meta.CommitState(s)
	}
	return nil
}

// newest reports whether there is a file behind the last segment of the list.
func newest(s types.PersistentState, onDisk map[uint64]uint64) bool {
	last := uint64(0)
	if n := len(s.Segments); n > 0 {
		last = s.Segments[n-1].BaseIndex
	}
	for _, base := range onDisk {
		if base > last {
			return true
		}
	}
	return false
}

// restoreFiles repairs the files of the listed segments, and the list where
// they say more.
func (l *raftLog) restoreFiles(o Options, s *types.PersistentState, onDisk map[uint64]uint64) (changed bool, err error) {
	for i := 0; i < len(s.Segments); i++ {
		info := &s.Segments[i]
		if onDisk[info.ID] == 0 {
			continue // not created yet, or the log refuses it
		}
		path := filepath.Join(o.Dir, segment.FileName(*info))
		if !info.SealTime.IsZero() {
			if err := repairHeader(path, *info); err != nil {
				return changed, err
			}
			continue
		}
		t, err := repairTail(path, *info)
		if err != nil {
			return changed, err
		}
		l.torn, l.repaired = l.torn || t.torn, l.repaired+t.repaired
		if t.sealed {
			// The process ended after the segment was sealed and before the list
			// said so. The log would refuse every append from then on.
			seal(s, i, t)
			changed = true
		}
	}
	return changed, nil
}

// seal marks segment i, the last, as sealed and adds the one after it.
func seal(s *types.PersistentState, i int, t tail) {
	info := &s.Segments[i]
	info.SealTime, info.IndexStart = info.CreateTime, t.indexStart
	info.MaxIndex = info.BaseIndex + t.entries - 1
	if i+1 < len(s.Segments) {
		return
	}
	s.Segments = append(s.Segments, types.SegmentInfo{
		ID: s.NextSegmentID, BaseIndex: info.MaxIndex + 1, MinIndex: info.MaxIndex + 1,
		Codec: info.Codec, CreateTime: info.CreateTime, SizeLimit: info.SizeLimit,
	})
	s.NextSegmentID++
}

// listSegments makes a list from the names of the files.
func listSegments(onDisk map[uint64]uint64, size int) types.PersistentState {
	var s types.PersistentState
	for id, base := range onDisk {
		s.NextSegmentID = max(s.NextSegmentID, id+1)
		s.Segments = append(s.Segments, types.SegmentInfo{
			ID: id, BaseIndex: base, MinIndex: base, Codec: wal.CodecBinaryV1, SizeLimit: uint32(size), CreateTime: epochOfFiles,
		})
	}
	sort.Slice(s.Segments, func(i, j int) bool { return s.Segments[i].BaseIndex < s.Segments[j].BaseIndex })
	return s
}

// append makes frames durable from entry index on.
func (l *raftLog) append(index uint64, data [][]byte) error {
	logs := make([]*raft.Log, len(data))
	for i := range data {
		logs[i] = &raft.Log{Index: index + uint64(i), Data: data[i]}
	}
	return l.wal.StoreLogs(logs)
}

// get returns a copy of entry i.
func (l *raftLog) get(i uint64) (data []byte, err error) {
	defer func() {
		// The log's decoder trusts what it reads.
		if r := recover(); r != nil {
			data, err = nil, fmt.Errorf("%w: entry %d: %v", errDamaged, i, r)
		}
	}()
	var e raft.Log
	switch err := l.wal.GetLog(i, &e); {
	case errors.Is(err, wal.ErrClosed):
		return nil, ErrClosed
	case err != nil:
		return nil, fmt.Errorf("read entry %d: %w", i, err)
	case e.Index != i:
		return nil, fmt.Errorf("%w: entry %d where %d belongs", errDamaged, e.Index, i)
	}
	return e.Data, nil
}

func (l *raftLog) close() error {
	return errors.Join(l.wal.Close(), l.meta.Close())
}

var _ io.Closer = (*meta)(nil)
