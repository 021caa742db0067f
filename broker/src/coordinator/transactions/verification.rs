//! Before the first record of a transaction is written to a partition, the transaction's coordinator is asked whether it
//! knows of the partition, or told of it (KIP-890).

use std::sync::Arc;
use std::time::Duration;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::BrokerId;
use aqueduct_storage::{Newcomer, VerificationGuard};
use tokio::time::{Instant, sleep};

use super::effect::Reply;
use super::markers::moved;
use super::remote;
use super::request::{Add, Speaker};
use super::service::TransactionCoordinator;
use super::transaction::{Place, RAISES_EPOCH};
use crate::clock::Clock;
use crate::coordinator::ids::TransactionalId;
use crate::partition::Partition;

/// How often a guard may be taken away by a marker while the coordinator is asked. One of the transaction before is to be
/// expected; where there are more, somebody ends transactions by hand.
const LAPSES: u32 = 3;

/// What a client's request lets the broker do about a partition that is new to the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Support {
    /// Refuse it, with an error that old clients know.
    Refuse,
    /// Refuse it, and say that the transaction must be aborted.
    Abortable,
    /// Add it.
    Add,
}

impl Support {
    /// By the version of Produce.
    pub fn of_produce(version: i16) -> Self {
        Self::of(version, 12, 11)
    }

    /// By the version of TxnOffsetCommit.
    pub fn of_offset_commit(version: i16) -> Self {
        Self::of(version, 5, 4)
    }

    fn of(version: i16, adds: i16, abortable: i16) -> Self {
        match version {
            _ if version >= adds => Self::Add,
            _ if version >= abortable => Self::Abortable,
            _ => Self::Refuse,
        }
    }
}

/// A partition that a transaction writes to, and who writes.
pub(crate) struct Entrance {
    pub partition: Arc<Partition>,
    pub place: Place,
    pub newcomer: Newcomer,
}

/// The guard for an append, `None` where the transaction is open in the partition already, or why there may be none.
pub(crate) type Admission = Result<Option<VerificationGuard>, ErrorCode>;

impl Entrance {
    fn begin(&self, now_ms: i64) -> Option<VerificationGuard> {
        self.partition.on_log(|log| log.begin_verification(self.newcomer, now_ms))
    }

    fn has_lapsed(&self, guard: Option<VerificationGuard>) -> bool {
        let is_good = |guard| self.partition.on_log(|log| log.is_verifying(self.newcomer.id, guard));
        guard.is_some_and(|guard| !is_good(guard))
    }
}

impl TransactionCoordinator {
    /// Asks about partitions or adds them, where their transaction is not open there; one answer for each, in their order.
    ///
    /// Guards are taken before the coordinator is asked, and anew for each time that it is. A producer of the second
    /// version begins a transaction while the one before is still being ended: its marker takes a guard away, and says
    /// nothing against the transaction that the guard was for. The coordinator lets the producer in after the last of these
    /// markers only, so that none of them comes after a guard that still holds then.
    pub async fn admit(
        &self,
        id: &TransactionalId,
        entrances: &[Entrance],
        support: Support,
        clock: &Clock,
    ) -> Vec<Admission> {
        let (backoff, limit) = self.patience();
        let deadline = Instant::now() + limit;
        let mut lapses = 0;
        loop {
            let guards: Vec<_> = entrances.iter().map(|entrance| entrance.begin(clock.now_ms())).collect();
            let codes = self.ask(id, entrances, &guards, support).await;
            let is_busy = support == Support::Add && codes.contains(&ErrorCode::ConcurrentTransactions);
            if is_busy && Instant::now() < deadline {
                // A producer that has just ended a transaction begins the next one before the last markers are written: it
                // is worth a moment's wait.
                sleep(backoff.min(Duration::from_millis(1000))).await;
                continue;
            }
            let mut all = entrances.iter().zip(&guards).zip(&codes);
            let lapsed =
                all.any(|((entrance, guard), code)| *code == ErrorCode::None && entrance.has_lapsed(*guard));
            if lapsed && lapses < LAPSES {
                lapses += 1;
                continue;
            }
            let admission = |(guard, code)| match code {
                ErrorCode::None => Ok(guard),
                code => Err(as_told(code, support)),
            };
            return guards.into_iter().zip(codes).map(admission).collect();
        }
    }

