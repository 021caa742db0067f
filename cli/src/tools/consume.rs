//! `aqueduct consume`: prints records.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aqueduct_client::{
    Admin, Client, ConsumerEvent, ConsumerRecord, GroupConsumer, OffsetAndMetadata, OffsetSpec,
    PartitionConsumer, Subscription, TopicPartition,
};
use aqueduct_protocol::ids::Offset;
use serde_json::{Map, Value, json};

use super::connect::Cluster;
use super::topics::partitions_of;
use crate::options::BadConfig;

/// One poll's length: how soon an interrupt or a time limit is noticed.
const POLL: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    cluster: Cluster,
    /// Topics to read; TOPIC:PARTITION,... reads some partitions.
    #[arg(required_unless_present = "topic_flag")]
    topics: Vec<String>,
    #[arg(long = "topic", hide = true)]
    topic_flag: Vec<String>,
    /// Read only these partitions of the topic.
    #[arg(long, value_delimiter = ',')]
    partition: Vec<i32>,
    /// Read as a member of this group and commit what was printed.
    #[arg(long, conflicts_with_all = ["offset", "from_time", "partition", "exit_at_end"])]
    group: Option<String>,
    /// Where to start: earliest, latest, a number, or -N for the last N records of each partition.
    #[arg(long, allow_hyphen_values = true, conflicts_with = "from_beginning")]
    offset: Option<String>,
    /// Start with the oldest records; in a group, where it has no offset.
    #[arg(long)]
    from_beginning: bool,
    /// Start with the first records at or after a time: milliseconds since 1970 or 2024-05-31T12:00:00Z.
    #[arg(long)]
    from_time: Option<String>,
    /// Stop before this offset, or where the partition ended when it started.
    #[arg(long)]
    to_offset: Option<i64>,
    /// Stop before this time, or where the partition ended when it started.
    #[arg(long)]
    to_time: Option<String>,
    /// Stop where the partitions ended when it started.
    #[arg(long, short = 'e')]
    exit_at_end: bool,
    /// Stop after so many records.
    #[arg(long, short = 'n')]
    max_messages: Option<u64>,
    /// Stop when no record came for so long.
    #[arg(long)]
    timeout_ms: Option<u64>,
    /// read_uncommitted or read_committed.
    #[arg(long)]
    isolation_level: Option<String>,
    /// One JSON object a record.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    show: Show,
}

#[derive(clap::Args)]
struct Show {
    #[arg(long)]
    print_key: bool,
    #[arg(long)]
    print_headers: bool,
    #[arg(long)]
    print_timestamp: bool,
    #[arg(long)]
    print_partition: bool,
    #[arg(long)]
    print_offset: bool,
    /// Between the printed parts.
    #[arg(long, default_value = "\t")]
    separator: String,
    /// What stands for null.
    #[arg(long, default_value = "null")]
    null_marker: String,
}

/// Where reading stops.
struct Stop {
    offsets: HashMap<TopicPartition, Offset>,
    left: u64,
    quiet: Option<Duration>,
}

/// Milliseconds since 1970, written as such or as an ISO 8601 time.
pub fn timestamp(text: &str) -> Option<i64> {
    if let Ok(at) = text.parse::<i64>() {
        return (at >= 0).then_some(at);
    }
    let parsed = chrono::DateTime::parse_from_rfc3339(text).map(|at| at.timestamp_millis());
    let plain = |format| {
        chrono::NaiveDateTime::parse_from_str(text, format).map(|at| at.and_utc().timestamp_millis())
    };
    parsed.or_else(|_| plain("%Y-%m-%dT%H:%M:%S%.f")).or_else(|_| plain("%Y-%m-%d %H:%M:%S%.f")).ok()
}

fn time(option: &str, text: &str) -> Result<i64> {
    timestamp(text).ok_or_else(|| {
        BadConfig(format!("{option} {text}: must be milliseconds since 1970 or 2024-05-31T12:00:00Z")).into()
    })
}

