// Package metrics serves what a program says of itself, for Prometheus: its rooms'
// figures, the Go runtime's, the process's, and which build it is.
//
// In:  edge and cloud, with the collectors of their rooms.
// Out: internal/web, which serves it at /metrics.
package metrics

import (
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves own, and what every program has. It panics when two of own have
// a metric in common.
func Handler(version string, own ...prometheus.Collector) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	build := Gauge("holdfast_build_info", "Always 1; which build this is.", func() float64 { return 1 },
		prometheus.Labels{"version": version, "goversion": runtime.Version()})
	r.MustRegister(build)
	r.MustRegister(own...)
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// Gauge is a figure that is asked for at each scrape. Labels may be nil.
func Gauge(name, help string, value func() float64, labels prometheus.Labels) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value)
}

// Counter is the same of what only grows.
func Counter(name, help string, value func() float64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value)
}

// DatabaseUp says of both programs whether their PostgreSQL answers.
func DatabaseUp(up func() bool) prometheus.Collector {
	return Gauge("holdfast_database_up", "1 while the program's PostgreSQL answers.", func() float64 { return Bool(up()) }, nil)
}

// Bool is 1 for what is so.
func Bool(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
