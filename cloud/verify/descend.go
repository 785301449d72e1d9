package verify

import (
	"context"
	"slices"
	"time"

	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/proto"
)

// A chunk that differs is divided into parts, and the parts that differ are
// listed row by row. What is found counts only if it is still there, and still
// the same, at a second look: a row that was changed in the region is different
// until the facility has heard of it.
const (
	fanOut   = 64
	listRows = 4000
)

// interval is the keys after after, up to and including upTo.
type interval struct{ after, upTo change.Row }

// finding is a row that differs, and the interval that it was found in.
type finding struct {
	apply.Different
	in interval
}

// descend finds the rows of an interval that differ.
func (w *walk) descend(ctx context.Context, in interval) (found []finding, more bool, err error) {
	suspects, err := w.suspects(ctx, in)
	if err != nil {
		return nil, false, err
	}
	first := make([][]apply.Different, len(suspects))
	none := true
	for i, s := range suspects {
		if first[i], _, err = w.list(ctx, s); err != nil {
			return nil, false, err
		}
		none = none && len(first[i]) == 0
	}
	if none {
		return nil, false, nil
	}
	if err := pause(ctx, w.v.SecondLook); err != nil {
		return nil, false, err
	}
	for i, s := range suspects {
		if len(first[i]) == 0 {
			continue
		}
		second, over, err := w.list(ctx, s)
		if err != nil {
			return nil, false, err
		}
		for _, d := range lasting(first[i], second) {
			found = append(found, finding{d, s})
		}
		more = more || over
	}
	return found, more, nil
}

// suspects are the parts of an interval that differ, neighbours as one.
func (w *walk) suspects(ctx context.Context, in interval) (list []interval, err error) {
	for at := in.after; ; {
		a, err := w.ask(ctx, &proto.Verify{After: at, UpTo: in.upTo, Rows: proto.VerifyMaxRows, Parts: fanOut})
		if err != nil {
			return nil, err
		}
		for i, p := range a.Digest.Parts {
			if !a.Mine[i].Same(p) {
				if n := len(list); n > 0 && sameKey(list[n-1].upTo, at) {
					list[n-1].upTo = p.UpTo
				} else {
					list = append(list, interval{at, p.UpTo})
				}
			}
			at = p.UpTo
		}
		if at == nil || sameKey(at, in.upTo) {
			return list, nil
		}
	}
}

// list compares an interval row by row.
func (w *walk) list(ctx context.Context, in interval) (found []apply.Different, more bool, err error) {
	for at := in.after; ; {
		a, err := w.ask(ctx, &proto.Verify{After: at, UpTo: in.upTo, Rows: listRows, List: true})
		if err != nil {
			return nil, false, err
		}
		found = append(found, a.Different...)
		more = more || a.More
		w.key = a.Key
		if at = a.Digest.UpTo(); at == nil || sameKey(at, in.upTo) {
			return found, more, nil
		}
	}
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
	for part := range slices.Chunk(found, batch) {
		q := &proto.Verify{Schema: w.schema, Name: w.table}
		for _, f := range part {
			q.Mend = append(q.Mend, f.Key)
		}
		q.ID = w.v.ids.Add(1)
		if err := w.v.put(w.facility, q); err != nil {
			return nil, err
		}
		// The answer to the next question comes behind the rows.
		still := map[string]bool{}
		var seen []interval
		for _, f := range part {
			if slices.ContainsFunc(seen, func(i interval) bool { return sameKey(i.after, f.in.after) }) {
				continue
			}
			seen = append(seen, f.in)
			rest, _, err := w.list(ctx, f.in)
			if err != nil {
				return nil, err
			}
			for _, d := range rest {
				still[name(d.Key)] = true
			}
		}
		for _, f := range part {
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
