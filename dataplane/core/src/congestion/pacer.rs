//! Spreads bursts of video so that they do not fill the queues on the way.

use crate::time::Instant;
use crate::units::DataRate;
use core::time::Duration;

/// Video may be sent so much faster than the link is believed to carry: a key frame takes time, a delta frame hardly any.
const HEAD_ROOM: f64 = 2.5;
/// What may pass at once, in time at the paced rate, and its limits in bytes (two packets, a run of ten).
const BURST: Duration = Duration::from_millis(40);
const MIN_BURST: u64 = 2_400;
const MAX_BURST: u64 = 12_000;
/// What is sent regardless holds video up for at most so long.
const MAX_DEBT: Duration = Duration::from_millis(500);

/// One transport's leaky bucket. It holds numbers, not packets: who may not send keeps the packet until `next_at`.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    rate: DataRate,
    burst: u64,
    level: u64, // bytes that have not leaked yet
    at: Instant,
}

impl Pacer {
    /// A pacer that lets everything pass until [`Self::set_rate`] is called.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { rate: DataRate::from_bps(u64::MAX), burst: MAX_BURST, level: 0, at: now }
    }

    /// Sets the rate to 2.5 times `estimate`, what the link is believed to carry.
    pub fn set_rate(&mut self, estimate: DataRate) {
        self.rate = estimate.scaled(HEAD_ROOM).max(DataRate::from_bps(1_000));
        self.burst = self.rate.bytes_in(BURST).clamp(MIN_BURST, MAX_BURST);
        self.level = self.level.min(self.max_level());
    }

    /// Whether `bytes` may be sent now; they are counted where they may.
    pub fn may_send(&mut self, bytes: usize, now: Instant) -> bool {
        self.leak(now);
        let is_allowed = self.fits(bytes as u64);
        if is_allowed {
            self.level = self.level.saturating_add(bytes as u64);
        }
        is_allowed
    }

    /// Counts `bytes` that are sent regardless: audio, retransmissions, padding.
    pub fn charge(&mut self, bytes: usize, now: Instant) {
        self.leak(now);
        self.level = self.level.saturating_add(bytes as u64).min(self.max_level());
    }

    /// When `bytes` may be sent.
    #[must_use]
    pub fn next_at(&self, now: Instant, bytes: usize) -> Instant {
        let mut then = *self;
        then.leak(now);
        if then.fits(bytes as u64) {
            return now;
        }
        let excess = then.level.saturating_add(bytes as u64).saturating_sub(self.burst).min(then.level);
        let micros = (u128::from(excess) * 8_000_000).div_ceil(u128::from(self.rate.bps()));
        now + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// A packet that is larger than the burst passes when nothing else is left.
    const fn fits(&self, bytes: u64) -> bool {
        self.level == 0 || self.level.saturating_add(bytes) <= self.burst
    }

    fn max_level(&self) -> u64 {
        self.rate.bytes_in(MAX_DEBT).saturating_add(self.burst)
    }

    fn leak(&mut self, now: Instant) {
        let leaked = self.rate.bytes_in(now.since(self.at));
        if leaked > 0 || self.level == 0 {
            self.level = self.level.saturating_sub(leaked);
            self.at = self.at.max(now); // else the parts of a byte would be lost
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    fn pacer(kbps: u64) -> Pacer {
        let mut pacer = Pacer::new(at(0));
        pacer.set_rate(DataRate::from_bps(kbps * 1_000));
        pacer
    }

    #[test]
    fn a_frame_passes_at_once_and_a_key_frame_is_spread() {
        let mut pacer = pacer(2_000);
        assert!((0..6).all(|_| pacer.may_send(1_200, at(0))));
        let mut pacer = self::pacer(2_000);
        let (mut now, mut sent) = (at(0), 0);
        while sent < 50 {
            if pacer.may_send(1_200, now) {
                sent += 1;
            } else {
                let next = pacer.next_at(now, 1_200);
                assert!(next > now);
                now = next;
            }
        }
        // 60 kB less the burst of 12 kB at 5 Mb/s
        assert!((75_000..=79_000).contains(&now.as_micros()), "{now:?}");
    }

    #[test]
    fn what_is_sent_regardless_holds_video_up_for_half_a_second_at_most() {
        let mut pacer = pacer(100);
        for _ in 0..1_000 {
            pacer.charge(1_200, at(0));
        }
        assert!(!pacer.may_send(1_200, at(0)));
        assert!(pacer.next_at(at(0), 1_200) <= at(600));
    }

    #[test]
    fn a_pacer_without_a_rate_lets_everything_pass() {
        let mut pacer = Pacer::new(at(0));
        assert!((0..1_000).all(|step| pacer.may_send(1_200, Instant::from_micros(step))));
    }

    #[test]
    fn a_packet_larger_than_the_burst_is_not_held_for_ever() {
        let mut pacer = pacer(10);
        pacer.charge(100, at(0));
        let next = pacer.next_at(at(0), 60_000);
        assert!(pacer.may_send(60_000, next));
    }

    proptest! {
        #[test]
        fn what_is_due_may_be_sent(rate in 10u64..100_000, charged in 0usize..100_000, bytes in 1usize..1_500, now in 0u64..10_000_000) {
            let mut pacer = pacer(rate);
            let now = Instant::from_micros(now);
            pacer.charge(charged, now);
            let next = pacer.next_at(now, bytes);
            prop_assert!(pacer.may_send(bytes, next));
        }

        #[test]
        fn no_more_is_sent_than_the_rate_and_one_burst(rate in 10u64..10_000, steps in prop::collection::vec(0u64..20_000, 1..200)) {
            let mut pacer = pacer(rate);
            let (mut now, mut sent) = (0, 0u64);
            for step in steps {
                now += step;
                while pacer.may_send(1_000, Instant::from_micros(now)) {
                    sent += 1_000;
                }
            }
            prop_assert!(sent <= rate * 2_500 * now / 8_000_000 + MAX_BURST + 1);
        }
    }
}
