//! How much of the delay is a queue: what even the fastest packets of late are delayed by, over the fastest ever.
//!
//! Jitter makes trend lines of its own, up to and over the threshold. It delays some packets; a queue delays all.

use super::arrival::Delta;
use crate::time::Instant;
use core::time::Duration;

const BUCKETS: usize = 10;
const RECENT: Duration = Duration::from_millis(250);
const BASE: Duration = Duration::from_secs(20);
/// A queue shorter than this is none. Microseconds.
const MIN_QUEUE: i64 = 15_000;
/// A queue is longer than the usual difference of two delays, so many times.
const OVER_JITTER: i64 = 2;

/// The least of a sliding window.
#[derive(Clone, Debug)]
struct Minimum {
    length: u64, // of a bucket, in microseconds
    newest: u64, // bucket
    least: [i64; BUCKETS],
}

impl Minimum {
    const fn new(window: Duration) -> Self {
        Self { length: window.as_micros() as u64 / BUCKETS as u64, newest: 0, least: [i64::MAX; BUCKETS] }
    }

    fn add(&mut self, at: Instant, value: i64) {
        let bucket = at.as_micros() / self.length;
        for empty in (self.newest + 1..=bucket).rev().take(BUCKETS) {
            self.least[empty as usize % BUCKETS] = i64::MAX;
        }
        self.newest = self.newest.max(bucket);
        if bucket + BUCKETS as u64 > self.newest {
            let least = &mut self.least[bucket as usize % BUCKETS];
            *least = value.min(*least);
        }
    }

    fn get(&self) -> i64 {
        self.least.iter().copied().min().unwrap_or(i64::MAX)
    }
}

/// The delay of a path, on two clocks that need not agree.
#[derive(Clone, Debug)]
pub(super) struct QueueDelay {
    recent: Minimum,
    base: Minimum,
    jitter: i64, // RFC 3550 section 6.4.1, between groups, in microseconds
}

impl QueueDelay {
    pub const fn new() -> Self {
        Self { recent: Minimum::new(RECENT), base: Minimum::new(BASE), jitter: 0 }
    }

    /// Takes the arrival of a packet, in microseconds on the receiver's clock.
    pub fn add(&mut self, sent: Instant, arrival: i64) {
        let delay = arrival.saturating_sub(i64::try_from(sent.as_micros()).unwrap_or(i64::MAX));
        self.recent.add(sent, delay);
        self.base.add(sent, delay);
    }

    /// Takes the distance of two groups.
    pub fn add_delta(&mut self, delta: Delta) {
        let apart = (delta.arrived - delta.sent).saturating_abs();
        self.jitter += (apart - self.jitter) / 16;
    }

    /// The usual difference of two delays.
    pub const fn jitter(&self) -> Duration {
        Duration::from_micros(self.jitter.unsigned_abs())
    }

    /// Whether packets wait.
    pub fn is_queue(&self) -> bool {
        let queue = self.recent.get().saturating_sub(self.base.get());
        queue > MIN_QUEUE.saturating_add(self.jitter.saturating_mul(OVER_JITTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn feed(delay: &mut QueueDelay, millis: core::ops::Range<u64>, extra: impl Fn(u64) -> i64) {
        for at in millis.step_by(20) {
            delay.add(Instant::from_micros(at * 1_000), at as i64 * 1_000 - 7_000_000 + extra(at));
        }
    }

    #[test]
    fn what_delays_every_packet_is_a_queue_and_what_delays_some_is_not() {
        let mut delay = QueueDelay::new();
        feed(&mut delay, 0..5_000, |_| 0);
        assert!(!delay.is_queue());
        feed(&mut delay, 5_000..10_000, |at| if at % 200 == 0 { 0 } else { 60_000 });
        assert!(!delay.is_queue());
        feed(&mut delay, 10_000..10_300, |_| 40_000);
        assert!(delay.is_queue());
    }

    #[test]
    fn a_longer_way_is_a_queue_only_for_a_while() {
        let mut delay = QueueDelay::new();
        feed(&mut delay, 0..5_000, |_| 0);
        feed(&mut delay, 5_000..10_000, |_| 50_000);
        assert!(delay.is_queue());
        feed(&mut delay, 10_000..30_000, |_| 50_000);
        assert!(!delay.is_queue());
    }

    #[test]
    fn a_queue_must_be_longer_where_delays_differ_anyway() {
        let mut delay = QueueDelay::new();
        for _ in 0..100 {
            delay.add_delta(Delta { sent: 20_000, arrived: 40_000, at: 0 });
        }
        feed(&mut delay, 0..5_000, |_| 0);
        feed(&mut delay, 5_000..5_300, |_| 40_000);
        assert!(!delay.is_queue());
        feed(&mut delay, 5_300..5_600, |_| 80_000);
        assert!(delay.is_queue());
    }

    proptest! {
        #[test]
        fn any_clock_is_survived(samples in prop::collection::vec((0..u64::MAX / 2, any::<i64>()), 0..50)) {
            let mut delay = QueueDelay::new();
            for (sent, arrival) in samples {
                delay.add(Instant::from_micros(sent), arrival);
                delay.is_queue();
            }
        }
    }
}
