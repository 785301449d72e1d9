package provision

import (
	"fmt"
	"net/http"
	"time"

	"github.com/agogsaas/holdfast/proto"
)

// Refusals, worded for the person in front of the box. None says more about
// the region's facilities than the holder of a valid token knows anyway.

func badRequest(text string) error {
	return &proto.EnrolProblem{
		Code: proto.EnrolBadRequest, Text: text,
		Remedy: "Update the box's software, then enrol again.",
	}
}

func unknownToken() error {
	return &proto.EnrolProblem{
		Code:   proto.EnrolUnknown,
		Text:   "this region does not know the token: it was withdrawn by a newer one, or its facility is gone",
		Remedy: "Make a new token with holdfastctl facility token <facility>, and use the latest one only.",
	}
}

func usedToken(at time.Time) error {
	return &proto.EnrolProblem{
		Code:   proto.EnrolUsed,
		Text:   "another box has used this token, on " + at.UTC().Format("2006-01-02 15:04 MST"),
		Remedy: "If that was not you, someone has copied the token: throw that box out with holdfastctl facility revoke <facility>. Then make a new token with holdfastctl facility token <facility>.",
	}
}

func expiredToken(at time.Time) error {
	return &proto.EnrolProblem{
		Code:   proto.EnrolExpired,
		Text:   "the token expired on " + at.UTC().Format("2006-01-02 15:04 MST"),
		Remedy: "Make a new one with holdfastctl facility token <facility>.",
	}
}

func (p *Provision) wrongRegion(want string) error {
	return &proto.EnrolProblem{
		Code:   proto.EnrolWrongRegion,
		Text:   fmt.Sprintf("the token is for region %s, and this is region %s", want, p.cfg.Region),
		Remedy: "Check the enrol.url of region " + want + ": tokens made there lead here. Then make a new token.",
	}
}

func clockOff(box, region time.Time) error {
	const layout = "2006-01-02 15:04 MST"
	return &proto.EnrolProblem{
		Code: proto.EnrolClockOff, WallMs: region.UnixMilli(),
		Text:   fmt.Sprintf("the box's clock says %s, the region's %s", box.UTC().Format(layout), region.UTC().Format(layout)),
		Remedy: "Set the box's clock (timedatectl set-ntp true, or timedatectl set-time), then enrol again.",
	}
}

func keyTaken() error {
	return &proto.EnrolProblem{
		Code:   proto.EnrolKeyTaken,
		Text:   "one of the box's keys belongs to a box that enrolled before: its state was copied from another box or restored from a backup",
		Remedy: "Remove the files identity.json and enrolment.json from the box's state directory, then enrol again with a new token.",
	}
}

func revokedBox(facility string) error {
	return &proto.EnrolProblem{
		Code:   proto.EnrolRevoked,
		Text:   "this box was thrown out of facility " + facility + ", or another box has replaced it",
		Remedy: "If it shall come back, make a new token with holdfastctl facility token " + facility + " and enrol it again.",
	}
}

func notKnown() error {
	return &proto.EnrolProblem{
		Code:   proto.EnrolNotKnown,
		Text:   "this region never enrolled a box with this key, or was restored from a backup that is older",
		Remedy: "Make a token with holdfastctl facility token <facility> and enrol the box again.",
	}
}

func facilityRemoved(facility string) error {
	return &proto.EnrolProblem{
		Code:   proto.EnrolRemoved,
		Text:   "facility " + facility + " was removed from this region",
		Remedy: "Add a facility with another id, with holdfastctl facility add, and enrol the box with its token.",
	}
}

func slowDown(wait time.Duration) *proto.EnrolProblem {
	return &proto.EnrolProblem{
		Code:         proto.EnrolSlowDown,
		Text:         "too many requests from this address",
		Remedy:       "Wait a minute; the box tries again by itself.",
		RetrySeconds: uint32(max(wait, time.Second) / time.Second),
	}
}

func unavailable() *proto.EnrolProblem {
	return &proto.EnrolProblem{
		Code:         proto.EnrolUnavailable,
		Text:         "the region cannot answer now",
		Remedy:       "The box tries again by itself. If this lasts, look at the region's log and its database.",
		RetrySeconds: 30,
	}
}

// status is the HTTP status of a refusal.
func status(c proto.EnrolCode) int {
	switch c {
	case proto.EnrolBadRequest, proto.EnrolClockOff:
		return http.StatusBadRequest
	case proto.EnrolUnknown, proto.EnrolNotKnown:
		return http.StatusUnauthorized
	case proto.EnrolUsed, proto.EnrolKeyTaken:
		return http.StatusConflict
	case proto.EnrolExpired, proto.EnrolRemoved:
		return http.StatusGone
	case proto.EnrolWrongRegion:
		return http.StatusMisdirectedRequest
	case proto.EnrolRevoked:
		return http.StatusForbidden
	case proto.EnrolSlowDown:
		return http.StatusTooManyRequests
	}
	return http.StatusServiceUnavailable
}
