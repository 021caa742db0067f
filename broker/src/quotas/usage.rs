//! Charges clients for what they use, and says how long they are to pause. Decisions are the meters'; here are the
//! clock and the locks.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytestring::ByteString;
use parking_lot::Mutex;

use super::bucket::Bucket;
use super::rate::{Rate, Windows};
use super::tracker::Tracker;
use super::{Applied, QuotaKey, QuotaSet};

/// The client that is charged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'a> {
    pub user: &'a ByteString,
    pub client_id: &'a ByteString,
}

/// Whom a limit is for: empty where it is for all together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Tags {
    pub user: ByteString,
    pub client_id: ByteString,
}

/// A measurement of a client, and how long it was told to pause so far.
#[derive(Debug, Default)]
pub(super) struct Meter<M> {
    pub meter: M,
    pub throttled_ms: u64,
}

pub(super) type Clients<M> = Mutex<Tracker<Tags, Meter<M>>>;

/// The client changes the metadata faster than its quota allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The throttling quota has been exceeded.")]
pub struct QuotaExceeded;

/// What all clients have used. Nothing is kept of those without a quota.
#[derive(Debug)]
pub(crate) struct Usage {
    pub(super) windows: Windows,
    mutation_windows: Windows,
    began: Instant,
    /// Of consumers' bytes, producers' bytes and requests' time.
    pub(super) rates: [(QuotaKey, Clients<Rate>); 3],
    pub(super) mutations: Clients<Bucket>,
    addresses: Mutex<Tracker<IpAddr, Rate>>,
}

impl Usage {
    pub fn new(windows: Windows, mutation_windows: Windows) -> Arc<Self> {
        let rates = [QuotaKey::ConsumerByteRate, QuotaKey::ProducerByteRate, QuotaKey::RequestPercentage];
        Arc::new(Self {
            windows,
            mutation_windows,
            began: Instant::now(),
            rates: rates.map(|key| (key, Clients::default())),
            mutations: Clients::default(),
            addresses: Mutex::default(),
        })
    }

    /// Milliseconds since the start: a clock that does not go back.
    pub(super) fn now_ms(&self) -> i64 {
        self.began.elapsed().as_millis() as i64
    }

    /// Counts `amount`, and gives the milliseconds that the client is to pause.
    pub fn charge(&self, quotas: &QuotaSet, key: QuotaKey, who: Who<'_>, amount: f64) -> u32 {
        let Some(applied) = quotas.of_client(key, who.user, who.client_id) else { return 0 };
        let Some((_, clients)) = self.rates.iter().find(|(kind, _)| *kind == key) else { return 0 };
        let now_ms = self.now_ms();
        let mut clients = clients.lock();
        let tags = tags(applied, who);
        let client = clients.get(now_ms, &tags, || tags.owned());
        client.meter.record(now_ms, amount, self.windows);
        let mut pause = client.meter.throttle_ms(now_ms, applied.limit, self.windows);
        if key == QuotaKey::RequestPercentage {
            // A request cannot be made smaller, so nobody is kept out for longer than a window.
            pause = pause.min(self.windows.size_ms as f64);
        }
        let pause = milliseconds(pause);
        client.throttled_ms += u64::from(pause);
        pause
    }

    /// Takes back what was counted and then not given.
    pub fn refund(&self, quotas: &QuotaSet, key: QuotaKey, who: Who<'_>, amount: f64) {
        let Some(applied) = quotas.of_client(key, who.user, who.client_id) else { return };
        let Some((_, clients)) = self.rates.iter().find(|(kind, _)| *kind == key) else { return };
        let now_ms = self.now_ms();
        let tags = tags(applied, who);
        let mut clients = clients.lock();
        clients.get(now_ms, &tags, || tags.owned()).meter.record(now_ms, -amount, self.windows);
    }

    /// The most that a client can be given at once without being throttled for it for sure.
    pub fn most_at_once(&self, quotas: &QuotaSet, key: QuotaKey, who: Who<'_>) -> Option<f64> {
        let applied = quotas.of_client(key, who.user, who.client_id)?;
        Some(applied.limit * self.windows.complete_seconds())
    }

    /// Charges a client for `count` changes of the metadata.
    ///
    /// # Errors
    /// The milliseconds to pause: with `strict` the change is not made where the client is in debt already.
    pub fn mutate(&self, quotas: &QuotaSet, who: Who<'_>, count: f64, strict: bool) -> Result<u32, u32> {
        let key = QuotaKey::ControllerMutationRate;
        let Some(applied) = quotas.of_client(key, who.user, who.client_id) else { return Ok(0) };
        let (now_ms, windows) = (self.now_ms(), self.mutation_windows);
        let tags = tags(applied, who);
        let mut clients = self.mutations.lock();
        let client = clients.get(now_ms, &tags, || tags.owned());
        let debt = milliseconds(client.meter.throttle_ms(now_ms, applied.limit, windows));
        if strict && debt > 0 {
            client.throttled_ms += u64::from(debt);
            return Err(debt);
        }
        client.meter.take(now_ms, count, applied.limit, windows);
        if strict {
            return Ok(0);
        }
        let pause = milliseconds(client.meter.throttle_ms(now_ms, applied.limit, windows));
        client.throttled_ms += u64::from(pause);
        Ok(pause)
    }

