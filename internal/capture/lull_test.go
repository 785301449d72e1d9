package capture

import (
	"testing"
	"time"
)

// TestNapsGrowWhenFewMessagesComeAndShrinkWhenManyDo: a walsender whose socket
// is full stands still, and one that is read at once wakes the reader each time.
func TestNapsGrowWhenFewMessagesComeAndShrinkWhenManyDo(t *testing.T) {
	t.Parallel()
	var l lull
	// Messages come at a rate, and each nap is followed by one more.
	settle := func(perSecond int, due time.Duration) (nap time.Duration, got int) {
		n := l.at
		for range 20 {
			nap = l.next(n, due)
			got = int(nap.Seconds()*float64(perSecond)) + 1
			n += got
		}
		return nap, got
	}
	if nap, _ := settle(1000, 8*time.Millisecond); nap != 8*time.Millisecond {
		t.Errorf("calm: %s, want as long as nothing may leave", nap)
	}
	if nap, got := settle(10_000, busyPause); nap < 3*time.Millisecond || got > 2*napMany {
		t.Errorf("busy: %s, %d messages", nap, got)
	}
	if nap, got := settle(100_000, busyPause); nap < napMin || got > 2*napMany {
		t.Errorf("as fast as it goes: %s, %d messages", nap, got)
	}
	if nap, _ := settle(1000, -time.Second); nap != napMin {
		t.Errorf("a lone transaction waits %s", nap)
	}
}

// TestWhatIsPassedOverIsReadAsFastAsItComesOnceOthersWaitBehindIt: a socket holds
// some 270 messages, and a walsender whose socket is full stands still.
func TestWhatIsPassedOverIsReadAsFastAsItComesOnceOthersWaitBehindIt(t *testing.T) {
	t.Parallel()
	const holds, perSecond = 270, 200_000
	var l lull
	read := func(ago time.Duration) (perNap int, nap time.Duration) {
		n := l.at
		for range 20 {
			nap = l.passing(n, ago, true)
			perNap = min(holds, int(nap.Seconds()*perSecond))
			n += perNap
		}
		return perNap, nap
	}
	if _, nap := read(lateFrom / 2); nap != longNap {
		t.Errorf("nobody waits: %s, want %s", nap, longNap)
	}
	if got, nap := read(lateFrom); got == holds {
		t.Errorf("others wait: the walsender stands still in naps of %s", nap)
	}
	if _, nap := read(0); nap != longNap {
		t.Errorf("nobody waits any more: %s, want %s", nap, longNap)
	}
	if nap := l.passing(l.at, time.Hour, false); nap != longNap {
		t.Errorf("nobody is at work: %s, want %s", nap, longNap)
	}
}
