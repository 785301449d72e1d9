package router

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/agogsaas/holdfast/internal/metrics"
)

var (
	descEpoch  = prometheus.NewDesc("holdfast_router_epoch", "Epoch of the way down.", nil, nil)
	descSeq    = prometheus.NewDesc("holdfast_router_seq", "Last transaction in the log of the way down.", nil, nil)
	descLSN    = prometheus.NewDesc("holdfast_router_wal_lsn_bytes", "Place in the region's WAL up to which the log of the way down has it.", nil, nil)
	descLog    = prometheus.NewDesc("holdfast_router_log_bytes", "Bytes that are kept for the slowest facility.", nil, nil)
	descFrames = prometheus.NewDesc("holdfast_router_frames_total", "Frames: opened ones came from the WAL, sealed ones went into the log, read ones came from its disk.", []string{"step"}, nil)
	descLeft   = prometheus.NewDesc("holdfast_router_left_out_total", "Rows that no frame can hold, and tables without a key, that were left out of the way down.", nil, nil)
	descUp     = prometheus.NewDesc("holdfast_router_capture_up", "1 while nothing keeps the region's WAL from being read.", nil, nil)
)

// Describe implements prometheus.Collector.
func (*Router) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descEpoch, descSeq, descLSN, descLog, descFrames, descLeft, descUp} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (r *Router) Collect(ch chan<- prometheus.Metric) {
	s := r.Stats()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descEpoch, float64(s.Tail.Epoch))
	gauge(descSeq, float64(s.Tail.Seq))
	gauge(descLSN, float64(s.LSN))
	gauge(descLog, float64(s.LogBytes))
	for step, n := range map[string]uint64{"opened": s.Opened, "sealed": s.Sealed, "read": s.Read} {
		ch <- prometheus.MustNewConstMetric(descFrames, prometheus.CounterValue, float64(n), step)
	}
	ch <- prometheus.MustNewConstMetric(descLeft, prometheus.CounterValue, float64(s.LeftOut))
	gauge(descUp, metrics.Bool(s.CaptureErr == ""))
}
