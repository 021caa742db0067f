//! Where sources are, as the offsets topic says.
//!
//! A record's key is the JSON text `["CONNECTOR",{partition}]`. The JVM worker tells partitions apart by those bytes, so
//! a partition that is known already is always written under the key that it was found under; a new one gets the member
//! order that the connector gave. Lookups compare members, not bytes.

use std::collections::HashMap;

use aqueduct_connect_api::OffsetMap;
use bytes::Bytes;
use serde_json::Value;

/// The key in the topic of `partition` of `connector`.
pub fn offset_key(connector: &str, partition: &OffsetMap) -> Bytes {
    let key = (connector, partition);
    serde_json::to_vec(&key).expect("names and JSON maps are JSON").into()
}

/// The value in the topic.
pub fn offset_value(offset: &OffsetMap) -> Bytes {
    serde_json::to_vec(offset).expect("a JSON map is JSON").into()
}

/// Identity of a partition, whatever the order of its members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PartitionKey {
    connector: String,
    members: String,
}

impl PartitionKey {
    fn new(connector: &str, partition: &OffsetMap) -> Self {
        let mut members: Vec<_> = partition.iter().collect();
        members.sort_unstable_by_key(|(name, _)| *name);
        let members = serde_json::to_string(&members).expect("JSON members are JSON");
        Self { connector: connector.to_owned(), members }
    }
}

#[derive(Debug)]
struct Entry {
    key: Bytes,
    partition: OffsetMap,
    offset: Option<OffsetMap>,
}

/// The state of the offsets topic.
#[derive(Debug, Default)]
pub struct OffsetState {
    entries: HashMap<PartitionKey, Entry>,
}

impl OffsetState {
    pub fn new() -> Self {
        Self::default()
    }

    /// The offset last stored.
    pub fn get(&self, connector: &str, partition: &OffsetMap) -> Option<&OffsetMap> {
        self.entries.get(&PartitionKey::new(connector, partition))?.offset.as_ref()
    }

    /// The bytes to write `partition` under.
    pub fn key_for(&self, connector: &str, partition: &OffsetMap) -> Bytes {
        match self.entries.get(&PartitionKey::new(connector, partition)) {
            Some(entry) => entry.key.clone(),
            None => offset_key(connector, partition),
        }
    }

    /// All partitions of a connector that have an offset, in the order of their keys.
    pub fn of_connector(&self, connector: &str) -> Vec<(OffsetMap, OffsetMap)> {
        let mut found: Vec<(&Entry, &OffsetMap)> = self
            .entries
            .iter()
            .filter(|(key, _)| key.connector == connector)
            .filter_map(|(_, entry)| Some((entry, entry.offset.as_ref()?)))
            .collect();
        found.sort_unstable_by(|a, b| a.0.key.cmp(&b.0.key));
        found.into_iter().map(|(entry, offset)| (entry.partition.clone(), offset.clone())).collect()
    }

    /// Applies a record of the topic.
    ///
    /// # Errors
    /// Why the record cannot be read; it is passed over.
    pub fn apply(&mut self, key: &Bytes, value: Option<&[u8]>) -> Result<(), String> {
        let (connector, partition) = parse_key(key)?;
        let offset = match value {
            Some(value) => match serde_json::from_slice(value) {
                Ok(Value::Object(offset)) => Some(offset),
                Ok(Value::Null) => None,
                Ok(_) => return Err("its value is not a JSON object".to_owned()),
                Err(e) => return Err(format!("its value is not JSON: {e}")),
            },
            None => None,
        };
        let id = PartitionKey::new(&connector, &partition);
        match self.entries.get_mut(&id) {
            Some(entry) => {
                entry.offset = offset;
                // The newest spelling is the one that its writer will look for.
                entry.key = key.clone();
            }
            None => {
                self.entries.insert(id, Entry { key: key.clone(), partition, offset });
            }
        }
        Ok(())
    }
}

fn parse_key(key: &[u8]) -> Result<(String, OffsetMap), String> {
    match serde_json::from_slice(key) {
        Ok(Value::Array(mut parts)) if parts.len() == 2 => match (parts.pop(), parts.pop()) {
            (Some(Value::Object(partition)), Some(Value::String(connector))) => Ok((connector, partition)),
            _ => Err("its key is not [\"CONNECTOR\",{PARTITION}]".to_owned()),
        },
        Ok(_) => Err("its key is not [\"CONNECTOR\",{PARTITION}]".to_owned()),
        Err(e) => Err(format!("its key is not JSON: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> OffsetMap {
        serde_json::from_str(text).expect("a JSON object")
    }

    #[test]
    fn keys_are_bytes_of_the_reference() {
        let key = offset_key("fs-1", &map(r#"{"filename":"/a b/in.txt"}"#));
        assert_eq!(&key[..], br#"["fs-1",{"filename":"/a b/in.txt"}]"#);
        assert_eq!(&offset_value(&map(r#"{"position":6}"#))[..], br#"{"position":6}"#);
    }

    #[test]
    fn a_foreign_member_order_is_found_and_kept() {
        let mut state = OffsetState::new();
        let foreign = Bytes::from_static(br#"["m",{"topic":"t","cluster":"a","partition":0}]"#);
        state.apply(&foreign, Some(br#"{"offset":1}"#)).expect("readable");
        let ours = map(r#"{"cluster":"a","partition":0,"topic":"t"}"#);
        assert_eq!(state.get("m", &ours), Some(&map(r#"{"offset":1}"#)));
        assert_eq!(state.key_for("m", &ours), foreign);
        state.apply(&foreign, None).expect("readable");
        assert_eq!(state.get("m", &ours), None);
        assert!(state.of_connector("m").is_empty());
    }

    #[test]
    fn broken_records_say_why() {
        let mut state = OffsetState::new();
        for key in [&b"x"[..], b"[]", b"[1,{}]", br#"["c",{},1]"#] {
            assert!(state.apply(&Bytes::from_static(key), None).is_err());
        }
        let key = Bytes::from_static(br#"["c",{}]"#);
        assert!(state.apply(&key, Some(b"7")).is_err());
    }
}
