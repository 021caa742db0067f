//! A bare broker for development: `broker --config server.properties [--set KEY=VALUE]...`, or with `--set` alone.

use std::path::PathBuf;
use std::process::ExitCode;

use aqueduct_broker::{Broker, Error, Options};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter()).init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("broker: {error}");
            if matches!(error, Error::Config(_)) { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn filter() -> tracing_subscriber::EnvFilter {
    tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into())
}

async fn run() -> Result<(), Error> {
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    let mut pairs = Vec::new();
    while let Some(argument) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--config" => options = Options::load(&PathBuf::from(value), [])?,
            _ => pairs.push(value),
        }
    }
    for pair in &pairs {
        options.properties.set_pair(pair)?;
    }
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened to");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be listened to");
    let broker = Broker::start(options).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    broker.shutdown().await;
    Ok(())
}
