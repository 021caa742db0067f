//! What of the files would be there after a loss of power.
//!
//! Nodes write to real files, in memory. For each it is known how much of it was made durable; the rest is lost, wholly or
//! in part, or spoiled, when a node loses its power.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd as _, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::random::Random;

/// By number of the file: how many of its bytes are durable.
static DURABLE: Mutex<BTreeMap<u64, u64>> = Mutex::new(BTreeMap::new());

/// All of a file is durable now.
pub fn synced(file: RawFd) {
    if let Some((number, length)) = look_at(file) {
        DURABLE.lock().insert(number, length);
    }
}

/// A file has become shorter, or longer by zeros.
pub fn cut(file: RawFd, length: u64) {
    if let Some((number, _)) = look_at(file)
        && let Some(durable) = DURABLE.lock().get_mut(&number)
    {
        *durable = length.min(*durable);
    }
}

#[allow(unsafe_code, reason = "a file is looked at by its descriptor")]
fn look_at(file: RawFd) -> Option<(u64, u64)> {
    // SAFETY: the caller's descriptor is open during its call, and is not closed here.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(file) });
    let found = file.metadata().ok()?;
    Some((found.ino(), found.len()))
}

/// What a loss of power left and took.
#[derive(Debug, Default)]
pub struct Loss {
    pub files: u64,
    pub bytes: u64,
    pub spoiled: u64,
}

/// Puts a copy in the place of a directory, so that who still holds the old files does not matter any more. With `chance`
/// the copy is what would be left after a loss of power.
pub fn reincarnate(dir: &Path, grave: &Path, mut chance: Option<&mut Random>) -> io::Result<Loss> {
    let fresh = dir.with_extension("fresh");
    let mut loss = Loss::default();
    copy(dir, &fresh, &mut chance, &mut loss)?;
    let _ = fs::remove_dir_all(grave);
    fs::rename(dir, grave)?;
    fs::rename(&fresh, dir)?;
    Ok(loss)
}

fn copy(from: &Path, to: &Path, chance: &mut Option<&mut Random>, loss: &mut Loss) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let mut entries: Vec<PathBuf> =
        fs::read_dir(from)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    entries.sort_unstable();
    for path in entries {
        let target = to.join(path.file_name().unwrap_or_default());
        let found = fs::metadata(&path)?;
        if found.is_dir() {
            copy(&path, &target, chance, loss)?;
            continue;
        }
        let mut content = fs::read(&path)?;
        let known = DURABLE.lock().remove(&found.ino()).unwrap_or(0);
        let mut durable = known.min(content.len() as u64);
        if let Some(chance) = chance {
            let is_log = path.extension().is_some_and(|kind| kind == "log");
            spoil(&mut content, durable as usize, is_log, chance, loss);
            durable = content.len() as u64;
        }
        fs::write(&target, &content)?;
        DURABLE.lock().insert(fs::metadata(&target)?.ino(), durable);
    }
    Ok(())
}

/// Takes away, or spoils, what of a file was not durable.
fn spoil(content: &mut Vec<u8>, durable: usize, is_log: bool, chance: &mut Random, loss: &mut Loss) {
    let length = content.len();
    if durable == length {
        return;
    }
    let kept = chance.within(durable as u64, length as u64) as usize;
    let is_all_gone = chance.chance(30);
    let kept = if is_all_gone { durable } else { kept };
    (loss.files, loss.bytes) = (loss.files + 1, loss.bytes + (length - kept) as u64);
    match chance.below(4) {
        // The file had grown, its content had not come to the disk.
        0 => content[kept..].fill(0),
        1 if kept < length => {
            let at = chance.within(kept as u64, length as u64 - 1) as usize;
            if !(is_log && is_unguarded(content, at)) {
                content[at] ^= 1 << chance.below(8);
                loss.spoiled += 1;
            }
        }
        _ => content.truncate(kept),
    }
}

/// Whether a byte of a log is one that no checksum covers: of a batch's base offset or leader epoch.
fn is_unguarded(log: &[u8], at: usize) -> bool {
    let mut start = 0;
    while let Some(length) = log.get(start + 8..start + 12) {
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if at < start + 12 + length {
            return (0..8).contains(&(at - start)) || (12..16).contains(&(at - start));
        }
        start += 12 + length;
    }
    false
}

/// Everything in a directory is durable.
pub fn settle(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let (path, found) = {
            let entry = entry?;
            (entry.path(), entry.metadata()?)
        };
        if found.is_dir() {
            settle(&path)?;
        } else {
            DURABLE.lock().insert(found.ino(), found.len());
        }
    }
    Ok(())
}
