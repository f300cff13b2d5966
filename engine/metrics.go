// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-edge/atlas/engine/storage"
)

// metrics are the node's figures. They are read when asked for; nothing waits for them.
type metrics struct {
	registry   prometheus.Registerer
	collectors []prometheus.Collector
	log        func(msg string, args ...any)

	expiredKeys, collectedVersions, collectedChanges atomic.Uint64
	sweepFailures, reapedTxns                        atomic.Uint64
	failing                                          atomic.Bool // the last sweep failed: logged once
}

// newMetrics registers the node's figures; a nil registry keeps them private.
func newMetrics(e *Engine, registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{registry: registry, log: e.opts.Logger.Warn}
	r := e.replicator.Metrics()
	m.counter("atlas_replication_batches_total", "batches committed, one sync each", r.Batches.Load)
	m.counter("atlas_replication_commands_total", "commands decided", r.Commands.Load)
	m.counter("atlas_replication_refused_total", "commands refused before they were proposed", r.Refused.Load)
	m.counter("atlas_replication_failed_batches_total", "batches that storage refused", r.Failed.Load)
	m.counter("atlas_replication_group_loads_total", "groups that came into memory", r.GroupLoads.Load)
	m.counter("atlas_replication_stamps_total", "acceptor records that went to the disk as a stamp on the only version written", r.Carried.Load)
	m.counter("atlas_replication_group_reads_total", "groups that came into memory and for which the disk had to be asked", r.GroupReads.Load)
	m.collector(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "atlas_replication_batch_seconds_total", Help: "time from the intake of a batch until it was durable",
	}, func() float64 { return time.Duration(r.BatchNanos.Load()).Seconds() }))
	m.gauge("atlas_replication_groups_in_memory", "groups with a core in memory", func() float64 {
		return float64(e.replicator.GroupsInMemory())
	})
	m.gauge("atlas_replication_groups_parked", "groups that need no read to come into memory, those there included", func() float64 {
		return float64(e.replicator.GroupsParked())
	})
	m.counter("atlas_engine_expired_keys_total", "keys deleted because their time to live had passed", m.expiredKeys.Load)
	m.counter("atlas_engine_collected_versions_total", "old versions removed", m.collectedVersions.Load)
	m.counter("atlas_engine_collected_changes_total", "change records removed", m.collectedChanges.Load)
	m.counter("atlas_engine_sweep_failures_total", "rounds of housekeeping that failed", m.sweepFailures.Load)
	m.gauge("atlas_engine_transactions", "transactions that are open", func() float64 { return float64(e.txns.len()) })
	m.gauge("atlas_engine_transactions_memory_bytes", "memory that open transactions are charged for", func() float64 { return float64(e.txns.held.Load()) })
	m.counter("atlas_engine_transactions_expired_total", "transactions rolled back because they were idle or open for too long", m.reapedTxns.Load)
	m.gauge("atlas_engine_ready", "1 while the node serves", func() float64 {
		if e.Ready() != nil {
			return 0
		}
		return 1
	})
	m.collector(newStorageCollector(e.store))
	if registry == nil {
		return m, nil
	}
	for i, c := range m.collectors {
		if err := registry.Register(c); err != nil {
			m.collectors = m.collectors[:i]
			m.unregister()
			return nil, Errorf(ClassInvalid, "register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) counter(name, help string, value func() uint64) {
	m.collector(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value()) }))
}

