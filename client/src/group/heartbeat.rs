//! The task that keeps a membership alive.

use std::sync::Arc;

use aqueduct_protocol::error_code::ErrorCode;
use tokio::time::Instant;

use super::member::Shared;
use super::{MemberSignal, calls};
use crate::error::Error;

/// Sends heartbeats for the membership of this moment, until it is over.
pub(super) async fn run(shared: Arc<Shared>) {
    let identity = shared.identity();
    let backoff = shared.client.config().retry_backoff;
    let mut failures = 0;
    loop {
        let wait = match failures {
            0 => shared.options.heartbeat_interval,
            failed => backoff.jittered(failed).min(shared.options.heartbeat_interval),
        };
        tokio::time::sleep(wait).await;
        if let Some(late) = overdue(&shared) {
            // The coordinator is told, so that others can take over at once.
            let error = Error::Timeout {
                what: format!("group {}: no poll (max.poll.interval.ms)", identity.group_id),
                after: late,
                last: None,
            };
            tracing::warn!(%error, "leaving the group");
            let told = calls::leave(&shared, &identity, "no poll within max.poll.interval.ms").await;
            if let Err(error) = told {
                tracing::debug!(%error, "the coordinator could not be told");
            }
            shared.lose(&identity, ErrorCode::UnknownMemberId);
            shared.signal.send_replace(MemberSignal::Lost(error));
            return;
        }
        shared.heartbeats.sent(std::time::Instant::now());
        let answer = calls::heartbeat(&shared, &identity).await;
        if !matches!(&answer, Err(error) if error.is_retriable() && error.code().is_none()) {
            shared.heartbeats.answered(std::time::Instant::now());
        }
        let Err(error) = answer else {
            failures = 0;
            shared.hear();
            continue;
        };
        match error.code() {
            Some(ErrorCode::RebalanceInProgress) => {
                failures = 0;
                shared.hear();
                shared.signal.send_replace(MemberSignal::RebalanceNeeded);
            }
            Some(
                code @ (ErrorCode::UnknownMemberId
                | ErrorCode::IllegalGeneration
                | ErrorCode::FencedInstanceId),
            ) => {
                shared.lose(&identity, code);
                return;
            }
            _ if error.is_retriable() => {
                tracing::debug!(%error, "heartbeat failed, will retry");
                shared.doubt_coordinator(&error);
                failures += 1;
            }
            _ => {
                shared.signal.send_replace(MemberSignal::Fatal(error));
                return;
            }
        }
    }
}

/// The interval that has passed since the owner showed life, if that is too long.
fn overdue(shared: &Shared) -> Option<std::time::Duration> {
    let limit = shared.options.max_poll_interval?;
    let touched = shared.state.lock().touched;
    (Instant::now().duration_since(touched) > limit).then_some(limit)
}
