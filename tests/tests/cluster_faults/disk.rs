//! A disk of a node's own, in memory, that can be full.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// A mounted disk. It is unmounted when dropped.
pub struct Disk {
    path: PathBuf,
    kib: u64,
}

impl Disk {
    /// Mounts an empty one of so many KiB at `path`, which is made.
    pub fn mount(path: &Path, kib: u64) -> Result<Self> {
        std::fs::create_dir(path)?;
        let at = path.display().to_string();
        output("mount", &["-t", "tmpfs", "-o", &format!("size={kib}k"), "aqueduct-faults", &at])?;
        Ok(Self { path: path.to_owned(), kib })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves no room beyond what is in use.
    pub fn fill(&self) -> Result<()> {
        // What is written meanwhile makes the first attempts too small.
        (0..60)
            .find(|slack| self.resize(self.used().unwrap_or(0) + slack * 16).is_ok())
            .context("a full disk")?;
        Ok(())
    }

    /// Gives all of the room back.
    pub fn free(&self) -> Result<()> {
        self.resize(self.kib)
    }

    fn resize(&self, kib: u64) -> Result<()> {
        let at = self.path.display().to_string();
        output("mount", &["-o", &format!("remount,size={}k", kib.max(1)), &at]).map(drop)
    }

    fn used(&self) -> Result<u64> {
        let text = output("df", &["-k", "--output=used", &self.path.display().to_string()])?;
        text.lines().nth(1).context("df")?.trim().parse().context("df")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = output("umount", &["-l", &self.path.display().to_string()]);
    }
}

fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), wrong.trim());
    Ok(said.into_owned())
}
