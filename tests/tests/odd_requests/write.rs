//! Requests with usual and odd values, by chance.

use crate::schema::{Field, Message};

/// A small generator: the same seed gives the same requests on any machine.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// The first more often than any other.
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        if self.below(2) == 0 { from[0] } else { from[self.below(from.len())] }
    }
}

/// A request and what it says in words.
pub struct Written {
    pub bytes: Vec<u8>,
    pub shown: String,
    /// Whether anything is named twice, or a list is empty.
    pub repeats: bool,
}

/// A request by chance; `case` makes the names of groups of its own.
pub fn request(message: &Message, version: i16, case: &str, chance: &mut Chance) -> Written {
    let flexible = message.flexible.has(version);
    let mut writer = Writer {
        api: message.name.trim_end_matches("Request"),
        version,
        flexible,
        case,
        chance,
        repeats: false,
    };
    let (mut bytes, mut shown) = (Vec::new(), String::new());
    writer.fields(&message.fields, &mut bytes, &mut shown);
    Written { bytes, shown, repeats: writer.repeats }
}

struct Writer<'a> {
    api: &'a str,
    version: i16,
    flexible: bool,
    case: &'a str,
    chance: &'a mut Chance,
    repeats: bool,
}

impl Writer<'_> {
    fn fields(&mut self, fields: &[Field], out: &mut Vec<u8>, shown: &mut String) {
        let version = self.version;
        for field in fields.iter().filter(|f| f.versions.has(version) && f.tag.is_none()) {
            shown.push_str(&format!("{}=", field.name));
            self.field(field, out, shown);
            shown.push(' ');
        }
        if self.flexible {
            out.push(0);
        }
    }

    fn field(&mut self, field: &Field, out: &mut Vec<u8>, shown: &mut String) {
        let nullable = field.nullable.has(self.version);
        if nullable && self.chance.below(4) == 0 && !self.must_be_there(field) {
            shown.push_str("null");
            return self.null(field, out);
        }
        if !field.array {
            if !field.fields.is_empty() && nullable {
                out.push(1);
            }
            return self.one(field, out, shown);
        }
        // Twice the same element as often as two by chance.
        let count = self.chance.pick(&[1, 0, 2, 2]).max(self.fewest(field));
        let (mut first, mut said) = (Vec::new(), String::new());
        let (mut all, mut written): (Vec<u8>, usize) = (Vec::new(), 0);
        shown.push('[');
        let twice = count == 2 && self.chance.below(2) == 0;
        self.repeats |= count == 0;
        let mut name = String::new();
        for at in 0..count {
            if at == 0 || !twice {
                (first, said) = (Vec::new(), String::new());
                self.one(field, &mut first, &mut said);
            }
            // What an element begins with is its name.
            let begins = said.split(' ').next().unwrap_or_default();
            let repeats = at > 0 && begins == name;
            if repeats && !self.may_repeat(field) {
                continue;
            }
            self.repeats |= repeats;
            begins.clone_into(&mut name);
            all.extend(&first);
            written += 1;
            shown.push_str(&said);
            shown.push(',');
        }
        self.count(written, out);
        out.extend(all);
        shown.push(']');
    }

    /// Apache Kafka never answers a request without records, and where null asks for all, each broker tells of its own.
    fn must_be_there(&self, field: &Field) -> bool {
        field.kind == "records" || self.api == "Metadata" && field.name == "Topics"
    }

    /// Apache Kafka never answers leaders that ask about no transaction.
    fn fewest(&self, field: &Field) -> usize {
        usize::from(self.api == "AddPartitionsToTxn" && field.name == "Transactions")
    }

    /// Nor members that name a protocol twice, nor who alters one resource twice or ends a transaction in one partition
    /// twice; of one transaction twice it keeps one.
    fn may_repeat(&self, field: &Field) -> bool {
        !matches!(
            (self.api, &*field.name),
            ("JoinGroup", "Protocols")
                | ("AlterConfigs", "Resources")
                | ("AddPartitionsToTxn", "Transactions")
                | ("WriteTxnMarkers", "PartitionIndexes")
        )
    }

    fn null(&mut self, field: &Field, out: &mut Vec<u8>) {
        match (field.array, field.kind.as_str(), self.flexible) {
            (true, ..) | (_, "string" | "bytes" | "records", true) if self.flexible => out.push(0),
            (false, "string", _) => out.extend((-1i16).to_be_bytes()),
            (true, ..) | (false, "bytes" | "records", _) => out.extend((-1i32).to_be_bytes()),
            _ => out.push(0xff),
        }
    }

    fn count(&mut self, count: usize, out: &mut Vec<u8>) {
        if self.flexible {
            varint(count as u32 + 1, out);
        } else {
            out.extend((count as i32).to_be_bytes());
        }
    }

    fn one(&mut self, field: &Field, out: &mut Vec<u8>, shown: &mut String) {
        if !field.fields.is_empty() {
            shown.push('{');
            self.fields(&field.fields, out, shown);
            shown.push('}');
            return;
        }
        match field.kind.as_str() {
            "string" => {
                let value = self.string(&field.name);
                shown.push_str(&format!("{value:.40?}"));
                if self.flexible {
                    varint(value.len() as u32 + 1, out);
                } else {
                    out.extend((value.len() as i16).to_be_bytes());
                }
                out.extend(value.as_bytes());
            }
            "bytes" | "records" => {
                let value = self.chance.pick(&[&b""[..], b"x", b"\0\0\0\0"]);
                shown.push_str(&format!("{value:?}"));
                self.count(value.len(), out);
                out.extend(value);
            }
            "uuid" => {
                let byte = self.chance.pick(&[7, 0]);
                shown.push_str(&format!("uuid{byte}"));
                out.extend([byte; 16]);
            }
            "bool" => {
                let value = self.chance.below(2) as u8;
                shown.push_str(&value.to_string());
                out.push(value);
            }
            "float64" => {
                let value = self.chance.pick(&[1000.0, 0.0, -1.0, 0.5, f64::NAN, f64::INFINITY]);
                shown.push_str(&value.to_string());
                out.extend(value.to_be_bytes());
            }
            kind => {
                let value = self.number(&field.name, kind);
                shown.push_str(&value.to_string());
                let bytes = value.to_be_bytes();
                let width = match kind {
                    "int8" => 1,
                    "int16" | "uint16" => 2,
                    "int32" | "uint32" => 4,
                    _ => 8,
                };
                out.extend(&bytes[8 - width..]);
            }
        }
    }

    fn string(&mut self, name: &str) -> String {
        let long = "x".repeat(300);
        let group = format!("odd-{}", self.case);
        let pick = |chance: &mut Chance, from: &[&str]| chance.pick(from).to_owned();
        let chance = &mut *self.chance;
        match (self.api, name) {
            ("AlterClientQuotas", "Key") => pick(chance, &["producer_byte_rate", "no_such_rate", ""]),
            // Members stay for a while, and would meet those of other requests.
            ("JoinGroup", "GroupId") => pick(chance, &[&group, ""]),
            (_, "GroupId" | "Group" | "Key" | "CoordinatorKeys" | "Groups" | "GroupsNames" | "GroupIds") => {
                pick(chance, &[&group, &group, "odd-nobody", "", &long])
            }
            (_, "TransactionalId" | "TransactionalIds") => pick(chance, &[&group, "odd-tx", ""]),
            ("CreateTopics", "Name") if chance.below(3) > 0 => {
                pick(chance, &["odd.a", "bad name", "odd_a", "", &long])
            }
            (_, "ProtocolType") => pick(chance, &["consumer", "connect", ""]),
            (_, "MemberId" | "MemberIds") => pick(chance, &["", "nobody"]),
            (_, "ResourceName") => pick(chance, &["odd.a", "1", "", "odd.none", "9", "*"]),
            (_, "Path" | "LogDir") => pick(chance, &["/no/such/folder", "", "relative"]),
            (_, "Feature" | "FeatureUpdates") => {
                pick(chance, &["transaction.version", "no.such.feature", ""])
            }
            (_, "Mechanism") => pick(chance, &["PLAIN", "NONE", ""]),
            (_, "EntityType") => pick(chance, &["user", "client-id", "ip", "no-such-type", ""]),
            (_, "EntityName" | "Match") => pick(chance, &["odd-user", "", "10.1.1.1"]),
            (_, "Principal" | "PrincipalFilter") => pick(chance, &["User:odd", "odd", "", "User:"]),
            (_, "HostFilter" | "Host") => pick(chance, &["*", "10.1.1.1", ""]),
            (_, "StatesFilter") => pick(chance, &["Empty", "Stable", "No such state", ""]),
            (_, "TypesFilter") => pick(chance, &["classic", "consumer", "no such type", ""]),
            ("AlterConfigs" | "IncrementalAlterConfigs" | "CreateTopics", "Value") => {
                pick(chance, &["100000", "-5", "", "words"])
            }
            (
                "AlterConfigs" | "IncrementalAlterConfigs" | "DescribeConfigs",
                "Name" | "ConfigurationKeys",
            )
            | ("CreateTopics", _) => {
                pick(chance, &["retention.ms", "no.such.config", "max.message.bytes", ""])
            }
            (_, "SubscribedTopicRegex") => pick(chance, &["odd.*", "(", ""]),
            (_, "ServerAssignor") => pick(chance, &["uniform", "range", "no-such", ""]),
            // Apache Kafka deletes internal topics, and all groups with them.
            ("DeleteTopics", _) => pick(chance, &["odd.a", "odd.b", "odd.none", "", "bad name", ".", &long]),
            // What is in internal topics is each broker's own.
            ("ListOffsets" | "Fetch" | "OffsetForLeaderEpoch" | "WriteTxnMarkers", _) => {
                pick(chance, &["odd.a", "odd.a", "odd.b", "odd.none", "", "bad name", ".", &long])
            }
            (_, "SubscribedTopicNames" | "Topics" | "Topic" | "Name" | "TopicName" | "TopicNames") => pick(
                chance,
                &["odd.a", "odd.a", "odd.b", "odd.none", "", "bad name", "__consumer_offsets", ".", &long],
            ),
            _ => pick(chance, &["odd", "", &long]),
        }
    }

    fn number(&mut self, name: &str, kind: &str) -> i64 {
        let (low, high) = match kind {
            "int8" => (i64::from(i8::MIN), i64::from(i8::MAX)),
            "int16" => (i64::from(i16::MIN), i64::from(i16::MAX)),
            "uint16" => (0, i64::from(u16::MAX)),
            "int32" => (i64::from(i32::MIN), i64::from(i32::MAX)),
            "uint32" => (0, i64::from(u32::MAX)),
            _ => (i64::MIN, i64::MAX),
        };
        let chance = &mut *self.chance;
        match (self.api, name) {
            // What would take long, or take the node away.
            ("UnregisterBroker", "BrokerId") => chance.pick(&[9, -1]),
            ("CreateTopics", "NumPartitions") => chance.pick(&[1, 0, -1, -2]),
            ("CreatePartitions", "Count") => chance.pick(&[2, 1, 0, -1]),
            (
                "CreateTopics" | "CreatePartitions" | "DeleteTopics" | "DeleteRecords",
                "TimeoutMs" | "timeoutMs",
            )
            | (_, "TimeoutMs") => 5000,
            (_, "MaxWaitMs") => chance.pick(&[0, 1, -1, low]),
            (_, "SessionTimeoutMs" | "RebalanceTimeoutMs") => chance.pick(&[500, 0, -1, high]),
            (_, "TransactionTimeoutMs") => chance.pick(&[60_000, 0, -1, high]),
            // Followers ask with their ids, which a single node has none of.
            ("Fetch" | "ListOffsets" | "OffsetForLeaderEpoch", "ReplicaId") => chance.pick(&[-1, -2]),
            (_, "BrokerIds" | "Replicas" | "BrokerId" | "ReplicaId") => chance.pick(&[1, 0, -1, -2, 9]),
            // Apache Kafka adds to it beyond what an int can hold.
            ("DescribeTopicPartitions", "PartitionIndex") => chance.pick(&[0, 0, 1, 5, -1]),
            // Two that it does not know are the same resource twice.
            ("AlterConfigs", "ResourceType") => chance.pick(&[2, 4, 1]),
            (_, "PartitionIndex" | "PartitionIndexes" | "Partition" | "Partitions" | "PartitionId") => {
                chance.pick(&[0, 0, 1, 5, -1, high])
            }
            (_, "Acks") => chance.pick(&[-1, 1, 2, -2]),
            (_, "IsolationLevel" | "KeyType") => chance.pick(&[0, 1, 2, -1]),
            (_, "Timestamp" | "Offset" | "FetchOffset" | "CommittedOffset") => {
                chance.pick(&[0, -1, -2, -3, 1, 5, -7, low, high])
            }
            (_, "LeaderEpoch" | "CurrentLeaderEpoch" | "CommittedLeaderEpoch") => {
                chance.pick(&[-1, 0, -2, 99])
            }
            // Apache Kafka writes markers of any producer that is below zero, but for -1.
            ("WriteTxnMarkers", "ProducerId") => chance.pick(&[-1, 0, 777_000]),
            ("WriteTxnMarkers", "ProducerEpoch") => chance.pick(&[-1, 0, 1, high]),
            (_, "ProducerId") => chance.pick(&[-1, 0, 777_000, low]),
            (_, "ProducerEpoch" | "MemberEpoch" | "GenerationIdOrMemberEpoch" | "GenerationId") => {
                chance.pick(&[-1, 0, 1, -2, high])
            }
            (_, "SessionId") => 0,
            (_, "SessionEpoch") => -1,
            _ => chance.pick(&[1, 0, 2, 3, -1, 4, low, high]),
        }
    }
}

fn varint(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
