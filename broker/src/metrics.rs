//! What the node counts. Handles are registered once; counting allocates nothing.

mod cluster;
mod gauges;
mod histogram;
mod lag;
mod stages;
mod text;
mod traffic;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::api::APIS;
use crate::cleaner::CleanerMetrics;

pub(crate) use gauges::{flushed, start, write};
pub(crate) use stages::{Times, with_parked};
pub(crate) use traffic::Traffic;

/// Handles of everything that is counted, and the registry that an exporter reads.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    pub requests: Requests,
    pub messages_in: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    pub produce_failures: Counter,
    pub fetch_failures: Counter,
    pub connections: Gauge,
    pub open_partitions: Gauge,
    pub late_transactions: Gauge,
    pub topics: Gauge,
    pub fetch_sessions: Gauge,
    pub groups: GroupMetrics,
    pub cleaner: CleanerMetrics,
    /// Fetches that wait for records.
    pub fetches_parked: stages::Purgatory,
    /// Members that wait for others.
    pub rebalances_parked: stages::Purgatory,
    busy: gauges::Busy,
    lags: lag::Lags,
}

/// What the group coordinator counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupMetrics {
    pub groups: Gauge,
    pub offset_commits: Counter,
    pub rebalances: Counter,
}

impl GroupMetrics {
    fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        let name = "groupmetadatamanager_numgroups";
        registry.register(name, "kafka.server:type=group-coordinator-metrics,name=group-count. Groups that this broker coordinates", this.groups.clone());
        let name = "groupcoordinatormetrics_offsetcommits";
        registry.register(name, "kafka.server:type=group-coordinator-metrics,name=offset-commit-count. Offsets of partitions that were committed", this.offset_commits.clone());
        let name = "groupcoordinatormetrics_groupcompletedrebalances";
        registry.register(
            name,
            "kafka.server:type=group-coordinator-metrics,name=group-completed-rebalance-count. Generations that got their assignment, or became empty",
            this.rebalances.clone(),
        );
        this
    }
}

/// Counters of each API that is served.
pub(crate) struct Requests(Vec<RequestCounters>);

struct RequestCounters {
    key: i16,
    count: Counter,
    request_bytes: Counter,
    response_bytes: Counter,
    micros: Counter,
    name: &'static str,
    stages: stages::Stages,
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("kafka");
        let server = registry.sub_registry_with_prefix("server");
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let gauge: Gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let messages_in = counter(
            server,
            "brokertopicmetrics_messagesin",
            "kafka.server:type=BrokerTopicMetrics,name=MessagesInPerSec. Records appended for clients",
        );
        let bytes_in = counter(
            server,
            "brokertopicmetrics_bytesin",
            "kafka.server:type=BrokerTopicMetrics,name=BytesInPerSec. Bytes of record batches appended for clients",
        );
        let bytes_out = counter(
            server,
            "brokertopicmetrics_bytesout",
            "kafka.server:type=BrokerTopicMetrics,name=BytesOutPerSec. Bytes of records sent to consumers",
        );
        let produce_failures = counter(
            server,
            "brokertopicmetrics_failedproducerequests",
            "kafka.server:type=BrokerTopicMetrics,name=FailedProduceRequestsPerSec. Partitions of Produce requests that failed",
        );
        let fetch_failures = counter(
            server,
            "brokertopicmetrics_failedfetchrequests",
            "kafka.server:type=BrokerTopicMetrics,name=FailedFetchRequestsPerSec. Partitions of Fetch requests that failed",
        );
        let open_partitions = gauge(server, "replicamanager_openpartitions", "Partitions whose log is open");
        let late_transactions = gauge(
            server,
            "replicamanager_partitionswithlatetransactionscount",
            "kafka.server:type=ReplicaManager,name=PartitionsWithLateTransactionsCount. Partitions with a transaction that has been open for longer than any may be",
        );
        let fetch_sessions = gauge(
            server,
            "fetchsessioncache_numincrementalfetchsessions",
            "kafka.server:type=FetchSessionCache,name=NumIncrementalFetchSessions. Fetch sessions held",
        );
        let topics = gauge(server, "replicamanager_topics", "Topics in the metadata");
        let connections = gauge(
            server,
            "socketserver_connections",
            "kafka.server:type=socket-server-metrics,name=connection-count. Open client connections",
        );
        let requests = Requests::register(registry.sub_registry_with_prefix("network"));
        let groups = GroupMetrics::register(registry.sub_registry_with_prefix("coordinator_group"));
        let cleaner = CleanerMetrics::register(registry.sub_registry_with_prefix("log"));
        Self {
            registry: Mutex::new(registry),
            requests,
            messages_in,
            bytes_in,
            bytes_out,
            produce_failures,
            fetch_failures,
            connections,
            open_partitions,
            late_transactions,
            topics,
            fetch_sessions,
            groups,
            cleaner,
            fetches_parked: Default::default(),
            rebalances_parked: Default::default(),
            busy: Default::default(),
            lags: Default::default(),
        }
    }

    /// Adds figures that are read when they are asked for.
    pub fn collect(&self, collector: impl Collector) {
        self.registry.lock().register_collector(Box::new(collector));
    }

    /// Everything in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry.lock());
        text
    }
}

