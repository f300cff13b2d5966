// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-edge/atlas/engine"
)

// metrics count what the server does. No label takes its value from a client: verbs and classes are fixed lists.
type metrics struct {
	open               prometheus.Gauge
	accepted, refused  prometheus.Counter
	rests              prometheus.Counter
	received, sent     prometheus.Counter
	memory             prometheus.Gauge
	authFailures, cuts prometheus.Counter
	seconds            [verbCount_]prometheus.Observer
	errors             [engine.ClassCorrupt + 1]prometheus.Counter
	fatal              prometheus.Counter
}

// newMetrics registers the metrics. A server that starts while another of the same registry still drains counts on with
// the other's.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := new(metrics)
	var errs []error
	m.open = register(reg, &errs, prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "atlas_socket_connections", Help: "Open client connections.",
	}))
	connections := register(reg, &errs, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "atlas_socket_connections_total", Help: "Client connections, by what became of them: accepted, refused or cut.",
	}, []string{"result"}))
	m.accepted = connections.WithLabelValues("accepted")
	m.refused = connections.WithLabelValues("refused")
	m.cuts = connections.WithLabelValues("cut")
	m.rests = register(reg, &errs, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "atlas_socket_rests_total", Help: "Times that a connection gave memory back after being idle for a second.",
	}))
	m.received = register(reg, &errs, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "atlas_socket_received_bytes_total", Help: "Bytes read from clients.",
	}))
	m.sent = register(reg, &errs, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "atlas_socket_sent_bytes_total", Help: "Bytes written to clients.",
	}))
	m.memory = register(reg, &errs, prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "atlas_socket_frame_memory_bytes", Help: "Memory that large frames hold, as of the last second.",
	}))
	m.authFailures = register(reg, &errs, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "atlas_socket_auth_failures_total", Help: "Wrong secrets, and attempts refused for too many of them.",
	}))
	seconds := register(reg, &errs, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "atlas_socket_command_seconds", Help: "Time from a command's last byte read to its answer handed over, by verb.",
		Buckets: []float64{20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 50e-3, 0.25, 1, 5},
	}, []string{"verb"}))
	for v, name := range verbNames {
		m.seconds[v] = seconds.WithLabelValues(name)
	}
	classes := register(reg, &errs, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "atlas_socket_errors_total", Help: "Commands answered with an error, by its stable word.",
	}, []string{"class"}))
	for c := engine.ClassInvalid; c <= engine.ClassCorrupt; c++ {
		m.errors[c] = classes.WithLabelValues(c.String())
	}
	m.fatal = classes.WithLabelValues("fatal")
	return m, errors.Join(errs...)
}

func register[C prometheus.Collector](reg prometheus.Registerer, errs *[]error, c C) C {
	if reg == nil {
		return c
	}
	err := reg.Register(c)
	if err == nil {
		return c
	}
	if taken, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := taken.ExistingCollector.(C); ok {
			return existing
		}
	}
	*errs = append(*errs, fmt.Errorf("register metric: %w", err))
	return c
}

// command notes a command that was answered.
func (m *metrics) command(v verb, took time.Duration, err error) {
	m.seconds[v].Observe(took.Seconds())
	if err == nil {
		return
	}
	if _, fatal := errors.AsType[*fatalError](err); fatal {
		m.fatal.Inc()
		return
	}
	m.errors[engine.ClassOf(err)].Inc()
}