pub async fn run(mut args: Args) -> Result<()> {
    args.topics.append(&mut args.topic_flag);
    let reset = if args.from_beginning { "earliest" } else { "latest" };
    let mut defaults = vec![("auto.offset.reset", reset)];
    if let Some(level) = &args.isolation_level {
        defaults.push(("isolation.level", level));
    }
    if let Some(group) = &args.group {
        defaults.push(("group.id", group));
    }
    let client = args.cluster.client(&defaults)?;
    let stop = Stop {
        offsets: HashMap::new(),
        left: args.max_messages.unwrap_or(u64::MAX),
        quiet: args.timeout_ms.map(Duration::from_millis),
    };
    let mut printer = Printer::new(&args.show, args.json);
    let read = async {
        match args.group {
            Some(_) => of_group(client, &args, stop, &mut printer).await,
            None => of_partitions(client, &args, stop, &mut printer).await,
        }
    };
    let outcome = tokio::select! {
        outcome = read => outcome,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    printer.finish(outcome)
}

async fn of_partitions(client: Client, args: &Args, mut stop: Stop, printer: &mut Printer<'_>) -> Result<()> {
    let admin = Admin::new(client.clone());
    let mut partitions = partitions_of(&admin, &args.topics).await?;
    if !args.partition.is_empty() {
        partitions.retain(|partition| args.partition.contains(&partition.partition.0));
        if partitions.is_empty() {
            return Err(BadConfig("--partition names none that the topic has".into()).into());
        }
    }
    let mut consumer = PartitionConsumer::new(client);
    consumer.assign(partitions.iter().cloned())?;
    start_at(args, &mut consumer, &partitions).await?;
    stop.offsets = ends(args, &consumer, &partitions).await?;
    if !stop.offsets.is_empty() {
        // Positions that are not reached by a record, as in an empty partition, are at the end from the start.
        let starts = consumer.offsets(&partitions, OffsetSpec::Earliest).await?;
        stop.offsets.retain(|partition, end| starts.get(partition).is_none_or(|start| start < end));
        if stop.offsets.is_empty() && (args.exit_at_end || args.to_offset.is_some() || args.to_time.is_some())
        {
            return Ok(());
        }
    }
    let bounded = !stop.offsets.is_empty();
    let mut last = Instant::now();
    loop {
        let records = consumer.poll(POLL).await?;
        if !records.is_empty() {
            last = Instant::now();
        }
        for record in &records {
            let partition = TopicPartition { topic: record.topic.clone(), partition: record.partition };
            if bounded && stop.offsets.get(&partition).is_none_or(|end| record.offset >= *end) {
                continue;
            }
            printer.print(record)?;
            stop.left -= 1;
            if stop.left == 0 {
                return Ok(());
            }
        }
        printer.flush()?;
        if bounded {
            stop.offsets.retain(|partition, end| consumer.position(partition).is_none_or(|at| at < *end));
            if stop.offsets.is_empty() {
                return Ok(());
            }
        }
        if stop.quiet.is_some_and(|quiet| last.elapsed() >= quiet) {
            return Ok(());
        }
    }
}

async fn start_at(
    args: &Args,
    consumer: &mut PartitionConsumer,
    partitions: &[TopicPartition],
) -> Result<()> {
    if let Some(text) = &args.from_time {
        let spec = OffsetSpec::Timestamp(time("--from-time", text)?);
        let found = consumer.offsets(partitions, spec).await?;
        for partition in partitions {
            match found.get(partition) {
                Some(offset) if offset.0 >= 0 => consumer.seek(partition, *offset)?,
                _ => consumer.seek_to(partition, OffsetSpec::Latest)?,
            }
        }
        return Ok(());
    }
    let spec = match args.offset.as_deref() {
        None if args.from_beginning => OffsetSpec::Earliest,
        // What is to end somewhere starts at the beginning, unless told otherwise.
        None if args.exit_at_end || args.to_offset.is_some() || args.to_time.is_some() => {
            OffsetSpec::Earliest
        }
        None | Some("latest") => OffsetSpec::Latest,
        Some("earliest") => OffsetSpec::Earliest,
        Some(text) => {
            let number: i64 = text.parse().map_err(|_| {
                BadConfig(format!(
                    "--offset {text}: must be earliest, latest, a number, or -N for the last N"
                ))
            })?;
            let ends = consumer.offsets(partitions, OffsetSpec::Latest).await?;
            let starts = consumer.offsets(partitions, OffsetSpec::Earliest).await?;
            for partition in partitions {
                let (start, end) = (starts[partition].0, ends[partition].0);
                let at = if number < 0 { (end + number).max(start) } else { number };
                consumer.seek(partition, Offset(at))?;
            }
            return Ok(());
        }
    };
    for partition in partitions {
        consumer.seek_to(partition, spec)?;
    }
    Ok(())
}

/// The offsets before which reading stops, where it is to stop.
async fn ends(
    args: &Args,
    consumer: &PartitionConsumer,
    partitions: &[TopicPartition],
) -> Result<HashMap<TopicPartition, Offset>> {
    let mut ends = HashMap::new();
    if args.exit_at_end || args.to_time.is_some() || args.to_offset.is_some() {
        ends = consumer.offsets(partitions, OffsetSpec::Latest).await?;
    }
    if let Some(text) = &args.to_time {
        let spec = OffsetSpec::Timestamp(time("--to-time", text)?);
        for (partition, offset) in consumer.offsets(partitions, spec).await? {
            if offset.0 >= 0 {
                ends.insert(partition, offset);
            }
        }
    }
    if let Some(limit) = args.to_offset {
        for partition in partitions {
            let end = ends.get(partition).map_or(limit, |end| end.0.min(limit));
            ends.insert(partition.clone(), Offset(end));
        }
    }
    Ok(ends)
}

async fn of_group(client: Client, args: &Args, mut stop: Stop, printer: &mut Printer<'_>) -> Result<()> {
    let topics = args.topics.iter().map(|topic| topic.as_str().into()).collect();
    let mut consumer = GroupConsumer::new(client, Subscription::Topics(topics))?;
    let mut last = Instant::now();
    loop {
        match consumer.poll(POLL).await? {
            ConsumerEvent::Records(records) => {
                last = Instant::now();
                let mut next = HashMap::new();
                for record in records.iter().take(usize::try_from(stop.left).unwrap_or(usize::MAX)) {
                    printer.print(record)?;
                    stop.left -= 1;
                    let partition =
                        TopicPartition { topic: record.topic.clone(), partition: record.partition };
                    next.insert(partition, OffsetAndMetadata::from(Offset(record.offset.0 + 1)));
                }
                printer.flush()?;
                consumer.commit(next).await.context("what was printed is not committed")?;
            }
            ConsumerEvent::Assigned(_) => last = Instant::now(),
            ConsumerEvent::Revoked(_) | ConsumerEvent::Lost(_) | ConsumerEvent::Idle => {}
        }
        if stop.left == 0 || stop.quiet.is_some_and(|quiet| last.elapsed() >= quiet) {
            consumer.close().await?;
            return Ok(());
        }
    }
}

/// Writes records to standard output.
struct Printer<'a> {
    out: BufWriter<io::Stdout>,
    show: &'a Show,
    json: bool,
    printed: u64,
}

