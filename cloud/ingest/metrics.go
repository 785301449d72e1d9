package ingest

import "github.com/prometheus/client_golang/prometheus"

var (
	descTxs     = prometheus.NewDesc("holdfast_ingest_transactions_total", "Facilities' transactions that were committed in the region.", nil, nil)
	descChanges = prometheus.NewDesc("holdfast_ingest_changes_total", "Facilities' row changes that were committed in the region.", nil, nil)
	descBytes   = prometheus.NewDesc("holdfast_ingest_frame_bytes_total", "Bytes of the frames that brought them.", nil, nil)
	descParked  = prometheus.NewDesc("holdfast_facility_parked_changes",
		"Changes of a facility that the region's database refused, and what waits behind them; absent when there are none.", []string{"facility"}, nil)
)

// Describe implements prometheus.Collector.
func (*Ingest) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descTxs, descChanges, descBytes, descParked} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (in *Ingest) Collect(out chan<- prometheus.Metric) {
	txs, changes, bytes := in.counters.applied()
	for d, n := range map[*prometheus.Desc]uint64{descTxs: txs, descChanges: changes, descBytes: bytes} {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
	for facility, n := range in.pool.Parked() {
		out <- prometheus.MustNewConstMetric(descParked, prometheus.GaugeValue, float64(n), facility)
	}
}
