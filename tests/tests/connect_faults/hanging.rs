//! Transactions that Apache Kafka leaves open for ever. Killed between its decision to commit and the markers, it writes down
//! after its restart that the transaction is complete, and no markers: the decision and what it is about are in
//! `__transaction_state`, so that this is nobody else's doing. Readers of committed records wait for them, and so would any
//! source. What an operator does then is done here: the stock tool finds and aborts them, and they are counted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};
use aqueduct_tests::kafka::tool;

/// An open transaction in one partition. The order is that in which they are aborted: lines come before offsets, where a source
/// that begins again looks first; it must not commit what is left over of the lines together with its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hanging {
    producer: String,
    is_offsets: bool,
    topic: String,
    partition: String,
    start: String,
}

/// Those of transactions of which both parts are there, the lines and the offsets.
fn whole(found: &BTreeSet<Hanging>) -> BTreeSet<Hanging> {
    let has = |producer: &str, is_offsets| {
        found.iter().any(|other| other.producer == producer && other.is_offsets == is_offsets)
    };
    found.iter().filter(|hanging| has(&hanging.producer, !hanging.is_offsets)).cloned().collect()
}

/// Looks for such transactions until it is told to stop.
pub struct Mender {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

const BETWEEN: Duration = Duration::from_secs(3);

impl Mender {
    pub fn start(bootstrap: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut before, mut aborted) = (BTreeSet::new(), 0);
            while !told.load(Ordering::Relaxed) {
                std::thread::sleep(BETWEEN);
                // One that is being completed may seem to hang, but not twice.
                let found = whole(&find(&bootstrap).unwrap_or_default());
                for hanging in found.intersection(&before) {
                    println!("a transaction hangs: {hanging:?}");
                    if abort(&bootstrap, hanging).is_err() {
                        // What comes after it has to wait.
                        break;
                    }
                    aborted += 1;
                }
                before = found;
            }
            aborted
        });
        Self { stop, thread }
    }

    /// How many were aborted.
    pub fn end(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("who looks for hanging transactions panicked"))
    }
}

fn find(bootstrap: &str) -> Result<BTreeSet<Hanging>> {
    let args = [
        "--bootstrap-server",
        bootstrap,
        "find-hanging",
        "--broker-id",
        "1",
        "--max-transaction-timeout",
        "0",
    ];
    let said = tool("org.apache.kafka.tools.TransactionsCommand", &args)?;
    // Topic, partition, producer's id and epoch, coordinator's epoch, start offset, last time, minutes.
    let hanging = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [topic, partition, producer, _, _, start, ..] = words[..] else { return None };
        start.parse::<i64>().ok()?;
        let owned = str::to_owned;
        Some(Hanging {
            producer: owned(producer),
            is_offsets: topic == "connect-offsets",
            topic: owned(topic),
            partition: owned(partition),
            start: owned(start),
        })
    };
    Ok(said.lines().filter_map(hanging).collect())
}

fn abort(bootstrap: &str, Hanging { topic, partition, start, .. }: &Hanging) -> Result<String> {
    let args = ["--bootstrap-server", bootstrap, "abort", "--topic", topic, "--partition", partition];
    tool("org.apache.kafka.tools.TransactionsCommand", &[&args[..], &["--start-offset", start]].concat())
}
