package oncall

import (
	"testing"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/cloud/week"
)

const (
	ana   = 1
	ben   = 2
	cleo  = 3
	berli = "Europe/Berlin"
	losan = "America/Los_Angeles"
)

// turns reads a schedule as people write it.
func turns(t *testing.T, zone string, rotations ...v1.Rotation) Schedule {
	t.Helper()
	s, err := parseSchedule(v1.Schedule{Name: "test", TimeZone: zone, Rotations: rotations})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// moment reads a local time with its offset, so that both times of an hour that
// comes twice can be named.
func moment(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02 15:04 -0700", s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func weekly(first, handover string, contacts ...int64) v1.Rotation {
	return v1.Rotation{Contacts: contacts, FirstDay: first, Handover: handover, TurnDays: 7}
}

func daily(first, handover string, contacts ...int64) v1.Rotation {
	return v1.Rotation{Contacts: contacts, FirstDay: first, Handover: handover, TurnDays: 1}
}

func TestWhoIsOnCallFollowsTheClocksOfThePlace(t *testing.T) {
	nights := weekly("2026-03-02", "00:00", ana)
	nights.From, nights.To = "22:00", "06:00"
	workdays := weekly("2026-10-05", "08:00", ana, ben)
	workdays.Days, workdays.From, workdays.To = "Mon-Fri", "08:00", "17:00"
	saturdayNight := weekly("2026-01-03", "12:00", ana)
	saturdayNight.Days, saturdayNight.From, saturdayNight.To = "Sat", "20:00", "08:00"
	noOne := int64(0)

	for _, c := range []struct {
		name, zone string
		rotations  []v1.Rotation
		at         string
		want       int64
		until      string // "" for never
	}{
		{"before the first turn", berli, []v1.Rotation{weekly("2026-03-02", "09:00", ana, ben)}, "2026-03-02 08:59 +0100", noOne, "2026-03-02 09:00 +0100"},
		{"long before it", berli, []v1.Rotation{weekly("2026-03-02", "09:00", ana, ben)}, "2025-03-02 08:59 +0100", noOne, "2026-03-02 09:00 +0100"},
		{"from the handover on", berli, []v1.Rotation{weekly("2026-03-02", "09:00", ana, ben)}, "2026-03-02 09:00 +0100", ana, "2026-03-09 09:00 +0100"},
		{"the second of the turns", berli, []v1.Rotation{weekly("2026-03-02", "09:00", ana, ben)}, "2026-03-09 09:00 +0100", ben, "2026-03-16 09:00 +0100"},
		{"it begins anew", berli, []v1.Rotation{weekly("2026-03-02", "09:00", ana, ben)}, "2026-03-16 09:00 +0100", ana, "2026-03-23 09:00 +0100"},
		{"one alone for ever", berli, []v1.Rotation{weekly("2026-03-02", "09:00", ana)}, "2026-08-01 00:00 +0200", ana, ""},

		// Berlin goes from +1 to +2 on 29 March 2026 at 02:00, and back on 25 October at 03:00.
		{"a turn over the spring change ends by the clock on the wall", berli, []v1.Rotation{weekly("2026-03-02", "09:00", ana, ben)}, "2026-03-28 12:00 +0100", ben, "2026-03-30 09:00 +0200"},
		{"the day of 23 hours", berli, []v1.Rotation{daily("2026-03-28", "09:00", ana, ben)}, "2026-03-28 09:00 +0100", ana, "2026-03-29 09:00 +0200"},
		{"the day of 25 hours", berli, []v1.Rotation{daily("2026-10-24", "09:00", ana, ben)}, "2026-10-24 09:00 +0200", ana, "2026-10-25 09:00 +0100"},
		{"a handover that the clocks pass over is when they jump", berli, []v1.Rotation{daily("2026-03-28", "02:30", ana, ben)}, "2026-03-29 01:59 +0100", ana, "2026-03-29 03:00 +0200"},
		{"and not a minute later", berli, []v1.Rotation{daily("2026-03-28", "02:30", ana, ben)}, "2026-03-29 03:00 +0200", ben, "2026-03-30 02:30 +0200"},
		{"a handover that comes twice is the first", berli, []v1.Rotation{daily("2026-10-24", "02:30", ana, ben)}, "2026-10-25 02:29 +0200", ana, "2026-10-25 02:30 +0200"},
		{"and does not go back the second time", berli, []v1.Rotation{daily("2026-10-24", "02:30", ana, ben)}, "2026-10-25 02:15 +0100", ben, "2026-10-26 02:30 +0100"},
		{"turns still alternate months later", berli, []v1.Rotation{daily("2026-03-28", "00:00", ana, ben)}, "2026-11-01 00:00 +0100", ana, "2026-11-02 00:00 +0100"},

		// Los Angeles goes from -8 to -7 on 8 March 2026 at 02:00, and back on 1 November at 02:00.
		{"Los Angeles in spring", losan, []v1.Rotation{daily("2026-03-07", "02:00", ana, ben)}, "2026-03-08 01:59 -0800", ana, "2026-03-08 03:00 -0700"},
		{"Los Angeles in autumn, the first half past one", losan, []v1.Rotation{daily("2026-10-31", "01:30", ana, ben)}, "2026-11-01 01:29 -0700", ana, "2026-11-01 01:30 -0700"},
		{"Los Angeles in autumn, the second half past one", losan, []v1.Rotation{daily("2026-10-31", "01:30", ana, ben)}, "2026-11-01 01:30 -0800", ben, "2026-11-02 01:30 -0800"},
		{"midnight there is morning in Berlin", losan, []v1.Rotation{daily("2026-06-01", "00:00", ana, ben)}, "2026-06-02 08:59 +0200", ana, "2026-06-02 09:00 +0200"},

		{"the end of February", berli, []v1.Rotation{daily("2028-02-28", "09:00", ana, ben, cleo)}, "2028-02-29 10:00 +0100", ben, "2028-03-01 09:00 +0100"},
		{"the end of the year", losan, []v1.Rotation{daily("2026-12-30", "12:00", ana, ben, cleo)}, "2027-01-01 11:59 -0800", ben, "2027-01-01 12:00 -0800"},
		{"turns of 31 days are days, not months", berli, []v1.Rotation{{Contacts: []int64{ana, ben}, FirstDay: "2026-01-31", Handover: "09:00", TurnDays: 31}}, "2026-03-03 10:00 +0100", ben, "2026-04-03 09:00 +0200"},

		{"a night", berli, []v1.Rotation{nights}, "2026-03-10 23:00 +0100", ana, "2026-03-11 06:00 +0100"},
		{"its morning", berli, []v1.Rotation{nights}, "2026-03-11 05:59 +0100", ana, "2026-03-11 06:00 +0100"},
		{"the day between nights", berli, []v1.Rotation{nights}, "2026-03-11 06:00 +0100", noOne, "2026-03-11 22:00 +0100"},
		{"the night when clocks jump", berli, []v1.Rotation{nights}, "2026-03-29 03:30 +0200", ana, "2026-03-29 06:00 +0200"},
		{"the night when an hour comes twice", berli, []v1.Rotation{nights}, "2026-10-25 02:30 +0100", ana, "2026-10-25 06:00 +0100"},
		{"a night belongs to the day on which it begins", losan, []v1.Rotation{saturdayNight}, "2026-06-07 07:59 -0700", ana, "2026-06-07 08:00 -0700"},
		{"so Sunday night is nobody's", losan, []v1.Rotation{saturdayNight}, "2026-06-07 23:00 -0700", noOne, "2026-06-13 20:00 -0700"},
		{"and Saturday's morning too", losan, []v1.Rotation{saturdayNight}, "2026-06-06 07:00 -0700", noOne, "2026-06-06 20:00 -0700"},
		{"office hours", berli, []v1.Rotation{workdays}, "2026-10-16 16:59 +0200", ben, "2026-10-16 17:00 +0200"},
		{"the weekend over the autumn change", berli, []v1.Rotation{workdays}, "2026-10-24 12:00 +0200", noOne, "2026-10-26 08:00 +0100"},

		{"the last rotation that covers holds", berli, []v1.Rotation{weekly("2026-10-05", "08:00", cleo), workdays}, "2026-10-14 12:00 +0200", ben, "2026-10-14 17:00 +0200"},
		{"where it does not the one before does", berli, []v1.Rotation{weekly("2026-10-05", "08:00", cleo), workdays}, "2026-10-14 17:00 +0200", cleo, "2026-10-15 08:00 +0200"},
		{"who follows himself has one turn", berli, []v1.Rotation{daily("2026-10-05", "08:00", ana, ana, ben)}, "2026-10-05 09:00 +0200", ana, "2026-10-07 08:00 +0200"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := turns(t, c.zone, c.rotations...).At(moment(t, c.at))
			if got.Contact != c.want {
				t.Errorf("%d is on call, not %d", got.Contact, c.want)
			}
			var until time.Time
			if c.until != "" {
				until = moment(t, c.until)
			}
			if !got.Until.Equal(until) {
				t.Errorf("until %v, not %v", got.Until, until)
			}
		})
	}
}

