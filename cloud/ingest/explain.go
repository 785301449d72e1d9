package ingest

import (
	"errors"

	"github.com/agogsaas/holdfast/internal/apply"
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/proto"
)

// Explain turns the error that ended a session into words for people. It
// returns nil where the cause goes by itself: a lost connection, a newer
// session.
func Explain(err error) *proto.Problem {
	if row, ok := errors.AsType[*apply.RowError](err); ok {
		return &proto.Problem{Text: row.Error(), Remedy: hint.Of(err)}
	}
	switch {
	case err == nil, errors.Is(err, ErrReplaced), errors.Is(err, apply.ErrFenced), errors.Is(err, apply.ErrEnded):
		return nil
	case errors.Is(err, apply.ErrGap), errors.Is(err, apply.ErrOldEpoch), errors.Is(err, change.ErrCorrupt):
		return &proto.Problem{Text: err.Error(), Remedy: "The box begins again at the region's position by itself. If this comes back, replace the box's agent with the newest version."}
	case hint.Of(err) != "":
		return &proto.Problem{Text: err.Error(), Remedy: hint.Of(err)}
	}
	return nil
}

func problem(err error) proto.Problem {
	return proto.Problem{Text: err.Error(), Remedy: hint.Of(err)}
}
