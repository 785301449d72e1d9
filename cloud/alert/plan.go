package alert

import (
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"maps"
	"slices"
	"time"

	"github.com/agogsaas/holdfast/cloud/detect"
)

// key is what there is one open incident of at a time.
type key struct {
	kind     detect.Kind
	facility string
}

// subject is an open incident, as far as it matters for what is done with it.
type subject struct {
	ID          int64
	Kind        detect.Kind
	Facility    string
	Tenant      string // not for plan
	Severity    detect.Severity
	Summary     string
	OpenedAt    time.Time
	Parent      *int64
	ParentKind  detect.Kind // for plan; "" when there is none, or it is over
	Maintenance bool
	Acked       bool
	Evidence    string // for plan: the fingerprint of its lines
}

func (s subject) roster() Subject {
	return Subject{Incident: s.ID, Kind: s.Kind, Severity: s.Severity, Tenant: s.Tenant, Facility: s.Facility, OpenedAt: s.OpenedAt}
}

// todo is what makes the open incidents equal to what holds.
type todo struct {
	opens    []detect.Finding
	updates  []update
	resolves []subject
}

// update is an incident that goes on in another way.
type update struct {
	subject
	to     detect.Finding
	worse  bool // it has become critical
	parted bool // it is no longer a part of the region's condition
	joined bool // it has become one
}

func (t todo) size() int { return len(t.opens) + len(t.updates) + len(t.resolves) }

// ofMany are the region's conditions whose parts are facilities'.
var ofMany = map[detect.Kind]bool{detect.Outage: true, detect.TunnelDown: true, detect.TelemetryDown: true}

// plan compares what holds with the open incidents. It decides from the level,
// never from a change, so that nothing is lost when a look is missed: after a
// crash the next look decides the same.
//
// Of what cannot be judged now nothing opens and nothing resolves. What began at many
// facilities after the one that is open is another: that one is over first, and the
// next look opens the new one with its parts, so that all of its people are told.
func plan(w detect.Word, open []subject) todo {
	held := func(facility string) bool { return facility != "" && (w.Held || w.HeldOf[facility]) }
	holds := make(map[key]detect.Finding, len(w.Findings))
	for _, f := range w.Findings {
		holds[key{f.Kind, f.Facility}] = f
	}
	var t todo
	known := make(map[key]bool, len(open))
	another := make(map[detect.Kind]bool)
	for _, s := range open {
		f, ok := holds[key{kind: s.Kind}]
		another[s.Kind] = another[s.Kind] || ok && s.Facility == "" && ofMany[s.Kind] && f.Since.After(s.OpenedAt)
	}
	for _, s := range open {
		k := key{s.Kind, s.Facility}
		known[k] = true
		if held(s.Facility) {
			continue
		}
		f, ok := holds[k]
		if !ok || s.Facility == "" && another[s.Kind] {
			t.resolves = append(t.resolves, s)
			continue
		}
		if another[f.Of] {
			continue // until there is the new one
		}
		if _, ok := holds[key{kind: f.Of}]; !ok {
			f.Of = ""
		}
		u := update{
			subject: s, to: f,
			worse:  f.Severity == detect.Critical && s.Severity != detect.Critical,
			joined: f.Of != "" && f.Of != s.ParentKind,
			parted: f.Of == "" && s.Parent != nil,
		}
		if u.worse || u.joined || u.parted || f.Severity != s.Severity || f.Summary != s.Summary || f.Evidence != nil && fingerprint(f.Evidence) != s.Evidence {
			t.updates = append(t.updates, u)
		}
	}
	for k, f := range holds {
		if known[k] || held(k.facility) || another[f.Of] {
			continue
		}
		if _, ok := holds[key{kind: f.Of}]; !ok {
			f.Of = ""
		}
		t.opens = append(t.opens, f)
	}
	// The region's own first: they are the parents. Then always in the same order.
	slices.SortFunc(t.opens, func(a, b detect.Finding) int {
		return cmp.Or(cmp.Compare(a.Facility, b.Facility), cmp.Compare(a.Kind, b.Kind))
	})
	slices.SortFunc(t.resolves, func(a, b subject) int { return cmp.Compare(a.ID, b.ID) })
	return t
}

// fingerprint is of evidence, as the database makes it in sqlOpen.
func fingerprint(evidence []string) string {
	sum := md5.Sum([]byte(lines(evidence)))
	return hex.EncodeToString(sum[:])
}

// unsure is of what nobody can say now whether it goes on. No step is taken of it:
// what is overdue because nobody could look may be over as soon as somebody can.
type unsure struct {
	all bool
	of  []string // facilities, and single conditions; never nil, as the database is asked with it
}

func unsureOf(w detect.Word) unsure {
	u := unsure{all: w.Held, of: make([]string, 0, len(w.HeldOf)+len(w.Returning))}
	for _, some := range []map[string]bool{w.HeldOf, w.Returning} {
		u.of = slices.AppendSeq(u.of, maps.Keys(some))
	}
	for _, f := range w.Findings {
		if f.Unsure {
			u.of = append(u.of, condition(f.Kind, f.Facility))
		}
	}
	return u
}

// condition is one of a facility's, or of the region's own, in unsure.
func condition(k detect.Kind, facility string) string { return string(k) + "/" + facility }

// has reports whether an incident is unsure; the region's own are not by all.
func (u unsure) has(s subject) bool {
	return s.Facility != "" && (u.all || slices.Contains(u.of, s.Facility)) || slices.Contains(u.of, condition(s.Kind, s.Facility))
}

// split makes one of each, so that one that cannot be stored does not keep the
// others waiting. The region's own come first, as before.
func (t todo) split() []todo {
	var all []todo
	for i := range t.opens {
		all = append(all, todo{opens: t.opens[i : i+1]})
	}
	for i := range t.updates {
		all = append(all, todo{updates: t.updates[i : i+1]})
	}
	for i := range t.resolves {
		all = append(all, todo{resolves: t.resolves[i : i+1]})
	}
	return all
}

// name is a todo's for logs and people.
func (t todo) name() string {
	switch {
	case len(t.opens) > 0:
		return string(t.opens[0].Kind) + " of " + cmp.Or(t.opens[0].Facility, "the region")
	case len(t.updates) > 0:
		return string(t.updates[0].Kind) + " of " + cmp.Or(t.updates[0].Facility, "the region")
	case len(t.resolves) > 0:
		return string(t.resolves[0].Kind) + " of " + cmp.Or(t.resolves[0].Facility, "the region")
	}
	return ""
}