func (m *metrics) gauge(name, help string, value func() float64) {
	m.collector(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

func (m *metrics) collector(c prometheus.Collector) { m.collectors = append(m.collectors, c) }

// unregister takes the figures off the registry, so that a node can start again in the same process.
func (m *metrics) unregister() {
	if m.registry == nil {
		return
	}
	for _, c := range m.collectors {
		m.registry.Unregister(c)
	}
}

func (m *metrics) expired(n int) { m.expiredKeys.Add(uint64(n)) }

func (m *metrics) collected(s storage.CollectStats) {
	m.collectedVersions.Add(uint64(s.Versions))
	m.collectedChanges.Add(uint64(s.Changes))
}

// swept notes how a round of housekeeping ended: failed ones are counted, and the first of a row is logged.
func (m *metrics) swept(err error) {
	if err == nil {
		m.failing.Store(false)
		return
	}
	m.sweepFailures.Add(1)
	if !m.failing.Swap(true) {
		m.log("housekeeping failed, will be tried again", "error", err)
	}
}

// storageCollector reads all of storage's figures at once.
type storageCollector struct {
	store *storage.Store
	descs map[string]*prometheus.Desc
}

// storageFigures are the figures of storage, by name.
var storageFigures = []struct {
	name, help string
	kind       prometheus.ValueType
	value      func(storage.Metrics) float64
}{
	{"atlas_storage_disk_bytes", "size of the data directory's files", prometheus.GaugeValue, func(m storage.Metrics) float64 { return float64(m.DiskBytes) }},
	{"atlas_storage_disk_free_bytes", "free space of the file system", prometheus.GaugeValue, func(m storage.Metrics) float64 { return float64(m.DiskFreeBytes) }},
	{"atlas_storage_cache_bytes", "size of the block cache", prometheus.GaugeValue, func(m storage.Metrics) float64 { return float64(m.CacheBytes) }},
	{"atlas_storage_cache_hits_total", "blocks found in the cache", prometheus.CounterValue, func(m storage.Metrics) float64 { return float64(m.CacheHits) }},
	{"atlas_storage_cache_misses_total", "blocks read from files", prometheus.CounterValue, func(m storage.Metrics) float64 { return float64(m.CacheMisses) }},
	{"atlas_storage_memtable_bytes", "size of the memtables", prometheus.GaugeValue, func(m storage.Metrics) float64 { return float64(m.MemTableBytes) }},
	{"atlas_storage_wal_written_bytes_total", "bytes written to the write-ahead log", prometheus.CounterValue, func(m storage.Metrics) float64 { return float64(m.WALBytesWritten) }},
	{"atlas_storage_compaction_debt_bytes", "bytes that compactions are behind", prometheus.GaugeValue, func(m storage.Metrics) float64 { return float64(m.CompactionDebtBytes) }},
	{"atlas_storage_read_amplification", "sorted runs that a read may look at", prometheus.GaugeValue, func(m storage.Metrics) float64 { return float64(m.ReadAmplification) }},
	{"atlas_storage_write_stalls_total", "times that writes waited for compactions", prometheus.CounterValue, func(m storage.Metrics) float64 { return float64(m.WriteStalls) }},
	{"atlas_storage_syncs_total", "syncs of the write-ahead log", prometheus.CounterValue, func(m storage.Metrics) float64 { return float64(m.Syncs) }},
	{"atlas_storage_sync_p99_seconds", "99th percentile of the time of a sync", prometheus.GaugeValue, func(m storage.Metrics) float64 { return m.SyncP99.Seconds() }},
	{"atlas_storage_disk_full", "1 while writes are refused for want of space", prometheus.GaugeValue, func(m storage.Metrics) float64 { return boolFigure(m.DiskFull) }},
	{"atlas_storage_disk_slow", "1 while the disk is slower than it should be", prometheus.GaugeValue, func(m storage.Metrics) float64 { return boolFigure(m.SlowDisk) }},
}

func boolFigure(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func newStorageCollector(store *storage.Store) *storageCollector {
	c := &storageCollector{store: store, descs: make(map[string]*prometheus.Desc)}
	for _, f := range storageFigures {
		c.descs[f.name] = prometheus.NewDesc(f.name, f.help, nil, nil)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *storageCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *storageCollector) Collect(out chan<- prometheus.Metric) {
	m := c.store.Metrics()
	for _, f := range storageFigures {
		out <- prometheus.MustNewConstMetric(c.descs[f.name], f.kind, f.value(m))
	}
}

func (m *metrics) txnReaped() { m.reapedTxns.Add(1) }
