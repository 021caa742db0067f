//! `aqueduct dump-log`: reads the files of a log directory, ours or Apache Kafka's, with nothing running. Lines look as
//! those of Kafka's own tool.

mod decoders;
mod files;
mod segment;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use self::segment::Records;
use super::output::Failures;

#[derive(clap::Args)]
pub struct Args {
    /// Files, or directories of partitions of which every file is read: .log, .index, .timeindex, .txnindex, .snapshot,
    /// checkpoints.
    #[arg(required_unless_present = "files_flag")]
    paths: Vec<PathBuf>,
    /// Kafka's name for the same, with commas in between.
    #[arg(long = "files", value_delimiter = ',', hide = true)]
    files_flag: Vec<PathBuf>,
    /// Show keys and values of records.
    #[arg(long)]
    print_data_log: bool,
    /// Show every record, not only batches.
    #[arg(long)]
    deep_iteration: bool,
    /// Show keys and values alone.
    #[arg(long)]
    skip_record_metadata: bool,
    /// Keys and values are those of __consumer_offsets.
    #[arg(long)]
    offsets_decoder: bool,
    /// Keys and values are those of __transaction_state.
    #[arg(long)]
    transaction_log_decoder: bool,
    /// Check indexes against their segment instead of showing their entries.
    #[arg(long, visible_alias = "verify-index-only")]
    index_sanity_check: bool,
    /// Stop after so many bytes of a segment.
    #[arg(long)]
    max_bytes: Option<u64>,
}

pub fn run(args: Args) -> Result<()> {
    let mut paths = Vec::new();
    for path in args.paths.iter().chain(&args.files_flag) {
        expand(path, &mut paths).with_context(|| path.display().to_string())?;
    }
    let records = Records {
        data: args.print_data_log || args.offsets_decoder || args.transaction_log_decoder,
        deep: args.deep_iteration,
        metadata: !args.skip_record_metadata,
        decoder: match (args.offsets_decoder, args.transaction_log_decoder) {
            (true, _) => Some(decoders::offsets),
            (_, true) => Some(decoders::transactions),
            _ => None,
        },
        max_bytes: args.max_bytes.unwrap_or(u64::MAX),
    };
    let mut failures = Failures::default();
    for path in &paths {
        let dumped = dump(path, &records, args.index_sanity_check);
        failures.check(dumped.map_err(|error| format!("{}: {error:#}", path.display())));
    }
    failures.finish()
}

/// The files in a directory, by name; anything else as it is.
fn expand(path: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        out.push(path.to_owned());
        return Ok(());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.path().is_file() && kind(&entry.path()).is_some() {
            files.push(entry.path());
        }
    }
    files.sort();
    out.append(&mut files);
    Ok(())
}

enum Kind {
    Segment,
    Index,
    TimeIndex,
    TransactionIndex,
    Snapshot,
    Text,
}

fn kind(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?;
    // Files that wait to be deleted, or were about to be put in place, are what they were before.
    let plain = name.trim_end_matches(".deleted").trim_end_matches(".cleaned").trim_end_matches(".swap");
    match plain.rsplit_once('.').map(|(_, ending)| ending) {
        Some("log") => Some(Kind::Segment),
        Some("index") => Some(Kind::Index),
        Some("timeindex") => Some(Kind::TimeIndex),
        Some("txnindex") => Some(Kind::TransactionIndex),
        Some("snapshot") => Some(Kind::Snapshot),
        Some("metadata" | "properties") => Some(Kind::Text),
        _ if plain.ends_with("checkpoint") => Some(Kind::Text),
        _ => None,
    }
}

fn dump(path: &Path, records: &Records, sanity: bool) -> Result<()> {
    let Some(kind) = kind(path) else {
        anyhow::bail!(
            "not a file of a log: .log, .index, .timeindex, .txnindex, .snapshot or a checkpoint is read"
        );
    };
    println!("Dumping {}", path.display());
    match kind {
        Kind::Segment => segment::dump(path, records),
        Kind::Index => files::index(path, sanity),
        Kind::TimeIndex => files::time_index(path, sanity),
        Kind::TransactionIndex => files::transaction_index(path),
        Kind::Snapshot => files::snapshot(path),
        Kind::Text => files::text(path),
    }
}
