package radius

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	codec "layeh.com/radius"
)

// Metrics counts what comes and goes. For each client, requests are replies and
// drops together, and what is under way.
type Metrics struct {
	requests *prometheus.CounterVec
	replies  *prometheus.CounterVec
	dropped  *prometheus.CounterVec
	refused  *prometheus.CounterVec // that were not the gate's
	duration prometheus.Histogram

	eapOpen  prometheus.Gauge
	eapEnded *prometheus.CounterVec

	connections *prometheus.GaugeVec
	tlsRefused  *prometheus.CounterVec
}

// NewMetrics registers the metrics of the door. It panics if they are
// registered already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	factory := promauto.With(reg)
	return &Metrics{
		requests: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "otpgate_radius_requests_total",
			Help: "RADIUS packets received from a known client, by code.",
		}, []string{"client", "code"}),
		replies: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "otpgate_radius_replies_total",
			Help: "RADIUS replies sent, resent ones too, by code.",
		}, []string{"client", "code"}),
		dropped: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "otpgate_radius_dropped_total",
			Help: "RADIUS packets that got no answer, or over RADIUS/1.1 a Protocol-Error, by reason. The client is empty if the address is unknown.",
		}, []string{"client", "reason"}),
		refused: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "otpgate_radius_refused_total",
			Help: "RADIUS requests that were rejected by the door, not by the gate, by reason.",
		}, []string{"client", "reason"}),
		eapOpen: factory.NewGauge(prometheus.GaugeOpts{
			Name: "otpgate_radius_eap_sessions",
			Help: "EAP sessions that have begun and not ended.",
		}),
		eapEnded: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "otpgate_radius_eap_sessions_ended_total",
			Help: "EAP sessions that ended, by result and by method; the method is empty if none had begun.",
		}, []string{"client", "result", "method"}),
		connections: factory.NewGaugeVec(prometheus.GaugeOpts{
			Name: "otpgate_radius_tls_connections",
			Help: "RADIUS/TLS connections that are open, by client.",
		}, []string{"client"}),
		tlsRefused: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "otpgate_radius_tls_refused_total",
			Help: "RADIUS/TLS connections that were refused, by reason.",
		}, []string{"reason"}),
		duration: factory.NewHistogram(prometheus.HistogramOpts{
			Name: "otpgate_radius_duration_seconds",
			Help: "From the arrival of a RADIUS request to its reply.",
			// From an answer out of the cache to answerLimit; gear waits 3 s.
			Buckets: []float64{.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 3},
		}),
	}
}

func (m *Metrics) received(client string, packet []byte) {
	code := "other"
	if len(packet) > 0 {
		if c := codec.Code(packet[0]); c == codec.CodeAccessRequest || c == codec.CodeAccountingRequest || c == codec.CodeStatusServer {
			code = c.String()
		}
	}
	m.requests.WithLabelValues(client, code).Inc()
}

func (m *Metrics) replied(client string, code codec.Code, took time.Duration) {
	m.replies.WithLabelValues(client, code.String()).Inc()
	m.duration.Observe(took.Seconds())
}

func (m *Metrics) droppedFor(client string, why reason) {
	m.dropped.WithLabelValues(client, string(why)).Inc()
}

func (m *Metrics) refusedFor(client string, why refusal) {
	m.refused.WithLabelValues(client, string(why)).Inc()
}
