package detect

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// mass is a region whose facilities have paces of their own, and of which many are
// cut in one moment: some visibly, by a reset that the broker sees, and some without
// a word.
type mass struct {
	t     *testing.T
	rng   *rand.Rand
	now   time.Time
	d     *Detector
	sites []*site
	cut   time.Time
	word  Word
	asked int // at this moment

	pages  int                  // that operations have got
	seen   map[string]bool      // findings that have been told
	known  map[string]time.Time // since when a facility is known to be offline
	told   map[string]time.Time // and since when that is told
	parted map[string]bool      // told of as one that has nothing to do with the others
}

// site is one facility of it.
type site struct {
	Facts
	pace      time.Duration
	keepAlive time.Duration // after one and a half of which the broker sees that it is gone
	gone      time.Time     // when it is cut; zero for never
	reset     bool
	noticed   time.Duration // how long the broker takes to see the reset
	idle      time.Duration // how long its connection had been idle
	next      time.Time     // beat
	late      time.Time     // when the last beat arrives
	lastSent  time.Time
	packet    time.Time // when the tunnel has its next
	tunnel    time.Time // since when it has shaken hands
	asking    time.Time
	answer    time.Time // to what is being asked
	session   uint64
}

const (
	sitesAsked = 1024 // at once, as cloud/fleet does
	massSeeds  = 4    // of each mixture
)

// foundWithin is by when all of them are known to be offline.
func foundWithin(cut []*site) time.Duration {
	slow := slices.MaxFunc(cut, func(a, b *site) int { return cmp.Compare(a.pace, b.pace) })
	return max(45*time.Second, 7*slow.pace/2)
}

func newMass(t *testing.T, seed uint64, n int, pace func(*rand.Rand) time.Duration) *mass {
	t.Helper()
	w := &mass{
		t: t, rng: rand.New(rand.NewPCG(seed, 11)), now: start, d: New(Config{}, start),
		seen: map[string]bool{}, known: map[string]time.Time{}, told: map[string]time.Time{}, parted: map[string]bool{},
	}
	for i := range n {
		s := &site{Facts: Facts{ID: fmt.Sprintf("f%d", i), Streaming: true}, pace: pace(w.rng), session: 1}
		s.noticed = w.upTo(800 * time.Millisecond)
		s.keepAlive = []time.Duration{10 * time.Second, 2 * s.pace}[w.rng.IntN(2)]
		s.idle = w.upTo(min(s.pace, s.keepAlive))
		s.next = start.Add(w.upTo(s.pace))
		s.packet, s.tunnel = start.Add(w.upTo(25*time.Second)), start
		w.sites = append(w.sites, s)
	}
	return w
}

func (w *mass) upTo(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d) + 1)) }

// run lets time pass, in looks as far apart as cloud/fleet's.
func (w *mass) run(until time.Time) { w.looks(until, 100*time.Millisecond, tick) }

// idle lets time pass in which nothing befalls anybody, in looks as far apart as on a
// busy machine: they are most of what a test costs.
func (w *mass) idle(until time.Time) { w.looks(until, 2*tick, pauseAfter-tick) }

func (w *mass) looks(until time.Time, least, most time.Duration) {
	for w.now.Before(until) {
		w.now = w.now.Add(least + w.upTo(most-least))
		for _, s := range w.sites {
			s.tick(w)
		}
		w.rng.Shuffle(len(w.sites), func(i, j int) { w.sites[i], w.sites[j] = w.sites[j], w.sites[i] })
		region := Region{Listening: start, Canaries: []time.Time{w.now}, Hub: true, Probes: true, Streams: true}
		w.word = w.d.Step(Snapshot{Now: w.now, Region: region, Facilities: func(yield func(*Facts) bool) {
			for _, s := range w.sites {
				if !yield(&s.Facts) {
					return
				}
				if s.asking.IsZero() && w.asked < sitesAsked && w.d.Probe(&s.Facts, w.now) {
					w.asked++
					s.asking, s.answer = w.now, w.now.Add(20*time.Millisecond+w.upTo(300*time.Millisecond))
				}
			}
		}})
		w.look()
	}
}

