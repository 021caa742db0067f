//! Compaction of random histories, several times and with restarts in between, against a list of batches.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};

use aqueduct_protocol::ids::{Offset, ProducerEpoch, ProducerId};
use aqueduct_protocol::records::{
    BatchBuilder, Batches, Compression, ControlType, EndTransactionMarker, Record,
};
use aqueduct_storage::{Cleaned, CleanerLimits, Log, LogConfig, Origin, Recovery};
use common::*;
use proptest::collection::vec;
use proptest::prelude::*;

const DELETE_RETENTION: i64 = 1000;

#[derive(Clone, Debug)]
enum Step {
    Append { codec: Compression, producer: Producer, records: Vec<(u8, bool)> },
    End { producer: usize, commit: bool },
    Clean { keys: u64, wait: i64 },
    Reopen { clean: bool },
}

/// None, an idempotent one, or one that writes in a transaction.
#[derive(Clone, Copy, Debug)]
enum Producer {
    None,
    Idempotent(usize),
    Transactional(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let codec = prop::sample::select(Compression::ALL.to_vec());
    let producer = prop_oneof![
        2 => Just(Producer::None),
        1 => (0usize..3).prop_map(Producer::Idempotent),
        2 => (0usize..3).prop_map(Producer::Transactional),
    ];
    let records = vec((0u8..14, prop::bool::weighted(0.8)), 1..7);
    prop_oneof![
        20 => (codec, producer, records)
            .prop_map(|(codec, producer, records)| Step::Append { codec, producer, records }),
        8 => (0usize..3, any::<bool>()).prop_map(|(producer, commit)| Step::End { producer, commit }),
        4 => (prop_oneof![Just(4u64), Just(9), Just(1000)], 0i64..1500)
            .prop_map(|(keys, wait)| Step::Clean { keys, wait }),
        1 => any::<bool>().prop_map(|clean| Step::Reopen { clean }),
    ]
}

/// Offset, key, value and timestamp of a record.
type Row = (i64, Vec<u8>, Option<Vec<u8>>, i64);

/// What a reader comes to: for each key its newest offset and value.
type Table = BTreeMap<Vec<u8>, (i64, Option<Vec<u8>>)>;

/// A batch as it should be in the log.
#[derive(Clone, Debug)]
struct Batch {
    base: i64,
    last: i64,
    producer: i64,
    kind: Kind,
    records: Vec<Row>,
    horizon: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    /// With the number of its transaction.
    Transactional(usize),
    Marker(Option<usize>),
}

#[derive(Debug, Default)]
struct Model {
    batches: Vec<Batch>,
    /// Everything that was ever written, by offset.
    history: BTreeMap<i64, Batch>,
    end: i64,
    clock: i64,
    clean_to: Option<Offset>,
    /// Next sequence number of each producer, and where its last batch ends.
    sequences: HashMap<i64, i32>,
    last: HashMap<i64, i64>,
    /// Open transactions, and whether those that ended were committed.
    open: HashMap<i64, usize>,
    outcome: Vec<Option<bool>>,
}

impl Model {
    fn is_aborted(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Transactional(t) if self.outcome[t] == Some(false))
    }

    fn add(&mut self, batch: Batch) {
        self.end = batch.last + 1;
        self.history.insert(batch.base, batch.clone());
        self.batches.push(batch);
    }

