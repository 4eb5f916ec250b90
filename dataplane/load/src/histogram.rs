//! Delays counted in buckets of at most 1/16 of their value.

use core::time::Duration;

const FINE_BITS: u32 = 4;
const FINE: u64 = 1 << FINE_BITS;
const OCTAVES: u64 = 24;
const BUCKETS: usize = (FINE * (OCTAVES + 1)) as usize;

/// Counts of delays from 0 to some 4 minutes; longer ones count as that.
#[derive(Clone)]
pub struct Histogram {
    counts: Box<[u32; BUCKETS]>,
    highest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), highest: 0 }
    }
}

fn bucket(micros: u64) -> usize {
    let octave = micros.checked_ilog2().unwrap_or(0).saturating_sub(FINE_BITS);
    let place = u64::from(octave) * FINE + (micros >> octave);
    usize::try_from(place).map_or(BUCKETS - 1, |place| place.min(BUCKETS - 1))
}

/// The highest value, in microseconds, that falls into a bucket.
fn highest_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let octave = (bucket / FINE).saturating_sub(1);
    ((bucket - octave * FINE + 1) << octave) - 1
}

impl Histogram {
    /// Counts one delay.
    pub fn record(&mut self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.highest = self.highest.max(micros);
        if let Some(count) = self.counts.get_mut(bucket(micros)) {
            *count = count.saturating_add(1);
        }
    }

    /// Adds what another one has counted.
    pub fn merge(&mut self, other: &Self) {
        self.highest = self.highest.max(other.highest);
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts.iter()) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// The delay that so many of 100 do not exceed, as the upper end of its bucket; None for an empty one.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        let total: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rank = ((total as f64 * percent / 100.0).ceil() as u64).max(1);
        let mut passed = 0;
        for (place, count) in self.counts.iter().enumerate() {
            passed += u64::from(*count);
            if passed >= rank {
                return Some(Duration::from_micros(highest_of(place).min(self.highest)));
            }
        }
        None
    }

    /// The longest delay; zero for an empty one.
    #[must_use]
    pub fn highest(&self) -> Duration {
        Duration::from_micros(self.highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_holds_the_values_up_to_its_highest() {
        for place in 0..BUCKETS - 1 {
            assert_eq!(bucket(highest_of(place)), place, "bucket {place}");
            assert_eq!(bucket(highest_of(place) + 1), place + 1, "bucket {place}");
        }
    }

    #[test]
    fn a_percentile_is_within_a_sixteenth_of_the_exact_one() {
        let mut histogram = Histogram::default();
        for micros in 1..=10_000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (percent, exact) in [(50.0, 5_000), (99.0, 9_900), (100.0, 10_000)] {
            let found = histogram.percentile(percent).unwrap_or_default().as_micros();
            assert!((exact..=exact + exact / 16 + 1).contains(&found), "{percent}: {found} for {exact}");
        }
        assert_eq!(histogram.highest(), Duration::from_micros(10_000));
    }

    #[test]
    fn an_empty_one_has_no_percentile_and_an_endless_delay_is_counted() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(99.0), None);
        histogram.record(Duration::MAX);
        assert!(histogram.percentile(50.0).is_some());
    }
}