impl<'a> Printer<'a> {
    fn new(show: &'a Show, json: bool) -> Self {
        Self { out: BufWriter::with_capacity(1 << 16, io::stdout()), show, json, printed: 0 }
    }

    fn print(&mut self, record: &ConsumerRecord) -> Result<()> {
        self.printed += 1;
        if self.json {
            serde_json::to_writer(&mut self.out, &object(record))?;
            self.out.write_all(b"\n")?;
            return Ok(());
        }
        let show = self.show;
        let null = show.null_marker.as_bytes();
        let mut parts: Vec<Vec<u8>> = Vec::new();
        if show.print_timestamp {
            parts.push(format!("{:?}:{}", record.timestamp_type, record.timestamp).into_bytes());
        }
        if show.print_partition {
            parts.push(format!("Partition:{}", record.partition).into_bytes());
        }
        if show.print_offset {
            parts.push(format!("Offset:{}", record.offset).into_bytes());
        }
        if show.print_headers {
            let mut text = Vec::new();
            for header in &record.headers {
                if !text.is_empty() {
                    text.push(b',');
                }
                text.extend_from_slice(header.key.as_bytes());
                text.push(b':');
                text.extend_from_slice(header.value.as_deref().unwrap_or(null));
            }
            parts.push(if text.is_empty() { b"NO_HEADERS".to_vec() } else { text });
        }
        if show.print_key {
            parts.push(record.key.as_deref().unwrap_or(null).to_vec());
        }
        parts.push(record.value.as_deref().unwrap_or(null).to_vec());
        self.out.write_all(&parts.join(show.separator.as_bytes()))?;
        self.out.write_all(b"\n")?;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(self.out.flush()?)
    }

    /// A reader of ours that has gone away has seen enough.
    fn finish(mut self, outcome: Result<()>) -> Result<()> {
        let flushed = self.out.flush().map_err(Into::into);
        eprintln!("Processed a total of {} messages", self.printed);
        match outcome.and(flushed) {
            Err(error) if is_broken_pipe(&error) => Ok(()),
            outcome => outcome,
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let of_io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let of_json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        of_io.or(of_json) == Some(io::ErrorKind::BrokenPipe)
    })
}

fn object(record: &ConsumerRecord) -> Value {
    let mut object = Map::new();
    object.insert("topic".into(), json!(record.topic.to_string()));
    object.insert("partition".into(), json!(record.partition.0));
    object.insert("offset".into(), json!(record.offset.0));
    object.insert("timestamp".into(), json!(record.timestamp));
    put(&mut object, "key", record.key.as_deref());
    put(&mut object, "value", record.value.as_deref());
    let headers = record.headers.iter().map(|header| {
        let mut entry = Map::new();
        entry.insert("key".into(), json!(header.key.to_string()));
        put(&mut entry, "value", header.value.as_deref());
        Value::Object(entry)
    });
    object.insert("headers".into(), Value::Array(headers.collect()));
    Value::Object(object)
}

/// Text as text; other bytes as hexadecimal digits under a name that says so.
fn put(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(std::str::from_utf8) {
        None => object.insert(name.into(), Value::Null),
        Some(Ok(text)) => object.insert(name.into(), json!(text)),
        Some(Err(_)) => {
            let digits =
                bytes.unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            object.insert(format!("{name}_hex"), json!(digits))
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_several_forms() {
        assert_eq!(timestamp("0"), Some(0));
        assert_eq!(timestamp("1970-01-01T00:00:01Z"), Some(1000));
        assert_eq!(timestamp("1970-01-01T01:00:01+01:00"), Some(1000));
        assert_eq!(timestamp("1970-01-01 00:00:01.5"), Some(1500));
        assert_eq!(timestamp("-5"), None);
        assert_eq!(timestamp("yesterday"), None);
    }
}
