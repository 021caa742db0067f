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

/// Topic, partition and first offset.
type Hanging = (String, String, String);

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
                let found = find(&bootstrap).unwrap_or_default();
                for hanging in found.intersection(&before) {
                    println!("a transaction hangs: {hanging:?}");
                    aborted += usize::from(abort(&bootstrap, hanging).is_ok());
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
        let [topic, partition, _, _, _, start, ..] = words[..] else { return None };
        start.parse::<i64>().ok()?;
        Some((topic.to_owned(), partition.to_owned(), start.to_owned()))
    };
    Ok(said.lines().filter_map(hanging).collect())
}

fn abort(bootstrap: &str, (topic, partition, start): &Hanging) -> Result<String> {
    let args = ["--bootstrap-server", bootstrap, "abort", "--topic", topic, "--partition", partition];
    tool("org.apache.kafka.tools.TransactionsCommand", &[&args[..], &["--start-offset", start]].concat())
}
