//! A broker's life in the cluster: it registers, shows that it lives, and asks to be relieved before it stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::backend::MemberMetadata;
use crate::config::ClusterSettings;
use crate::controller::{Heartbeat, Registration, Reply, Request};
use crate::error::Error;
use crate::metadata::{BrokerEpoch, MetadataBackend, MetadataError};
use crate::tasks::Tasks;

/// For one attempt to register or one heartbeat.
const ATTEMPT: Duration = Duration::from_secs(5);
/// Between two attempts to register.
const RETRY: Duration = Duration::from_millis(250);
/// Between two heartbeats of a broker that waits for something.
const EAGER: Duration = Duration::from_millis(100);
/// Between two heartbeats of a broker that is relieved of its partitions, some with each.
const LEAVING: Duration = Duration::from_millis(20);
/// Between two lines in the log that say what is waited for.
pub(super) const REPEAT: Duration = Duration::from_secs(10);
/// A stopping broker that no controller answers while it waits so often stops all the same. Waits are counted, not time: while
/// the process stands still no answer can come.
const UNHEARD: u32 = 30;
/// It waits no longer than this to be relieved of its partitions.
const LONGEST_LEAVE: Duration = Duration::from_secs(60);

/// What the last heartbeat brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    fenced: bool,
    may_stop: bool,
    /// When the controller answered last.
    heard: Instant,
}

/// A registered broker.
pub(super) struct Lifecycle {
    metadata: Arc<MemberMetadata>,
    registration: Registration,
    interval: Duration,
    life: watch::Sender<Life>,
    leaves: AtomicBool,
    leave: Notify,
}

impl Lifecycle {
    /// Registers, and waits until the image of this node has the registration.
    ///
    /// # Errors
    /// Another cluster, features that are too old, and everything else that the controller still turns down after
    /// `initial.broker.registration.timeout.ms`. While no controller answers it waits, and says so in the log.
    pub async fn register(
        metadata: Arc<MemberMetadata>,
        registration: Registration,
        settings: &ClusterSettings,
        tasks: &Tasks,
    ) -> Result<Self, Error> {
        let epoch = first_registration(&metadata, &registration, settings.registration_timeout).await?;
        let version = u64::try_from(epoch.0).unwrap_or_default();
        metadata.local.registered(epoch);
        let mut images = metadata.watch();
        loop {
            let seen = tokio::select! {
                seen = timeout(REPEAT, images.wait_for(|image| image.version >= version)) => seen,
                () = tasks.stopping() => return Err(Error::Interrupted),
            };
            match seen {
                Ok(Ok(_)) => break,
                Ok(Err(_)) => return Err(Error::Interrupted),
                Err(_) => tracing::warn!(
                    epoch = epoch.0,
                    version = metadata.image().version,
                    "waiting for the metadata up to this broker's registration"
                ),
            }
        }
        tracing::info!(epoch = epoch.0, "broker is registered");
        let life = watch::Sender::new(Life { fenced: true, may_stop: false, heard: Instant::now() });
        let interval = settings.heartbeat_interval;
        Ok(Self {
            metadata,
            registration,
            interval,
            life,
            leaves: AtomicBool::new(false),
            leave: Notify::new(),
        })
    }

