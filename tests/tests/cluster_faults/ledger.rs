//! What was sent, what was acknowledged, and whether the logs hold it as was promised. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

/// One series of records: a producer from its start to its first failure, and a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    pub producer: u32,
    /// Counts the starts of the producer.
    pub life: u32,
    pub partition: i32,
}

/// A record that the cluster has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    pub series: Series,
    /// Its place in the series, from 0.
    pub number: u64,
    pub offset: i64,
}

/// A record of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub offset: i64,
    pub series: Series,
    pub number: u64,
}

/// The value that a record carries.
pub fn value(series: Series, number: u64) -> String {
    format!("{} {} {} {number}", series.producer, series.life, series.partition)
}

/// What [`value`] says.
pub fn parse(text: &str) -> Option<(Series, u64)> {
    let mut words = text.split(' ');
    let series = Series {
        producer: words.next()?.parse().ok()?,
        life: words.next()?.parse().ok()?,
        partition: words.next()?.parse().ok()?,
    };
    let number = words.next()?.parse().ok()?;
    words.next().is_none().then_some((series, number))
}

/// What is wrong with a log, at most ten things: records that were acknowledged and are not where they were said to be,
/// that come twice or out of order, or that were left out of their series.
pub fn wrong_records(partition: i32, log: &[Found], acknowledged: &[Acknowledged]) -> Vec<String> {
    let mut wrong = Vec::new();
    let by_offset: HashMap<i64, &Found> = log.iter().map(|found| (found.offset, found)).collect();
    for record in acknowledged.iter().filter(|record| record.series.partition == partition) {
        match by_offset.get(&record.offset) {
            Some(found) if found.series == record.series && found.number == record.number => {}
            found => wrong.push(format!(
                "partition {partition}: record {} of {:?} was acknowledged at offset {}, where there is {found:?}",
                record.number, record.series, record.offset
            )),
        }
    }
    let mut next: HashMap<Series, u64> = HashMap::new();
    for found in log {
        let expected = next.entry(found.series).or_default();
        if found.series.partition != partition || found.number != *expected {
            wrong.push(format!("partition {partition}: {found:?}, expected number {expected}"));
        }
        *expected = found.number + 1;
    }
    wrong.truncate(10);
    wrong
}

/// What became of a transaction, as far as its producer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Committed,
    Aborted,
    Unknown,
}

/// One transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Transaction {
    pub producer: u32,
    /// Counts the transactions of the producer.
    pub number: u64,
}

/// What is wrong with the transactions that a reader of committed records sees; `seen` has, in order, each record's partition,
/// transaction and place in it; `ended` the outcome and the number of records.
pub fn wrong_transactions(
    seen: &[(i32, Transaction, u32)],
    ended: &BTreeMap<Transaction, (Outcome, u32)>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut places: BTreeMap<Transaction, BTreeSet<u32>> = BTreeMap::new();
    let mut last: BTreeMap<(i32, u32), (u64, u32)> = BTreeMap::new();
    for (partition, transaction, place) in seen {
        if !places.entry(*transaction).or_default().insert(*place) {
            wrong.push(format!("record {place} of {transaction:?} is there twice"));
        }
        let now = (transaction.number, *place);
        let before = last.insert((*partition, transaction.producer), now);
        if before.is_some_and(|before| before >= now) {
            wrong.push(format!(
                "partition {partition}: {transaction:?} record {place} comes after {before:?}"
            ));
        }
    }
    for (transaction, (outcome, records)) in ended {
        let count = places.get(transaction).map_or(0, |places| places.len() as u32);
        let is_right = match outcome {
            Outcome::Committed => count == *records,
            Outcome::Aborted => count == 0,
            Outcome::Unknown => count == 0 || count == *records,
        };
        if !is_right {
            wrong.push(format!("{outcome:?} {transaction:?}: {count} of {records} records can be read"));
        }
    }
    for transaction in places.keys().filter(|transaction| !ended.contains_key(transaction)) {
        wrong.push(format!("{transaction:?} was never begun"));
    }
    wrong.truncate(10);
    wrong
}

