//! The rate that is believed to pass: additive and multiplicative increase, multiplicative decrease
//! (draft-ietf-rmcat-gcc-02 sections 5.5 and 6, with libwebrtc's constants).

use super::probe::Measured;
use super::trendline::Usage;
use crate::time::Instant;
use crate::units::DataRate;
use core::time::Duration;

/// The least that is believed of a link.
pub(super) const MIN_RATE: DataRate = DataRate::from_bps(10_000);
/// The most that is believed of a link.
pub(super) const MAX_RATE: DataRate = DataRate::from_bps(100_000_000);

const DECREASE: f64 = 0.85;
const INCREASE_PER_S: f64 = 0.08;
/// One does not believe in much more than was seen to arrive.
const MAX_OVER_DELIVERED: f64 = 1.5;
const SLACK_BPS: f64 = 10_000.0;
const MIN_INCREASE_PER_S: f64 = 4_000.0;
const FRAMES_PER_S: f64 = 30.0;
const PACKET_BITS: f64 = 1_200.0 * 8.0;
/// How long until a change shows, over the round trip.
const REACTION: Duration = Duration::from_millis(100);
const FIRST_ROUND_TRIP: Duration = Duration::from_millis(100);
/// Between two decreases.
const MIN_BACK_OFF: Duration = Duration::from_millis(50);
const MAX_BACK_OFF: Duration = Duration::from_millis(300);
/// How long a link that was seen full is believed to carry no more.
const LIMIT_IS_KNOWN: Duration = Duration::from_secs(30);
/// The same where all that is sent arrives at its pace.
const GENTLE: Duration = Duration::from_millis(500);
const MAX_STEP: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Increase,
    Hold,
}

/// Where the link gave way: mean and relative variance of what passed at the last decreases, in bits per second.
#[derive(Clone, Copy, Debug)]
struct Peak {
    mean: f64,
    variance: f64,
}

impl Peak {
    const GAIN: f64 = 0.05;
    const FIRST_VARIANCE: f64 = 0.4;
    const VARIANCE: (f64, f64) = (0.4, 2.5);

    /// Three deviations. The variance is kept per kb/s, so that the deviation grows by the root of the rate.
    fn spread(self) -> f64 {
        3.0 * (self.variance * self.mean / 1e3).sqrt() * 1e3
    }

    fn note(former: Option<Self>, rate: f64) -> Self {
        let Some(former) = former.filter(|peak| rate >= peak.mean - peak.spread()) else {
            return Self { mean: rate, variance: Self::FIRST_VARIANCE };
        };
        let mean = former.mean + Self::GAIN * (rate - former.mean);
        let apart = (mean - rate) / 1e3;
        let variance = (1.0 - Self::GAIN) * former.variance + Self::GAIN * apart * apart / (mean / 1e3).max(1.0);
        Self { mean, variance: variance.clamp(Self::VARIANCE.0, Self::VARIANCE.1) }
    }
}

/// What is known when the rate is controlled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    pub usage: Usage,
    /// What arrived lately.
    pub delivered: DataRate,
    /// What arrived in the last moments: the link, if they were the first in which it was full.
    pub peak: DataRate,
    /// The sender sends much less than it might: what arrives does not show what could.
    pub is_idle: bool,
    /// Less arrives, or it arrives more slowly, than it was sent: what arrives is what the link carries.
    pub is_hindered: bool,
    /// Losses forbid an increase.
    pub is_lossy: bool,
}

/// The controlled rate.
#[derive(Clone, Debug)]
pub(super) struct RateControl {
    rate: f64,
    state: State,
    peak: Option<Peak>,
    limit: Option<(f64, Instant)>, // that a probe has met, and when
    round_trip: Duration,
    stepped_at: Instant,
    decreased_at: Option<Instant>,
}

impl RateControl {
    pub fn new(start: DataRate, now: Instant) -> Self {
        let mut control = Self {
            rate: 0.0,
            state: State::Increase,
            peak: None,
            limit: None,
            round_trip: FIRST_ROUND_TRIP,
            stepped_at: now,
            decreased_at: None,
        };
        control.set(start);
        control
    }

    pub const fn rate(&self) -> DataRate {
        DataRate::from_bps(self.rate as u64)
    }