    /// What the cleaning of everything below `touched` does, after which the log is clean up to `clean_to`.
    fn clean(&mut self, keys: u64, first_dirty: i64, clean_to: i64, touched: i64, range_end: i64, now: i64) {
        let mut newest: HashMap<Vec<u8>, i64> = HashMap::new();
        let data =
            self.batches.iter().filter(|b| !matches!(b.kind, Kind::Marker(_)) && !self.is_aborted(b.kind));
        for (offset, key, ..) in data.flat_map(|b| &b.records) {
            if (first_dirty..range_end).contains(offset) {
                // What is met of a batch that has no room as a whole counts, too.
                if newest.len() >= keys as usize {
                    break;
                }
                newest.insert(key.clone(), *offset);
            }
        }
        let present: HashSet<usize> = self
            .batches
            .iter()
            .filter_map(|b| if let Kind::Transactional(t) = b.kind { Some(t) } else { None })
            .collect();
        let mut left = Vec::new();
        for mut batch in std::mem::take(&mut self.batches) {
            if batch.base >= touched {
                left.push(batch);
                continue;
            }
            let mut ages = false;
            match batch.kind {
                Kind::Marker(transaction) => {
                    let spent = transaction.is_none_or(|t| !present.contains(&t)) || batch.records.is_empty();
                    if spent && batch.horizon.is_some_and(|h| h <= now) {
                        batch.records.clear();
                    }
                    ages = spent && !batch.records.is_empty();
                }
                kind if self.is_aborted(kind) => batch.records.clear(),
                _ => {
                    let horizon_passed = batch.horizon.is_some_and(|h| h <= now);
                    batch.records.retain(|(offset, key, value, _)| {
                        *offset >= clean_to
                            || newest.get(key).is_none_or(|n| offset >= n)
                                && (value.is_some() || !horizon_passed)
                    });
                    ages = batch.records.iter().any(|r| r.2.is_none());
                }
            }
            if ages && batch.horizon.is_none() {
                batch.horizon = Some(now + DELETE_RETENTION);
            }
            if batch.records.is_empty() {
                batch.horizon = None;
                let is_last = batch.producer >= 0
                    && match self.last.get(&batch.producer) {
                        Some(last) => *last == batch.last,
                        // One that has written nothing but markers.
                        None => true,
                    };
                if !is_last && batch.last + 1 != range_end {
                    continue;
                }
            }
            left.push(batch);
        }
        self.batches = left;
    }
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 900,
        index_interval_bytes: 100,
        delete_retention_ms: DELETE_RETENTION,
        min_cleanable_dirty_ratio: 0.0,
        retention_ms: -1,
        message_timestamp_after_max_ms: i64::MAX,
        file_delete_delay_ms: 0,
        delete: false,
        compact: true,
        ..LogConfig::default()
    }
}

fn write(log: &Log, model: &mut Model, codec: Compression, producer: Producer, records: &[(u8, bool)]) {
    let id = match producer {
        Producer::None => -1,
        Producer::Idempotent(n) => 10 + n as i64,
        Producer::Transactional(n) => 20 + n as i64,
    };
    let mut builder = BatchBuilder::new(codec);
    let mut kind = Kind::Plain;
    if id >= 0 {
        let sequence = model.sequences.entry(id).or_default();
        builder = builder.producer(ProducerId(id), ProducerEpoch(0), *sequence);
        *sequence += records.len() as i32;
    }
    if matches!(producer, Producer::Transactional(_)) {
        builder = builder.transactional(true);
        let transaction = *model.open.entry(id).or_insert_with(|| {
            model.outcome.push(None);
            model.outcome.len() - 1
        });
        kind = Kind::Transactional(transaction);
    }
    let mut kept = Vec::new();
    for (n, (key, has_value)) in records.iter().enumerate() {
        let (offset, time) = (model.end + n as i64, model.clock + (n as i64 % 3) - 1);
        let key = format!("key-{key}").into_bytes();
        let value = has_value.then(|| format!("value at {offset}, with something behind it").into_bytes());
        builder.append(time, Some(&key), value.as_deref(), &[]).unwrap();
        kept.push((offset, key, value, time));
    }
    let info = append_at(log, builder.finish().unwrap(), model.clock).unwrap();
    assert_eq!(info.first_offset.0, model.end);
    let (base, last) = (model.end, info.last_offset.0);
    if id >= 0 {
        model.last.insert(id, last);
    }
    model.add(Batch { base, last, producer: id, kind, records: kept, horizon: None });
}

