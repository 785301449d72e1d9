package ingest

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/agogsaas/holdfast/internal/apply"
)

// Blocker returns the row that has a parked change's unique value, nil if
// there is none or it cannot be told.
func (in *Ingest) Blocker(ctx context.Context, id int64) (*apply.Blocker, error) {
	return in.pool.Blocker(ctx, in.tables.registry(), id)
}

// RetryParked has what is parked of a facility tried at once.
func (in *Ingest) RetryParked(facility string) { in.pool.RetryNow(facility) }

// loading reports whether the facility is sending the table (schema.name) as a whole.
func (in *Ingest) loading(ctx context.Context, facility, table string) bool {
	yes, err := in.store.loading(ctx, facility, table)
	if err != nil {
		in.cfg.Log.Debug("it is not known whether a table is being sent", "facility", facility, "table", table, "err", err)
	}
	return yes || err != nil
}

var descParked = prometheus.NewDesc("holdfast_facility_parked_changes",
	"Changes of a facility that the region's database refused, and what waits behind them.", []string{"facility"}, nil)

// Describe implements prometheus.Collector.
func (in *Ingest) Describe(out chan<- *prometheus.Desc) { out <- descParked }

// Collect implements prometheus.Collector. A facility of which nothing waits is left out.
func (in *Ingest) Collect(out chan<- prometheus.Metric) {
	for facility, n := range in.pool.Parked() {
		out <- prometheus.MustNewConstMetric(descParked, prometheus.GaugeValue, float64(n), facility)
	}
}
