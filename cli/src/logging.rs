//! Log lines on standard error.

use std::io::IsTerminal as _;
use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, reload};

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One readable line an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// Changes what is logged while the process runs.
#[derive(Clone)]
pub struct Levels(Arc<dyn Fn(&str) + Send + Sync>);

impl Levels {
    /// Applies filter directives such as `info,aqueduct_client=debug`.
    pub fn set(&self, directives: &str) {
        (self.0)(directives);
    }
}

/// Starts logging; `RUST_LOG` overrides `default_level`.
pub fn start(format: Format, default_level: &str) -> Levels {
    // The quorum's library tells each of its steps; what comes of them is told by whoever uses it.
    let default = || EnvFilter::new(format!("{default_level},openraft=error"));
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| default());
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    match format {
        Format::Text => registry.with(lines.with_ansi(std::io::stderr().is_terminal())).init(),
        Format::Json => registry.with(lines.json()).init(),
    }
    Levels(Arc::new(move |directives| {
        // Directives come from names that were checked; one that cannot be read changes nothing.
        if let Ok(filter) = EnvFilter::try_new(directives) {
            let _ = handle.reload(filter);
        }
    }))
}
