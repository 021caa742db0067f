//! Keys and values of Kafka's internal topics, as the JSON that its own tool shows.

use aqueduct_protocol::message::Decode;
use aqueduct_protocol::messages as wire;
use bytes::{Buf, Bytes};
use serde_json::{Map, Value, json};

/// What stands for a record that deletes its key.
const DELETE: &str = "<DELETE>";

fn versioned<M: Decode>(mut bytes: Bytes) -> Option<(i16, M)> {
    let version = bytes.try_get_i16().ok()?;
    Some((version, M::decode(&mut bytes, version).ok()?))
}

fn key(kind: i16, data: Value) -> String {
    json!({"type": kind.to_string(), "data": data}).to_string()
}

fn value<M: Decode>(bytes: Option<&Bytes>, show: impl Fn(M, i16) -> Value) -> Option<String> {
    let Some(bytes) = bytes else { return Some(DELETE.to_owned()) };
    let (version, message) = versioned::<M>(bytes.clone())?;
    Some(json!({"version": version.to_string(), "data": show(message, version)}).to_string())
}

/// Records of `__transaction_state`.
pub fn transactions(record_key: Option<&Bytes>, record_value: Option<&Bytes>) -> Option<(String, String)> {
    let (kind, id) = versioned::<wire::TransactionLogKey>(record_key?.clone())?;
    let key = key(kind, json!({"transactionalId": id.transactional_id.to_string()}));
    let value = value::<wire::TransactionLogValue>(record_value, |found, _| {
        let partitions = found.transaction_partitions.map(|topics| {
            topics
                .into_iter()
                .map(|topic| json!({"topic": topic.topic.to_string(), "partitionIds": topic.partition_ids}))
                .collect::<Vec<_>>()
        });
        let mut data = Map::new();
        let mut put = |name: &str, value: Value| data.insert(name.to_owned(), value);
        put("producerId", json!(found.producer_id));
        // Tagged fields are left out where they have their default.
        if found.previous_producer_id != -1 {
            put("previousProducerId", json!(found.previous_producer_id));
        }
        if found.next_producer_id != -1 {
            put("nextProducerId", json!(found.next_producer_id));
        }
        put("producerEpoch", json!(found.producer_epoch));
        if found.next_producer_epoch != -1 {
            put("nextProducerEpoch", json!(found.next_producer_epoch));
        }
        put("transactionTimeoutMs", json!(found.transaction_timeout_ms));
        put("transactionStatus", json!(found.transaction_status));
        put("transactionPartitions", json!(partitions));
        put("transactionLastUpdateTimestampMs", json!(found.transaction_last_update_timestamp_ms));
        put("transactionStartTimestampMs", json!(found.transaction_start_timestamp_ms));
        if found.client_transaction_version != 0 {
            put("clientTransactionVersion", json!(found.client_transaction_version));
        }
        Value::Object(data)
    })?;
    Some((key, value))
}