// look takes down what is told now.
func (w *mass) look() {
	for _, s := range w.sites {
		if w.d.Verdict(&s.Facts).State == StateOffline && !w.word.Held && w.known[s.ID].IsZero() {
			w.known[s.ID] = w.now
		}
	}
	for _, f := range w.word.Findings {
		key := string(f.Kind) + f.Facility
		if f.Kind == Offline && w.told[f.Facility].IsZero() {
			w.told[f.Facility] = w.now
		}
		if f.Kind == Offline {
			w.parted[f.Facility] = f.Of != Outage
		}
		if !w.seen[key] && (f.Kind == Outage || f.Kind == Offline && f.Of == "") {
			w.pages++
		}
		w.seen[key] = true
	}
}

// here reports whether a site is there at a moment.
func (s *site) here(at time.Time) bool { return s.gone.IsZero() || at.Before(s.gone) }

func (s *site) tick(w *mass) {
	for !s.next.After(w.now) && s.here(s.next) {
		s.lastSent = s.next
		s.late = latest(s.late, s.next.Add(20*time.Millisecond+w.upTo(200*time.Millisecond)))
		s.beat(s.late)
		s.next = s.next.Add(s.pace*9/10 + w.upTo(s.pace/5))
	}
	if !s.packet.After(w.now) {
		if s.here(s.packet) && !s.packet.Before(s.tunnel) {
			s.Tunnel, s.TunnelHere = s.packet.Add(w.upTo(TunnelWithin)), true
		}
		s.packet = s.packet.Add(25 * time.Second)
	}
	if !s.here(w.now) && s.Left.IsZero() && !s.lastSent.IsZero() { // it had a connection
		broken := s.gone.Add(s.keepAlive*3/2 - s.idle)
		if s.reset {
			broken = s.gone.Add(s.noticed)
		}
		if !w.now.Before(broken) && w.now.Sub(s.gone) < time.Minute {
			s.Left = w.now
		}
	}
	if s.asking.IsZero() {
		return
	}
	works := s.here(s.answer) && !s.asking.Before(s.tunnel)
	switch {
	case works && !w.now.Before(s.answer):
		s.Asked, s.Answered, s.Unanswered, s.asking = s.asking, s.answer, false, time.Time{}
		w.asked--
	case !works && w.now.Sub(s.asking) >= 1500*time.Millisecond:
		s.Asked, s.Unanswered, s.asking = s.asking, true, time.Time{}
		w.asked--
	}
}

func (s *site) beat(at time.Time) {
	s.Heard, s.Here, s.Beats, s.BeatAt = at, true, s.Beats+1, at
	s.Beat.Session, s.Beat.Seq, s.Beat.WallMs = s.session, s.Beats, at.UnixMilli()
	s.Rhythm.Beat(at, s.session, s.Beats, s.pace)
	s.Left = time.Time{}
}

// pull cuts some now, the first of them visibly.
func (w *mass) pull(n, visibly int) (cut []*site) {
	w.cut = w.now
	cut = slices.Clone(w.sites[:n])
	for i, s := range cut {
		s.gone, s.reset, s.Streaming = w.now, i < visibly, false
	}
	return cut
}

// paces are the mixtures of a region.
var paces = map[string]func(*rand.Rand) time.Duration{
	"standard": func(*rand.Rand) time.Duration { return 5 * time.Second },
	"sparing":  func(*rand.Rand) time.Duration { return 10 * time.Second },
	"mixed": func(r *rand.Rand) time.Duration {
		return []time.Duration{5 * time.Second, 10 * time.Second}[r.IntN(2)]
	},
	"metered too": func(r *rand.Rand) time.Duration {
		return []time.Duration{5 * time.Second, 10 * time.Second, time.Minute}[r.IntN(3)]
	},
}

