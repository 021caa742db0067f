//! Who gets in by one listener: how it is secured, how many it may hold, and how fast they may come.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use std::sync::Arc;

use super::Limits;
use super::limits::Place;
use crate::config::{ConfigError, Listener, Reconfigurable, Settings};
use crate::security::{ListenerSecurity, ListenerSettings};

/// Bytes of large requests before authentication.
const STRANGERS: usize = 16 << 20;

/// One listener's way in.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub security: ListenerSecurity,
    /// `max.connections` of the listener.
    own: Arc<Limits>,
    /// `max.connection.creation.rate` of the listener.
    pace: Mutex<Pace>,
    /// Memory of those that have not said yet who they are: they must not take that of clients.
    pub strangers: Limits,
    /// Other brokers come in by it, so that clients of other listeners must not fill the broker up.
    is_reserved: bool,
}

/// The places that a connection takes.
#[derive(Debug)]
pub(crate) struct Places {
    _all: Place,
    _own: Place,
}

impl Entrance {
    /// Reads what the listener needs, its files included: blocks.
    pub fn read(listener: Listener, settings: &Settings) -> Result<Self, ConfigError> {
        let listeners = &settings.listeners;
        let is_reserved = listeners.bound.len() > 1 && listener.name == listeners.inter_broker;
        let (most, rate) = own_limits(&listener, settings);
        Ok(Self {
            security: ListenerSecurity::read(listener, settings)?,
            own: Arc::new(Limits::new(most, usize::MAX, 0)),
            pace: Mutex::new(Pace::new(rate, Instant::now())),
            strangers: Limits::new(0, 0, STRANGERS),
            is_reserved,
        })
    }

    /// Takes over changed settings. Blocks.
    pub fn refresh(&self, settings: &Settings) {
        let (most, rate) = own_limits(&self.security.listener, settings);
        self.own.set(most, usize::MAX);
        self.pace.lock().set(rate);
        self.security.refresh(settings);
    }

    /// Waits until there may be one more connection, then for it, and takes its places; `None` where its address has as
    /// many as it may have.
    pub async fn wait<T, E>(
        &self,
        all: &Arc<Limits>,
        accept: impl Future<Output = Result<(T, std::net::SocketAddr), E>>,
    ) -> Result<(T, std::net::SocketAddr, Option<Places>), E> {
        let own = self.own.free().await;
        let total = if self.is_reserved { None } else { Some(all.free().await) };
        let (stream, address) = accept.await?;
        let ip = address.ip().to_canonical();
        let (first, second) = {
            let now = Instant::now();
            (all.pace(now), self.pace.lock().take(now))
        };
        // Those that come later wait in the backlog.
        tokio::time::sleep(first.max(second)).await;
        let places = all.admit(ip, total).zip(self.own.admit(ip, Some(own)));
        Ok((stream, address, places.map(|(all, own)| Places { _all: all, _own: own })))
    }
}

impl Reconfigurable for Entrance {
    fn validate(&self, next: &Settings) -> Result<(), ConfigError> {
        self.security.validate(next)
    }
}

/// What is set for this listener alone: most connections, and most new ones a second.
fn own_limits(listener: &Listener, settings: &Settings) -> (usize, u32) {
    let view = ListenerSettings::new(settings, listener);
    let own = |key: &str| view.find_own(key).and_then(|value| value.trim().parse::<u32>().ok());
    let most = own("max.connections").map_or(usize::MAX, |most| most as usize);
    (most, own("max.connection.creation.rate").unwrap_or(UNLIMITED))
}

/// Kafka's default of `max.connection.creation.rate`.
pub(crate) const UNLIMITED: u32 = i32::MAX as u32;

/// So many a second, and no more than a second's worth at once: pure.
#[derive(Debug)]
pub(super) struct Pace {
    rate: u32,
    /// May be below 0: those who are waiting have had theirs.
    left: f64,
    at: Instant,
}

impl Pace {
    pub fn new(rate: u32, now: Instant) -> Self {
        Self { rate, left: f64::from(rate), at: now }
    }

    pub fn set(&mut self, rate: u32) {
        if rate != self.rate {
            (self.rate, self.left) = (rate, f64::from(rate));
        }
    }

    /// How long the next one has to wait.
    pub fn take(&mut self, now: Instant) -> Duration {
        if self.rate >= UNLIMITED {
            return Duration::ZERO;
        }
        let rate = f64::from(self.rate).max(f64::MIN_POSITIVE);
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * rate;
        (self.left, self.at) = ((self.left + gained).min(rate.max(1.0)) - 1.0, now);
        // A rate of 0 lets nobody in until it is changed, which is looked for now and then.
        Duration::from_secs_f64((-self.left / rate).clamp(0.0, 10.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_kept_after_a_burst() {
        let start = Instant::now();
        let mut pace = Pace::new(10, start);
        for _ in 0..10 {
            assert_eq!(pace.take(start), Duration::ZERO);
        }
        assert_eq!(pace.take(start), Duration::from_millis(100));
        assert_eq!(pace.take(start + Duration::from_millis(100)), Duration::from_millis(100));
        assert_eq!(pace.take(start + Duration::from_secs(60)), Duration::ZERO);
        pace.set(UNLIMITED);
        assert_eq!(pace.take(start), Duration::ZERO);
        pace.set(0);
        assert!(pace.take(start) > Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_reserved_entrance_is_open_when_the_broker_is_full() {
        let entrance = |listener: &str| {
            let mut file = crate::config::Properties::default();
            file.set("node.id", "1").set("listeners", "PLAINTEXT://127.0.0.1:1,OUT://127.0.0.1:2");
            file.set("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,OUT:PLAINTEXT");
            file.set("listener.name.plaintext.max.connections", "1");
            let settings = Settings::read(file).unwrap();
            let found = settings.listeners.bound.iter().find(|found| found.name == listener).unwrap();
            Entrance::read(found.clone(), &settings).unwrap()
        };
        let all = Arc::new(Limits::new(0, 10, 0));
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
        let come = || async move { Ok::<_, std::io::Error>(((), address)) };
        let soon = Duration::from_millis(20);
        let (inside, outside) = (entrance("PLAINTEXT"), entrance("OUT"));
        assert!(tokio::time::timeout(soon, outside.wait(&all, come())).await.is_err());
        let (_, _, places) = inside.wait(&all, come()).await.unwrap();
        assert!(places.is_some());
        assert!(tokio::time::timeout(soon, inside.wait(&all, come())).await.is_err(), "its own limit is 1");
        drop(places);
        assert!(tokio::time::timeout(soon, inside.wait(&all, come())).await.is_ok());
    }
}
