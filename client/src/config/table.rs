//! The one table of client properties: name, default and how the text becomes a setting.

use std::time::Duration;

use super::{Acks, AssignmentStrategy, ClientConfig, CompressionType, IsolationLevel, OffsetReset};

/// One property.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// Kafka's default as text, which the tests hold against [`ClientConfig`]'s; `None` where there is none.
    #[cfg_attr(not(test), expect(dead_code))]
    pub(super) default: Option<&'static str>,
    pub(super) set: fn(&mut ClientConfig, &str) -> Result<(), String>,
}

macro_rules! keys {
    ($($name:literal $(= $default:literal)? => |$c:ident, $v:ident| $set:expr;)*) => {
        &[$(Key {
            name: $name,
            default: keys!(@default $($default)?),
            set: |$c: &mut ClientConfig, $v: &str| { $set; Ok(()) },
        }),*]
    };
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
}

#[rustfmt::skip]
pub(super) const KEYS: &[Key] = keys! {
    "bootstrap.servers" => |c, v| c.bootstrap_servers = addresses(v)?;
    "client.id" = "" => |c, v| c.client_id = v.to_owned();
    "client.rack" = "" => |c, v| c.client_rack = v.to_owned();
    "security.protocol" = "PLAINTEXT" => |c, v| c.security.set_protocol(v)?;
    "request.timeout.ms" = "30000" => |c, v| c.request_timeout = millis(v)?;
    "default.api.timeout.ms" = "60000" => |c, v| c.default_api_timeout = millis(v)?;
    "retry.backoff.ms" = "100" => |c, v| c.retry_backoff.initial = millis(v)?;
    "retry.backoff.max.ms" = "1000" => |c, v| c.retry_backoff.max = millis(v)?;
    "reconnect.backoff.ms" = "50" => |c, v| c.reconnect_backoff.initial = millis(v)?;
    "reconnect.backoff.max.ms" = "1000" => |c, v| c.reconnect_backoff.max = millis(v)?;
    "socket.connection.setup.timeout.ms" = "10000" => |c, v| c.socket_connection_setup_timeout = millis(v)?;
    "connections.max.idle.ms" = "540000" => |c, v| c.connections_max_idle = idle(v)?;
    "metadata.max.age.ms" = "300000" => |c, v| c.metadata_max_age = millis(v)?;

    "acks" = "all" => |c, v| c.acks = acks(v)?;
    "linger.ms" = "5" => |c, v| c.linger = millis(v)?;
    "batch.size" = "16384" => |c, v| c.batch_size = bytes(v)?;
    "compression.type" = "none" => |c, v| c.compression_type = compression(v)?;
    "compression.gzip.level" => |c, v| c.compression_levels.gzip = Some(level(v)?);
    "compression.lz4.level" => |c, v| c.compression_levels.lz4 = Some(level(v)?);
    "compression.zstd.level" => |c, v| c.compression_levels.zstd = Some(level(v)?);
    "max.request.size" = "1048576" => |c, v| c.max_request_size = bytes(v)?;
    "buffer.memory" = "33554432" => |c, v| c.buffer_memory = bytes(v)?;
    "delivery.timeout.ms" = "120000" => |c, v| c.delivery_timeout = millis(v)?;
    "max.block.ms" = "60000" => |c, v| c.max_block = millis(v)?;
    "retries" = "2147483647" => |c, v| c.retries = count(v)? as u32;
    "enable.idempotence" = "true" => |c, v| c.enable_idempotence = Some(boolean(v)?);
    "max.in.flight.requests.per.connection" = "5" => |c, v| c.max_in_flight_requests_per_connection = positive(v)?;
    "transactional.id" => |c, v| c.transactional_id = non_blank(v);
    "transaction.timeout.ms" = "60000" => |c, v| c.transaction_timeout = millis(v)?;

    "fetch.min.bytes" = "1" => |c, v| c.fetch_min_bytes = bytes(v)?;
    "fetch.max.bytes" = "52428800" => |c, v| c.fetch_max_bytes = bytes(v)?;
    "fetch.max.wait.ms" = "500" => |c, v| c.fetch_max_wait = millis(v)?;
    "max.partition.fetch.bytes" = "1048576" => |c, v| c.max_partition_fetch_bytes = bytes(v)?;
    "max.poll.records" = "500" => |c, v| c.max_poll_records = positive(v)?;
    "auto.offset.reset" = "latest" => |c, v| c.auto_offset_reset = reset(v)?;
    "isolation.level" = "read_uncommitted" => |c, v| c.isolation_level = isolation(v)?;
    "check.crcs" = "true" => |c, v| c.check_crcs = boolean(v)?;
    "allow.auto.create.topics" = "true" => |c, v| c.allow_auto_create_topics = boolean(v)?;

    "group.id" => |c, v| c.group_id = non_blank(v);
    "group.instance.id" => |c, v| c.group_instance_id = non_blank(v);
    "session.timeout.ms" = "45000" => |c, v| c.session_timeout = millis(v)?;
    "heartbeat.interval.ms" = "3000" => |c, v| c.heartbeat_interval = millis(v)?;
    "max.poll.interval.ms" = "300000" => |c, v| c.max_poll_interval = millis(v)?;
    "rebalance.timeout.ms" => |c, v| c.rebalance_timeout = Some(millis(v)?);
    "partition.assignment.strategy" = "range,cooperative-sticky" => |c, v| c.partition_assignment_strategy = strategies(v)?;

    "group.protocol" = "classic" => |_c, v| classic(v)?;

    // Java settings that change nothing here, accepted so that existing files give no warning.
    "key.serializer" => |_c, _v| ignored();
    "value.serializer" => |_c, _v| ignored();
    "key.deserializer" => |_c, _v| ignored();
    "value.deserializer" => |_c, _v| ignored();
    "enable.auto.commit" => |_c, v| boolean(v)?;
    "auto.commit.interval.ms" => |_c, v| millis(v)?;
    "send.buffer.bytes" => |_c, _v| ignored();
    "receive.buffer.bytes" => |_c, _v| ignored();
    "metric.reporters" => |_c, _v| ignored();
    "metrics.recording.level" => |_c, _v| ignored();
    "metrics.num.samples" => |_c, _v| ignored();
    "metrics.sample.window.ms" => |_c, _v| ignored();
    "enable.metrics.push" => |_c, _v| ignored();
    "metadata.recovery.strategy" => |_c, _v| ignored();
    "metadata.recovery.rebootstrap.trigger.ms" => |_c, _v| ignored();
    "socket.connection.setup.timeout.max.ms" => |_c, _v| ignored();
    "client.dns.lookup" => |_c, _v| ignored();
    "exclude.internal.topics" = "true" => |_c, v| boolean(v)?;
    "internal.leave.group.on.close" => |_c, v| boolean(v)?;
};

