//! Finds plugins and makes their connectors known, as if they were compiled in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aqueduct_connect_api::{Factory, Plugin};
use tokio::task::JoinSet;

use crate::connector::{ProcessConnector, STOP, Served};
use crate::describe::{ConnectorDescription, Description, Kind};
use crate::process::Process;
use crate::program::{Limits, Program};
use crate::scan::scan;
use crate::secrets::Secrets;
use crate::sink::ProcessSinkTask;
use crate::source::ProcessSourceTask;

/// Plugins that have not described themselves yet.
#[must_use = "plugins are asked and nobody listens"]
pub struct Discovery {
    open: JoinSet<(Program, Result<Description, String>)>,
}

impl Discovery {
    /// Starts to ask every plugin in `directories` and the folders in them what it serves, all at the same time. What is
    /// wrong with one is said in the log and does not touch the others.
    pub fn start(directories: &[PathBuf], limits: &Limits) -> Self {
        let found = scan(directories);
        for problem in &found.problems {
            tracing::warn!("{problem}");
        }
        if let Some(about) = found.about_jars() {
            tracing::warn!("{about}");
        }
        let mut open = JoinSet::new();
        for path in found.programs {
            let program = Program::new(path, limits.clone());
            open.spawn(async move {
                let described = describe(&program).await;
                (program, described)
            });
        }
        Self { open }
    }

    /// Waits for what they say, each up to its limit, and makes their connectors known.
    pub async fn finish(mut self) {
        while let Some(done) = self.open.join_next().await {
            Self::take(done);
        }
    }

    fn take(done: Result<(Program, Result<Description, String>), tokio::task::JoinError>) {
        let (program, described) = match done {
            Ok(done) => done,
            Err(error) => return tracing::error!(%error, "asking a plugin what it serves failed"),
        };
        match described {
            Ok(description) => {
                for connector in description.connectors {
                    register(&program, connector);
                }
            }
            Err(why) => {
                let path = shown(program.path());
                tracing::error!(path, why, "a plugin is left out: it does not say what it serves");
            }
        }
    }
}

/// What a plugin serves.
///
/// # Errors
/// Why it does not say so, with its last lines.
pub async fn describe(program: &Program) -> Result<Description, String> {
    let mut limited = program.clone();
    limited.limits.request = program.limits.start;
    let process =
        Process::start(&limited, "describe", None, Secrets::default()).await.map_err(|e| e.trace())?;
    let answer = process.call("describe", b"{}".to_vec()).await;
    process.stop(STOP).await;
    Description::read(&answer.map_err(|e| e.to_string())?)
}

/// Makes a connector known; gives whether it could be.
pub fn register(program: &Program, description: ConnectorDescription) -> bool {
    let leaked = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
    let class = description.class.clone();
    let aliases: Vec<&'static str> = description.aliases.iter().map(|alias| leaked(alias)).collect();
    let version = leaked(&description.version);
    let table = match description.config_def() {
        Ok(table) => table,
        Err(why) => {
            tracing::error!(class, why, "a plugin's connector is left out");
            return false;
        }
    };
    let kind = description.kind;
    let served = Arc::new(Served { program: program.clone(), description });
    let plugin = Plugin {
        class: leaked(&class),
        aliases: Box::leak(aliases.into_boxed_slice()),
        version,
        config: Box::leak(Box::new(move || table.clone())),
        factory: factory(kind, served),
    };
    let path = shown(program.path());
    match Plugin::register(plugin) {
        Ok(_) => {
            tracing::info!(class, version, path, "plugin connector found");
            true
        }
        Err(taken) => {
            tracing::warn!(class, path, "a plugin's connector is left out: {taken}");
            false
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn factory(kind: Kind, served: Arc<Served>) -> Factory {
    let of_task = served.clone();
    match kind {
        Kind::Source => Factory::Source {
            connector: Box::leak(Box::new(move || Box::new(ProcessConnector::new(served.clone())) as _)),
            task: Box::leak(Box::new(move || Box::new(ProcessSourceTask::new(of_task.clone())) as _)),
        },
        Kind::Sink => Factory::Sink {
            connector: Box::leak(Box::new(move || Box::new(ProcessConnector::new(served.clone())) as _)),
            task: Box::leak(Box::new(move || Box::new(ProcessSinkTask::new(of_task.clone())) as _)),
        },
    }
}