/// Records of `__consumer_offsets`.
pub fn offsets(record_key: Option<&Bytes>, record_value: Option<&Bytes>) -> Option<(String, String)> {
    let bytes = record_key?;
    let kind = bytes.clone().try_get_i16().ok()?;
    // The type stands where other messages have their version; within its type each key has one form.
    let mut body = bytes.slice(2..);
    let group = |group_id: &str| json!({"groupId": group_id});
    let member = |group_id: &str, member_id: &str| json!({"groupId": group_id, "memberId": member_id});
    let (data, value) = match kind {
        0 | 1 => {
            let id = wire::OffsetCommitKey::decode(&mut body, 0).ok()?;
            let data = json!({"group": id.group.to_string(), "topic": id.topic.to_string(), "partition": id.partition});
            (data, value(record_value, commit)?)
        }
        2 => {
            let id = wire::GroupMetadataKey::decode(&mut body, 0).ok()?;
            (json!({"group": id.group.to_string()}), value(record_value, classic_group)?)
        }
        3 => {
            let id = wire::ConsumerGroupMetadataKey::decode(&mut body, 0).ok()?;
            let show = |found: wire::ConsumerGroupMetadataValue, _| {
                let mut data = json!({"epoch": found.epoch});
                if found.metadata_hash != 0 {
                    data["metadataHash"] = json!(found.metadata_hash);
                }
                data
            };
            (group(&id.group_id), value(record_value, show)?)
        }
        5 => {
            let id = wire::ConsumerGroupMemberMetadataKey::decode(&mut body, 0).ok()?;
            (member(&id.group_id, &id.member_id), value(record_value, consumer)?)
        }
        6 => {
            let id = wire::ConsumerGroupTargetAssignmentMetadataKey::decode(&mut body, 0).ok()?;
            let show = |found: wire::ConsumerGroupTargetAssignmentMetadataValue, _| {
                let mut data = json!({"assignmentEpoch": found.assignment_epoch});
                if found.assignment_timestamp != 0 {
                    data["assignmentTimestamp"] = json!(found.assignment_timestamp);
                }
                data
            };
            (group(&id.group_id), value(record_value, show)?)
        }
        7 => {
            let id = wire::ConsumerGroupTargetAssignmentMemberKey::decode(&mut body, 0).ok()?;
            let show = |found: wire::ConsumerGroupTargetAssignmentMemberValue, _| {
                let topics = found.topic_partitions.iter();
                let topics = topics.map(
                    |topic| json!({"topicId": topic.topic_id.to_string(), "partitions": topic.partitions}),
                );
                json!({"topicPartitions": topics.collect::<Vec<_>>()})
            };
            (member(&id.group_id, &id.member_id), value(record_value, show)?)
        }
        8 => {
            let id = wire::ConsumerGroupCurrentMemberAssignmentKey::decode(&mut body, 0).ok()?;
            (member(&id.group_id, &id.member_id), value(record_value, assignment)?)
        }
        16 => {
            let id = wire::ConsumerGroupRegularExpressionKey::decode(&mut body, 0).ok()?;
            let data = json!({"groupId": id.group_id.to_string(), "regularExpression": id.regular_expression.to_string()});
            let show = |found: wire::ConsumerGroupRegularExpressionValue, _| json!({"topics": texts(&found.topics), "version": found.version, "timestamp": found.timestamp});
            (data, value(record_value, show)?)
        }
        _ => return None,
    };
    Some((key(kind, data), value))
}

