package dashboard

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agogsaas/holdfast/cloud/alert"
	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

func TestShiftsFillTheTwoWeeksAlsoWhenTheClocksChange(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	from := time.Date(2026, 10, 20, 0, 0, 0, 0, zone) // the 25th has 25 hours
	to := time.Date(2026, 11, 3, 0, 0, 0, 0, zone)
	marks := days(from, to, zone)
	if len(marks) != shiftDays || marks[0].Text != "Tue 20" || marks[13].Text != "Mon 2" || marks[0].X != 0 {
		t.Errorf("%d days: %+v", len(marks), marks)
	}
	if short, long := marks[1].X-marks[0].X, marks[6].X-marks[5].X; long <= short {
		t.Errorf("the day with 25 hours is %f wide, another %f", long, short)
	}
	middle := from.Add(100 * time.Hour)
	people, gaps := spread([]shift{
		{From: from, To: middle, Contact: 1, Who: "Maria"}, {From: middle, To: middle.Add(time.Hour)}, {From: middle.Add(time.Hour), To: to, Contact: 2, Who: "Bo", Override: true},
	}, from, to)
	if len(people) != 2 || len(gaps) != 1 || people[0].Hours() != "100 h" {
		t.Fatalf("%+v, %+v", people, gaps)
	}
	end := people[1].Bars[0]
	if math.Abs(end.X+end.Width-1000) > 0.01 || !end.Override {
		t.Errorf("the last one ends at %f", end.X+end.Width)
	}
}

func TestViewersShareOneReadingOfTheOpenIncidents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var reads atomic.Int32
		var broken atomic.Bool
		const all = 1203
		o := &openIncidents{read: func(_ context.Context, f alert.Filter) (out []v1.Incident, err error) {
			reads.Add(1)
			if broken.Load() {
				return nil, errors.New("the database is away")
			}
			top := int64(all)
			if f.Before > 0 {
				top = f.Before - 1
			}
			for id := top; id > 0 && len(out) < f.Limit; id-- {
				i := v1.Incident{ID: id, Severity: "critical"}
				if id > 1 {
					parent := int64(1)
					i.Parent = &parent
				}
				out = append(out, i)
			}
			return out, nil
		}}
		u := &UI{open: o}
		for range 100 {
			if number, _ := u.incidentBadgeOf(t.Context()); number != "1" {
				t.Fatalf("the badge says %q", number)
			}
		}
		list, err := o.now(t.Context())
		if err != nil || len(list) != all || list[0].ID != 1 {
			t.Fatalf("%d incidents, %v; the regional one does not come first", len(list), err)
		}
		if n := reads.Load(); n != 3 {
			t.Errorf("read %d times, for 3 pages", n)
		}
		// What is known stays known while the database is away, and pages say so.
		time.Sleep(openEvery)
		broken.Store(true)
		if list, err := o.now(t.Context()); err == nil || len(list) != all {
			t.Errorf("%d incidents, %v", len(list), err)
		}
		if number, _ := u.incidentBadgeOf(t.Context()); number != "?" {
			t.Errorf("the badge says %q", number)
		}
		broken.Store(false)
		o.forget()
		if _, err := o.now(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func FuzzIncidentQuery(f *testing.F) {
	f.Add("state=open&facility=la&kind=offline&tenant=foo&before=12")
	f.Add("state=%00&before=-1")
	f.Fuzz(func(t *testing.T, raw string) {
		v, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		q := readIncidentQuery(v)
		if again := readIncidentQuery(q.values()); again != q {
			t.Fatalf("%q: %+v, then %+v", raw, q, again)
		}
	})
}

func FuzzSettings(f *testing.F) {
	f.Add("language = de-DE\nsecret=a=b\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		set, err := readSettings(text)
		if err != nil {
			return
		}
		if len(set) > settingsMax {
			t.Fatalf("%d settings", len(set))
		}
		again := ""
		for k, v := range set {
			again += fmt.Sprintf("%s = %s\n", k, v)
		}
		if back, err := readSettings(again); err != nil || fmt.Sprint(back) != fmt.Sprint(set) {
			t.Fatalf("%q: %v, then %v (%v)", text, set, back, err)
		}
	})
}

func FuzzLocalTime(f *testing.F) {
	f.Add("2026-10-25T02:30")
	f.Fuzz(func(t *testing.T, s string) {
		at := localTime(s, time.UTC)
		if !at.IsZero() && !localTime(at.Format(localTimeForm), time.UTC).Equal(at.Truncate(time.Minute)) {
			t.Fatalf("%q is %s", s, at)
		}
	})
}
