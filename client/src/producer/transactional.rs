//! Transactions of a producer with a `transactional.id`: what it writes between begin and commit is seen as a whole by
//! consumers with `isolation.level=read_committed`, or not at all.

use parking_lot::MutexGuard;

use super::Producer;
use super::accumulator::Accumulator;
use super::transaction::Transaction;
use crate::error::{Error, Result};
use crate::transactions::Coordinator;

impl Producer {
    /// Takes over the transactional id: any other producer with it is fenced, and its open transaction aborted. Once,
    /// before the first [`Producer::begin_transaction`]; may be repeated where it failed. Waits up to `max.block.ms`.
    ///
    /// # Errors
    /// [`Error::Invalid`] without a `transactional.id`, [`Error::Timeout`], or what the coordinator says.
    pub async fn init_transactions(&self) -> Result<()> {
        let coordinator = self.coordinator()?;
        transaction(&mut self.accumulator())?.begin_init()?;
        let _turn = coordinator.turn().await;
        let (identity, implicit) = coordinator.init(None, self.inner.client.config().max_block).await?;
        transaction(&mut self.accumulator())?.initialized(identity, implicit);
        Ok(())
    }

    /// Begins a transaction; records can be sent from now on. Does no I/O.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is one already or the producer is not initialized, [`Error::Transaction`] where it
    /// has failed for good.
    pub fn begin_transaction(&self) -> Result<()> {
        transaction(&mut self.accumulator())?.begin()
    }

    /// Sends what is buffered, waits until all of it is acknowledged, and commits. After a timeout it may be repeated.
    ///
    /// # Errors
    /// [`Error::Transaction`] where a record could not be written: the transaction has to be aborted;
    /// [`Error::is_fenced`] where another producer has taken over.
    pub async fn commit_transaction(&self) -> Result<()> {
        transaction(&mut self.accumulator())?.begin_commit()?;
        self.end(true).await
    }

    /// Gives up what is buffered, and what was written since the transaction began.
    ///
    /// # Errors
    /// As for [`Producer::commit_transaction`].
    pub async fn abort_transaction(&self) -> Result<()> {
        transaction(&mut self.accumulator())?.begin_abort()?;
        self.end(false).await
    }

    async fn end(&self, commit: bool) -> Result<()> {
        let coordinator = self.coordinator()?;
        self.flush().await;
        let _turn = coordinator.turn().await;
        let ending = transaction(&mut self.accumulator())?.ending()?;
        let identity = match ending {
            Some(ending) => {
                let limit = self.inner.client.config().max_block;
                let ended = coordinator.end(ending, commit, limit).await;
                ended.inspect_err(|error| {
                    if !error.is_retriable()
                        && let Ok(transaction) = transaction(&mut self.accumulator())
                    {
                        transaction.refused(error);
                    }
                })?
            }
            None => None,
        };
        transaction(&mut self.accumulator())?.ended(identity);
        Ok(())
    }

    /// Before it is closed: an open transaction would hold up those who read only what is committed.
    pub(super) async fn abort_open(&self) {
        let open = self.accumulator().transaction.as_ref().is_some_and(Transaction::needs_abort);
        if !open {
            return;
        }
        let limit = self.inner.client.config().request_timeout;
        match tokio::time::timeout(limit, self.abort_transaction()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the open transaction could not be aborted"),
            Err(_) => tracing::debug!("the open transaction could not be aborted in time"),
        }
    }

    fn accumulator(&self) -> MutexGuard<'_, Accumulator> {
        self.inner.shared.accumulator.lock()
    }

    fn coordinator(&self) -> Result<&Coordinator> {
        self.inner.shared.coordinator.as_ref().ok_or_else(no_id)
    }
}

fn transaction(accumulator: &mut Accumulator) -> Result<&mut Transaction> {
    accumulator.transaction.as_mut().ok_or_else(no_id)
}

fn no_id() -> Error {
    Error::Invalid("transactions need a transactional.id in the producer's settings".to_owned())
}
