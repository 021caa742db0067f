//! The judgement on what was found. Pure: the same facts give the same findings.

use super::super::output::bytes;
use super::machine::{Clock, Directory, Machine};

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// Works, and would work better otherwise.
    Advice,
    /// Will fail or lose data sooner or later.
    Change,
}

/// One check.
#[derive(Debug, Clone)]
pub struct Finding {
    pub what: String,
    pub verdict: Verdict,
    pub found: String,
    /// What to change, where something is to be.
    pub remedy: Option<String>,
}

fn good(what: impl Into<String>, found: impl Into<String>) -> Finding {
    Finding { what: what.into(), verdict: Verdict::Good, found: found.into(), remedy: None }
}

fn advice(what: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { what: what.into(), verdict: Verdict::Advice, found: found.into(), remedy: Some(remedy.into()) }
}

fn change(what: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { what: what.into(), verdict: Verdict::Change, found: found.into(), remedy: Some(remedy.into()) }
}

/// Judges all that is known of a machine.
pub fn examine(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![open_files(machine)];
    findings.extend(machine.file_max.filter(|max| *max < 500_000).map(|max| {
        let remedy = "raise it: sysctl -w fs.file-max=1000000, and the same line in /etc/sysctl.d";
        advice("files of the machine", format!("fs.file-max is {max}"), remedy)
    }));
    findings.push(swap(machine));
    findings.extend(dirty(machine));
    findings.extend(sockets(machine));
    findings.push(clock(machine));
    for directory in &machine.directories {
        findings.extend(of_directory(directory));
    }
    findings
}

/// The broker raises the soft limit to the hard one by itself.
fn open_files(machine: &Machine) -> Finding {
    let what = "file handles";
    let Some((soft, hard)) = machine.open_files else { return good(what, "not told") };
    let shown = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    let found = format!("limit {} (at most {})", shown(soft), shown(hard));
    let remedy = "each segment and each connection takes one: set LimitNOFILE=1048576 in the systemd unit, or nofile in /etc/security/limits.conf";
    match hard {
        Some(hard) if hard < 10_000 => change(what, found, remedy),
        Some(hard) if hard < 100_000 => advice(what, found, remedy),
        _ => good(what, found),
    }
}

fn swap(machine: &Machine) -> Finding {
    let what = "swap";
    if machine.swaps.is_empty() {
        return good(what, "none");
    }
    let found = format!("{}, vm.swappiness {}", machine.swaps.join(", "), machine.swappiness.unwrap_or(60));
    match machine.swappiness {
        Some(0..=10) => good(what, found),
        _ => advice(
            what,
            found,
            "a broker that is swapped out stalls its clients: swapoff -a, or sysctl -w vm.swappiness=1",
        ),
    }
}

fn dirty(machine: &Machine) -> Option<Finding> {
    let what = "dirty pages";
    if machine.dirty_bytes.unwrap_or(0) > 0 || machine.dirty_background_bytes.unwrap_or(0) > 0 {
        return Some(good(what, "limited in bytes"));
    }
    let (ratio, background) = (machine.dirty_ratio?, machine.dirty_background_ratio?);
    let found = format!("vm.dirty_ratio {ratio}, vm.dirty_background_ratio {background}");
    if ratio <= background {
        let remedy = "writers stop before the kernel writes in the background: sysctl -w vm.dirty_background_ratio=5 vm.dirty_ratio=60";
        return Some(change(what, found, remedy));
    }
    if background > 10 || ratio < 20 {
        let remedy =
            "write early and stop writers late: sysctl -w vm.dirty_background_ratio=5 vm.dirty_ratio=60";
        return Some(advice(what, found, remedy));
    }
    Some(good(what, found))
}

fn sockets(machine: &Machine) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let (Some(receive), Some(send)) = (machine.rmem_max, machine.wmem_max) {
        let found = format!("net.core.rmem_max {}, net.core.wmem_max {}", bytes(receive), bytes(send));
        findings.push(match receive.min(send) < 2 << 20 {
            true => advice(
                "socket buffers",
                found,
                "for clients far away: sysctl -w net.core.rmem_max=2097152 net.core.wmem_max=2097152",
            ),
            false => good("socket buffers", found),
        });
    }
    if let Some(backlog) = machine.somaxconn {
        let found = format!("net.core.somaxconn {backlog}");
        findings.push(match backlog < 1024 {
            true => advice(
                "connections that wait",
                found,
                "many clients that connect at once are turned away: sysctl -w net.core.somaxconn=1024",
            ),
            false => good("connections that wait", found),
        });
    }
    findings
}

fn clock(machine: &Machine) -> Finding {
    let what = "clock";
    match &machine.clock {
        Clock::Synchronized => good(what, "synchronized"),
        Clock::Kept(daemon) => good(what, format!("kept by {daemon}")),
        Clock::Container => good(what, "the host's; make sure that the host keeps it"),
        Clock::Unknown => advice(
            what,
            "nothing is known that keeps it",
            "retention and timestamps go by it: run chrony or systemd-timesyncd",
        ),
    }
}

