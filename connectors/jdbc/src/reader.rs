//! Runs a query beside the task, and hands over its rows in batches.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::column::{Column, Row};
use crate::config::Settings;
use crate::criteria::Criteria;
use crate::dialect::{Dialect, Session};
use crate::error::DbError;
use crate::offset::Offset;
use crate::plan::Plan;

/// Messages between the query and the task: with them, the memory that a query takes is bounded, and a task that is busy
/// holds the query back.
const MESSAGES: usize = 2;

/// What a running query tells.
pub enum Message {
    /// It has started; this comes first.
    Begun(Begun),
    Rows(Vec<Row>),
}

/// How a query was started.
pub struct Begun {
    /// Columns of its rows.
    pub columns: Vec<Column>,
    /// Columns that no Connect type fits, by name and type.
    pub left_out: Vec<String>,
    pub criteria: Criteria,
    /// After which rows it starts.
    pub offset: Offset,
}

/// Where a query puts its rows.
pub struct Rows {
    sender: mpsc::Sender<Message>,
    batch: Vec<Row>,
    size: usize,
}

impl Rows {
    /// Takes a row; `false` says that nobody wants more.
    pub async fn push(&mut self, row: Row) -> bool {
        self.batch.push(row);
        self.batch.len() < self.size || self.flush().await
    }

    /// Says how the query was started.
    pub async fn begin(&mut self, begun: Begun) -> bool {
        self.sender.send(Message::Begun(begun)).await.is_ok()
    }

    async fn flush(&mut self) -> bool {
        self.batch.is_empty()
            || self.sender.send(Message::Rows(std::mem::take(&mut self.batch))).await.is_ok()
    }
}

/// A query that is running. It ends when this is dropped, and its connection with it.
pub struct Reader {
    receiver: mpsc::Receiver<Message>,
    running: JoinHandle<Result<Box<dyn Session>, DbError>>,
}

impl Reader {
    /// Starts `plan` on `session`, or on a new connection. `connected_before` says whether there was one ever: where
    /// there was, a database that is away is waited for.
    pub fn start(plan: Plan, session: Option<Box<dyn Session>>, connected_before: bool) -> Self {
        let (sender, receiver) = mpsc::channel(MESSAGES);
        let mut rows = Rows { sender, batch: Vec::new(), size: plan.settings.batch_max_rows };
        let running = tokio::spawn(async move {
            let mut session = match session {
                Some(session) => session,
                None => connect(&plan.settings, &plan.dialect, connected_before).await?,
            };
            plan.run(&mut *session, &mut rows).await?;
            rows.flush().await;
            Ok(session)
        });
        Self { receiver, running }
    }

    /// The next message; `None` at the end. Nothing is lost where this is dropped while it waits.
    pub async fn next(&mut self) -> Option<Message> {
        self.receiver.recv().await
    }

    /// Ends the query, and its connection with it.
    pub async fn stop(mut self) {
        self.running.abort();
        // Aborted or done: either way nothing of it is left.
        let _ = (&mut self.running).await;
    }

    /// After the last message: the connection, for the next query.
    ///
    /// # Errors
    /// What ended the query early; the connection is given up then.
    pub async fn finish(mut self) -> Result<Box<dyn Session>, DbError> {
        match (&mut self.running).await {
            Ok(result) => result,
            Err(e) => Err(DbError::permanent(format!("the query's task ended early: {e}"))),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Connects, in as many attempts as the settings allow.
async fn connect(
    settings: &Settings,
    dialect: &Arc<dyn Dialect>,
    connected_before: bool,
) -> Result<Box<dyn Session>, DbError> {
    let mut attempt = 1;
    loop {
        match dialect.connect().await {
            Ok(session) => return Ok(session),
            Err(error) if attempt < settings.connection_attempts => {
                tracing::warn!(%error, attempt, of = settings.connection_attempts, "no connection; trying again");
                attempt += 1;
                tokio::time::sleep(settings.connection_backoff).await;
            }
            Err(error) => {
                return Err(DbError {
                    message: format!("{} (after {attempt} attempts)", error.message),
                    transient: connected_before,
                });
            }
        }
    }
}