    /// Asks once; one code for each partition, of which those without a guard need no answer.
    async fn ask(
        &self,
        id: &TransactionalId,
        entrances: &[Entrance],
        guards: &[Option<VerificationGuard>],
        support: Support,
    ) -> Vec<ErrorCode> {
        let mut codes = vec![ErrorCode::None; entrances.len()];
        let guarded: Vec<usize> = (0..guards.len()).filter(|n| guards[*n].is_some()).collect();
        let Some(first) = guarded.first().map(|n| entrances[*n].newcomer) else { return codes };
        let who = Speaker { id: id.clone(), producer: first.id, epoch: first.epoch };
        let places: Vec<Place> = guarded.iter().map(|n| entrances[*n].place.clone()).collect();
        let asked = match self.elsewhere(id.as_str()) {
            Err(code) => vec![code; guarded.len()],
            Ok(Some(broker)) => self.ask_other(broker, &who, &places, support).await,
            Ok(None) => self.ask_here(who, places, support).await,
        };
        guarded.into_iter().zip(asked).for_each(|(n, code)| codes[n] = code);
        codes
    }

    async fn ask_here(&self, who: Speaker, places: Vec<Place>, support: Support) -> Vec<ErrorCode> {
        let count = places.len();
        match support {
            Support::Add => {
                let add = Add { who, partitions: places, client_version: RAISES_EPOCH };
                vec![self.add(add).await; count]
            }
            Support::Refuse | Support::Abortable => match self.verify(&who, &places).await {
                Ok(codes) => codes,
                Err(code) => vec![code; count],
            },
        }
    }

    /// Asks the broker that coordinates the transaction.
    async fn ask_other(
        &self,
        broker: BrokerId,
        who: &Speaker,
        places: &[Place],
        support: Support,
    ) -> Vec<ErrorCode> {
        let writer = self.markers();
        let seat = [self.seat(who.id.as_str())];
        let asked =
            writer.others.add_partitions(broker, remote::request(who, places, support != Support::Add));
        let answer = tokio::select! {
            answer = asked => answer,
            () = moved(&*writer.metadata, broker, &seat) => return vec![ErrorCode::NotCoordinator; places.len()],
        };
        match answer {
            Ok(answer) => remote::read(places, &answer),
            Err(error) => {
                tracing::debug!(%error, %broker, "transaction's coordinator does not answer");
                vec![ErrorCode::NetworkException; places.len()]
            }
        }
    }

    /// Asks whether partitions are in a transaction: one code for each, in their order.
    pub async fn verify(&self, who: &Speaker, partitions: &[Place]) -> Result<Vec<ErrorCode>, ErrorCode> {
        let (who, partitions) = (who.clone(), partitions.to_vec());
        let shard = self.shard(who.id.as_str())?;
        shard.look(move |transactions| transactions.verify(&who, &partitions)).await?
    }

    /// Adds partitions to a transaction.
    pub async fn add(&self, add: Add) -> ErrorCode {
        let reply = match self.shard(add.who.id.as_str()) {
            Ok(shard) => {
                shard.ask(move |transactions, now, token| transactions.on_add(now, token, &add)).await
            }
            Err(code) => Err(code),
        };
        match reply {
            Ok(Reply::Code(code)) => code,
            Ok(_) => ErrorCode::UnknownServerError,
            Err(code) => code,
        }
    }
}

/// The code as clients expect it where it is not the coordinator that they have asked.
fn as_told(code: ErrorCode, support: Support) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if support == Support::Refuse => ErrorCode::InvalidTxnState,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_clients_hear_what_they_know() {
        assert_eq!(
            [10, 11, 12, 13].map(Support::of_produce),
            [Support::Refuse, Support::Abortable, Support::Add, Support::Add]
        );
        assert_eq!(
            [3, 4, 5].map(Support::of_offset_commit),
            [Support::Refuse, Support::Abortable, Support::Add]
        );
        let told = |support| as_told(ErrorCode::TransactionAbortable, support);
        assert_eq!(told(Support::Refuse), ErrorCode::InvalidTxnState);
        assert_eq!(told(Support::Abortable), ErrorCode::TransactionAbortable);
        assert_eq!(as_told(ErrorCode::ProducerFenced, Support::Add), ErrorCode::InvalidProducerEpoch);
    }
}
