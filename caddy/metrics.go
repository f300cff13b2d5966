// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"github.com/prometheus/client_golang/prometheus"
)

// nodeMetrics collects the registries of a node and its frontends, which outlive configurations, for the registry of one
// configuration. It describes nothing beforehand: frontends may register what they like, when they like.
type nodeMetrics struct{ running *runningNode }

// registerMetrics shows the metrics of a node on the registry of a configuration, labelled with its advertise address,
// of which a process has no two. Each configuration has a registry of its own, so that nothing is registered twice.
func registerMetrics(registry *prometheus.Registry, running *runningNode) error {
	labels := prometheus.Labels{"advertise": running.node.config.Advertise}
	return registry.Register(prometheus.WrapCollectorWith(labels, nodeMetrics{running}))
}

// readyDesc, infoDesc and startDesc are what this package itself measures.
var (
	readyDesc = prometheus.NewDesc("atlas_caddy_node_ready", "1 while the node and its frontends serve, else 0.", nil, nil)
	infoDesc  = prometheus.NewDesc("atlas_caddy_build_info", "1, with the version as a label.", []string{"version"}, nil)
	startDesc = prometheus.NewDesc("atlas_caddy_node_start_timestamp_seconds", "When the node was opened, in Unix time.", nil, nil)
)

// Describe yields nothing: the collector is unchecked.
func (nodeMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect gives the node's metrics.
func (m nodeMetrics) Collect(ch chan<- prometheus.Metric) {
	ready := 0.0
	if m.running.ready() == nil {
		ready = 1
	}
	ch <- prometheus.MustNewConstMetric(readyDesc, prometheus.GaugeValue, ready)
	ch <- prometheus.MustNewConstMetric(infoDesc, prometheus.GaugeValue, 1, Version())
	ch <- prometheus.MustNewConstMetric(startDesc, prometheus.GaugeValue, float64(m.running.node.started.UnixMilli())/1e3)
	m.running.node.registry.Collect(ch)
	for _, f := range m.running.frontends {
		// Two frontends of a node are told apart by where they listen.
		prometheus.WrapCollectorWith(prometheus.Labels{"frontend": f.address}, f.registry).Collect(ch)
	}
}
