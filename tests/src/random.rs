//! Chance that a seed repeats.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator of its own, so that a seed tells all.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // The generator never leaves 0.
        Self(seed.max(1))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }
}

/// A number from the environment.
pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// `FAULT_SEED`, or one that has not been before.
pub fn seed() -> u64 {
    number("FAULT_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64 | 1)
    })
}