/// Keys of which even the value does not matter here.
fn ignored() {}

fn addresses(text: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for address in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        // Java allows a protocol before the address; it says nothing that security.protocol does not.
        let plain = address.split_once("://").map_or(address, |(_, rest)| rest);
        let good = plain.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && (!host.contains(':') || host.starts_with('[') && host.ends_with(']'))
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !good {
            return Err(format!("'{address}' is not host:port"));
        }
        found.push(plain.to_owned());
    }
    Ok(found)
}

/// What Java writes for "never" lies beyond what clocks can add up; a hundred years are as long.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

fn millis(text: &str) -> Result<Duration, String> {
    match text.parse::<i64>() {
        Ok(number) if number >= 0 => Ok(Duration::from_millis(number.unsigned_abs()).min(FOREVER)),
        _ => Err("must be a whole number of milliseconds, 0 or more".to_owned()),
    }
}

/// As [`millis`], and a negative number for never.
fn idle(text: &str) -> Result<Duration, String> {
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Ok(FOREVER),
        _ => millis(text),
    }
}

fn classic(text: &str) -> Result<(), String> {
    match text.to_ascii_lowercase().as_str() {
        "classic" => Ok(()),
        "consumer" => Err("is not supported yet, only classic is".to_owned()),
        _ => Err("must be classic".to_owned()),
    }
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse::<i32>() {
        Ok(number) if number >= 0 => Ok(number as usize),
        _ => Err("must be a whole number, 0 or more".to_owned()),
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match count(text) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("must be a whole number, 1 or more".to_owned()),
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    match text.parse::<i64>() {
        Ok(number) if (0..=i64::from(i32::MAX)).contains(&number) => Ok(number as usize),
        _ => Err(format!("must be a number of bytes from 0 to {}", i32::MAX)),
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

fn non_blank(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn acks(text: &str) -> Result<Acks, String> {
    match text.to_ascii_lowercase().as_str() {
        "all" | "-1" => Ok(Acks::All),
        "1" => Ok(Acks::Leader),
        "0" => Ok(Acks::None),
        _ => Err("must be one of 0, 1, -1, all".to_owned()),
    }
}

fn compression(text: &str) -> Result<CompressionType, String> {
    match text.to_ascii_lowercase().as_str() {
        "none" => Ok(CompressionType::None),
        "gzip" => Ok(CompressionType::Gzip),
        "snappy" => Ok(CompressionType::Snappy),
        "lz4" => Ok(CompressionType::Lz4),
        "zstd" => Ok(CompressionType::Zstd),
        _ => Err("must be one of none, gzip, snappy, lz4, zstd".to_owned()),
    }
}

fn level(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| "must be a whole number".to_owned())
}

fn reset(text: &str) -> Result<OffsetReset, String> {
    match text.to_ascii_lowercase().as_str() {
        "earliest" => Ok(OffsetReset::Earliest),
        "latest" => Ok(OffsetReset::Latest),
        "none" => Ok(OffsetReset::None),
        _ => Err("must be one of earliest, latest, none".to_owned()),
    }
}

fn isolation(text: &str) -> Result<IsolationLevel, String> {
    match text.to_ascii_lowercase().as_str() {
        "read_uncommitted" => Ok(IsolationLevel::ReadUncommitted),
        "read_committed" => Ok(IsolationLevel::ReadCommitted),
        _ => Err("must be read_uncommitted or read_committed".to_owned()),
    }
}

/// Takes protocol names and Java's class names.
fn strategies(text: &str) -> Result<Vec<AssignmentStrategy>, String> {
    let mut found = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        found.push(match name.strip_prefix("org.apache.kafka.clients.consumer.").unwrap_or(name) {
            "range" | "RangeAssignor" => AssignmentStrategy::Range,
            "roundrobin" | "RoundRobinAssignor" => AssignmentStrategy::RoundRobin,
            "sticky" | "StickyAssignor" => AssignmentStrategy::Sticky,
            "cooperative-sticky" | "CooperativeStickyAssignor" => AssignmentStrategy::CooperativeSticky,
            _ => {
                return Err(format!(
                    "'{name}' is not one of RangeAssignor, RoundRobinAssignor, StickyAssignor, \
                     CooperativeStickyAssignor"
                ));
            }
        });
    }
    if found.is_empty() {
        return Err("must name at least one assignor".to_owned());
    }
    Ok(found)
}
