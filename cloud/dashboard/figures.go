package dashboard

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/web"
)

// figureWeeks is how many weeks the charts go back.
const figureWeeks = 12

// week is one week's figures.
type week struct {
	To time.Time
	v1.Told
}

func quantiles(q []float64) v1.Quantiles {
	return v1.Quantiles{P50: q[0], P95: q[1], P99: q[2]}
}

type figuresView struct {
	Sections []section
	Spans    []v1.Told // the last 7, 30 and 84 days
	Weeks    []week    // oldest first
	// Detect and Tell are the charts' points.
	Detect, Tell string
}

// seconds writes a figure for people; none is "–".
func seconds(of int, s float64) string {
	switch {
	case of == 0:
		return "–"
	case s < 60:
		return strconv.FormatFloat(s, 'f', 1, 64) + " s"
	}
	return web.Span(time.Duration(s * float64(time.Second)))
}

// Seconds is for the templates.
func (v figuresView) Seconds(of int, s float64) string { return seconds(of, s) }

// Any reports that there is something to draw.
func (v figuresView) Any() bool { return len(v.Spans) > 0 && v.Spans[len(v.Spans)-1].Incidents > 0 }

func (u *UI) figuresPage(w http.ResponseWriter, r *http.Request) {
	v := figuresView{Sections: u.sections("/oncall/figures")}
	now := time.Now()
	for _, n := range []int{7, 30, figureWeeks * 7} {
		t, err := u.d.Alerts.Told(r.Context(), n)
		if err != nil {
			u.site.Error(w, r, http.StatusInternalServerError, err)
			return
		}
		v.Spans = append(v.Spans, t)
	}
	figures, err := u.store.told(r.Context(), now, figureWeeks)
	if err != nil {
		u.site.Error(w, r, http.StatusInternalServerError, err)
		return
	}
	for n := figureWeeks - 1; n >= 0; n-- {
		one := week{To: now.AddDate(0, 0, -7*n)}
		for _, f := range figures {
			if f.Back == n {
				one.Told = v1.Told{Incidents: f.Incidents, ToldOf: f.ToldOf, Detect: quantiles(f.Detect), Tell: quantiles(f.Tell)}
			}
		}
		v.Weeks = append(v.Weeks, one)
	}
	if v.Detect, err = points(v.Weeks, func(t v1.Told) (int, v1.Quantiles) { return t.Incidents, t.Detect }); err == nil {
		v.Tell, err = points(v.Weeks, func(t v1.Told) (int, v1.Quantiles) { return t.ToldOf, t.Tell })
	}
	if err != nil {
		u.site.Error(w, r, http.StatusInternalServerError, err)
		return
	}
	u.pages.Render(w, r, http.StatusOK, "figures", web.Page{Title: "Figures", Active: "/oncall", Live: "/live/oncall", Charts: true, Data: v})
}

// points are a chart's: the ends of the weeks, then p50, p95 and p99, in
// milliseconds as the charts' axes want them. A week without any is a gap.
func points(weeks []week, of func(v1.Told) (int, v1.Quantiles)) (string, error) {
	data := make([][]*float64, 4)
	for _, w := range weeks {
		at := float64(w.To.Unix())
		n, q := of(w.Told)
		data[0] = append(data[0], &at)
		for i, s := range []float64{q.P50, q.P95, q.P99} {
			if n == 0 {
				data[i+1] = append(data[i+1], nil)
				continue
			}
			ms := s * 1000
			data[i+1] = append(data[i+1], &ms)
		}
	}
	b, err := json.Marshal(data)
	if err != nil {
		return "", fmt.Errorf("encode the chart's points: %w", err)
	}
	return string(b), nil
}
