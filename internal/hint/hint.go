// Package hint attaches advice for the reader to an error, so that whoever
// shows the error can also say what to do about it.
//
// In:  every package that knows a remedy.
// Out: cmd/*, internal/web: whoever shows errors to people.
package hint

import (
	"errors"
	"fmt"
)

// Wrap returns err with advice attached. The advice is a sentence or more for
// the person who can act: what to do, not what happened. Error and Is and As
// see err unchanged. A nil err stays nil.
//
// When several hints are in one chain, the innermost counts: it was given by
// the code that knew most.
func Wrap(err error, advice string, args ...any) error {
	if err == nil {
		return nil
	}
	if len(args) > 0 {
		advice = fmt.Sprintf(advice, args...)
	}
	return &hinted{err, advice}
}

// Of returns the advice in err's chain, or "".
func Of(err error) string {
	advice := ""
	for {
		h, ok := errors.AsType[*hinted](err)
		if !ok {
			return advice
		}
		advice, err = h.advice, h.err
	}
}

type hinted struct {
	err    error
	advice string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }
