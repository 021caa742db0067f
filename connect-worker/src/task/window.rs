//! Averages, maxima and rates over the last minute, of what happens a few times a second at most.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Half of the time that values count for, as `metrics.sample.window.ms` and `metrics.num.samples` have it by default.
const HALF: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

/// Values of the last 30 to 60 seconds.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    since: Instant,
    now: Sample,
    before: Sample,
}

impl Window {
    pub fn new(now: Instant) -> Self {
        Self { since: now, now: Sample::default(), before: Sample::default() }
    }

    pub fn add(&mut self, now: Instant, value: f64) {
        self.age(now);
        let sample = &mut self.now;
        sample.min = if sample.count == 0 { value } else { sample.min.min(value) };
        sample.max = if sample.count == 0 { value } else { sample.max.max(value) };
        sample.count += 1;
        sample.sum += value;
    }

    fn age(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age >= HALF {
            self.before = if age < HALF * 2 { self.now } else { Sample::default() };
            self.now = Sample::default();
            self.since = now;
        }
    }

    fn samples(&self, now: Instant) -> [Sample; 2] {
        let mut aged = *self;
        aged.age(now);
        [aged.now, aged.before]
    }

    /// `None` where nothing has happened.
    pub fn average(&self, now: Instant) -> Option<f64> {
        let [a, b] = self.samples(now);
        let count = a.count + b.count;
        (count > 0).then(|| (a.sum + b.sum) / count as f64)
    }

    /// `None` where nothing has happened.
    pub fn min(&self, now: Instant) -> Option<f64> {
        let samples = self.samples(now);
        samples.iter().filter(|sample| sample.count > 0).map(|sample| sample.min).reduce(f64::min)
    }

    /// `None` where nothing has happened.
    pub fn max(&self, now: Instant) -> Option<f64> {
        let samples = self.samples(now);
        samples.iter().filter(|sample| sample.count > 0).map(|sample| sample.max).reduce(f64::max)
    }
}

/// How fast counters grow: their values at some moments of the last minute.
#[derive(Clone, Debug)]
pub struct Rates<const N: usize>(VecDeque<(Instant, [u64; N])>);

impl<const N: usize> Default for Rates<N> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<const N: usize> Rates<N> {
    const SPAN: Duration = Duration::from_secs(60);

    /// Notes the values; every few seconds is enough.
    pub fn note(&mut self, now: Instant, values: [u64; N]) {
        self.0.push_back((now, values));
        while self.0.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= Self::SPAN) {
            self.0.pop_front();
        }
    }

    /// By how much the counters have grown a second, given what they are now.
    pub fn per_second(&self, now: Instant, values: [u64; N]) -> [f64; N] {
        let Some((at, before)) = self.0.front() else { return [0.0; N] };
        let seconds = now.saturating_duration_since(*at).as_secs_f64().max(1.0);
        std::array::from_fn(|i| values[i].saturating_sub(before[i]) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_count_for_a_minute_at_most() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut window = Window::new(start);
        assert_eq!((window.average(start), window.max(start)), (None, None));
        window.add(at(1), 9.0);
        window.add(at(31), 1.0);
        window.add(at(32), 2.0);
        assert_eq!((window.average(at(33)), window.max(at(33))), (Some(4.0), Some(9.0)));
        assert_eq!((window.min(at(33)), window.min(at(62))), (Some(1.0), Some(1.0)));
        assert_eq!(window.max(at(62)), Some(2.0));
        assert_eq!(window.max(at(130)), None);
    }

    #[test]
    fn rates_are_of_the_last_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut rates = Rates::default();
        assert_eq!(rates.per_second(start, [5, 5]), [0.0, 0.0]);
        for i in 0..=24 {
            rates.note(at(i * 5), [i * 50, i * 5]);
        }
        assert_eq!(rates.per_second(at(120), [1200, 120]), [10.0, 1.0]);
        assert!(rates.0.len() < 16);
        assert_eq!(rates.per_second(at(180), [1200, 120]), [5.0, 0.5]);
    }
}
