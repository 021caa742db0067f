//! An executable that serves connectors, and the limits that it is run with.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Limits of plugin processes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a process may take until it has introduced itself.
    pub start: Duration,
    /// How long a call may take without a sign of life.
    pub request: Duration,
    /// Bytes of the largest message in either direction.
    pub frame: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { start: Duration::from_secs(10), request: Duration::from_secs(60), frame: 16 << 20 }
    }
}

/// An executable on the plugin path.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    pub limits: Limits,
}

impl Program {
    pub fn new(path: impl Into<PathBuf>, limits: Limits) -> Self {
        Self { path: path.into(), arguments: Vec::new(), limits }
    }

    /// The same with arguments, for programs that need an interpreter.
    #[must_use]
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.arguments = arguments.into_iter().map(Into::into).collect();
        self
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's name, for messages.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    /// How to start it: in its own folder and its own process group, so that all that it starts can be ended with it.
    pub(crate) fn command(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.path);
        command.args(&self.arguments).env("AQUEDUCT_PLUGIN_PROTOCOL", crate::session::PROTOCOL.to_string());
        if let Some(folder) = self.path.parent().filter(|folder| folder.is_dir()) {
            command.current_dir(folder);
        }
        command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}