    pub const fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip;
    }

    /// Replaces the rate by one that was measured or told.
    pub fn set(&mut self, rate: DataRate) {
        self.rate = rate.clamp(MIN_RATE, MAX_RATE).bps() as f64;
    }

    /// Believes in a rate that a probe has measured, if it is more, and in the limit that it has met.
    pub fn probed(&mut self, measured: Measured, now: Instant) {
        let limit = measured.is_limit.then_some((measured.rate.bps() as f64, now));
        let is_refuted = self.limit.is_some_and(|former| measured.rate.bps() as f64 > former.0);
        self.limit = limit.or(self.limit.filter(|_| !is_refuted));
        if measured.rate > self.rate() {
            self.set(measured.rate);
        }
    }

    /// Whether only another probe can raise the rate.
    pub fn is_at_limit(&self) -> bool {
        self.limit.is_some_and(|limit| self.rate >= limit.0 * 0.99)
    }

    /// Multiplies the rate; for losses and for silence.
    pub fn cut(&mut self, factor: f64, now: Instant) {
        self.set(self.rate().scaled(factor.min(1.0)));
        self.state = State::Hold;
        self.stepped_at = now;
    }

    /// One step, once for each feedback.
    pub fn update(&mut self, seen: Observation, now: Instant) {
        let passed = now.since(self.stepped_at).min(MAX_STEP);
        self.stepped_at = now;
        match seen.usage {
            Usage::Over => self.decrease(seen, now),
            Usage::Under => self.state = State::Hold,
            Usage::Normal if self.state == State::Hold => self.state = State::Increase,
            Usage::Normal if !seen.is_idle && !seen.is_lossy => self.increase(seen, passed, now),
            Usage::Normal => {}
        }
    }

    fn decrease(&mut self, seen: Observation, now: Instant) {
        self.state = State::Hold;
        let back_off = if seen.is_hindered { self.round_trip.clamp(MIN_BACK_OFF, MAX_BACK_OFF) } else { GENTLE };
        let is_too_soon = self.decreased_at.is_some_and(|at| now.since(at) < back_off);
        let delivered = seen.delivered.max(seen.peak).bps() as f64;
        if is_too_soon && !(seen.is_hindered && delivered < self.rate / 2.0) {
            return;
        }
        let base = if seen.is_hindered { delivered } else { self.rate };
        if seen.is_hindered {
            self.peak = Some(Peak::note(self.peak, delivered));
        }
        self.set(DataRate::from_bps((base * DECREASE).min(self.rate) as u64));
        self.decreased_at = Some(now);
    }

    fn increase(&mut self, seen: Observation, passed: Duration, now: Instant) {
        let delivered = seen.delivered.bps() as f64;
        if self.peak.is_some_and(|peak| delivered > peak.mean + peak.spread()) {
            self.peak = None; // the link carries more than it did
        }
        self.limit = self.limit.filter(|limit| delivered < limit.0 && now.since(limit.1) < LIMIT_IS_KNOWN);
        let limit = delivered * MAX_OVER_DELIVERED + SLACK_BPS;
        let limit = self.limit.map_or(limit, |known| known.0.min(limit));
        if self.rate >= limit {
            return;
        }
        let per_s = match self.peak {
            Some(_) => self.additive_per_s(),
            None => (self.rate * INCREASE_PER_S).max(MIN_INCREASE_PER_S),
        };
        let rate = (self.rate + per_s * passed.as_secs_f64()).min(limit);
        self.set(DataRate::from_bps(rate as u64));
    }

    /// About one packet more per time that a change takes to show.
    fn additive_per_s(&self) -> f64 {
        let frame = self.rate / FRAMES_PER_S;
        let packet = frame / (frame / PACKET_BITS).ceil().max(1.0);
        let response = 2.0 * (self.round_trip + REACTION).as_secs_f64();
        (packet / response).max(MIN_INCREASE_PER_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    fn kbps(rate: u64) -> DataRate {
        DataRate::from_bps(rate * 1_000)
    }

    fn seen(usage: Usage, delivered: u64) -> Observation {
        Observation {
            usage,
            delivered: kbps(delivered),
            peak: kbps(delivered),
            is_idle: false,
            is_hindered: true,
            is_lossy: false,
        }
    }

    fn run(control: &mut RateControl, from_ms: u64, seconds: u64, seen: Observation) {
        for step in 0..seconds * 20 {
            control.update(seen, at(from_ms + step * 50));
        }
    }

    #[test]
    fn a_normal_link_grows_by_eight_percent_a_second() {
        let mut control = RateControl::new(kbps(1_000), at(0));
        run(&mut control, 0, 1, seen(Usage::Normal, 1_000));
        assert!((1_070..=1_085).contains(&(control.rate().bps() / 1_000)), "{:?}", control.rate());
    }

    #[test]
    fn growth_ends_at_one_and_a_half_times_what_arrives() {
        let mut control = RateControl::new(kbps(1_000), at(0));
        run(&mut control, 0, 30, seen(Usage::Normal, 1_000));
        assert_eq!(control.rate(), kbps(1_510));
    }

    #[test]
    fn overuse_cuts_to_what_arrives_and_growth_near_that_peak_is_slow() {
        let mut control = RateControl::new(kbps(1_000), at(0));
        control.update(seen(Usage::Over, 600), at(50));
        assert_eq!(control.rate(), kbps(510));
        run(&mut control, 100, 1, seen(Usage::Normal, 550));
        let grown = control.rate().bps() / 1_000;
        assert!((520..545).contains(&grown), "{grown}");
        run(&mut control, 1_100, 2, seen(Usage::Normal, 900)); // so much more arrives that the peak is forgotten
        assert!(control.rate().bps() / 1_000 > grown + 70);
    }

    #[test]
    fn one_overuse_cuts_once_in_a_round_trip() {
        let mut control = RateControl::new(kbps(1_000), at(0));
        control.set_round_trip(Duration::from_millis(200));
        control.update(seen(Usage::Over, 900), at(50));
        control.update(seen(Usage::Over, 700), at(100));
        assert_eq!(control.rate(), kbps(765));
        control.update(seen(Usage::Over, 700), at(250));
        assert_eq!(control.rate(), kbps(595));
    }

    #[test]
    fn an_application_that_sends_little_neither_raises_nor_collapses_the_rate() {
        let limited = |usage| Observation { is_idle: true, is_hindered: false, ..seen(usage, 100) };
        let mut control = RateControl::new(kbps(1_000), at(0));
        run(&mut control, 0, 5, limited(Usage::Normal));
        assert_eq!(control.rate(), kbps(1_000));
        control.update(limited(Usage::Over), at(6_000));
        assert_eq!(control.rate(), kbps(850));
    }

    #[test]
    fn losses_and_a_draining_queue_hold() {
        let mut control = RateControl::new(kbps(1_000), at(0));
        run(&mut control, 0, 2, Observation { is_lossy: true, ..seen(Usage::Normal, 1_000) });
        run(&mut control, 2_000, 2, seen(Usage::Under, 1_000));
        assert_eq!(control.rate(), kbps(1_000));
    }

    #[test]
    fn a_limit_that_a_probe_has_met_holds_until_another_probe_or_what_arrives_refutes_it() {
        let mut control = RateControl::new(kbps(1_000), at(0));
        control.probed(Measured { rate: kbps(1_140), is_limit: true, is_sustained: false }, at(0));
        run(&mut control, 0, 10, seen(Usage::Normal, 1_000));
        assert_eq!(control.rate(), kbps(1_140));
        assert!(control.is_at_limit());
        control.probed(Measured { rate: kbps(1_300), is_limit: false, is_sustained: false }, at(10_000));
        run(&mut control, 10_000, 10, seen(Usage::Normal, 1_000));
        assert_eq!(control.rate(), kbps(1_510));
        control.probed(Measured { rate: kbps(1_000), is_limit: true, is_sustained: false }, at(20_000));
        run(&mut control, 20_000, 5, seen(Usage::Normal, 1_200));
        assert!(control.rate() > kbps(1_700));
    }

    #[test]
    fn the_rate_stays_in_its_range() {
        let mut control = RateControl::new(DataRate::ZERO, at(0));
        assert_eq!(control.rate(), MIN_RATE);
        control.probed(Measured { rate: DataRate::from_bps(u64::MAX), is_limit: false, is_sustained: false }, at(50));
        assert_eq!(control.rate(), MAX_RATE);
        control.update(seen(Usage::Over, 0), at(100));
        assert_eq!(control.rate(), MIN_RATE);
    }
}
