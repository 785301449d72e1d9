package metrics_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/agogsaas/holdfast/internal/metrics"
)

func TestEveryProgramSaysWhichBuildItIsAndHowItFares(t *testing.T) {
	t.Parallel()
	up := false
	h := metrics.Handler("v1.2.3", metrics.DatabaseUp(func() bool { return up }),
		metrics.Counter("holdfast_things_total", "Things.", func() float64 { return 7 }))
	scrape := func() string {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		return w.Body.String()
	}
	text := scrape()
	for _, want := range []string{`version="v1.2.3"`, "holdfast_database_up 0\n", "holdfast_things_total 7\n", "\ngo_goroutines ", "\nprocess_resident_memory_bytes "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	up = true
	text = scrape()
	if !strings.Contains(text, "holdfast_database_up 1\n") {
		t.Errorf("the database is up, and it says\n%s", text)
	}
	if problems, err := promlint.New(strings.NewReader(text)).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}