fn texts(list: &[bytestring::ByteString]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn commit(found: wire::OffsetCommitValue, version: i16) -> Value {
    let mut data = json!({"offset": found.offset});
    if version >= 3 {
        data["leaderEpoch"] = json!(found.leader_epoch);
    }
    data["metadata"] = json!(found.metadata.to_string());
    data["commitTimestamp"] = json!(found.commit_timestamp);
    if version == 1 {
        data["expireTimestamp"] = json!(found.expire_timestamp);
    }
    if found.topic_id != aqueduct_protocol::ids::Uuid::ZERO {
        data["topicId"] = json!(found.topic_id.to_string());
    }
    data
}

fn classic_group(found: wire::GroupMetadataValue, version: i16) -> Value {
    let of_consumers = &*found.protocol_type == "consumer";
    let member = |member: &wire::group_metadata_value::MemberMetadata| {
        let mut data = json!({"memberId": member.member_id.to_string()});
        if version >= 3 {
            data["groupInstanceId"] = json!(member.group_instance_id.as_deref());
        }
        data["clientId"] = json!(member.client_id.to_string());
        data["clientHost"] = json!(member.client_host.to_string());
        if version >= 1 {
            data["rebalanceTimeout"] = json!(member.rebalance_timeout);
        }
        data["sessionTimeout"] = json!(member.session_timeout);
        data["subscription"] = match of_consumers {
            true => subscription(&member.subscription).unwrap_or_else(|| hex(&member.subscription)),
            false => hex(&member.subscription),
        };
        data["assignment"] = match of_consumers {
            true => member_assignment(&member.assignment).unwrap_or_else(|| hex(&member.assignment)),
            false => hex(&member.assignment),
        };
        data
    };
    let mut data = json!({
        "protocolType": found.protocol_type.to_string(),
        "generation": found.generation,
        "protocol": found.protocol.as_deref(),
        "leader": found.leader.as_deref(),
    });
    if version >= 2 {
        data["currentStateTimestamp"] = json!(found.current_state_timestamp);
    }
    data["members"] = json!(found.members.iter().map(member).collect::<Vec<_>>());
    data
}

fn hex(bytes: &[u8]) -> Value {
    json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn subscription(bytes: &Bytes) -> Option<Value> {
    let (version, found) = versioned::<wire::ConsumerProtocolSubscription>(bytes.clone())?;
    let owned = found.owned_partitions.iter();
    let owned = owned.map(|topic| json!({"topic": topic.topic.to_string(), "partitions": topic.partitions}));
    let mut data = json!({"topics": texts(&found.topics), "userData": found.user_data.as_deref().map(hex)});
    if version >= 1 {
        data["ownedPartitions"] = json!(owned.collect::<Vec<_>>());
    }
    if version >= 2 {
        data["generationId"] = json!(found.generation_id);
    }
    if version >= 3 {
        data["rackId"] = json!(found.rack_id.as_deref());
    }
    Some(data)
}

fn member_assignment(bytes: &Bytes) -> Option<Value> {
    let (_, found) = versioned::<wire::ConsumerProtocolAssignment>(bytes.clone())?;
    let assigned = found.assigned_partitions.iter();
    let assigned =
        assigned.map(|topic| json!({"topic": topic.topic.to_string(), "partitions": topic.partitions}));
    Some(json!({
        "assignedPartitions": assigned.collect::<Vec<_>>(),
        "userData": found.user_data.as_deref().map(hex),
    }))
}

fn consumer(found: wire::ConsumerGroupMemberMetadataValue, _: i16) -> Value {
    let classic = found.classic_member_metadata.map(|classic| {
        let protocols = classic.supported_protocols.iter();
        let protocols = protocols.map(|protocol| json!({"name": protocol.name.to_string(), "metadata": hex(&protocol.metadata)}));
        json!({"sessionTimeoutMs": classic.session_timeout_ms, "supportedProtocols": protocols.collect::<Vec<_>>()})
    });
    json!({
        "instanceId": found.instance_id.as_deref(),
        "rackId": found.rack_id.as_deref(),
        "clientId": found.client_id.to_string(),
        "clientHost": found.client_host.to_string(),
        "subscribedTopicNames": texts(&found.subscribed_topic_names),
        "subscribedTopicRegex": found.subscribed_topic_regex.as_deref(),
        "rebalanceTimeoutMs": found.rebalance_timeout_ms,
        "serverAssignor": found.server_assignor.as_deref(),
        "classicMemberMetadata": classic,
    })
}

fn assignment(found: wire::ConsumerGroupCurrentMemberAssignmentValue, _: i16) -> Value {
    use wire::consumer_group_current_member_assignment_value::TopicPartitions;
    let topics = |topics: &[TopicPartitions]| {
        let show = |topic: &TopicPartitions| {
            let mut data = json!({"topicId": topic.topic_id.to_string(), "partitions": topic.partitions});
            if let Some(epochs) = &topic.assignment_epochs {
                data["assignmentEpochs"] = json!(epochs);
            }
            data
        };
        topics.iter().map(show).collect::<Vec<_>>()
    };
    json!({
        "memberEpoch": found.member_epoch,
        "previousMemberEpoch": found.previous_member_epoch,
        "state": found.state,
        "assignedPartitions": topics(&found.assigned_partitions),
        "partitionsPendingRevocation": topics(&found.partitions_pending_revocation),
    })
}