// TestAMassSilenceIsOneOutage: whatever the paces, and however the cut is seen,
// operations get one page, for all facilities that were cut and for no other.
func TestAMassSilenceIsOneOutage(t *testing.T) {
	t.Parallel()
	for name, pace := range paces {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(massSeeds) {
				rng := rand.New(rand.NewPCG(seed, 5))
				n := []int{40, 80, 150, 300, 1000}[rng.IntN(10)/2]
				fifth := max(massLeast, (n+massPart-1)/massPart)
				cut := fifth + rng.IntN(n-fifth+1)
				if rng.IntN(2) == 0 {
					cut = fifth + rng.IntN(max(1, n/20)) // only just
				}
				visibly := 0
				switch rng.IntN(4) {
				case 0: // none
				case 1:
					visibly = cut
				default:
					visibly = massLeast + rng.IntN(cut-massLeast+1)
				}
				what := fmt.Sprintf("seed %d: %d of %d cut, %d of them visibly", seed, cut, n, visibly)
				w := newMass(t, seed, n, pace)
				w.idle(start.Add(70*time.Second + w.upTo(10*time.Second)))
				if len(w.word.Findings) > 0 {
					t.Fatalf("%s: before the cut: %+v", what, w.word.Findings)
				}
				gone := w.pull(cut, visibly)
				w.run(w.cut.Add(foundWithin(gone)))
				w.check(what, gone, 1)
			}
		})
	}
}

// check holds a run to what is promised of an outage.
func (w *mass) check(what string, gone []*site, pages int) {
	w.t.Helper()
	out, own, first := 0, 0, time.Time{}
	for _, f := range w.word.Findings {
		if f.Kind == Outage {
			out++
		}
	}
	for _, s := range gone {
		switch told := w.told[s.ID]; {
		case told.IsZero():
			w.t.Errorf("%s: %s (each %s) was never told", what, s.ID, s.pace)
		case told.Sub(w.known[s.ID]) > massHold+2*tick:
			w.t.Errorf("%s: %s was told %s after it was known", what, s.ID, told.Sub(w.known[s.ID]))
		case first.IsZero() || told.Before(first):
			first = told
		}
		if w.parted[s.ID] {
			own++
		}
	}
	if out != 1 || own > 0 || w.pages > pages {
		w.t.Errorf("%s: %d outages, %d of the cut ones apart from it, %d pages to operations; the first was told after %s", what, out, own, w.pages, first.Sub(w.cut))
	}
	if extra := len(w.told) - len(gone); extra > 0 {
		w.t.Errorf("%s: %d that were not cut are told as offline", what, extra)
	}
}

// TestFewerThanAFifthAreEachTold: a cut of a few is nobody else's, and hidden by nothing.
func TestFewerThanAFifthAreEachTold(t *testing.T) {
	t.Parallel()
	for name, pace := range paces {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(massSeeds) {
				rng := rand.New(rand.NewPCG(seed, 6))
				n := []int{6, 25, 100, 400}[rng.IntN(4)]
				fifth := max(massLeast, (n+massPart-1)/massPart)
				cut := 1 + rng.IntN(fifth-1)
				if rng.IntN(2) == 0 {
					cut = 1 + rng.IntN(min(4, fifth-1))
				}
				visibly := rng.IntN(cut + 1)
				what := fmt.Sprintf("seed %d: %d of %d cut, %d of them visibly", seed, cut, n, visibly)
				w := newMass(t, seed, n, pace)
				w.idle(start.Add(70*time.Second + w.upTo(10*time.Second)))
				gone := w.pull(cut, visibly)
				w.run(w.cut.Add(foundWithin(gone)))
				if w.pages != cut || len(w.told) != cut {
					t.Errorf("%s: %d pages, %d told as offline", what, w.pages, len(w.told))
				}
				for _, s := range gone {
					told := w.told[s.ID]
					if told.IsZero() || told.Sub(w.known[s.ID]) > time.Second {
						t.Errorf("%s: %s is known at %s and told at %s", what, s.ID, w.known[s.ID].Sub(w.cut), told.Sub(w.cut))
					}
					if took := told.Sub(w.cut); s.pace == 5*time.Second && took > 15*time.Second || s.reset && took > 4*time.Second {
						t.Errorf("%s: %s was told after %s", what, s.ID, took)
					}
				}
			}
		})
	}
}

// TestWhoIsToldFirstJoinsTheOutageThatIsFoundLater: one is seen to break and the
// others fall silent without a word.
func TestWhoIsToldFirstJoinsTheOutageThatIsFoundLater(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		w := newMass(t, seed, 400, paces["sparing"])
		w.idle(start.Add(70 * time.Second))
		gone := w.pull(100, 1)
		w.run(w.cut.Add(5 * time.Second))
		if w.pages != 1 || w.told[gone[0].ID].IsZero() {
			t.Fatalf("seed %d: the visible one was told with %d pages at %s", seed, w.pages, w.told[gone[0].ID])
		}
		w.run(w.cut.Add(foundWithin(gone)))
		w.check(fmt.Sprintf("seed %d", seed), gone, 2)
	}
}

