//! What a task does and waits for, in words.

use std::fmt;
use std::time::{Duration, Instant};

use aqueduct_connect_api::{Told, TopicPartition};

use super::{Activity, Progress, Stuck};

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no progress for {:?}: it waits for {}", rounded(self.lasts), self.waits_for)
    }
}

impl Progress {
    /// Whether the task has not got on for `limit`, and what it waits for.
    pub fn stuck(&self, now: Instant, limit: Duration) -> Option<Stuck> {
        let late = |since: Instant, waits_for: &dyn Fn() -> String| {
            let lasts = now.saturating_duration_since(since);
            (lasts >= limit).then(|| Stuck { lasts, waits_for: waits_for() })
        };
        if matches!(self.activity, Activity::Paused | Activity::Stopping) {
            return None;
        }
        if let Some(retry) = &self.retry
            && let Some(stuck) = late(retry.since, &|| failing(retry.failures, &retry.error))
        {
            return Some(stuck);
        }
        if let Some((since, Told::Fails { failures, error })) = &self.told
            && let Some(stuck) = late(*since, &|| failing(*failures, error))
        {
            return Some(stuck);
        }
        let current = match self.activity {
            Activity::TakingOver(what) => late(self.since, &|| what.to_owned()),
            Activity::Starting => late(self.since, &|| "start() of the connector's task to return".to_owned()),
            Activity::Polling => late(self.since, &|| {
                "poll() of the source to return, which answers once a second even without records".to_owned()
            }),
            Activity::Converting(records) => {
                late(self.since, &|| format!("transforms and converters to be done with {records} records"))
            }
            Activity::Putting(records) => {
                late(self.since, &|| format!("put() of the sink to return, which was given {records} records"))
            }
            Activity::Sending(0) => late(self.since, &|| "the cluster to acknowledge what was sent".to_owned()),
            Activity::Sending(records) => {
                late(self.since, &|| format!("the cluster to take {records} records"))
            }
            Activity::Committing => {
                late(self.since, &|| "offsets to be committed, or the sink to make sure of its records".to_owned())
            }
            Activity::WaitingForRecords => self.lag.iter().max_by_key(|one| one.behind()).filter(|one| one.behind() > 0).and_then(|one| {
                late(self.moved, &|| {
                    format!(
                        "the record {}@{}, though the partition goes on to {}; the broker does not send it",
                        shown(&one.partition),
                        one.position,
                        one.end.unwrap_or_default()
                    )
                })
            }),
            Activity::Paused | Activity::Stopping | Activity::BackingOff => None,
        };
        current.or_else(|| {
            let (since, _) = self.sent.front()?;
            late(*since, &|| format!("the cluster to acknowledge {} records", self.in_flight()))
        })
    }

    /// What the task does, in words.
    pub fn describe(&self, now: Instant) -> String {
        let lasts = rounded(self.lasts(now));
        let mut text = match self.activity {
            Activity::TakingOver(what) => {
                format!("before it starts it has been waiting for {lasts:?} for {what}")
            }
            Activity::Starting => format!("start() of the connector's task has been running for {lasts:?}"),
            Activity::Paused => format!("paused for {lasts:?}"),
            Activity::Polling if self.lasts(now) < LONG_POLL => {
                format!("asking the source for records again and again; {}", self.since_records(now))
            }
            Activity::Polling => format!("poll() of the source has been running for {lasts:?}"),
            Activity::WaitingForRecords => match self.behind() {
                _ if self.lag.is_empty() => {
                    "no partition is the task's: another task of the connector may have them \
                     all, or the topics do not exist yet, or the consumer group is being shared out"
                        .to_owned()
                }
                0 => {
                    format!("everything there is has been read; {}", self.since_records(now))
                }
                behind => format!("waiting for records; {behind} are not read yet"),
            },
            Activity::Converting(records) => {
                format!("transforming and converting {records} records for {lasts:?}")
            }
            Activity::Putting(records) => {
                format!("put() of the sink has been running for {lasts:?} with {records} records")
            }
            Activity::Sending(0) => {
                format!("waiting for the cluster to acknowledge what was sent for {lasts:?}")
            }
            Activity::Sending(records) => format!("sending {records} records to the cluster for {lasts:?}"),
            Activity::Committing => {
                format!("making sure of what was taken and storing offsets for {lasts:?}")
            }
            Activity::BackingOff => "waiting before it tries again".to_owned(),
            Activity::Stopping => format!("stopping for {lasts:?}"),
        };
        match &self.told {
            Some((_, Told::Waits(what))) => text = format!("waiting for {what}"),
            Some((_, Told::Fails { failures, error })) => {
                text = format!("trying again by itself after {}", failing(*failures, error));
            }
            None => {}
        }
        if let Some(retry) = &self.retry {
            let left = rounded(retry.due.saturating_duration_since(now));
            text.push_str(&format!(
                "; failed {} times, next try in {left:?}, last error: {}",
                retry.failures, retry.error
            ));
        }
        match self.on_their_way() {
            0 => {}
            waiting => text.push_str(&format!("; {waiting} records wait for their acknowledgement")),
        }
        text
    }

    /// When records last came.
    fn since_records(&self, now: Instant) -> String {
        match self.last_records {
            None => format!("none has come in the {:?} since the task's start", rounded(self.age(now))),
            Some(at) => format!("the last came {:?} ago", rounded(now.saturating_duration_since(at))),
        }
    }
}

/// A poll that takes longer than its contract says is worth a word.
const LONG_POLL: Duration = Duration::from_secs(3);

fn failing(failures: u32, error: &str) -> String {
    format!("an operation that has failed {failures} times, the last time with: {error}")
}

fn shown(partition: &TopicPartition) -> String {
    format!("{}-{}", partition.topic, partition.partition)
}

/// For people: no more than tenths of seconds where there are seconds.
fn rounded(span: Duration) -> Duration {
    let step = if span >= Duration::from_secs(1) { 100 } else { 1 };
    Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX) / step * step)
}
