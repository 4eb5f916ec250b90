//! Bitrates of the last second, by spatial and temporal layer.

use core::time::Duration;

use crate::time::Instant;
use crate::units::DataRate;

const BUCKET: Duration = Duration::from_millis(100);
const BUCKETS: usize = 10;
/// Spatial and temporal layers that are told apart.
pub(crate) const MAX_SPATIAL: usize = 4;
pub(crate) const MAX_TEMPORAL: usize = 4;
const CELLS: usize = MAX_SPATIAL * MAX_TEMPORAL;

/// Bytes and packets of the last second in buckets of 100 ms.
#[derive(Debug)]
pub(crate) struct RateMeter {
    buckets: [[u32; CELLS]; BUCKETS],
    packets: [u32; BUCKETS],
    sums: [u32; CELLS],
    packet_sum: u32,
    current: u64,
    since: Option<Instant>,
}

impl Default for RateMeter {
    fn default() -> Self {
        Self {
            buckets: [[0; CELLS]; BUCKETS],
            packets: [0; BUCKETS],
            sums: [0; CELLS],
            packet_sum: 0,
            current: 0,
            since: None,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "less than BUCKETS")]
const fn slot(bucket: u64) -> usize {
    (bucket % BUCKETS as u64) as usize
}

impl RateMeter {
    pub(crate) fn add(&mut self, spatial: u8, temporal: u8, bytes: usize, now: Instant) {
        self.roll(now);
        let cell =
            usize::from(spatial).min(MAX_SPATIAL - 1) * MAX_TEMPORAL + usize::from(temporal).min(MAX_TEMPORAL - 1);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let at = slot(self.current);
        if let Some(value) = self.buckets.get_mut(at).and_then(|bucket| bucket.get_mut(cell)) {
            *value += bytes;
        }
        if let Some(sum) = self.sums.get_mut(cell) {
            *sum += bytes;
        }
        if let Some(count) = self.packets.get_mut(at) {
            *count += 1;
        }
        self.packet_sum += 1;
        self.since.get_or_insert(now);
    }

    /// Drops what is older than a second.
    pub(crate) fn roll(&mut self, now: Instant) {
        let bucket = now.as_micros() / 100_000;
        if bucket <= self.current {
            return;
        }
        for passed in self.current.max(bucket.saturating_sub(BUCKETS as u64)) + 1..=bucket {
            let at = slot(passed);
            let old = core::mem::replace(&mut self.buckets[at], [0; CELLS]);
            for (sum, gone) in self.sums.iter_mut().zip(old) {
                *sum -= gone;
            }
            self.packet_sum -= core::mem::take(&mut self.packets[at]);
        }
        self.current = bucket;
        if self.packet_sum == 0 {
            self.since = None;
        }
    }

    /// The span that the sums cover.
    fn span(&self, now: Instant) -> Duration {
        let window = BUCKET * (BUCKETS as u32 - 1) + Duration::from_micros(now.as_micros() % 100_000);
        self.since.map_or(window, |since| window.min(now.since(since)).max(BUCKET))
    }

    /// The rate of everything up to these layers. Call [`RateMeter::roll`] before.
    pub(crate) fn rate(&self, spatial: u8, temporal: u8, now: Instant) -> DataRate {
        let bytes: u64 = (0..=usize::from(spatial).min(MAX_SPATIAL - 1))
            .flat_map(|s| (0..=usize::from(temporal).min(MAX_TEMPORAL - 1)).map(move |t| s * MAX_TEMPORAL + t))
            .filter_map(|cell| self.sums.get(cell))
            .map(|&sum| u64::from(sum))
            .sum();
        DataRate::from_bytes(bytes, self.span(now))
    }

    /// The rate of everything.
    pub(crate) fn total(&self, now: Instant) -> DataRate {
        self.rate(u8::MAX, u8::MAX, now)
    }

    pub(crate) fn packets(&self) -> u32 {
        self.packet_sum
    }

    /// The highest spatial and temporal layer that was seen in the last second.
    pub(crate) fn highest(&self) -> (u8, u8) {
        let mut found = (0, 0);
        for (cell, _) in self.sums.iter().enumerate().filter(|(_, sum)| **sum > 0) {
            found.0 = found.0.max(cell / MAX_TEMPORAL);
            found.1 = found.1.max(cell % MAX_TEMPORAL);
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most three")]
        (found.0 as u8, found.1 as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    #[test]
    fn rates_are_cumulative_over_layers_and_forget_after_a_second() {
        let mut meter = RateMeter::default();
        for tick in 0..100 {
            meter.add(0, 0, 125, at(10_000 + tick * 10));
            meter.add(0, 1, 125, at(10_000 + tick * 10));
        }
        let now = at(11_000);
        meter.roll(now);
        let (base, all) = (meter.rate(0, 0, now).bps(), meter.total(now).bps());
        assert!((90_000..=110_000).contains(&base), "{base}");
        assert!((180_000..=220_000).contains(&all), "{all}");
        assert_eq!(meter.highest(), (0, 1));
        meter.roll(at(13_000));
        assert_eq!((meter.total(at(13_000)), meter.packets(), meter.highest()), (DataRate::ZERO, 0, (0, 0)));
    }

    #[test]
    fn a_rate_is_known_before_a_second_has_passed() {
        let mut meter = RateMeter::default();
        for tick in 0..20 {
            meter.add(0, 0, 1_250, at(tick * 10));
        }
        let rate = meter.total(at(200)).bps();
        assert!((900_000..=1_100_000).contains(&rate), "{rate}");
    }
}
