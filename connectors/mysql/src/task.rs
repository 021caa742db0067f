//! The task: an engine behind a queue.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_connect_api::{Config, Error, Result, SourceRecord, SourceTask, SourceTaskContext};
use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::{Flavor, Settings};
use crate::engine::Engine;
use crate::output::Output;

/// The longest that `poll` may wait.
const LONGEST_POLL: Duration = Duration::from_secs(1);

/// Reads one server.
pub struct Task {
    flavor: Flavor,
    running: Option<Running>,
}

struct Running {
    engine: JoinHandle<()>,
    batches: mpsc::Receiver<Result<Vec<SourceRecord>>>,
    wait: Duration,
}

impl Task {
    pub fn new(flavor: Flavor) -> Self {
        Self { flavor, running: None }
    }
}

#[async_trait]
impl SourceTask for Task {
    async fn start(&mut self, context: SourceTaskContext, config: &Config) -> Result<()> {
        let settings = Arc::new(Settings::read(config, self.flavor)?);
        let wait = settings.poll_interval.min(LONGEST_POLL);
        let (output, batches) = Output::new(&settings, context.notice);
        let engine = Engine::new(settings, context.task, context.offsets, output);
        self.running = Some(Running { engine: tokio::spawn(engine.run()), batches, wait });
        Ok(())
    }

    async fn poll(&mut self) -> Result<Vec<SourceRecord>> {
        let Some(running) = &mut self.running else {
            return Err(Error::connect("the task has not been started"));
        };
        match tokio::time::timeout(running.wait, running.batches.recv()).await {
            Err(_) => Ok(Vec::new()),
            Ok(Some(batch)) => batch,
            Ok(None) => Err(match (&mut running.engine).await {
                Err(e) => Error::connect("reading the binlog has crashed").caused_by(e),
                Ok(()) => Error::connect("reading the binlog has ended; the reason was given before"),
            }),
        }
    }

    async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.engine.abort();
            // It ends at its next wait; that it was told to is no error.
            let _ = running.engine.await;
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.engine.abort();
        }
    }
}
