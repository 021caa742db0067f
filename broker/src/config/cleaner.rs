//! Settings of the log cleaner.

use std::time::Duration;

use super::definition::ConfigError;
use super::{Properties, broker_keys};

/// What the log cleaner reads. Sizes are for all threads together.
#[derive(Debug, Clone, PartialEq)]
pub struct CleanerSettings {
    pub enabled: bool,
    /// Logs that are cleaned at the same time.
    pub threads: usize,
    pub backoff: Duration,
    pub dedupe_bytes: u64,
    pub load_factor: f64,
    pub io_bytes: usize,
    pub max_bytes_per_second: f64,
}

impl CleanerSettings {
    /// Reads values that have been validated one by one.
    ///
    /// # Errors
    /// Where a thread would have too little memory to get anywhere.
    pub(super) fn read(properties: &Properties) -> Result<Self, ConfigError> {
        let text = |name: &str| {
            let key = broker_keys::find(name).expect("a key of the table");
            properties.get(name).or(key.default).unwrap_or_default().trim().to_owned()
        };
        let long = |name: &str| text(name).parse::<i64>().expect("validated as a number").max(0) as u64;
        let double = |name: &str| text(name).parse::<f64>().expect("validated as a number");
        let settings = Self {
            enabled: text("log.cleaner.enable").eq_ignore_ascii_case("true"),
            threads: long("log.cleaner.threads").max(1) as usize,
            backoff: Duration::from_millis(long("log.cleaner.backoff.ms").max(1)),
            dedupe_bytes: long("log.cleaner.dedupe.buffer.size"),
            load_factor: double("log.cleaner.io.buffer.load.factor"),
            io_bytes: long("log.cleaner.io.buffer.size") as usize,
            max_bytes_per_second: double("log.cleaner.io.max.bytes.per.second"),
        };
        if settings.dedupe_bytes_by_thread() <= 1 << 20 {
            return Err(ConfigError::Conflict(String::from(
                "log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.",
            )));
        }
        Ok(settings)
    }

    /// Memory for the keys of one log; more than 2 GiB is not used.
    pub fn dedupe_bytes_by_thread(&self) -> u64 {
        (self.dedupe_bytes / self.threads as u64).min(i32::MAX as u64)
    }

    /// Bytes that are read, or written, at once.
    pub fn io_bytes_by_thread(&self) -> usize {
        (self.io_bytes / self.threads / 2).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_the_memory() {
        let mut properties = Properties::default();
        let settings = CleanerSettings::read(&properties).unwrap();
        assert!(settings.enabled && settings.max_bytes_per_second == f64::MAX);
        assert_eq!(
            (settings.dedupe_bytes_by_thread(), settings.io_bytes_by_thread()),
            (128 << 20, 256 << 10)
        );
        properties.set("log.cleaner.threads", "4");
        let settings = CleanerSettings::read(&properties).unwrap();
        assert_eq!((settings.dedupe_bytes_by_thread(), settings.io_bytes_by_thread()), (32 << 20, 64 << 10));
        properties.set("log.cleaner.dedupe.buffer.size", "4194304");
        assert!(
            CleanerSettings::read(&properties).unwrap_err().to_string().contains("1MB per cleaner thread")
        );
    }
}
