//! Sums over a sliding window.

use crate::units::DataRate;
use core::time::Duration;

const BUCKETS: usize = 20;
const RECENT: i64 = 6;
/// A clock that jumps back by more than this has been set anew.
const CLOCK_WAS_SET: i64 = 3_000_000;

/// A sum over the last 20 buckets of a fixed length. Time is in microseconds on any one clock.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    length: i64,
    sums: [u32; BUCKETS],
    newest: Option<i64>, // the moment of the newest sample
    oldest: i64,         // the moment of the first sample since the meter was empty
}

impl Meter {
    /// A meter over `window`, which is cut into 20 buckets.
    pub fn new(window: Duration) -> Self {
        Self {
            length: (window.as_micros() as i64 / BUCKETS as i64).max(1),
            sums: [0; BUCKETS],
            newest: None,
            oldest: 0,
        }
    }

    /// Adds `amount` at a moment. What is older than the window is ignored; a clock that was set back empties the meter.
    pub fn add(&mut self, at: i64, amount: u64) {
        self.move_to(at);
        let behind = self.bucket(self.newest.unwrap_or(at)).saturating_sub(self.bucket(at));
        if (0..BUCKETS as i64).contains(&behind) {
            let sum = &mut self.sums[self.bucket(at).rem_euclid(BUCKETS as i64) as usize];
            *sum = sum.saturating_add(u32::try_from(amount).unwrap_or(u32::MAX));
        }
    }

    /// Empties the buckets that have left the window at this moment.
    pub fn move_to(&mut self, at: i64) {
        let Some(newest) = self.newest.filter(|newest| newest.saturating_sub(at) < CLOCK_WAS_SET) else {
            self.sums = [0; BUCKETS];
            self.newest = Some(at);
            self.oldest = at;
            return;
        };
        if at <= newest {
            return;
        }
        let (from, to) = (self.bucket(newest), self.bucket(at));
        if to - from >= BUCKETS as i64 {
            self.sums = [0; BUCKETS];
            self.oldest = at;
        } else {
            for bucket in from + 1..=to {
                self.sums[bucket.rem_euclid(BUCKETS as i64) as usize] = 0;
            }
        }
        self.newest = Some(at);
    }

    /// What was added in the window that ends at the newest moment.
    pub fn sum(&self) -> u64 {
        self.sums.iter().map(|sum| u64::from(*sum)).sum()
    }

    /// The rate in the window that ends at the newest moment, where the amounts are bytes. A window that is not full yet
    /// counts from its first sample, but for at least half its length.
    pub fn rate(&self) -> DataRate {
        let Some(newest) = self.newest else { return DataRate::ZERO };
        let full = newest.saturating_sub((self.bucket(newest) - BUCKETS as i64 + 1).saturating_mul(self.length));
        let span = newest.saturating_sub(self.oldest).max(self.length * BUCKETS as i64 / 2).min(full);
        DataRate::from_bytes(self.sum(), Duration::from_micros(span.max(1) as u64))
    }

    /// The rate in the last six whole buckets, where the amounts are bytes.
    pub fn recent_rate(&self) -> DataRate {
        let Some(newest) = self.newest else { return DataRate::ZERO };
        let last = self.bucket(newest);
        let recent = (last - RECENT..last).map(|bucket| self.sums[bucket.rem_euclid(BUCKETS as i64) as usize]);
        let bytes = recent.map(u64::from).sum();
        DataRate::from_bytes(bytes, Duration::from_micros((RECENT * self.length) as u64))
    }

    fn bucket(&self, at: i64) -> i64 {
        at.div_euclid(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_steady_flow_has_its_rate_and_a_past_one_has_none() {
        let mut meter = Meter::new(Duration::from_millis(500));
        for at in 0..2_000i64 {
            meter.add(at * 1_000, 125);
        }
        let rate = meter.rate().bps();
        assert!((980_000..=1_030_000).contains(&rate), "{rate}");
        meter.move_to(2_600_000);
        assert_eq!(meter.rate(), DataRate::ZERO);
    }

    #[test]
    fn a_burst_shows_in_the_recent_rate_first() {
        let mut meter = Meter::new(Duration::from_millis(500));
        for at in 0..1_000i64 {
            meter.add(at * 1_000, if at < 840 { 125 } else { 375 });
        }
        let recent = meter.recent_rate().bps();
        assert!((2_500_000..=3_000_000).contains(&recent), "{recent}");
        assert!(meter.rate().bps() < 1_800_000);
    }

    #[test]
    fn the_first_bytes_are_not_a_huge_rate() {
        let mut meter = Meter::new(Duration::from_millis(500));
        meter.add(0, 1_250);
        assert_eq!(meter.rate().bps(), 40_000);
    }

    #[test]
    fn a_late_sample_counts_where_it_belongs() {
        let mut meter = Meter::new(Duration::from_millis(500));
        meter.add(1_000_000, 10);
        meter.add(700_000, 10);
        meter.add(400_000, 10);
        assert_eq!(meter.sum(), 20);
        meter.move_to(1_225_000);
        assert_eq!(meter.sum(), 10);
    }

    proptest! {
        #[test]
        fn any_clock_is_survived(samples in prop::collection::vec((any::<i64>(), any::<u64>()), 0..50)) {
            let mut meter = Meter::new(Duration::from_millis(500));
            for (at, amount) in samples {
                meter.add(at, amount);
                meter.rate();
            }
        }
    }
}
