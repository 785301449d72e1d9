package main

import (
	"math"
	"testing"
	"time"
)

// What an answer takes is told from what all else takes, wherever it falls.
func TestWhatAnAnswerTakesIsTold(t *testing.T) {
	t.Parallel()
	list := []sample{{at: time.Unix(0, 0)}}
	for i := 1; i <= 300; i++ {
		s := list[i-1]
		s.at, s.busy = s.at.Add(time.Second), s.busy+400*time.Millisecond+time.Duration(i%2)*time.Millisecond
		switch i % 10 {
		case 4: // it takes 60 ms in the second before it is noted, and 40 in that
			s.busy += 60 * time.Millisecond
		case 5:
			s.busy, s.rows = s.busy+40*time.Millisecond, s.rows+2000
		}
		list = append(list, s)
	}
	c := excess(list)
	if c.answers != 30 || c.rows != 60_000 || math.Abs(c.percent-1) > 0.05 || math.Abs(c.calm-0.4005) > 0.001 || c.within > 0.2 {
		t.Errorf("30 answers of 0.1 s in 300 s: %+v", c)
	}
}
