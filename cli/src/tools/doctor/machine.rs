//! What the machine says of itself.

use std::path::{Path, PathBuf};

/// Facts about this machine; `None` where it does not tell.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Soft and hard limit of open files of this process; `None` inside stands for no limit.
    pub open_files: Option<(Option<u64>, Option<u64>)>,
    /// Files that the whole machine may have open.
    pub file_max: Option<u64>,
    /// Swap devices in use.
    pub swaps: Vec<String>,
    pub swappiness: Option<u64>,
    pub dirty_ratio: Option<u64>,
    pub dirty_background_ratio: Option<u64>,
    /// Not 0 where bytes count instead of the ratios.
    pub dirty_bytes: Option<u64>,
    pub dirty_background_bytes: Option<u64>,
    pub rmem_max: Option<u64>,
    pub wmem_max: Option<u64>,
    pub somaxconn: Option<u64>,
    pub clock: Clock,
    pub directories: Vec<Directory>,
}

/// Who keeps the clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Clock {
    /// Known to be in step.
    Synchronized,
    /// This daemon runs.
    Kept(String),
    /// This is a container, whose clock is its host's.
    Container,
    #[default]
    Unknown,
}

/// A data directory.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    pub path: PathBuf,
    pub exists: bool,
    pub writable: bool,
    pub mount: Option<Mount>,
    pub total_bytes: Option<u64>,
    pub usable_bytes: Option<u64>,
}

/// What it is mounted on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    pub point: String,
    pub kind: String,
    pub options: Vec<String>,
}

impl Machine {
    /// Looks at this machine and these directories.
    pub fn look(directories: &[PathBuf]) -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self {
            open_files: Some((limit.current, limit.maximum)),
            file_max: number("/proc/sys/fs/file-max"),
            swaps: swaps(&std::fs::read_to_string("/proc/swaps").unwrap_or_default()),
            swappiness: number("/proc/sys/vm/swappiness"),
            dirty_ratio: number("/proc/sys/vm/dirty_ratio"),
            dirty_background_ratio: number("/proc/sys/vm/dirty_background_ratio"),
            dirty_bytes: number("/proc/sys/vm/dirty_bytes"),
            dirty_background_bytes: number("/proc/sys/vm/dirty_background_bytes"),
            rmem_max: number("/proc/sys/net/core/rmem_max"),
            wmem_max: number("/proc/sys/net/core/wmem_max"),
            somaxconn: number("/proc/sys/net/core/somaxconn"),
            clock: clock(),
            directories: directories.iter().map(|path| directory(path, &mounts)).collect(),
        }
    }
}

fn number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn swaps(text: &str) -> Vec<String> {
    text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn clock() -> Clock {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Clock::Synchronized;
    }
    const DAEMONS: [&str; 6] = ["chronyd", "ntpd", "ntpd.real", "openntpd", "systemd-timesyn", "ptp4l"];
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Ok(name) = std::fs::read_to_string(entry.path().join("comm"))
            && DAEMONS.contains(&name.trim())
        {
            return Clock::Kept(name.trim().to_owned());
        }
    }
    let contained = Path::new("/.dockerenv").exists()
        || Path::new("/run/.containerenv").exists()
        || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    if contained { Clock::Container } else { Clock::Unknown }
}

fn directory(path: &Path, mounts: &str) -> Directory {
    // A directory that the broker will make lies where the nearest one above it does.
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let space = rustix::fs::statvfs(there).ok();
    let bytes = |blocks: u64, unit: u64| blocks.saturating_mul(unit);
    Directory {
        path: path.to_owned(),
        exists: path.is_dir(),
        writable: rustix::fs::access(there, rustix::fs::Access::WRITE_OK).is_ok(),
        mount: there.canonicalize().ok().and_then(|real| mount_of(&real, mounts)),
        total_bytes: space.as_ref().map(|space| bytes(space.f_blocks, space.f_frsize)),
        usable_bytes: space.as_ref().map(|space| bytes(space.f_bavail, space.f_frsize)),
    }
}

/// The mount that holds a path, out of the text of `mountinfo`: the deepest one, the last of several at one place.
fn mount_of(path: &Path, mounts: &str) -> Option<Mount> {
    let parse = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let before: Vec<&str> = before.split(' ').collect();
        let point = before.get(4)?.replace("\\040", " ");
        let options = before.get(5)?.split(',').map(str::to_owned).collect();
        let kind = after.split(' ').next()?.to_owned();
        Some(Mount { point, kind, options })
    };
    let holding = mounts.lines().filter_map(parse).filter(|mount| path.starts_with(&mount.point));
    holding.max_by_key(|mount| Path::new(&mount.point).components().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_holds_a_path() {
        let text = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                    30 22 8:17 / /data rw,noatime shared:2 - xfs /dev/sdb1 rw,attr2\n\
                    31 22 8:18 / /data\\0402 rw shared:3 - tmpfs tmpfs rw\n";
        let mount = mount_of(Path::new("/data/kafka"), text).unwrap();
        assert_eq!((mount.kind.as_str(), mount.options.contains(&"noatime".to_owned())), ("xfs", true));
        assert_eq!(mount_of(Path::new("/data 2/x"), text).unwrap().kind, "tmpfs");
        assert_eq!(mount_of(Path::new("/other"), text).unwrap().point, "/");
        assert_eq!(swaps("Filename Type Size\n/dev/sda2 partition 1\n"), ["/dev/sda2"]);
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let machine = Machine::look(&[std::env::temp_dir().join("not-there-yet")]);
        assert!(machine.open_files.is_some());
        assert!(machine.directories[0].total_bytes.is_some_and(|total| total > 0));
    }
}
