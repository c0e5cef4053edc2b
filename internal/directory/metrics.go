package directory

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics counts what directories are asked. One for all of them.
type Metrics struct {
	requests    *prometheus.CounterVec // directory, request, result
	failures    *prometheus.CounterVec // directory, server
	connections *prometheus.GaugeVec   // directory, server
}

// NewMetrics registers the metrics. It panics if they are registered already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	factory := promauto.With(reg)
	return &Metrics{
		requests: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "otpgate_directory_requests_total",
			Help: "What LDAP directories were asked (check, groups), by result: right, wrong, found, or error if no server could say.",
		}, []string{"directory", "request", "result"}),
		failures: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "otpgate_directory_server_failures_total",
			Help: "Requests that an LDAP server failed; the next one was asked, if there is one.",
		}, []string{"directory", "server"}),
		connections: factory.NewGaugeVec(prometheus.GaugeOpts{
			Name: "otpgate_directory_connections",
			Help: "Connections to LDAP servers that are open.",
		}, []string{"directory", "server"}),
	}
}

func (m *Metrics) checked(directory string, right bool, err error) {
	result := "wrong"
	switch {
	case err != nil:
		result = "error"
	case right:
		result = "right"
	}
	m.requests.WithLabelValues(directory, "check", result).Inc()
}

func (m *Metrics) grouped(directory string, err error) {
	result := "found"
	if err != nil {
		result = "error"
	}
	m.requests.WithLabelValues(directory, "groups", result).Inc()
}

func (m *Metrics) failed(directory, server string) {
	m.failures.WithLabelValues(directory, server).Inc()
}
