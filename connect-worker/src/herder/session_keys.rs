//! The key that internal requests are signed with: made, replaced when it is too old, and used.

use std::time::Duration;

use bytes::Bytes;

use super::driver::Driver;
use super::handle::Shared;
use crate::config::{Mode, WorkerConfig};
use crate::config_state::{ConfigRecord, ConfigState, SessionKey};
use crate::error::{Error, Result};
use crate::internal::{Algorithm, Signature};
use crate::membership::Protocol;

/// How keys are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeyRules<'a> {
    algorithm: &'a str,
    /// Bytes.
    length: usize,
    /// Milliseconds.
    ttl: i64,
}

impl<'a> KeyRules<'a> {
    fn read(config: &'a WorkerConfig) -> Self {
        let algorithm = config.text("inter.worker.key.generation.algorithm");
        let bits =
            config.optional_number("inter.worker.key.size").and_then(|bits| usize::try_from(bits).ok());
        let usual = Algorithm::from_name(algorithm).map_or(32, Algorithm::key_length);
        let length = bits.map_or(usual, |bits| bits.div_ceil(8));
        Self { algorithm, length, ttl: config.number("inter.worker.key.ttl.ms") }
    }

    /// Whether `key` can stay at `now` (milliseconds since 1970).
    fn allow(&self, key: &SessionKey, now: i64) -> bool {
        key.algorithm == self.algorithm && key.key.len() == self.length && now - key.created < self.ttl
    }
}

/// How often the leader looks whether the key is too old.
pub(super) fn check_interval(config: &WorkerConfig) -> Duration {
    const MOST: Duration = Duration::from_secs(60);
    if config.mode() == Mode::Standalone {
        return MOST;
    }
    (config.millis("inter.worker.key.ttl.ms") / 4).clamp(Duration::from_millis(100), MOST)
}

impl Driver {
    /// Writes a new session key where there is none or it is too old; the leader's business.
    pub(super) async fn renew_session_key(&mut self) {
        let config = &self.shared.environment.config;
        let leads = self.shared.leadership.lock().leads;
        if config.mode() == Mode::Standalone || !leads || config.protocol() != Protocol::Sessioned {
            return;
        }
        let (now, rules) = (crate::clock::now_millis(), KeyRules::read(config));
        if self.shared.config.read(|state| state.session_key().is_some_and(|key| rules.allow(key, now))) {
            return;
        }
        let mut key = Vec::with_capacity(rules.length);
        key.resize_with(rules.length, rand::random::<u8>);
        let key = SessionKey { key, algorithm: rules.algorithm.to_owned(), created: now };
        match self.shared.config.write(&[ConfigRecord::SessionKey(key)]).await {
            Ok(()) => tracing::info!("distributed a new session key"),
            Err(error) => tracing::warn!(%error, "writing a session key failed"),
        }
    }
}

impl Shared {
    /// Signs what is sent to another worker; `None` where the group's protocol does not.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the group has no key yet.
    pub fn sign(&self, body: &Bytes) -> Result<Option<Signature>> {
        if !self.leadership.lock().signs() {
            return Ok(None);
        }
        let algorithm = self.environment.config.text("inter.worker.signature.algorithm");
        let key = self.config.read(|state| state.session_key().cloned());
        let key = key.ok_or_else(|| Error::Unavailable("the group has no session key yet".to_owned()))?;
        Signature::sign(&key, algorithm, body).map(Some)
    }

    /// Checks what another worker has sent.
    ///
    /// # Errors
    /// As for [`Signature::check`].
    pub fn check_signature(&self, signature: Option<&Signature>, body: &[u8]) -> Result<()> {
        if !self.leadership.lock().signs() {
            return Ok(());
        }
        let config = &self.environment.config;
        let allowed = config.list("inter.worker.verification.algorithms");
        let key = self.config.read(|state: &ConfigState| state.session_key().cloned());
        Signature::check(signature, body, key.as_ref(), allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_replaced_when_they_are_too_old_or_of_another_kind() {
        let rules = KeyRules { algorithm: "HmacSHA256", length: 32, ttl: 1000 };
        let key = |algorithm: &str, length, created| SessionKey {
            key: vec![0; length],
            algorithm: algorithm.to_owned(),
            created,
        };
        assert!(rules.allow(&key("HmacSHA256", 32, 0), 999));
        assert!(!rules.allow(&key("HmacSHA256", 32, 0), 1000));
        assert!(!rules.allow(&key("HmacSHA512", 32, 0), 1));
        assert!(!rules.allow(&key("HmacSHA256", 16, 0), 1));
    }
}