/// Records that no member of a group was given.
pub fn skipped(partition: i32, log: &[Found], delivered: &BTreeSet<i64>) -> Vec<String> {
    let skipped = log.iter().filter(|found| !delivered.contains(&found.offset));
    skipped
        .take(10)
        .map(|found| format!("partition {partition}: {found:?} was delivered to nobody"))
        .collect()
}

/// The ends of partitions as one observer was told of them, and where one moved back.
#[derive(Debug, Default)]
pub struct Ends {
    last: BTreeMap<i32, i64>,
    pub looks: u64,
    pub wrong: Vec<String>,
}

impl Ends {
    pub fn note(&mut self, partition: i32, end: i64) {
        self.looks += 1;
        let last = self.last.entry(partition).or_default();
        if end < *last && self.wrong.len() < 10 {
            self.wrong.push(format!("partition {partition}: its end went from {last} back to {end}"));
        }
        *last = end;
    }
}

/// One line for each thing.
pub fn listed(wrong: &[String]) -> String {
    wrong.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{line}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERIES: Series = Series { producer: 1, life: 2, partition: 3 };

    fn found(offset: i64, number: u64) -> Found {
        Found { offset, series: SERIES, number }
    }

    fn acknowledged(offset: i64, number: u64) -> Acknowledged {
        Acknowledged { series: SERIES, number, offset }
    }

    #[test]
    fn values_say_what_they_are() {
        assert_eq!(parse(&value(SERIES, 4)), Some((SERIES, 4)));
        assert_eq!(parse("1 2 3"), None);
        assert_eq!(parse("1 2 3 4 5"), None);
    }

    #[test]
    fn lost_repeated_and_reordered_records_are_noticed() {
        let log = [found(0, 0), found(2, 1)];
        assert!(wrong_records(3, &log, &[acknowledged(0, 0), acknowledged(2, 1)]).is_empty());
        assert_eq!(wrong_records(3, &log, &[acknowledged(5, 2)]).len(), 1, "lost");
        assert_eq!(wrong_records(3, &log, &[acknowledged(2, 0)]).len(), 1, "elsewhere");
        assert_eq!(wrong_records(3, &[found(0, 0), found(1, 0)], &[]).len(), 1, "twice");
        assert_eq!(wrong_records(3, &[found(0, 1), found(1, 0)], &[]).len(), 2, "out of order");
        assert_eq!(wrong_records(3, &[found(0, 0), found(1, 2)], &[]).len(), 1, "a gap");
    }

    #[test]
    fn a_transaction_is_seen_as_a_whole_or_not_at_all() {
        let one = Transaction { producer: 0, number: 0 };
        let ended = |outcome| BTreeMap::from([(one, (outcome, 2))]);
        let whole = [(0, one, 0), (1, one, 1)];
        assert!(wrong_transactions(&whole, &ended(Outcome::Committed)).is_empty());
        assert!(wrong_transactions(&whole, &ended(Outcome::Unknown)).is_empty());
        assert!(wrong_transactions(&[], &ended(Outcome::Aborted)).is_empty());
        assert_eq!(wrong_transactions(&whole, &ended(Outcome::Aborted)).len(), 1);
        assert_eq!(wrong_transactions(&whole[1..], &ended(Outcome::Committed)).len(), 1);
        assert_eq!(wrong_transactions(&whole[1..], &ended(Outcome::Unknown)).len(), 1);
        assert_eq!(wrong_transactions(&[(0, one, 1), (0, one, 0)], &ended(Outcome::Committed)).len(), 1);
        assert_eq!(wrong_transactions(&[whole[0], whole[0]], &ended(Outcome::Unknown)).len(), 3);
    }

    #[test]
    fn skipped_records_and_ends_that_move_back_are_noticed() {
        let log = [found(0, 0), found(1, 1)];
        assert!(skipped(3, &log, &BTreeSet::from([0, 1])).is_empty());
        assert_eq!(skipped(3, &log, &BTreeSet::from([0])).len(), 1);
        let mut ends = Ends::default();
        [1, 2, 2].into_iter().for_each(|end| ends.note(0, end));
        assert!(ends.wrong.is_empty());
        ends.note(0, 1);
        assert_eq!(ends.wrong.len(), 1);
    }
}
