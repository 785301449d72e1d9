package detect

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// line is a facility's way to its region: packets are lost and late, and now and
// then it is dead for a while. Heartbeats travel over TCP, which sends again what
// was lost, each time after twice as long, and delivers in order.
type line struct {
	rng      *rand.Rand
	loss     float64
	jitter   time.Duration
	dead     [][2]time.Time
	nextBeat time.Time
	lastIn   time.Time
	arriving []time.Time
	asking   time.Time
	answer   time.Time // zero: none comes
}

// through reports whether a packet that is sent at a moment arrives.
func (l *line) through(at time.Time) bool {
	for _, d := range l.dead {
		if !at.Before(d[0]) && at.Before(d[1]) {
			return false
		}
	}
	return l.rng.Float64() >= l.loss
}

func (l *line) delay() time.Duration {
	return 20*time.Millisecond + time.Duration(l.rng.Int64N(int64(l.jitter)+1))
}

// beats sends what is due until now, and delivers what has arrived.
func (l *line) beats(b *box, now time.Time) {
	for !l.nextBeat.After(now) {
		sent := l.nextBeat
		for wait := time.Second; !l.through(sent) && wait < time.Hour; wait *= 2 {
			sent = sent.Add(wait)
		}
		l.lastIn = latest(l.lastIn, sent.Add(l.delay()))
		l.arriving = append(l.arriving, l.lastIn)
		l.nextBeat = l.nextBeat.Add(4500*time.Millisecond + time.Duration(l.rng.Int64N(int64(time.Second))))
	}
	for len(l.arriving) > 0 && !l.arriving[0].After(now) {
		b.beat(l.arriving[0])
		l.arriving = l.arriving[1:]
	}
}

// ask is a probe: two packets a second apart, of which one must come back in time.
func (l *line) ask(d *Detector, b *box, now time.Time) {
	const patience = 1500 * time.Millisecond
	if !l.asking.IsZero() {
		switch {
		case !l.answer.IsZero() && !l.answer.After(now):
			b.Asked, b.Answered, b.Unanswered, l.asking = l.asking, l.answer, false, time.Time{}
		case now.Sub(l.asking) >= patience:
			b.Asked, b.Unanswered, l.asking = l.asking, true, time.Time{}
		default:
			return
		}
	}
	if !d.Probe(&b.Facts, now) {
		return
	}
	l.asking, l.answer = now, time.Time{}
	for i := range 2 {
		there := now.Add(time.Duration(i) * time.Second)
		back := there.Add(l.delay())
		if l.through(there) && l.through(back) {
			if back = back.Add(l.delay()); back.Sub(now) < patience && (l.answer.IsZero() || back.Before(l.answer)) {
				l.answer = back
			}
		}
	}
}

// watch lets a region watch one line until the end or until it is found offline. Until
// near it looks half as often.
func (l *line) watch(d *Detector, b *box, near, until time.Time, offline func(now time.Time) (stop bool)) {
	region := Region{Listening: start, Hub: true, Probes: true, Streams: true}
	keepalive := start
	for now := start; now.Before(until); now = now.Add(tick) {
		if now.Before(near) {
			now = now.Add(tick)
		}
		l.beats(b, now)
		if now.Sub(keepalive) >= 25*time.Second {
			keepalive = now
			if at := now.Add(l.delay()); l.through(now) {
				b.Tunnel, b.TunnelHere = at.Add(TunnelWithin/2), true
			}
		}
		l.ask(d, b, now)
		region.Canaries = []time.Time{now, now}
		w := d.Step(Snapshot{Now: now, Region: region, Facilities: func(yield func(*Facts) bool) { yield(&b.Facts) }})
		for _, f := range w.Findings {
			if f.Kind == Offline && offline(now) {
				return
			}
		}
	}
}

func newLine(seed uint64, loss float64, jitter time.Duration) *line {
	return &line{rng: rand.New(rand.NewPCG(seed, 4)), loss: loss, jitter: jitter, nextBeat: start.Add(time.Second)}
}

// blips kills the line for five seconds now and then.
func (l *line) blips(until time.Time) {
	for at := start.Add(20 * time.Second); at.Before(until); {
		at = at.Add(time.Duration(15+l.rng.IntN(75)) * time.Second)
		l.dead = append(l.dead, [2]time.Time{at, at.Add(5 * time.Second)})
	}
}

