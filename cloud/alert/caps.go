package alert

import (
	"context"
	"fmt"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
)

// Nobody's phone rings without end. The first page of an incident to a number is
// never held back; what comes after it waits until there is room.

// limit is how many messages may be sent to one number within a time.
type limit struct {
	most   int
	within time.Duration
}

// limits of a number, by channel. The channels that cost nothing and wake nobody have none.
var limits = map[channel.Kind][]limit{
	channel.SMS:   {{5, 15 * time.Minute}, {11, time.Hour}, {21, 3 * time.Hour}},
	channel.Voice: {{3, 15 * time.Minute}, {7, time.Hour}, {15, 3 * time.Hour}},
}

// gap is between two messages to one number. What ends something does not wait for it.
var gap = limit{1, time.Minute}

const (
	// incidentMax is how many messages of one incident a number gets. Its end is
	// told beyond that.
	incidentMax = 20
	// limitMax is the longest time that a limit is about.
	limitMax = 3 * time.Hour
)

// cap says whether a message must wait, or will not be sent at all.
func (a *Alerter) cap(ctx context.Context, k channel.Kind, j job, now time.Time) (outcome, bool, error) {
	of := limits[k]
	if of == nil {
		return outcome{}, false, nil
	}
	sent, ofIncident, pages, err := a.store.sent(ctx, j, now)
	if err != nil {
		return outcome{}, false, err
	}
	if j.Event == channel.Trigger && pages == 0 {
		return outcome{}, false, nil
	}
	if j.Event != channel.Resolve {
		if ofIncident >= incidentMax {
			return outcome{state: "capped", err: fmt.Sprintf("this number has had %d messages of the incident", ofIncident)}, true, nil
		}
		of = append([]limit{gap}, of...)
	}
	until, by := room(sent, of, now)
	if !until.After(now) {
		return outcome{}, false, nil
	}
	had := fmt.Sprintf("%d messages", by.most)
	if by.most == 1 {
		had = "a message"
	}
	why := fmt.Sprintf("this number has had %s within %s", had, span(by.within))
	if until.Sub(j.CreatedAt) > expiries[j.Event] {
		return outcome{state: "capped", err: why}, true, nil
	}
	return outcome{state: "held", before: until, reason: "held until " + until.Format(clock) + ", because " + why}, true, nil
}

// room returns when the next message may be sent to a number, from when it was
// sent some, oldest first; and which limit it waits for.
func room(sent []time.Time, of []limit, now time.Time) (until time.Time, by limit) {
	until = now
	for _, l := range of {
		var within []time.Time
		for _, at := range sent {
			if now.Sub(at) < l.within {
				within = append(within, at)
			}
		}
		if len(within) < l.most {
			continue
		}
		// There is room when only most-1 of them are young enough.
		if at := within[len(within)-l.most].Add(l.within); at.After(until) {
			until, by = at, l
		}
	}
	return until, by
}
