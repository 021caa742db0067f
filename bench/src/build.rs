//! How long the project takes to build.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use aqueduct_tests::install::{self, workspace};
use tempfile::TempDir;

use crate::report::{OURS, Report};

/// A release build from nothing, then edits in a connector until its tests have run.
pub fn run() -> Result<()> {
    let mut report = Report::new("build");
    let target = TempDir::with_prefix("bench-build-")?;
    let cargo = |args: &[&str]| -> Result<f64> {
        let from = Instant::now();
        // No compiler cache and no warm target directory: as on a new machine.
        install::run(
            Command::new("cargo")
                .args(args)
                .current_dir(workspace())
                .env("CARGO_TARGET_DIR", target.path())
                .env_remove("RUSTC_WRAPPER"),
        )?;
        Ok(from.elapsed().as_secs_f64())
    };
    report.add(
        "release build from nothing",
        "seconds",
        OURS,
        cargo(&["build", "--release", "--quiet", "--package", "aqueduct-cli"])?,
    );
    for name in ["file", "jdbc", "mysql", "elasticsearch"] {
        let package = format!("aqueduct-connector-{name}");
        let tests = ["test", "--quiet", "--package", &package, "--lib"];
        cargo(&tests)?;
        let source = workspace().join(format!("connectors/{name}/src/lib.rs"));
        for _ in 0..3 {
            // Written again as it is: the build sees an edit, the tree does not.
            fs::write(&source, fs::read(&source)?)?;
            report.add(&format!("edit in connectors/{name} to tests run"), "seconds", OURS, cargo(&tests)?);
        }
    }
    report.finish()
}
