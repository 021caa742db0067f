//! Clocks that step: a node's time of day is moved, its steady clocks are not. No namespace has a time of day of its own, so a
//! small library (`clock.c`) is preloaded into the node, which is otherwise the program as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Builds the library.
pub fn build(dir: &Path) -> Result<PathBuf> {
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    fs::write(&source, include_str!("clock.c"))?;
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let output = command.output().context("cc")?;
    ensure!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
    Ok(library)
}

/// The clock of one node.
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// A clock that is right, with its file in `folder`.
    pub fn new(library: &Path, folder: &Path) -> Result<Self> {
        let clock = Self { library: library.to_owned(), file: folder.join("clock") };
        clock.step(0)?;
        Ok(clock)
    }

    /// Has a program go by it.
    pub fn apply(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("CLOCK_OFFSET_FILE", &self.file);
    }

    /// Sets it so far from the machine's, in milliseconds, for programs that run already, too.
    pub fn step(&self, millis: i64) -> Result<()> {
        // In place: the file is mapped.
        let file = fs::File::options().write(true).create(true).truncate(false).open(&self.file)?;
        std::os::unix::fs::FileExt::write_all_at(&file, &millis.to_ne_bytes(), 0)?;
        Ok(())
    }
}
