//! What the fuzz targets share.

use std::path::PathBuf;

/// Writes inputs for the fuzzer to start from into the folder that `AQUEDUCT_FUZZ_SEEDS` names, if it is set.
pub struct Seeds {
    dir: Option<PathBuf>,
    count: usize,
}

impl Seeds {
    #[expect(clippy::new_without_default, reason = "it reads the environment")]
    pub fn new() -> Self {
        Self { dir: std::env::var_os("AQUEDUCT_FUZZ_SEEDS").map(PathBuf::from), count: 0 }
    }

    /// Adds one input.
    pub fn put(&mut self, input: &[u8]) {
        if let Some(dir) = &self.dir {
            std::fs::create_dir_all(dir).expect("the folder of the seeds can be made");
            std::fs::write(dir.join(format!("seed-{}", self.count)), input).expect("a seed can be written");
            self.count += 1;
        }
    }
}

/// Takes a part of `data` off its front: its length are the first two bytes.
pub fn part<'a>(data: &mut &'a [u8]) -> &'a [u8] {
    let [high, low, rest @ ..] = *data else { return std::mem::take(data) };
    let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
    let (part, rest) = rest.split_at(length);
    *data = rest;
    part
}

/// The reverse of [`part`] for several parts.
pub fn join(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.extend((part.len() as u16).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}
