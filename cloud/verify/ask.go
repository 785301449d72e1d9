package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/proto"
)

// answer is what came of a question: a verdict, or why there is none.
type answer struct {
	apply.Verdict
	facility string
	problem  *proto.Problem
}

// Errors after which a walk is taken up again later.
var (
	errGone   = errors.New("the facility's stream ended")
	errSilent = errors.New("the facility does not answer")
	errYield  = errors.New("somebody asked for a pass now")
)

// refusal is why a table cannot be compared.
type refusal struct{ proto.Problem }

func (r *refusal) Error() string { return r.Text }

// ask puts a question and waits for the answer. A *refusal is final for the
// table as it is now.
func (v *Verifier) ask(ctx context.Context, facility string, q *proto.Verify) (*apply.Verdict, error) {
	q.ID = v.ids.Add(1)
	ch := make(chan answer, 1)
	v.mu.Lock()
	v.waiting[q.ID] = ch
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		delete(v.waiting, q.ID)
		v.mu.Unlock()
	}()
	stream := v.Stream(facility)
	if err := v.put(facility, q); err != nil {
		return nil, err
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	late := time.NewTimer(v.Patience)
	defer late.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late.C:
			return nil, errSilent
		case <-look.C:
			if v.Stream(facility) != stream {
				return nil, errGone
			}
		case a := <-ch:
			switch {
			case a.facility != facility:
				continue // a box that makes numbers up
			case a.problem != nil:
				return nil, &refusal{*a.problem}
			case a.Err != nil:
				return nil, refused(a.Err)
			case a.Schema != q.Schema || a.Name != q.Name:
				return nil, fmt.Errorf("asked about %s.%s, answered about %s.%s", q.Schema, q.Name, a.Schema, a.Name)
			case q.List != a.Digest.Listed || !sameKey(a.Digest.After, q.After):
				return nil, errors.New("the answer is not to the question")
			}
			return &a.Verdict, nil
		}
	}
}

// put puts a question.
func (v *Verifier) put(facility string, q *proto.Verify) error {
	if b, err := proto.EncodeStream(proto.TypeVerify, q); err == nil {
		v.mu.Lock()
		v.bytes += uint64(len(b))
		v.mu.Unlock()
	}
	asked, err := v.Ask(facility, q)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errGone, err)
	case !asked:
		return errGone
	}
	return nil
}

func sameKey(a, b change.Row) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}
