//! The records of `__transaction_state`, in Kafka's own format: a key that starts with its type as an i16, a value that
//! starts with its version. A record without a value deletes.

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};
use aqueduct_protocol::messages::transaction_log_value::PartitionsSchema;
use aqueduct_protocol::messages::{TransactionLogKey, TransactionLogValue};
use aqueduct_protocol::{Decode, DecodeError, Encode, EncodeError};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use super::state::TransactionState;
use super::transaction::{NO_EPOCH, Transaction};
use crate::coordinator::ids::TransactionalId;

const KEY: i16 = 0;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: TransactionalId,
    /// `None` deletes.
    pub value: Option<Transaction>,
}

/// Version of the values that are written while the cluster's `transaction.version` is at `level`.
pub fn value_version(level: i16) -> i16 {
    if level >= 1 { 1 } else { 0 }
}

impl Record {
    /// The key's bytes.
    pub fn key(&self) -> Result<Bytes, EncodeError> {
        let mut buf = BytesMut::new();
        buf.put_i16(KEY);
        TransactionLogKey { transactional_id: self.id.as_str().into() }.encode(&mut buf, KEY)?;
        Ok(buf.freeze())
    }

    /// The value's bytes; `None` for a record that deletes.
    pub fn value(&self, version: i16) -> Result<Option<Bytes>, EncodeError> {
        let Some(at) = &self.value else { return Ok(None) };
        let flexible = version >= 1;
        let value = TransactionLogValue {
            producer_id: at.producer.0,
            previous_producer_id: if flexible { at.previous.0 } else { -1 },
            next_producer_id: if flexible { at.next.0 } else { -1 },
            producer_epoch: at.epoch.0,
            transaction_timeout_ms: at.timeout_ms,
            transaction_status: at.state.code(),
            transaction_partitions: (at.state != TransactionState::Empty).then(|| partitions(at)),
            transaction_last_update_timestamp_ms: at.updated_ms,
            transaction_start_timestamp_ms: at.start_ms,
            client_transaction_version: if flexible { at.client_version } else { 0 },
            ..Default::default()
        };
        let mut buf = BytesMut::new();
        buf.put_i16(version);
        value.encode(&mut buf, version)?;
        Ok(Some(buf.freeze()))
    }

    /// Reads a record; `None` where its type or the version of its value is not known.
    pub fn decode(mut key: Bytes, value: Option<Bytes>) -> Result<Option<Self>, DecodeError> {
        if take_i16(&mut key, "type of a transaction coordinator's record")? != KEY {
            return Ok(None);
        }
        let key = TransactionLogKey::decode(&mut key, KEY)?;
        let id = TransactionalId::from(&*key.transactional_id);
        let Some(mut value) = value else { return Ok(Some(Self { id, value: None })) };
        let version = take_i16(&mut value, "version of a transaction's state")?;
        if !(0..=1).contains(&version) {
            return Ok(None);
        }
        let value = TransactionLogValue::decode(&mut value, version)?;
        let Some(state) = TransactionState::from_code(value.transaction_status) else { return Ok(None) };
        Ok(Some(Self { id, value: Some(transaction(value, state)) }))
    }
}

fn partitions(at: &Transaction) -> Vec<PartitionsSchema> {
    let mut topics: BTreeMap<&Arc<str>, Vec<i32>> = BTreeMap::new();
    for (topic, index) in &at.partitions {
        topics.entry(topic).or_default().push(*index);
    }
    let schema = |(topic, partition_ids): (&Arc<str>, Vec<i32>)| PartitionsSchema {
        topic: ByteString::from(&**topic),
        partition_ids,
    };
    topics.into_iter().map(schema).collect()
}

fn transaction(value: TransactionLogValue, state: TransactionState) -> Transaction {
    let places = value.transaction_partitions.unwrap_or_default().into_iter().flat_map(|topic| {
        let name: Arc<str> = (&*topic.topic).into();
        topic.partition_ids.into_iter().map(move |index| (name.clone(), index))
    });
    Transaction {
        producer: ProducerId(value.producer_id),
        previous: ProducerId(value.previous_producer_id),
        next: ProducerId(value.next_producer_id),
        epoch: ProducerEpoch(value.producer_epoch),
        last_epoch: NO_EPOCH,
        timeout_ms: value.transaction_timeout_ms,
        state,
        partitions: places.collect(),
        start_ms: value.transaction_start_timestamp_ms,
        updated_ms: value.transaction_last_update_timestamp_ms,
        client_version: value.client_transaction_version,
    }
}

fn take_i16(bytes: &mut Bytes, field: &'static str) -> Result<i16, DecodeError> {
    bytes.try_get_i16().map_err(|_| DecodeError::Truncated { field, needed: 2, left: bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_back_in_both_versions() {
        let mut at = Transaction::new(ProducerId(7), 60_000, 5);
        let id = TransactionalId::from("tx");
        let read = |at: &Transaction, version| {
            let record = Record { id: id.clone(), value: Some(at.clone()) };
            let value = record.value(version).unwrap();
            Record::decode(record.key().unwrap(), value).unwrap().unwrap().value.unwrap()
        };
        at = at.with_next_epoch(60_000, None, 6).unwrap();
        assert_eq!(read(&at, 1), at);
        at = at.with_partitions(&[("a".into(), 2), ("a".into(), 0), ("b".into(), 1)], 2, 7);
        at = at.prepared(true, 2, ProducerId(8), 8);
        assert_eq!(read(&at, 1), Transaction { last_epoch: NO_EPOCH, ..at.clone() });
        let old = read(&at, 0);
        assert_eq!(
            (old.partitions, old.epoch, old.next, old.client_version),
            (at.partitions, at.epoch, ProducerId(-1), 0)
        );
        let end = Record { id: id.clone(), value: None };
        assert_eq!(Record::decode(end.key().unwrap(), end.value(1).unwrap()).unwrap(), Some(end));
        assert_eq!((value_version(0), value_version(1), value_version(2)), (0, 1, 1));
    }

    #[test]
    fn what_is_not_known_is_passed_over_and_what_is_cut_is_an_error() {
        let record = Record { id: "tx".into(), value: Some(Transaction::new(ProducerId(7), 1, 1)) };
        let (key, value) = (record.key().unwrap(), record.value(1).unwrap().unwrap());
        assert_eq!(Record::decode(Bytes::from_static(&[0, 9]), None).unwrap(), None);
        assert_eq!(Record::decode(key.clone(), Some(Bytes::from_static(&[0, 9, 1]))).unwrap(), None);
        for at in 0..value.len() {
            assert!(Record::decode(key.clone(), Some(value.slice(..at))).is_err(), "cut at {at}");
        }
    }
}