func TestALossyLineWithBlipsIsNoCut(t *testing.T) {
	t.Parallel()
	const runs, long = 15, 30 * time.Minute
	blips := 0
	for seed := range uint64(runs) {
		l := newLine(seed, 0.02, 300*time.Millisecond)
		l.blips(start.Add(long))
		blips += len(l.dead)
		b := &box{Facts: Facts{ID: "la", Streaming: true}}
		l.watch(New(Config{}, start), b, start, start.Add(long), func(now time.Time) bool {
			t.Errorf("seed %d: taken for offline after %s, last heard %s ago", seed, now.Sub(start), now.Sub(b.life()))
			return true
		})
	}
	t.Logf("%d times half an hour with %d blips", runs, blips)
}

func TestACutIsKnownInTime(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		loss     float64
		jitter   time.Duration
		blips    bool
		p99, max time.Duration
	}{
		"clean line":            {0, 20 * time.Millisecond, false, 13250 * time.Millisecond, 13500 * time.Millisecond},
		"lossy line":            {0.02, 300 * time.Millisecond, false, 14500 * time.Millisecond, 16 * time.Second},
		"lossy line with blips": {0.02, 300 * time.Millisecond, true, 17 * time.Second, 17 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var took []time.Duration
			for seed := range uint64(400) {
				l := newLine(seed, tc.loss, tc.jitter)
				cut := start.Add(4*time.Minute + time.Duration(l.rng.Int64N(int64(10*time.Second))))
				if tc.blips {
					l.blips(cut.Add(-10 * time.Second))
				}
				l.dead = append(l.dead, [2]time.Time{cut, cut.Add(time.Hour)})
				b := &box{Facts: Facts{ID: "la", Streaming: true}}
				l.watch(New(Config{}, start), b, cut.Add(-30*time.Second), cut.Add(time.Minute), func(now time.Time) bool {
					took = append(took, now.Sub(cut))
					return true
				})
			}
			slices.Sort(took)
			if len(took) != 400 || took[0] < 0 {
				t.Fatalf("%d of 400 cuts were found, the first after %s", len(took), took[0])
			}
			p50, p99, most := took[200], took[396], took[399]
			t.Logf("p50 %s, p99 %s, max %s", p50, p99, most)
			if p99 > tc.p99 || most > tc.max {
				t.Errorf("p99 %s, max %s, want at most %s and %s", p99, most, tc.p99, tc.max)
			}
		})
	}
}

// TestNothingIsOfflineThatWasHeard: whatever is heard in whatever order, with
// steps that come late and a region that goes deaf in between.
func TestNothingIsOfflineThatWasHeard(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 7))
		d := New(Config{}, start)
		b := &box{Facts: Facts{ID: "la"}}
		r := Region{Listening: start, Hub: rng.IntN(4) > 0, Probes: rng.IntN(4) > 0, Streams: rng.IntN(2) > 0}
		var heard time.Time
		now := start
		for range 2000 {
			now = now.Add(time.Duration(rng.Int64N(int64(4 * time.Second))))
			switch rng.IntN(14) {
			case 0, 1:
				b.beat(now)
				heard = now
			case 2:
				b.Tunnel, b.TunnelHere = now, true
				if r.Hub { // it is only exact to TunnelWithin
					heard = latest(heard, now.Add(-TunnelWithin))
				}
			case 3:
				b.Asked, b.Answered, b.Unanswered = now, now, false
				heard = now
			case 4, 5:
				b.Asked, b.Unanswered = now.Add(-1500*time.Millisecond), true
			case 6:
				b.Left, b.Bye = now, rng.IntN(2) == 0
			case 7:
				r.Listening = time.Time{}
			case 8:
				r.Listening = now
			case 9:
				now = now.Add(time.Duration(rng.Int64N(int64(time.Minute))))
			case 10:
				b.Streaming = !b.Streaming
			case 11:
				r.Unwritable = now
			case 12:
				r.Unwritable = time.Time{}
			}
			w := d.Step(Snapshot{Now: now, Region: r, Facilities: func(yield func(*Facts) bool) { yield(&b.Facts) }})
			gone := !b.Left.IsZero() && !heard.After(b.Left)
			fresh := !heard.IsZero() && now.Sub(heard) <= b.Rhythm.Deadline() && !(r.Hub && gone)
			v := d.Verdict(&b.Facts)
			if v.State == StateOffline && fresh {
				t.Fatalf("seed %d: offline, and heard %s ago: %+v", seed, now.Sub(heard), b.Facts)
			}
			if v.State == StateOffline && (w.Held && d.blind.now) {
				t.Fatalf("seed %d: offline while the region is blind", seed)
			}
			if v.State == StateOffline && v.Since.After(now) {
				t.Fatalf("seed %d: offline since %s, which is later", seed, v.Since)
			}
		}
	}
}
