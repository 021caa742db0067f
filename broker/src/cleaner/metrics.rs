use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aqueduct_storage::Cleaned;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use crate::clock::Clock;

type Directory = [(&'static str, String); 1];

/// What the log cleaner counts, under Kafka's names.
#[derive(Clone, Debug, Default)]
pub(crate) struct CleanerMetrics {
    pub max_dirty_percent: Gauge,
    uncleanable_partitions: Family<Directory, Gauge>,
    uncleanable_bytes: Family<Directory, Gauge>,
    pub max_compaction_delay_secs: Gauge,
    pub dead_threads: Gauge,
    max_buffer_utilization_percent: Gauge,
    recopy_percent: Gauge,
    max_clean_time_secs: Gauge,
    last_run: LastRun,
}

/// Time of the last look for logs to clean, from which the metric is counted when it is read.
#[derive(Clone, Debug, Default)]
struct LastRun(Arc<AtomicI64>);

impl CleanerMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        let bean = |kind: &str, name: &str, what: &str| format!("{what} (kafka.log:type={kind},name={name})");
        let mut of_manager = |name: &str, metric: &Gauge, what: &str| {
            let help = bean("LogCleanerManager", name, what);
            registry.register(format!("logcleanermanager_{}", name.replace('-', "_")), help, metric.clone());
        };
        of_manager("max-dirty-percent", &this.max_dirty_percent, "Dirty share of the dirtiest compacted log");
        let help = "Logs that are not compacted since that failed, by directory";
        let help = bean("LogCleanerManager", "uncleanable-partitions-count", help);
        let metric = this.uncleanable_partitions.clone();
        registry.register("logcleanermanager_uncleanable_partitions_count", help, metric);
        let help = bean("LogCleanerManager", "uncleanable-bytes", "Bytes in them that wait to be compacted");
        registry.register("logcleanermanager_uncleanable_bytes", help, this.uncleanable_bytes.clone());
        let mut of_cleaner = |name: &str, metric: &Gauge, what: &str| {
            let help = bean("LogCleaner", name, what);
            let name = name.replace('-', "_").to_ascii_lowercase();
            registry.register(format!("logcleaner_{name}"), help, metric.clone());
        };
        of_cleaner(
            "max-buffer-utilization-percent",
            &this.max_buffer_utilization_percent,
            "Share of the memory for keys that the last compaction took",
        );
        of_cleaner("cleaner-recopy-percent", &this.recopy_percent, "Share of bytes that it kept");
        of_cleaner("max-clean-time-secs", &this.max_clean_time_secs, "Seconds that it took");
        of_cleaner(
            "max-compaction-delay-secs",
            &this.max_compaction_delay_secs,
            "Seconds by which the compaction of a log is late, by max.compaction.lag.ms",
        );
        of_cleaner("DeadThreadCount", &this.dead_threads, "Compactions that ended in a panic");
        registry.register_collector(Box::new(this.last_run.clone()));
        this
    }

    /// Takes note of a look for logs to clean.
    pub fn ran(&self, now_ms: i64) {
        self.last_run.0.store(now_ms, Ordering::Relaxed);
    }

    /// Takes note of a cleaning.
    pub fn cleaned(&self, cleaned: &Cleaned, took: Duration) {
        self.max_buffer_utilization_percent.set((cleaned.buffer_utilization * 100.0) as i64);
        self.recopy_percent.set((cleaned.bytes_written * 100 / cleaned.bytes_read.max(1)) as i64);
        self.max_clean_time_secs.set(took.as_secs() as i64);
    }

    /// Shows how many logs of a directory are left alone, and how many bytes wait in them.
    pub fn uncleanable(&self, directory: &str, partitions: usize, bytes: u64) {
        let labels = [("logDirectory", directory.to_owned())];
        self.uncleanable_partitions.get_or_create(&labels).set(partitions as i64);
        self.uncleanable_bytes.get_or_create(&labels).set(bytes as i64);
    }
}

impl Collector for LastRun {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let last = self.0.load(Ordering::Relaxed);
        let since = if last == 0 { 0 } else { Clock::system().now_ms().saturating_sub(last).max(0) };
        let help = "Milliseconds since the cleaner last looked for logs to compact \
                    (kafka.log:type=LogCleanerManager,name=time-since-last-run-ms)";
        let name = "logcleanermanager_time_since_last_run_ms";
        let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(since).encode(encoder)
    }
}