func TestWhoStandsInComesFirst(t *testing.T) {
	s := turns(t, berli, weekly("2026-03-02", "09:00", ana, ben))
	over := func(id, contact int64, from, to string) Override {
		return Override{ID: id, Contact: contact, Starts: moment(t, from), Ends: moment(t, to)}
	}
	s.Overrides = []Override{
		over(3, ben, "2026-03-04 12:00 +0100", "2026-03-04 18:00 +0100"), // made last: it holds where they overlap
		over(1, cleo, "2026-03-04 08:00 +0100", "2026-03-05 08:00 +0100"),
		over(2, ana, "2026-03-28 20:00 +0100", "2026-03-29 20:00 +0200"), // over the change of the clocks
	}
	for _, c := range []struct {
		at       string
		want     int64
		override bool
		until    string
	}{
		{"2026-03-04 07:59 +0100", ana, false, "2026-03-04 08:00 +0100"},
		{"2026-03-04 08:00 +0100", cleo, true, "2026-03-04 12:00 +0100"},
		{"2026-03-04 12:00 +0100", ben, true, "2026-03-04 18:00 +0100"},
		{"2026-03-04 18:00 +0100", cleo, true, "2026-03-05 08:00 +0100"},
		{"2026-03-05 08:00 +0100", ana, false, "2026-03-09 09:00 +0100"},
		{"2026-03-28 19:59 +0100", ben, false, "2026-03-28 20:00 +0100"},
		{"2026-03-29 03:00 +0200", ana, true, "2026-03-29 20:00 +0200"},
		{"2026-03-29 20:00 +0200", ben, false, "2026-03-30 09:00 +0200"},
	} {
		got := s.At(moment(t, c.at))
		if got.Contact != c.want || got.Override != c.override || !got.Until.Equal(moment(t, c.until)) {
			t.Errorf("%s: %+v, want %d until %s", c.at, got, c.want, c.until)
		}
	}
	s.Rotations = nil
	if got := s.At(moment(t, "2027-01-01 00:00 +0100")); got.Contact != 0 || !got.Until.IsZero() {
		t.Errorf("of a schedule with nothing left: %+v", got)
	}
}