fn end(log: &Log, model: &mut Model, producer: usize, commit: bool) {
    let id = 20 + producer as i64;
    let marker = EndTransactionMarker { committed: commit, coordinator_epoch: 1 };
    let batch = BatchBuilder::end_transaction(ProducerId(id), ProducerEpoch(0), model.clock, marker);
    log.append_as_leader(batch.finish().unwrap(), EPOCH, Origin::Coordinator, model.clock).unwrap();
    log.set_high_watermark(log.log_end_offset());
    let transaction = model.open.remove(&id);
    if let Some(transaction) = transaction {
        model.outcome[transaction] = Some(commit);
    }
    let at = model.end;
    let records = vec![(at, marker.key().to_vec(), Some(marker.value().to_vec()), model.clock)];
    let kind = Kind::Marker(transaction);
    model.add(Batch { base: at, last: at, producer: id, kind, records, horizon: None });
}

fn clean(dir: &std::path::Path, log: &Log, model: &mut Model, keys: u64) -> Option<Cleaned> {
    let cleanable = log.cleanable(model.clean_to, model.clock).unwrap();
    if !cleanable.is_due(&log.config()) {
        return None;
    }
    let bases: Vec<i64> = files(dir, ".log")
        .iter()
        .map(|p| p.file_stem().unwrap().to_str().unwrap().parse().unwrap())
        .collect();
    let limits = CleanerLimits { dedupe_bytes: keys * 24 * 2, load_factor: 0.5, io_bytes: 300 };
    let cleaned = log.clean(&cleanable, &limits, model.clock, &mut |_| true);
    let cleaned = match cleaned {
        Ok(cleaned) => cleaned,
        // A batch with more keys than there is room for.
        Err(error) => {
            assert!(error.to_string().contains("log.cleaner.dedupe.buffer.size"), "{error}");
            return None;
        }
    };
    assert!(cleaned.end > cleanable.first_dirty && cleaned.end <= cleanable.first_uncleanable);
    let touched = bases.iter().find(|base| **base >= cleaned.end.0).copied().unwrap_or(i64::MAX);
    model.clean(
        keys,
        cleanable.first_dirty.0,
        cleaned.end.0,
        touched,
        cleanable.first_uncleanable.0,
        model.clock,
    );
    model.clean_to = Some(cleaned.end);
    Some(cleaned)
}

/// Every batch up to `end`.
fn batches(log: &Log, end: Offset) -> Vec<aqueduct_protocol::records::RecordBatch> {
    let (mut next, mut found) = (log.log_start_offset(), Vec::new());
    loop {
        let slice = log.read(next, 500, end, true).unwrap();
        if slice.is_empty() {
            return found;
        }
        for batch in Batches::new(slice.read_to_bytes().unwrap()) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            next = batch.header.next_offset();
            found.push(batch);
        }
    }
}

fn shown(record: &Record) -> Row {
    let value = record.value.as_ref().map(|v| v.to_vec());
    (record.offset.0, record.key.as_ref().unwrap().to_vec(), value, record.timestamp)
}

/// What a consumer of committed records gets, by the rules of the Java one.
fn committed(log: &Log) -> Vec<Row> {
    let (mut next, mut found) = (log.log_start_offset(), Vec::new());
    loop {
        let (slice, mut ahead) = log.read_with_aborted(next, 500, log.last_stable_offset(), true).unwrap();
        if slice.is_empty() {
            return found;
        }
        ahead.sort_by_key(|a| a.first_offset);
        let mut aborted = HashSet::new();
        for batch in Batches::new(slice.read_to_bytes().unwrap()) {
            let batch = batch.unwrap();
            let header = batch.header;
            next = header.next_offset();
            while ahead.first().is_some_and(|a| a.first_offset <= header.last_offset()) {
                aborted.insert(ahead.remove(0).producer_id);
            }
            if header.attributes.is_control() {
                let first = batch.records().unwrap().next().map(Result::unwrap);
                let kind = first.map(|r| ControlType::parse(&r.key.unwrap()).unwrap());
                if kind == Some(ControlType::Abort) {
                    aborted.remove(&header.producer_id);
                }
                continue;
            }
            if header.attributes.is_transactional() && aborted.contains(&header.producer_id) {
                continue;
            }
            found.extend(batch.records().unwrap().map(|r| shown(&r.unwrap())));
        }
    }
}

