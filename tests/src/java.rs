//! Programs of ours in Java, for what only Java clients show: `tests/java/programs`.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};

use crate::install::workspace;
use crate::kafka::lib;

/// The folder of the compiled programs, brought up to date with their sources.
pub fn classes() -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let source = workspace().join("tests/java/programs");
    let mut files: Vec<PathBuf> = fs::read_dir(&source)?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let text = files.iter().map(fs::read_to_string).collect::<std::io::Result<String>>()?;
    // Beside the running program, one folder a program: two test programs must not write the same classes at once.
    let classes = std::env::current_exe()?.with_extension("classes");
    let mark = classes.join("sources");
    if fs::read_to_string(&mark).is_ok_and(|found| found == text) {
        return Ok(classes);
    }
    fs::create_dir_all(&classes)?;
    let mut command = Command::new("javac");
    command.args(["-proc:none", "-cp"]).arg(lib()?.join("*")).arg("-d").arg(&classes).args(files);
    let output = command.stdin(Stdio::null()).output().context("javac")?;
    if !output.status.success() {
        bail!("javac: {}", String::from_utf8_lossy(&output.stderr));
    }
    fs::write(mark, text)?;
    Ok(classes)
}

/// One of the programs with at most `heap` of memory.
pub fn program(heap: &str, class: &str) -> Result<Command> {
    let mut command = Command::new("java");
    command.arg(format!("-Xmx{heap}"));
    command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"]);
    let path = format!("{}:{}", classes()?.display(), lib()?.join("*").display());
    command.arg("-cp").arg(path).arg(class);
    Ok(command)
}
