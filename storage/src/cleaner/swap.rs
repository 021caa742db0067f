//! How cleaned segments take the place of others: by renaming files, in an order in which a start after a crash at any
//! point finds either all of the old segments or all of the new one.
//!
//! ```text
//! commit   N.log.cleaned -> N.log.swap ...     with the last of them the new segment counts
//! retire   N.log -> N.log.deleted ...          of all segments that it replaces
//! settle   N.log.swap -> N.log ...
//! ```

use std::path::{Path, PathBuf};

use aqueduct_protocol::ids::Offset;

use crate::Error;
use crate::files::{self, CLEANED, LOG, OFFSET_INDEX, SNAPSHOT, SWAP, TIME_INDEX, TXN_INDEX};

const KINDS: [&str; 4] = [LOG, OFFSET_INDEX, TIME_INDEX, TXN_INDEX];

/// One thing to do in the directory of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A file may be missing; there is not always a transaction index.
    Rename { from: PathBuf, to: PathBuf },
    /// What was renamed so far must reach the disk before anything that follows.
    Sync { dir: PathBuf },
}

impl Step {
    pub(crate) fn run(&self) -> Result<(), Error> {
        match self {
            Self::Rename { from, to } => files::rename(from, to).map(|_| ()),
            Self::Sync { dir } => files::sync_dir(dir),
        }
    }
}

/// The steps, in three parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Up to here all can be undone.
    pub(crate) commit: Vec<Step>,
    /// From here on it must go on to the end, now or at the next start.
    pub(crate) retire: Vec<Step>,
    pub(crate) settle: Vec<Step>,
}

impl Plan {
    /// For the segments at `old`, in order, which are replaced by one with the base offset of the first. Their files get
    /// names that end in `retired`, which must end in `.deleted` and be unlike that of files which are still there.
    pub(crate) fn new(dir: &Path, old: &[Offset], retired: &str) -> Self {
        let Some(base) = old.first() else { return Self::default() };
        let of_new = |from: &str, to: &str| KINDS.map(|kind| rename(dir, *base, kind, from, to));
        let sync = || Step::Sync { dir: dir.to_owned() };
        let mut commit = of_new(CLEANED, SWAP).to_vec();
        commit.push(sync());
        let mut retire = Vec::new();
        for at in old {
            retire.extend(KINDS.map(|kind| rename(dir, *at, kind, "", retired)));
            // The state of producers at the base offset is what it was.
            if at != base {
                retire.push(rename(dir, *at, SNAPSHOT, "", retired));
            }
        }
        let mut settle = of_new(SWAP, "").to_vec();
        settle.push(sync());
        Self { commit, retire, settle }
    }

    /// The files that may be removed once nobody reads from the old segments any more.
    pub(crate) fn retired(&self) -> Vec<PathBuf> {
        let renamed = self.retire.iter().filter_map(|step| match step {
            Step::Rename { to, .. } => Some(to.clone()),
            Step::Sync { .. } => None,
        });
        renamed.collect()
    }
}

fn rename(dir: &Path, base: Offset, kind: &str, from: &str, to: &str) -> Step {
    let plain = files::path(dir, base, kind);
    Step::Rename { from: files::with_suffix(&plain, from), to: files::with_suffix(&plain, to) }
}

/// Removes what a cleaning has left that was not committed.
pub(crate) fn clear(dir: &Path) -> Result<(), Error> {
    for name in files::names(dir)? {
        if name.ends_with(CLEANED) || name.ends_with(SWAP) {
            files::remove(&dir.join(name))?;
        }
    }
    Ok(())
}

/// Path of a file of the segment that is being written.
pub(crate) fn cleaned_path(dir: &Path, base: Offset, kind: &str) -> PathBuf {
    files::with_suffix(&files::path(dir, base, kind), CLEANED)
}
