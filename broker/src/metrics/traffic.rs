//! What goes in and out of a partition; topics are sums of their partitions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::text::Text;

/// Topics that are told apart; the rest are one, under the name `_other`.
const MOST_TOPICS: usize = 1000;

macro_rules! counters {
    ($($field:ident $name:literal $doc:literal,)*) => {
        /// Counters of one partition.
        #[derive(Debug, Default)]
        pub(crate) struct Traffic {
            $(#[doc = $doc] $field: AtomicU64,)*
        }

        /// Sums over partitions.
        #[derive(Debug, Default, Clone, Copy)]
        struct Sums {
            $($field: u64,)*
        }

        impl Sums {
            fn add(&mut self, traffic: &Traffic) {
                $(self.$field += traffic.$field.load(Relaxed);)*
            }
        }

        fn write_all(sums: &BTreeMap<&str, Sums>, text: &mut Text) {
            $(
                let name = concat!("kafka_server_brokertopicmetrics_topic_", $name).to_ascii_lowercase();
                let help = concat!("kafka.server:type=BrokerTopicMetrics,name=", $name, "PerSec,topic=... ", $doc);
                text.family(&name, "counter", help);
                for (topic, sums) in sums {
                    text.sample("", &[("topic", topic)], sums.$field as f64);
                }
            )*
        }
    };
}

counters! {
    messages_in "MessagesIn" "Records appended",
    bytes_in "BytesIn" "Bytes of batches appended",
    bytes_out "BytesOut" "Bytes of batches sent to consumers",
    bytes_rejected "BytesRejected" "Bytes of batches that were refused",
    produces "TotalProduceRequests" "Batches that were to be appended",
    failed_produces "FailedProduceRequests" "Batches that could not be appended",
    fetches "TotalFetchRequests" "Reads for consumers",
    failed_fetches "FailedFetchRequests" "Reads for consumers that failed",
}

impl Traffic {
    /// A batch that was to be appended: with its records where it was, refused where not. Both 0 for a duplicate.
    pub fn produced(&self, appended: Result<u64, ()>, bytes: u64) {
        self.produces.fetch_add(1, Relaxed);
        match appended {
            Ok(records) => {
                self.messages_in.fetch_add(records, Relaxed);
                self.bytes_in.fetch_add(bytes, Relaxed);
            }
            Err(()) => {
                self.failed_produces.fetch_add(1, Relaxed);
                self.bytes_rejected.fetch_add(bytes, Relaxed);
            }
        }
    }

    /// A read for a consumer.
    pub fn fetched(&self, bytes: u64, failed: bool) {
        self.fetches.fetch_add(1, Relaxed);
        if failed {
            self.failed_fetches.fetch_add(1, Relaxed);
        } else {
            self.bytes_out.fetch_add(bytes, Relaxed);
        }
    }
}

/// Writes the sums of topics, given the traffic of each partition with the name of its topic.
pub(super) fn write<'a>(all: impl Iterator<Item = (&'a str, &'a Traffic)>, text: &mut Text) {
    let mut sums: BTreeMap<&str, Sums> = BTreeMap::new();
    for (topic, traffic) in all {
        let known = sums.contains_key(topic) || sums.len() < MOST_TOPICS;
        sums.entry(if known { topic } else { "_other" }).or_default().add(traffic);
    }
    write_all(&sums, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_add_up_to_topics() {
        let (one, two) = (Traffic::default(), Traffic::default());
        one.produced(Ok(3), 100);
        two.produced(Ok(4), 50);
        two.produced(Err(()), 7);
        two.fetched(20, false);
        let mut text = Text::default();
        write([("t", &one), ("t", &two)].into_iter(), &mut text);
        let text = text.finish(String::new());
        for line in [
            "kafka_server_brokertopicmetrics_topic_messagesin_total{topic=\"t\"} 7",
            "kafka_server_brokertopicmetrics_topic_bytesin_total{topic=\"t\"} 150",
            "kafka_server_brokertopicmetrics_topic_bytesrejected_total{topic=\"t\"} 7",
            "kafka_server_brokertopicmetrics_topic_bytesout_total{topic=\"t\"} 20",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
