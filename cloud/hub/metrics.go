package hub

import "github.com/prometheus/client_golang/prometheus"

var (
	descFacilities = prometheus.NewDesc("holdfast_hub_facilities", "Facilities that may connect.", nil, nil)
	descHeard      = prometheus.NewDesc("holdfast_hub_heard_timestamp_seconds", "When the last packet of the facility's tunnel came.", []string{"facility"}, nil)
	descHandshake  = prometheus.NewDesc("holdfast_hub_handshake_timestamp_seconds", "When the facility's tunnel last exchanged keys.", []string{"facility"}, nil)
	descRx         = prometheus.NewDesc("holdfast_hub_received_bytes_total", "Bytes from the facility, on the network.", []string{"facility"}, nil)
	descTx         = prometheus.NewDesc("holdfast_hub_sent_bytes_total", "Bytes to the facility, on the network.", []string{"facility"}, nil)
	descConns      = prometheus.NewDesc("holdfast_hub_connections", "Open connections of the facility.", []string{"facility"}, nil)
)

// Describe is part of prometheus.Collector.
func (*Hub) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descFacilities, descHeard, descHandshake, descRx, descTx, descConns} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector: register the hub itself.
func (h *Hub) Collect(ch chan<- prometheus.Metric) {
	links := h.Links()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descFacilities, float64(len(links)))
	for _, l := range links {
		if !l.Heard.IsZero() {
			gauge(descHeard, float64(l.Heard.UnixMilli())/1000, l.Facility)
		}
		if !l.Handshake.IsZero() {
			gauge(descHandshake, float64(l.Handshake.UnixMilli())/1000, l.Facility)
		}
		gauge(descConns, float64(l.Conns), l.Facility)
		ch <- prometheus.MustNewConstMetric(descRx, prometheus.CounterValue, float64(l.Rx), l.Facility)
		ch <- prometheus.MustNewConstMetric(descTx, prometheus.CounterValue, float64(l.Tx), l.Facility)
	}
}
