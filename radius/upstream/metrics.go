package upstream

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics counts questions and what comes back, by the name of the first factor.
// answers and unanswered together are all questions that a packet can ask.
type Metrics struct {
	answers    *prometheus.CounterVec
	unanswered *prometheus.CounterVec
	dropped    *prometheus.CounterVec
}

// NewMetrics registers the metrics of all clients. It panics if they are
// registered already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	factory := promauto.With(reg)
	return &Metrics{
		answers: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "otpgate_radius_upstream_answers_total",
			Help: "Answers of other RADIUS servers, by what they say.",
		}, []string{"first_factor", "answer"}),
		unanswered: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "otpgate_radius_upstream_unanswered_total",
			Help: "Questions that no other RADIUS server has answered in time.",
		}, []string{"first_factor"}),
		dropped: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "otpgate_radius_upstream_dropped_total",
			Help: "Replies of other RADIUS servers that were dropped, by reason.",
		}, []string{"first_factor", "reason"}),
	}
}