    /// Shows that the broker lives, until the node stops or the controller lets it.
    pub async fn beat(self: Arc<Self>, tasks: Tasks) {
        let mut told: Option<(String, Instant)> = None;
        loop {
            let beaten = tokio::select! {
                beaten = self.beat_once() => beaten,
                () = tasks.stopping() => return,
            };
            match beaten {
                Ok(true) => return,
                Ok(false) => told = None,
                Err(why) => {
                    if told.as_ref().is_none_or(|(text, at)| *text != why || at.elapsed() > REPEAT) {
                        tracing::warn!(why, "the controller did not take this broker's heartbeat");
                        told = Some((why, Instant::now()));
                    }
                }
            }
            let waits = self.life.borrow().fenced || told.is_some();
            let pause = match self.leaves.load(Ordering::Acquire) {
                _ if waits => EAGER,
                true => LEAVING,
                false => self.interval,
            };
            let pause = pause.min(self.interval);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.leave.notified() => {}
                () = tasks.stopping() => return,
            }
        }
    }

    /// One heartbeat; true when the broker may stop.
    async fn beat_once(&self) -> Result<bool, String> {
        let want_shut_down = self.leaves.load(Ordering::Acquire);
        let beat = Heartbeat {
            broker: self.registration.broker.id,
            epoch: self.metadata.broker_epoch(),
            applied: self.metadata.image().version,
            want_fence: false,
            want_shut_down,
        };
        let mut replies = self.metadata.decide(vec![Request::Heartbeat(beat)], ATTEMPT).await;
        match replies.pop() {
            Some(Ok(Reply::Heartbeat { fenced, should_shut_down, .. })) => {
                let may_stop = want_shut_down && should_shut_down;
                let before = self.life.send_replace(Life { fenced, may_stop, heard: Instant::now() });
                match (before.fenced, fenced) {
                    (true, false) => tracing::info!("broker is unfenced"),
                    (false, true) if !may_stop => tracing::warn!("broker is fenced"),
                    _ => {}
                }
                Ok(may_stop)
            }
            Some(Err(MetadataError::Rejected(rejection)))
                if matches!(
                    rejection.code,
                    ErrorCode::BrokerIdNotRegistered | ErrorCode::StaleBrokerEpoch
                ) && !want_shut_down =>
            {
                self.register_again().await?;
                Err(rejection.message)
            }
            Some(Err(error)) => Err(error.to_string()),
            _ => Err("its answer does not fit".to_owned()),
        }
    }

    /// After somebody took the registration away. This very process goes on with all that it has.
    async fn register_again(&self) -> Result<(), String> {
        let mut registration = self.registration.clone();
        registration.previous_epoch = self.metadata.broker_epoch();
        let mut replies = self.metadata.decide(vec![Request::Register(registration)], ATTEMPT).await;
        match replies.pop() {
            Some(Ok(Reply::Registered(epoch))) => {
                self.metadata.local.registered(epoch);
                tracing::info!(epoch = epoch.0, "broker is registered again");
                Ok(())
            }
            Some(Err(error)) => Err(error.to_string()),
            _ => Err("its answer does not fit".to_owned()),
        }
    }

    /// Resolves when the controller lets the broker take part.
    pub async fn unfenced(&self, tasks: &Tasks) -> Result<(), Error> {
        let mut life = self.life.subscribe();
        loop {
            let unfenced = tokio::select! {
                unfenced = timeout(REPEAT, life.wait_for(|life| !life.fenced)) => unfenced,
                () = tasks.stopping() => return Err(Error::Interrupted),
            };
            match unfenced {
                Ok(_) => return Ok(()),
                Err(_) => tracing::warn!("waiting for the controller to unfence this broker"),
            }
        }
    }

    /// Asks to be relieved of all partitions, and waits until the broker is, within bounds.
    pub async fn leave(&self) {
        self.leaves.store(true, Ordering::Release);
        self.leave.notify_one();
        match relieved(self.life.subscribe()).await {
            Leave::Relieved => tracing::info!("the controller lets this broker stop"),
            Leave::Unheard => tracing::warn!(
                "no controller answers: the broker stops without being relieved of its partitions"
            ),
            Leave::TooLong => {
                tracing::warn!("the broker stops without being relieved of all its partitions");
            }
        }
    }
}

/// How a broker's wait to be relieved of its partitions ended.
#[derive(Debug, PartialEq, Eq)]
enum Leave {
    Relieved,
    Unheard,
    TooLong,
}

async fn relieved(mut life: watch::Receiver<Life>) -> Leave {
    let began = Instant::now();
    let (mut heard, mut waits) = (life.borrow().heard, 0);
    loop {
        let now = *life.borrow_and_update();
        if now.heard != heard {
            (heard, waits) = (now.heard, 0);
        }
        if now.may_stop {
            return Leave::Relieved;
        }
        if waits > UNHEARD {
            return Leave::Unheard;
        }
        if began.elapsed() > LONGEST_LEAVE {
            return Leave::TooLong;
        }
        if timeout(EAGER, life.changed()).await.is_err() {
            waits += 1;
        }
    }
}

async fn first_registration(
    metadata: &MemberMetadata,
    registration: &Registration,
    patience: Duration,
) -> Result<BrokerEpoch, Error> {
    let mut refused_since: Option<Instant> = None;
    let mut told: Option<Instant> = None;
    loop {
        let mut replies = metadata.decide(vec![Request::Register(registration.clone())], ATTEMPT).await;
        let why = match replies.pop() {
            Some(Ok(Reply::Registered(epoch))) => return Ok(epoch),
            Some(Err(MetadataError::Rejected(rejection))) => {
                let for_good = matches!(
                    rejection.code,
                    ErrorCode::InconsistentClusterId
                        | ErrorCode::UnsupportedVersion
                        | ErrorCode::InvalidVoterKey
                );
                let since = refused_since.get_or_insert_with(Instant::now);
                if for_good || since.elapsed() >= patience {
                    return Err(Error::NotRegistered(rejection));
                }
                rejection.to_string()
            }
            Some(Err(MetadataError::Stopping)) | None => return Err(Error::Interrupted),
            Some(Err(error)) => error.to_string(),
            Some(Ok(_)) => "its answer does not fit".to_owned(),
        };
        if told.is_none_or(|at| at.elapsed() > REPEAT) {
            told = Some(Instant::now());
            tracing::warn!(why, "waiting to be registered as a broker");
        }
        tokio::time::sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_stands_still_while_it_stops_goes_on_waiting() {
        let alive = Life { fenced: false, may_stop: false, heard: Instant::now() };
        let (life, watched) = watch::channel(alive);
        let leaves = tokio::spawn(relieved(watched.clone()));
        tokio::time::sleep(EAGER / 2).await;
        std::thread::sleep(EAGER * (UNHEARD + 5));
        tokio::time::sleep(EAGER * 3).await;
        assert!(!leaves.is_finished(), "nobody could be heard meanwhile");
        life.send_replace(Life { may_stop: true, heard: Instant::now(), ..alive });
        assert_eq!(leaves.await.unwrap(), Leave::Relieved);
        let (_life, silent) = watch::channel(alive);
        assert_eq!(relieved(silent).await, Leave::Unheard);
    }
}
