//! Partitions and offsets, in the reference's keys and order.
//!
//! The reference builds both in hash maps; their iteration order is what stands in the offsets topic, and a partition's
//! text is its identity there. For these keys it is `protocol`, `table` and `timestamp_nanos`, `incrementing`, `timestamp`.

use aqueduct_connect_api::OffsetMap;
use chrono::{DateTime, TimeDelta, Timelike};

use crate::table::TableId;
use crate::time::Moment;

const INCREMENTING: &str = "incrementing";
const TIMESTAMP: &str = "timestamp";
const TIMESTAMP_NANOS: &str = "timestamp_nanos";

/// How far a table or query has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset {
    pub incrementing: Option<i64>,
    pub timestamp: Option<Moment>,
}

impl Offset {
    /// Reads a stored offset; what is missing is `None`.
    pub fn from_map(map: &OffsetMap) -> Self {
        let number = |key| map.get(key).and_then(serde_json::Value::as_i64);
        let timestamp = number(TIMESTAMP).and_then(DateTime::from_timestamp_millis).map(|moment| {
            // The nanoseconds are those of the second and hold the milliseconds, too.
            let nanos = number(TIMESTAMP_NANOS).filter(|n| (0..1_000_000_000).contains(n));
            nanos
                .and_then(|n| moment.with_nanosecond(0)?.checked_add_signed(TimeDelta::nanoseconds(n)))
                .unwrap_or(moment)
        });
        Self { incrementing: number(INCREMENTING), timestamp }
    }

    /// The offset as it is stored.
    pub fn to_map(self) -> OffsetMap {
        let mut map = OffsetMap::new();
        if let Some(moment) = self.timestamp {
            map.insert(TIMESTAMP_NANOS.to_owned(), moment.timestamp_subsec_nanos().into());
        }
        if let Some(id) = self.incrementing {
            map.insert(INCREMENTING.to_owned(), id.into());
        }
        if let Some(moment) = self.timestamp {
            map.insert(TIMESTAMP.to_owned(), moment.timestamp_millis().into());
        }
        map
    }
}

/// The partition of a table.
pub fn table_partition(table: &TableId) -> OffsetMap {
    OffsetMap::from_iter([
        ("protocol".to_owned(), "1".into()),
        ("table".to_owned(), table.to_string().into()),
    ])
}

/// The partition of a query.
pub fn query_partition() -> OffsetMap {
    OffsetMap::from_iter([("query".to_owned(), "query".into())])
}

/// Partitions under which a table's offset may be stored, the newest form first.
pub fn known_table_partitions(table: &TableId) -> Vec<OffsetMap> {
    let mut partitions = vec![table_partition(table)];
    if table.catalog.is_some() && table.schema.is_some() {
        partitions.push(table_partition(&table.without_catalog()));
    }
    partitions.push(OffsetMap::from_iter([("table".to_owned(), table.name.clone().into())]));
    partitions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::parse_moment;

    fn json(map: &OffsetMap) -> String {
        serde_json::to_string(map).expect("json")
    }

    #[test]
    fn offsets_have_the_bytes_of_the_reference() {
        let timestamp = parse_moment("2024-01-02 03:04:05.123456", chrono_tz::Tz::UTC);
        for (offset, text) in [
            (Offset { incrementing: Some(7), timestamp: None }, r#"{"incrementing":7}"#),
            (
                Offset { incrementing: None, timestamp },
                r#"{"timestamp_nanos":123456000,"timestamp":1704164645123}"#,
            ),
            (
                Offset { incrementing: Some(7), timestamp },
                r#"{"timestamp_nanos":123456000,"incrementing":7,"timestamp":1704164645123}"#,
            ),
            (Offset::default(), "{}"),
        ] {
            assert_eq!(json(&offset.to_map()), text);
            assert_eq!(Offset::from_map(&offset.to_map()), offset);
        }
    }

    #[test]
    fn times_before_1970_survive() {
        let timestamp = parse_moment("1969-12-31 23:59:59.25", chrono_tz::Tz::UTC);
        let offset = Offset { incrementing: None, timestamp };
        assert_eq!(json(&offset.to_map()), r#"{"timestamp_nanos":250000000,"timestamp":-750}"#);
        assert_eq!(Offset::from_map(&offset.to_map()), offset);
    }

    #[test]
    fn old_partitions_are_known() {
        let table = TableId { catalog: Some("db".into()), schema: Some("public".into()), name: "t".into() };
        let texts: Vec<_> = known_table_partitions(&table).iter().map(json).collect();
        assert_eq!(
            texts,
            [
                r#"{"protocol":"1","table":"db.public.t"}"#,
                r#"{"protocol":"1","table":"public.t"}"#,
                r#"{"table":"t"}"#
            ]
        );
    }
}