    /// Counts a connection from an address; `Some` is how long it is to be left alone before it is closed.
    pub fn connect(&self, quotas: &QuotaSet, ip: IpAddr) -> Option<Duration> {
        let limit = quotas.of_address(ip)?;
        let now_ms = self.now_ms();
        let mut addresses = self.addresses.lock();
        let rate = addresses.get(now_ms, &ip, || ip);
        rate.record(now_ms, 1.0, self.windows);
        let pause = rate.throttle_ms(now_ms, limit, self.windows).min(self.windows.size_ms as f64);
        if pause <= 0.0 {
            return None;
        }
        // It is not served, so it does not count.
        rate.record(now_ms, -1.0, self.windows);
        Some(Duration::from_millis(u64::from(milliseconds(pause))))
    }
}

fn tags(applied: Applied, who: Who<'_>) -> Tags {
    let part = |own: bool, name: &ByteString| if own { name.clone() } else { ByteString::new() };
    Tags { user: part(applied.by_user, who.user), client_id: part(applied.by_client, who.client_id) }
}

impl Tags {
    /// A copy that keeps no request alive.
    fn owned(&self) -> Self {
        let own = |text: &ByteString| ByteString::from(text.to_string());
        Self { user: own(&self.user), client_id: own(&self.client_id) }
    }
}

fn milliseconds(pause: f64) -> u32 {
    pause.clamp(0.0, f64::from(i32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::quotas::{Entity, Name, QuotaValue};

    fn usage() -> Arc<Usage> {
        let windows = Windows { count: 11, size_ms: 1000 };
        Usage::new(windows, windows)
    }

    fn quotas(entity: &Entity, key: QuotaKey, limit: f64) -> QuotaSet {
        let mut quotas = QuotaSet::default();
        quotas.set(entity, &BTreeMap::from([(key, QuotaValue(limit))]));
        quotas
    }

    #[test]
    fn a_users_clients_share_its_limit_and_default_users_do_not() {
        let key = QuotaKey::ProducerByteRate;
        let usage = usage();
        let (a, b, c) = (ByteString::from("a"), ByteString::from("b"), ByteString::from("c"));
        let default = Entity { user: Some(Name::Default), ..Entity::default() };
        let quotas = quotas(&default, key, 10.0);
        let charge = |user, client_id| usage.charge(&quotas, key, Who { user, client_id }, 90.0);
        assert_eq!(charge(&a, &c), 0);
        assert_eq!(charge(&b, &c), 0);
        assert!(charge(&a, &b) > 0);
        let who = Who { user: &a, client_id: &c };
        assert_eq!(usage.most_at_once(&quotas, key, who), Some(100.0));
        usage.refund(&quotas, key, who, 90.0);
        assert_eq!(usage.charge(&quotas, key, who, 1.0), 0);
        assert_eq!(usage.charge(&QuotaSet::default(), key, who, 1e9), 0);
        assert_eq!(usage.rates[1].1.lock().iter_mut().count(), 2);
    }

    #[test]
    fn time_of_requests_pauses_a_window_at_most() {
        let key = QuotaKey::RequestPercentage;
        let user = Entity { user: Some(Name::Named("a".into())), ..Entity::default() };
        let (user_name, client_id) = ("a".into(), "".into());
        let who = Who { user: &user_name, client_id: &client_id };
        assert_eq!(usage().charge(&quotas(&user, key, 0.01), key, who, 1e6), 1000);
    }

    #[test]
    fn changes_in_debt_are_refused_where_that_is_strict() {
        let key = QuotaKey::ControllerMutationRate;
        let user = Entity { user: Some(Name::Named("a".into())), ..Entity::default() };
        let quotas = quotas(&user, key, 1.0);
        let (user_name, client_id) = ("a".into(), "".into());
        let who = Who { user: &user_name, client_id: &client_id };
        let strict = usage();
        assert_eq!(strict.mutate(&quotas, who, 20.0, true), Ok(0));
        assert!(strict.mutate(&quotas, who, 1.0, true).is_err_and(|pause| (8900..=9000).contains(&pause)));
        let lenient = usage();
        assert!(lenient.mutate(&quotas, who, 20.0, false).is_ok_and(|pause| (8900..=9000).contains(&pause)));
        assert!(lenient.mutate(&quotas, who, 1.0, false).is_ok_and(|pause| pause > 9000));
    }

    #[test]
    fn connections_over_the_rate_are_not_served_and_do_not_count() {
        let address = Entity { ip: Some(Name::Default), ..Entity::default() };
        let quotas = quotas(&address, QuotaKey::ConnectionCreationRate, 1.0);
        let usage = usage();
        let ip = IpAddr::from([10, 0, 0, 1]);
        let served = (0..50).filter(|_| usage.connect(&quotas, ip).is_none()).count();
        assert_eq!(served, 10);
        assert!(usage.connect(&quotas, ip).is_some_and(|pause| pause <= Duration::from_secs(1)));
        assert!(usage.connect(&quotas, IpAddr::from([10, 0, 0, 2])).is_none());
    }
}
