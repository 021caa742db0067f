//! What can be set about groups.

use super::consumer::options::ConsumerOptions;

/// The broker's group settings, each under the name of its key in `server.properties`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    /// `group.min.session.timeout.ms`
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`
    pub max_session_timeout_ms: i32,
    /// `group.max.size`: members a group may have.
    pub max_size: usize,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members after the first.
    pub initial_rebalance_delay_ms: i64,
    /// `offset.metadata.max.bytes`: UTF-16 units of text that may stand beside an offset.
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub retention_check_interval_ms: i64,
    /// How long a member that waits in its first JoinGroup is kept: its session cannot run yet, as it cannot send
    /// heartbeats while the request is parked.
    pub new_member_join_timeout_ms: i64,
    /// `group.consumer.*`
    pub consumer: ConsumerOptions,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            max_size: i32::MAX as usize,
            initial_rebalance_delay_ms: 3_000,
            offset_metadata_max: 4_096,
            offsets_retention_ms: 10_080 * 60_000,
            retention_check_interval_ms: 600_000,
            new_member_join_timeout_ms: 300_000,
            consumer: ConsumerOptions::default(),
        }
    }
}
