//! `cargo xtask protocol`: Kafka's message schemas to facts files, facts files to Rust.
//!
//! ```text
//! kafka-clients.jar --[source]--> protocol/schema/*.facts --[emit]--> protocol/src/generated/*.rs
//! ```
//!
//! The facts files hold names, types, versions, nullability, tags and defaults only, and are in the tree, so that the
//! second step needs nothing but the tree. `--check` runs it and compares.

mod emit;
mod facts;
mod model;
mod source;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use aqueduct_tests::install::{home, workspace};

use model::Message;

/// What to regenerate, and from what.
#[derive(clap::Args)]
pub struct Args {
    /// Read the schemas from these jars (kafka-clients first, then the coordinators) instead of the newest release.
    #[arg(long, value_name = "PATH")]
    jar: Vec<PathBuf>,
    /// Leave the facts as they are and only write the Rust files.
    #[arg(long, conflicts_with = "jar")]
    from_facts: bool,
    /// Write nothing; fail when the Rust files are not what the facts give.
    #[arg(long, conflicts_with_all = ["jar", "from_facts"])]
    check: bool,
    /// Only bring the jars of the release that the facts are of, which the tests compare with.
    #[arg(long, conflicts_with_all = ["jar", "from_facts", "check"])]
    jars: bool,
}

/// Runs the task.
pub fn run(args: Args) -> Result<()> {
    if args.jars {
        return bring_jars();
    }
    if args.check {
        return verify();
    }
    let schema = schema_dir();
    if !args.from_facts {
        let jars = if args.jar.is_empty() { source::bring_jars(&jar_dir(), None)? } else { args.jar };
        write_facts(&schema, &source::read_jars(&jars)?)?;
    }
    replace_dir(&generated_dir(), &rust_files(&read_facts(&schema)?)?)
}

/// Fails when the Rust files are not what the facts give.
pub fn verify() -> Result<()> {
    check(&generated_dir(), &rust_files(&read_facts(&schema_dir())?)?)
}

/// Brings the jars that the tests of `protocol/` compare with, unless they are there already.
pub fn bring_jars() -> Result<()> {
    let release = fs::read_to_string(schema_dir().join("RELEASE"))?;
    let (dir, release) = (jar_dir(), release.trim());
    let there = |artifact: &str| dir.join(format!("{artifact}-{release}.jar")).is_file();
    if !source::ARTIFACTS.into_iter().all(there) {
        println!("setup: installing {}", dir.display());
        source::bring_jars(&dir, Some(release))?;
    }
    Ok(())
}

fn schema_dir() -> PathBuf {
    workspace().join("protocol/schema")
}

fn generated_dir() -> PathBuf {
    workspace().join("protocol/src/generated")
}

fn jar_dir() -> PathBuf {
    home().join("kafka-schemas")
}

fn write_facts(dir: &Path, source: &source::Source) -> Result<()> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    files.insert("RELEASE".to_owned(), format!("{}\n", source.release));
    for message in &source.messages {
        files.insert(format!("{}.facts", message.name), facts::print(message));
    }
    replace_dir(dir, &files)
}

fn read_facts(dir: &Path) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "facts") {
            let text = fs::read_to_string(&path)?;
            messages.push(facts::parse(&text).with_context(|| path.display().to_string())?);
        }
    }
    messages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(messages)
}

fn rust_files(messages: &[Message]) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    files.insert("mod.rs".to_owned(), rustfmt(&emit::root(messages))?);
    for message in messages {
        let text = emit::message(message).with_context(|| message.name.clone())?;
        files.insert(format!("{}.rs", emit::snake(&message.name)), rustfmt(&text)?);
    }
    Ok(files)
}

/// Formats without the module files that `mod.rs` names, which may not exist yet.
fn rustfmt(text: &str) -> Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--emit", "stdout", "--quiet"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start rustfmt; install it with `rustup component add rustfmt`")?;
    child.stdin.take().context("stdin is piped")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "rustfmt refused generated code:\n{text}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Writes `files` and removes what else lies in `dir`; untouched files keep their time stamps.
fn replace_dir(dir: &Path, files: &BTreeMap<String, String>) -> Result<()> {
    fs::create_dir_all(dir)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !files.contains_key(&*entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path())?;
        }
    }
    for (name, text) in files {
        let path = dir.join(name);
        if fs::read_to_string(&path).ok().as_ref() != Some(text) {
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    println!("{}: {} files", dir.display(), files.len());
    Ok(())
}

fn check(dir: &Path, files: &BTreeMap<String, String>) -> Result<()> {
    let mut stale = Vec::new();
    for (name, text) in files {
        if fs::read_to_string(dir.join(name)).ok().as_ref() != Some(text) {
            stale.push(name.clone());
        }
    }
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !files.contains_key(&name) {
            stale.push(name);
        }
    }
    if !stale.is_empty() {
        bail!(
            "{} is not current: {}; run `cargo xtask protocol --from-facts`",
            dir.display(),
            stale.join(", ")
        );
    }
    Ok(())
}
