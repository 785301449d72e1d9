package broker

import "github.com/prometheus/client_golang/prometheus"

var (
	descUp     = prometheus.NewDesc("holdfast_broker_up", "1 while the region's own broker runs.", nil, nil)
	descStarts = prometheus.NewDesc("holdfast_broker_starts_total", "How often the region has started its broker.", nil, nil)
	descKnown  = prometheus.NewDesc("holdfast_broker_boxes", "Boxes that the broker lets in.", nil, nil)
)

// Describe implements prometheus.Collector.
func (*Broker) Describe(ch chan<- *prometheus.Desc) {
	ch <- descUp
	ch <- descStarts
	ch <- descKnown
}

// Collect implements prometheus.Collector. An external broker has no figures here.
func (b *Broker) Collect(ch chan<- prometheus.Metric) {
	s := b.State()
	if s.External {
		return
	}
	up := 0.0
	if s.Running {
		up = 1
	}
	ch <- prometheus.MustNewConstMetric(descUp, prometheus.GaugeValue, up)
	ch <- prometheus.MustNewConstMetric(descStarts, prometheus.CounterValue, float64(s.Starts))
	ch <- prometheus.MustNewConstMetric(descKnown, prometheus.GaugeValue, float64(b.control.boxes()))
}
