package verify

import (
	"context"
	"slices"
	"time"

	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/proto"
)

// A chunk that differs is divided into parts, those that differ are divided again,
// and the small ones are listed row by row: a question and its answer cost as many bytes
// as some hundred rows that are listed. What is found counts only if it is still there,
// and still the same, at a second look: a row that was changed in the region is different
// until the facility has heard of it.
const (
	fanOut   = 32
	fewRows  = 120
	listRows = 4000
)

// interval is the keys after after, up to and including upTo.
type interval struct{ after, upTo change.Row }

// finding is a row that differs, and the interval that it was found in.
type finding struct {
	apply.Different
	in interval
}

// suspicion is what the first look at a part of a chunk has found.
type suspicion struct {
	in    interval
	first []apply.Different
	at    time.Time
	// chunk and rows are where the pass was before the chunk.
	chunk change.Row
	rows  int64
}

// suspect looks for the rows of a chunk that differ. They are looked at again
// while the walk goes on.
func (w *walk) suspect(ctx context.Context, p *pass, chunk part) error {
	parts, err := w.suspects(ctx, chunk)
	if err != nil {
		return err
	}
	for _, in := range parts {
		first, around, _, err := w.list(ctx, in)
		if err != nil {
			return err
		}
		if len(first) > 0 {
			p.suspected = append(p.suspected, suspicion{around, first, time.Now(), p.after, p.rows})
		}
	}
	return nil
}

// lookAgain looks a second time at what was suspected long enough ago, or with
// all at everything, when that time has come.
func (w *walk) lookAgain(ctx context.Context, p *pass, all bool) error {
	for len(p.suspected) > 0 {
		s := p.suspected[0]
		if wait := w.v.SecondLook - time.Since(s.at); wait > 0 {
			if !all {
				return nil
			}
			if err := pause(ctx, wait); err != nil {
				return err
			}
		}
		second, _, more, err := w.list(ctx, s.in)
		if err != nil {
			return err
		}
		for _, d := range lasting(s.first, second) {
			p.count++
			if len(p.found) < foundMax {
				p.found = append(p.found, finding{d, s.in})
			}
		}
		p.more = p.more || more
		p.suspected = p.suspected[1:]
	}
	return nil
}

// part is an interval, and how many rows the facility has in it.
type part struct {
	interval
	rows uint64
}

// suspects are the small parts of a part that differ. What differs in most of its
// parts is not divided further.
func (w *walk) suspects(ctx context.Context, whole part) (list []interval, err error) {
	parts, err := w.divide(ctx, whole.interval)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		if p.rows <= fewRows || p.rows > whole.rows/2 {
			list = append(list, p.interval)
			continue
		}
		smaller, err := w.suspects(ctx, p)
		if err != nil {
			return nil, err
		}
		list = append(list, smaller...)
	}
	return list, nil
}

// divide returns the parts of an interval that differ, neighbours as one.
func (w *walk) divide(ctx context.Context, in interval) (list []part, err error) {
	for at := in.after; ; {
		a, err := w.ask(ctx, &proto.Verify{After: at, UpTo: in.upTo, Rows: proto.VerifyMaxRows, Parts: fanOut})
		if err != nil {
			return nil, err
		}
		for i, p := range a.Digest.Parts {
			if !a.Mine[i].Same(p) {
				if n := len(list); n > 0 && sameKey(list[n-1].upTo, at) {
					list[n-1].upTo = p.UpTo
					list[n-1].rows += p.Count
				} else {
					list = append(list, part{interval{at, p.UpTo}, p.Count})
				}
			}
			at = p.UpTo
		}
		if at == nil || sameKey(at, in.upTo) {
			return list, nil
		}
	}
}

// list compares an interval row by row. All that is found is around, which may be
// a small part of the interval.
func (w *walk) list(ctx context.Context, in interval) (found []apply.Different, around interval, more bool, err error) {
	for at := in.after; ; {
		a, err := w.ask(ctx, &proto.Verify{After: at, UpTo: in.upTo, Rows: listRows, List: true})
		if err != nil {
			return nil, in, false, err
		}
		found = append(found, a.Different...)
		more = more || a.More
		w.key = a.Key
		from := at
		if at = a.Digest.UpTo(); at == nil || sameKey(at, in.upTo) {
			if sameKey(from, in.after) {
				in = narrow(in, a)
			}
			return found, in, more, nil
		}
	}
}

// narrow returns the part of a listed interval that has all rows that differ.
func narrow(in interval, a *apply.Verdict) interval {
	differs := make(map[string]bool, len(a.Different))
	for _, d := range a.Different {
		if d.Kind == apply.RowExtra {
			return in // between which of the facility's rows it is, is not known
		}
		differs[name(d.Key)] = true
	}
	first, last := -1, -1
	for i, k := range a.Digest.Keys {
		if !differs[name(k)] {
			continue
		}
		if last = i; first < 0 {
			first = i
		}
	}
	if first > 0 {
		in.after = a.Digest.Keys[first-1]
	}
	if first >= 0 {
		in.upTo = a.Digest.Keys[last]
	}
	return in
}

// lasting are the differences that were there at both looks.
func lasting(first, second []apply.Different) []apply.Different {
	was := make(map[string]apply.Different, len(first))
	for _, d := range first {
		was[name(d.Key)] = d
	}
	return slices.DeleteFunc(second, func(d apply.Different) bool {
		old, there := was[name(d.Key)]
		return !there || old.Kind != d.Kind || old.Theirs != d.Theirs || old.Mine != d.Mine
	})
}

// name is a key as one string.
func name(key change.Row) string {
	var b []byte
	for _, v := range key {
		b = append(append(b, v...), 0) // text has no zero byte
	}
	return string(b)
}

// repair has rows sent again by the facility, and looks what became of them.
func (w *walk) repair(ctx context.Context, found []finding) (left []finding, err error) {
	const batch = 200
	for some := range slices.Chunk(found, batch) {
		q := &proto.Verify{Schema: w.schema, Name: w.table}
		for _, f := range some {
			q.Mend = append(q.Mend, f.Key)
		}
		q.ID = w.v.ids.Add(1)
		if err := w.v.put(w.facility, q); err != nil {
			return nil, err
		}
		// The answer to the next question comes behind the rows.
		still := map[string]bool{}
		var seen []interval
		for _, f := range some {
			if slices.ContainsFunc(seen, func(i interval) bool { return sameKey(i.after, f.in.after) && sameKey(i.upTo, f.in.upTo) }) {
				continue
			}
			seen = append(seen, f.in)
			rest, _, _, err := w.list(ctx, f.in)
			if err != nil {
				return nil, err
			}
			for _, d := range rest {
				still[name(d.Key)] = true
			}
		}
		for _, f := range some {
			if still[name(f.Key)] {
				left = append(left, f)
			}
		}
	}
	return left, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