impl Requests {
    fn register(registry: &mut Registry) -> Self {
        type Labels = [(&'static str, &'static str); 1];
        let count: Family<Labels, Counter> = Family::default();
        let request_bytes: Family<Labels, Counter> = Family::default();
        let response_bytes: Family<Labels, Counter> = Family::default();
        let micros: Family<Labels, Counter> = Family::default();
        registry.register(
            "requestmetrics_requests",
            "kafka.network:type=RequestMetrics,name=RequestsPerSec,request=... Requests answered",
            count.clone(),
        );
        registry.register(
            "requestmetrics_requestbytes",
            "kafka.network:type=RequestMetrics,name=RequestBytes,request=... Bytes of requests",
            request_bytes.clone(),
        );
        registry.register(
            "requestmetrics_responsebytes",
            "kafka.network:type=RequestMetrics,name=ResponseBytes,request=... Bytes of responses",
            response_bytes.clone(),
        );
        registry.register_with_unit(
            "requestmetrics_time",
            "Time from a request to its answer, waiting included",
            Unit::Other("microseconds".into()),
            micros.clone(),
        );
        let of = |row: &crate::api::Row| {
            let labels = [("request", row.name)];
            RequestCounters {
                key: row.key,
                count: count.get_or_create(&labels).clone(),
                request_bytes: request_bytes.get_or_create(&labels).clone(),
                response_bytes: response_bytes.get_or_create(&labels).clone(),
                micros: micros.get_or_create(&labels).clone(),
                name: row.name,
                stages: Default::default(),
            }
        };
        Self(APIS.iter().map(of).collect())
    }

    /// Counts one request.
    pub fn record(&self, key: i16, request_bytes: usize, response_bytes: usize, times: Times) {
        let Ok(at) = self.0.binary_search_by_key(&key, |counters| counters.key) else { return };
        let counters = &self.0[at];
        counters.count.inc();
        counters.request_bytes.inc_by(request_bytes as u64);
        counters.response_bytes.inc_by(response_bytes as u64);
        counters.micros.inc_by((times.queued + times.handled).as_micros() as u64);
        counters.stages.record(times);
    }

    /// The times of every API, by its name.
    fn stages(&self) -> impl Iterator<Item = (&'static str, &stages::Stages)> + Clone {
        self.0.iter().map(|counters| (counters.name, &counters.stages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_show_in_the_text() {
        let metrics = Metrics::new();
        metrics.messages_in.inc_by(3);
        let time = std::time::Duration::from_micros(5);
        let times = Times { queued: time, handled: time, parked: time, answer_queued: time, sent: time };
        metrics.requests.record(3, 10, 20, times);
        let text = metrics.encode();
        assert!(text.contains("kafka_server_brokertopicmetrics_messagesin_total 3"), "{text}");
        assert!(
            text.contains("kafka_network_requestmetrics_requests_total{request=\"Metadata\"} 1"),
            "{text}"
        );
    }
}