// Whatever the schedule, until is the first moment with another answer.
func TestUntilIsWhenTheAnswerChanges(t *testing.T) {
	for _, zone := range []string{berli, losan, "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"} {
		nights := daily("2026-01-01", "02:30", ana, ben)
		nights.From, nights.To = "22:00", "02:15"
		s := turns(t, zone, daily("2026-01-01", "01:45", ana, ben, cleo), nights)
		now := moment(t, "2026-01-05 00:00 +0000")
		for end := now.AddDate(1, 0, 0); now.Before(end); {
			turn := s.At(now)
			if !turn.Until.After(now) {
				t.Fatalf("%s: at %v until %v", zone, now, turn.Until)
			}
			for m := now; m.Before(turn.Until); m = m.Add(15 * time.Minute) {
				if got := s.who(m); got.Contact != turn.Contact {
					t.Fatalf("%s: %d at %v, and %d at %v", zone, turn.Contact, now, got.Contact, m)
				}
			}
			if last := s.who(turn.Until.Add(-time.Second)); last.Contact != turn.Contact {
				t.Fatalf("%s: it changed before %v", zone, turn.Until)
			}
			if then := s.who(turn.Until); then.Contact == turn.Contact {
				t.Fatalf("%s: at %v still %d", zone, turn.Until, then.Contact)
			}
			now = turn.Until
		}
	}
}

// The widest schedule that can be written has an answer, and one moment costs little.
func TestTheWidestScheduleIsNotLookedThroughForEver(t *testing.T) {
	var rotations []v1.Rotation
	for i := range rotationsMax {
		r := daily("2026-01-01", "09:00", ana, ana)
		r.From, r.To = week.MinuteText(i*60+7), week.MinuteText(i*60+60)
		rotations = append(rotations, r)
	}
	rotations[0] = daily("2026-01-01", "09:00", ana)
	s := turns(t, berli, rotations...)
	now := moment(t, "2026-03-01 12:00 +0100")
	if got := s.At(now); got.Contact != ana || !got.Until.IsZero() {
		t.Errorf("%+v", got)
	}
	s.Overrides = []Override{{ID: 1, Contact: ben, Starts: now.AddDate(0, 0, 7), Ends: now.AddDate(0, 0, 8)}}
	if got := s.At(now); got.Contact != ana || !got.Until.Equal(now.AddDate(0, 0, 7)) {
		t.Errorf("%+v", got)
	}
	rotations[0].Contacts = []int64{ben}
	s = turns(t, berli, rotations[:2]...)
	if got := s.At(now.AddDate(0, 0, 1)); got.Contact != ben || !got.Until.After(now) {
		t.Errorf("%+v", got)
	}
}

func FuzzSchedule(f *testing.F) {
	f.Add("Europe/Berlin", "2026-03-28", "02:30", 1, "Mon-Fri", "22:00", "06:00", int64(1774746000))
	f.Add("America/Los_Angeles", "2026-10-31", "01:30", 7, "", "", "", int64(1793520000))
	f.Add("Pacific/Apia", "2011-12-29", "23:59", 366, "Sun", "00:00", "24:00", int64(1325239200))
	f.Fuzz(func(t *testing.T, zone, first, handover string, days int, week, from, to string, at int64) {
		doc := v1.Schedule{TimeZone: zone, Rotations: []v1.Rotation{
			{Contacts: []int64{ana, ben}, FirstDay: first, Handover: handover, TurnDays: days, Days: week, From: from, To: to},
		}}
		s, err := parseSchedule(doc)
		if err != nil {
			return
		}
		now := time.Unix(at%(1<<33), 0)
		turn := s.At(now)
		if !turn.Until.IsZero() && !turn.Until.After(now) {
			t.Fatalf("%+v: at %v until %v", doc, now, turn.Until)
		}
		if !turn.Until.IsZero() && s.who(turn.Until.Add(-time.Nanosecond)).Contact != turn.Contact {
			t.Fatalf("%+v: at %v %d until %v, and it changed before", doc, now, turn.Contact, turn.Until)
		}
	})
}
