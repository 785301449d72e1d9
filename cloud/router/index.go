package router

import (
	"sort"

	"github.com/agogsaas/holdfast/internal/change"
)

// The log holds all buckets' frames one after the other. The index says where
// each bucket's are, so that nobody reads those of others. It is made from the
// frames' headers alone:
//
//   - Header.Reason names the bucket;
//   - frames of one captured batch have the same LSN, and belong together;
//   - frames of a transaction that goes on have the LSN 0. They count when the
//     frames with its end have come, and never if a void frame comes first.

// Names of buckets.
const (
	everybody = "*"
	void      = "-" // what is unfinished before it does not count
	closing   = "+" // what is unfinished before it ends here
)

func facilityBucket(id string) string { return "f:" + id }

func tenantBucket(id string) string { return "t:" + id }

// ref is one frame of a bucket.
type ref struct {
	entry uint64 // its place in the log
	first uint64 // its first transaction
	seq   uint64 // its last one
	group uint64 // frames of one group become visible together
	bytes int64  // of the bucket's frames up to and including this one
}

// bucket is one bucket's frames that are held, and a channel that is closed
// when there are more.
type bucket struct {
	refs  []ref
	bytes int64
	grown chan struct{}
}

// after returns the position of the first frame that ends after seq.
func (b *bucket) after(seq uint64) int {
	return sort.Search(len(b.refs), func(i int) bool { return b.refs[i].seq > seq })
}

// index is the log of one epoch; Router.mu guards it.
type index struct {
	epoch   uint64
	buckets map[string]*bucket
	waiting []waiting // frames of the transaction that goes on
	tail    uint64    // last transaction of a finished group
	last    uint64    // last transaction in the log
	lsn     uint64    // of the last finished group
	kept    uint64    // last transaction before that group
	first   uint64    // all before this transaction is dropped
}

type waiting struct {
	bucket string
	ref    ref
	bytes  int64
}

// reset begins an epoch.
func (x *index) reset(epoch uint64) {
	for _, b := range x.buckets {
		close(b.grown)
	}
	*x = index{epoch: epoch, buckets: map[string]*bucket{}}
}

// add counts a frame of the log.
func (x *index) add(entry uint64, h *change.Header, size int) {
	x.last = h.Last
	if x.first == 0 {
		x.first = h.First
	}
	name := h.Reason
	switch {
	case name == void:
		x.waiting = nil
		return
	case h.LSN == 0:
		x.waiting = append(x.waiting, waiting{name, ref{entry: entry, first: h.First, seq: h.Last}, int64(size)})
		return
	}
	if h.LSN != x.lsn {
		x.kept = x.tail
	}
	for _, w := range x.waiting {
		x.put(w.bucket, w.ref, h.LSN, w.bytes)
	}
	x.waiting = nil
	if name != closing {
		x.put(name, ref{entry: entry, first: h.First, seq: h.Last}, h.LSN, int64(size))
	}
	x.tail, x.lsn = h.Last, h.LSN
}

func (x *index) put(name string, r ref, group uint64, bytes int64) {
	b := x.bucket(name)
	b.bytes += bytes
	r.group, r.bytes = group, b.bytes
	b.refs = append(b.refs, r)
}

func (x *index) bucket(name string) *bucket {
	b := x.buckets[name]
	if b == nil {
		b = &bucket{grown: make(chan struct{})}
		x.buckets[name] = b
	}
	return b
}

// wake tells those who wait for frames of a bucket.
func (x *index) wake(name string) {
	if b := x.buckets[name]; b != nil {
		close(b.grown)
		b.grown = make(chan struct{})
	}
}

// next returns the first two frames of a facility after seq; entry 0 is none.
func (x *index) next(names *[3]string, seq uint64) (now, then ref) {
	for _, name := range names {
		b := x.buckets[name]
		if b == nil {
			continue
		}
		i := b.after(seq)
		for _, r := range b.refs[i:min(i+2, len(b.refs))] {
			switch {
			case now.entry == 0 || r.entry < now.entry:
				now, then = r, now
			case then.entry == 0 || r.entry < then.entry:
				then = r
			}
		}
	}
	return now, then
}

// dropBefore forgets the frames before an entry of the log.
func (x *index) dropBefore(entry uint64) {
	for _, b := range x.buckets {
		i := sort.Search(len(b.refs), func(i int) bool { return b.refs[i].entry >= entry })
		if i == 0 {
			continue
		}
		x.first = max(x.first, b.refs[i-1].seq+1)
		b.refs = append([]ref(nil), b.refs[i:]...)
	}
}

// names are the buckets that a facility listens to.
func names(facility, tenant string) [3]string {
	return [3]string{facilityBucket(facility), tenantBucket(tenant), everybody}
}
