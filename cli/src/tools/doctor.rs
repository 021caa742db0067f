//! `aqueduct doctor`: whether this machine suits a broker, and what to change where it does not.

mod checks;
mod machine;

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use self::checks::{Finding, Verdict, examine};
use self::machine::Machine;
use super::output::print_json;
use crate::options::BadConfig;

#[derive(clap::Args)]
pub struct Args {
    /// A broker's server.properties, for its data directories.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A data directory; may be repeated.
    #[arg(long, value_name = "DIR")]
    data_dir: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Looks at the machine; an error where something must change.
pub fn run(args: Args) -> Result<()> {
    let mut dirs = args.data_dir;
    if let Some(path) = &args.config {
        let options =
            aqueduct_broker::Options::load(path, []).map_err(|error| BadConfig(error.to_string()))?;
        let get = |key| options.properties.get(key).unwrap_or_default();
        let of_file = if get("log.dirs").is_empty() { get("log.dir") } else { get("log.dirs") };
        dirs.extend(of_file.split(',').map(str::trim).filter(|dir| !dir.is_empty()).map(PathBuf::from));
    }
    let findings = examine(&Machine::look(&dirs));
    match args.json {
        true => print_json(&json!(findings.iter().map(object).collect::<Vec<_>>()))?,
        false => findings.iter().for_each(show),
    }
    if dirs.is_empty() && !args.json {
        println!("note    no data directory was looked at: name one with --data-dir, or a broker's --config");
    }
    let bad = findings.iter().filter(|finding| finding.verdict == Verdict::Change).count();
    anyhow::ensure!(bad == 0, "{bad} of the checks ask for a change, see above");
    Ok(())
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "ok",
        Verdict::Advice => "advice",
        Verdict::Change => "CHANGE",
    }
}

fn show(finding: &Finding) {
    println!("{:<7} {}: {}", word(finding.verdict), finding.what, finding.found);
    if let Some(remedy) = &finding.remedy {
        println!("        {remedy}");
    }
}

fn object(finding: &Finding) -> serde_json::Value {
    json!({
        "check": finding.what,
        "verdict": word(finding.verdict).to_lowercase(),
        "found": finding.found,
        "remedy": finding.remedy,
    })
}