fn check(log: &Log, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(log.log_end_offset().0, model.end);
    let found = batches(log, log.log_end_offset());
    prop_assert_eq!(found.len(), model.batches.len());
    for (found, expected) in found.iter().zip(&model.batches) {
        let header = found.header;
        prop_assert_eq!((header.base_offset.0, header.last_offset().0), (expected.base, expected.last));
        prop_assert_eq!(header.producer_id.0, expected.producer);
        prop_assert_eq!(header.delete_horizon(), expected.horizon, "{:?}", expected);
        let records: Vec<_> = found.records().unwrap().map(|r| shown(&r.unwrap())).collect();
        prop_assert_eq!(&records, &expected.records);
    }
    // A consumer of committed records never sees an aborted one, and all others that are left.
    let stable = log.last_stable_offset().0;
    let expected: Vec<_> = model
        .batches
        .iter()
        .filter(|b| b.last < stable && !matches!(b.kind, Kind::Marker(_)) && !model.is_aborted(b.kind))
        .flat_map(|b| b.records.clone())
        .collect();
    let seen = committed(log);
    prop_assert_eq!(&seen, &expected);
    // For each key it comes to the same value as without compaction.
    let last = |records: &[Row]| -> Table {
        let mut last = BTreeMap::new();
        for (offset, key, value, _) in records {
            last.insert(key.clone(), (*offset, value.clone()));
        }
        last.retain(|_, (_, value)| value.is_some());
        last
    };
    let all: Vec<_> = model
        .history
        .values()
        .filter(|b| b.last < stable && !matches!(b.kind, Kind::Marker(_)) && !model.is_aborted(b.kind))
        .flat_map(|b| b.records.clone())
        .collect();
    prop_assert_eq!(last(&seen), last(&all));
    Ok(())
}

fn reopen_at(dir: &std::path::Path, clean: bool, flushed: Offset) -> Log {
    let recovery = Recovery { clean, recovery_point: flushed, log_start: Offset(0) };
    let log = Log::open(&log_dir(dir), config(), recovery, NOW).unwrap();
    log.set_high_watermark(log.log_end_offset());
    log
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_left_is_what_the_rules_say(steps in vec(step(), 20..140)) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = create(dir.path(), config());
        let mut model = Model { clock: NOW, ..Model::default() };
        for step in steps {
            model.clock += 5;
            match step {
                Step::Append { codec, producer, records } => {
                    write(&log, &mut model, codec, producer, &records);
                    continue;
                }
                Step::End { producer, commit } => {
                    end(&log, &mut model, producer, commit);
                    continue;
                }
                Step::Clean { keys, wait } => {
                    model.clock += wait;
                    if clean(dir.path(), &log, &mut model, keys).is_none() {
                        continue;
                    }
                    log.reap(model.clock).unwrap();
                    prop_assert!(files(dir.path(), ".deleted").is_empty());
                    prop_assert!(files(dir.path(), ".cleaned").is_empty() && files(dir.path(), ".swap").is_empty());
                }
                Step::Reopen { clean } => {
                    if clean {
                        log.close().unwrap();
                    }
                    let flushed = if clean { log.log_end_offset() } else { Offset(0) };
                    drop(log);
                    log = reopen_at(dir.path(), clean, flushed);
                }
            }
            check(&log, &model)?;
        }
        check(&log, &model)?;
        // Producers go on where they were, and are recognised when they repeat themselves.
        for (id, sequence) in &model.sequences {
            let builder = BatchBuilder::new(Compression::None)
                .producer(ProducerId(*id), ProducerEpoch(0), *sequence)
                .transactional(*id >= 20);
            let one = filled(builder, 0..1, model.clock);
            let first = append_at(&log, one.clone(), model.clock).unwrap();
            prop_assert!(!first.duplicate);
            prop_assert!(append_at(&log, one, model.clock).unwrap().duplicate);
        }
    }
}