fn of_directory(directory: &Directory) -> Vec<Finding> {
    let name = directory.path.display().to_string();
    let what = |part: &str| format!("{name}: {part}");
    let mut findings = Vec::new();
    if !directory.writable {
        let found = if directory.exists { "not writable" } else { "does not exist and cannot be made" };
        let remedy = "give it to the user that runs the broker (chown), or name another in log.dirs";
        findings.push(change(what("access"), found, remedy));
    }
    if let Some(mount) = &directory.mount {
        findings.push(file_system(what("file system"), &mount.kind, &mount.point));
        let has = |option: &str| mount.options.iter().any(|set| set == option);
        findings.push(if has("ro") {
            change(what("mount"), "read-only", format!("mount -o remount,rw {}", mount.point))
        } else if has("noatime") {
            good(what("mount"), "noatime")
        } else {
            advice(
                what("mount"),
                "reads write access times",
                format!("mount -o remount,noatime {}, and noatime in /etc/fstab", mount.point),
            )
        });
    }
    findings.extend(free_space(&name, directory));
    findings
}

fn file_system(what: String, kind: &str, point: &str) -> Finding {
    let found = format!("{kind} at {point}");
    match kind {
        "xfs" | "ext4" => good(what, found),
        "tmpfs" | "ramfs" => change(
            what,
            found,
            "all data is gone after a restart of the machine: use a disk with xfs or ext4",
        ),
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "fuse.sshfs" => change(
            what,
            found,
            "files that are deleted while they are read, and locks, work differently there: use a local disk with xfs or ext4",
        ),
        "overlay" => {
            advice(what, found, "data in a container's own layer is slow and goes with it: mount a volume")
        }
        _ => advice(what, found, "tested on xfs and ext4"),
    }
}

fn free_space(name: &str, directory: &Directory) -> Option<Finding> {
    let (total, usable) = (directory.total_bytes?, directory.usable_bytes?);
    let percent = usable.saturating_mul(100) / total.max(1);
    let (what, found) =
        (format!("{name}: free space"), format!("{} of {} ({percent} %)", bytes(usable), bytes(total)));
    let remedy = "a full disk takes the directory out of service: free some, lower retention, or add a directory to log.dirs";
    Some(match percent {
        0..5 => change(what, found, remedy),
        5..15 => advice(what, found, remedy),
        _ => good(what, found),
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::machine::Mount;
    use super::*;

    fn machine() -> Machine {
        Machine {
            open_files: Some((Some(1024), Some(1_048_576))),
            file_max: Some(9_000_000),
            swappiness: Some(60),
            dirty_ratio: Some(20),
            dirty_background_ratio: Some(10),
            rmem_max: Some(4 << 20),
            wmem_max: Some(4 << 20),
            somaxconn: Some(4096),
            clock: Clock::Synchronized,
            directories: vec![Directory {
                path: PathBuf::from("/data"),
                exists: true,
                writable: true,
                mount: Some(Mount {
                    point: "/data".into(),
                    kind: "xfs".into(),
                    options: vec!["noatime".into()],
                }),
                total_bytes: Some(100 << 30),
                usable_bytes: Some(50 << 30),
            }],
            ..Machine::default()
        }
    }

    fn worst(change: impl FnOnce(&mut Machine)) -> Vec<(Verdict, String)> {
        let mut machine = machine();
        change(&mut machine);
        let bad = examine(&machine).into_iter().filter(|finding| finding.verdict != Verdict::Good);
        bad.map(|finding| {
            assert!(finding.remedy.is_some(), "{finding:?}");
            (finding.verdict, finding.what)
        })
        .collect()
    }

    #[test]
    fn a_machine_that_suits_has_nothing_to_change() {
        assert_eq!(worst(|_| ()), []);
    }

    #[test]
    fn each_fault_is_found_with_what_to_do() {
        use Verdict::{Advice, Change};
        let one = |verdict: Verdict, what: &str| vec![(verdict, what.to_owned())];
        assert_eq!(worst(|m| m.open_files = Some((Some(1024), Some(4096)))), one(Change, "file handles"));
        assert_eq!(worst(|m| m.open_files = Some((Some(1024), Some(65_536)))), one(Advice, "file handles"));
        assert_eq!(worst(|m| m.swaps = vec!["/dev/sda2".into()]), one(Advice, "swap"));
        assert_eq!(worst(|m| m.dirty_ratio = Some(10)), one(Change, "dirty pages"));
        assert_eq!(worst(|m| m.wmem_max = Some(212_992)), one(Advice, "socket buffers"));
        assert_eq!(worst(|m| m.somaxconn = Some(128)), one(Advice, "connections that wait"));
        assert_eq!(worst(|m| m.clock = Clock::Unknown), one(Advice, "clock"));
        assert_eq!(
            worst(|m| m.directories[0].usable_bytes = Some(1 << 30)),
            one(Change, "/data: free space")
        );
        assert_eq!(worst(|m| m.directories[0].writable = false), one(Change, "/data: access"));
        let mount = |kind: &str, option: &str| Mount {
            point: "/data".into(),
            kind: kind.into(),
            options: vec![option.into()],
        };
        let on = |kind, option| worst(move |m| m.directories[0].mount = Some(mount(kind, option)));
        assert_eq!(on("tmpfs", "noatime"), one(Change, "/data: file system"));
        assert_eq!(on("nfs4", "noatime"), one(Change, "/data: file system"));
        assert_eq!(on("btrfs", "noatime"), one(Advice, "/data: file system"));
        assert_eq!(on("ext4", "relatime"), one(Advice, "/data: mount"));
    }
}