// TestAnotherSilenceIsNoPartOfTheOutage: who is heard when the others have long
// been silent has another trouble.
func TestAnotherSilenceIsNoPartOfTheOutage(t *testing.T) {
	t.Parallel()
	for name, pace := range paces {
		for seed := range uint64(2) {
			w := newMass(t, seed, 80, pace)
			w.idle(start.Add(70 * time.Second))
			w.pull(40, 20)
			other := w.sites[slices.IndexFunc(w.sites, func(s *site) bool { return s.gone.IsZero() && s.pace <= 10*time.Second })]
			w.run(w.cut.Add(40 * time.Second))
			other.gone, other.reset = w.now, seed%2 == 0
			w.run(w.now.Add(40 * time.Second))
			told := w.told[other.ID]
			if told.IsZero() || !w.parted[other.ID] {
				t.Errorf("%s, seed %d: told: %t, by itself: %t", name, seed, !told.IsZero(), w.parted[other.ID])
			} else if took := told.Sub(other.gone); took > 15*time.Second && other.pace == 5*time.Second || took > 3*time.Second && other.reset {
				t.Errorf("%s, seed %d: told after %s", name, seed, took)
			}
			if w.pages != 2 {
				t.Errorf("%s, seed %d: %d pages", name, seed, w.pages)
			}
		}
	}
}

// TestASecondMassSilenceIsAnotherOutage: one of the first is still away when many
// fall silent again, hours later.
func TestASecondMassSilenceIsAnotherOutage(t *testing.T) {
	t.Parallel()
	for name, pace := range paces {
		for seed := range uint64(2) {
			w := newMass(t, seed, 80, pace)
			w.idle(start.Add(70 * time.Second))
			dead := w.pull(40, 20)[0]
			w.run(w.cut.Add(foundWithin(w.sites)))
			for _, s := range w.sites {
				if s != dead && !s.gone.IsZero() {
					s.gone, s.Streaming, s.next = time.Time{}, true, w.now.Add(w.upTo(s.pace))
				}
			}
			w.idle(w.now.Add(massKept + time.Minute))
			slices.SortFunc(w.sites, func(a, b *site) int { return strings.Compare(a.ID, b.ID) })
			w.sites = slices.DeleteFunc(w.sites, func(s *site) bool { return s == dead })
			w.sites = append(w.sites, dead)
			gone := w.pull(40, 20)
			w.run(w.cut.Add(foundWithin(gone)))
			for _, f := range w.word.Findings {
				switch {
				case f.Kind == Outage && f.Since.Before(w.cut.Add(-2*outageWithin)):
					t.Errorf("%s, seed %d: the outage began %s before the second cut", name, seed, w.cut.Sub(f.Since))
				case f.Kind == Offline && (f.Of == Outage) != (f.Facility != dead.ID):
					t.Errorf("%s, seed %d: %s is of %q; %s is the one that was not back", name, seed, f.Facility, f.Of, dead.ID)
				}
			}
			for _, s := range gone {
				if w.d.Verdict(&s.Facts).State != StateOffline {
					t.Errorf("%s, seed %d: %s is not offline", name, seed, s.ID)
				}
			}
		}
	}
}

// TestACutSoonAfterAStartIsOneOutage: the facilities connect again one after the
// other when the line breaks, and some have not been heard yet.
func TestACutSoonAfterAStartIsOneOutage(t *testing.T) {
	t.Parallel()
	for name, pace := range paces {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(massSeeds) {
				w := newMass(t, seed, 100, pace)
				for _, s := range w.sites {
					s.Heard = start.Add(-10*time.Second - w.upTo(s.pace)) // by the process before
					s.next = start.Add(w.upTo(30 * time.Second))
					s.tunnel = s.next.Add(w.upTo(25 * time.Second))
					s.packet = s.tunnel
				}
				w.run(start.Add(5*time.Second + w.upTo(30*time.Second)))
				gone := w.pull(60, []int{0, 30, 60}[seed%3])
				w.run(w.cut.Add(time.Minute + foundWithin(gone)))
				w.check(fmt.Sprintf("seed %d: cut %s after the start", seed, w.cut.Sub(start)), gone, 1)
			}
		})
	}
}
