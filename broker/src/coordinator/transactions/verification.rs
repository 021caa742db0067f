//! Before the first record of a transaction is written to a partition, the transaction's coordinator is asked whether it
//! knows of the partition, or told of it (KIP-890).

use std::time::Duration;

use aqueduct_protocol::ErrorCode;
use tokio::time::{Instant, sleep};

use super::effect::Reply;
use super::request::{Add, Speaker};
use super::service::TransactionCoordinator;
use super::transaction::{Place, RAISES_EPOCH};

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

impl TransactionCoordinator {
    /// Asks about partitions or adds them; one code for each, in their order.
    pub async fn admit(&self, who: &Speaker, partitions: &[Place], support: Support) -> Vec<ErrorCode> {
        let codes = match support {
            Support::Add => {
                self.add_patiently(who, partitions).await.map(|()| vec![ErrorCode::None; partitions.len()])
            }
            Support::Refuse | Support::Abortable => self.verify(who, partitions).await,
        };
        let codes = codes.unwrap_or_else(|code| vec![code; partitions.len()]);
        codes.into_iter().map(|code| as_told(code, support)).collect()
    }

    /// Asks whether partitions are in a transaction: one code for each, in their order.
    pub async fn verify(&self, who: &Speaker, partitions: &[Place]) -> Result<Vec<ErrorCode>, ErrorCode> {
        let (who, partitions) = (who.clone(), partitions.to_vec());
        let shard = self.shard(who.id.as_str())?;
        shard.look(move |transactions| transactions.verify(&who, &partitions)).await?
    }

    /// A producer that has just ended a transaction begins the next one before the last markers are written: it is worth
    /// a moment's wait.
    async fn add_patiently(&self, who: &Speaker, partitions: &[Place]) -> Result<(), ErrorCode> {
        let (backoff, limit) = self.patience();
        let deadline = Instant::now() + limit;
        loop {
            let add = Add { who: who.clone(), partitions: partitions.to_vec(), client_version: RAISES_EPOCH };
            match self.add(add).await {
                ErrorCode::None => return Ok(()),
                ErrorCode::ConcurrentTransactions if Instant::now() < deadline => {
                    sleep(backoff.min(Duration::from_millis(1000))).await;
                }
                code => return Err(code),
            }
        }
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
