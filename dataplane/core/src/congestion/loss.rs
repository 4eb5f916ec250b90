//! Losses as a sign of congestion (draft-ietf-rmcat-gcc-02 section 6): 2 to 10 % hold the rate, more cuts it by half of
//! the loss.

use super::meter::Meter;
use crate::time::Instant;
use core::time::Duration;

const WINDOW: Duration = Duration::from_secs(1);
const HOLD: f64 = 0.02;
const CUT: f64 = 0.10;
/// Fewer packets say nothing.
const MIN_PACKETS: u64 = 20;
/// Between two cuts, over the round trip: the last one must have had its effect.
const CUT_INTERVAL: Duration = Duration::from_millis(300);

/// Losses of the last second.
#[derive(Clone, Debug)]
pub(super) struct Losses {
    packets: Meter,
    lost: Meter,
    since_cut: (u64, u64), // packets, lost
    cut_at: Option<Instant>,
}

impl Losses {
    pub fn new() -> Self {
        Self { packets: Meter::new(WINDOW), lost: Meter::new(WINDOW), since_cut: (0, 0), cut_at: None }
    }

    /// Takes what one feedback says.
    pub fn add(&mut self, packets: u64, lost: u64, now: Instant) {
        let at = micros(now);
        self.packets.add(at, packets);
        self.lost.add(at, lost);
        self.since_cut.0 = self.since_cut.0.saturating_add(packets);
        self.since_cut.1 = self.since_cut.1.saturating_add(lost);
    }

    /// Forgets what is older than a second.
    pub fn move_to(&mut self, now: Instant) {
        self.packets.move_to(micros(now));
        self.lost.move_to(micros(now));
    }

    /// The lost part of what was reported in the last second.
    pub fn fraction(&self) -> f64 {
        fraction(self.packets.sum(), self.lost.sum())
    }

    /// Whether the rate must not grow.
    pub fn is_holding(&self) -> bool {
        self.packets.sum() >= MIN_PACKETS && self.fraction() > HOLD
    }

    /// The factor to cut the rate by, where it is time for a cut.
    pub fn cut(&mut self, round_trip: Duration, now: Instant) -> Option<f64> {
        let (packets, lost) = self.since_cut;
        let fraction = fraction(packets, lost).min(self.fraction());
        let is_due = self.cut_at.is_none_or(|at| now.since(at) >= CUT_INTERVAL + round_trip);
        if packets < MIN_PACKETS || !is_due {
            return None;
        }
        if fraction <= CUT {
            if packets >= self.packets.sum() {
                self.since_cut = (self.packets.sum(), self.lost.sum()); // older packets do not dilute a new loss
            }
            return None;
        }
        self.since_cut = (0, 0);
        self.cut_at = Some(now);
        Some(1.0 - fraction / 2.0)
    }
}

fn fraction(packets: u64, lost: u64) -> f64 {
    if packets == 0 { 0.0 } else { (lost as f64 / packets as f64).min(1.0) }
}

fn micros(now: Instant) -> i64 {
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIP: Duration = Duration::from_millis(50);

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    #[test]
    fn five_percent_hold_and_do_not_cut() {
        let mut losses = Losses::new();
        for step in 0..100 {
            losses.add(20, 1, at(step * 50));
            assert_eq!(losses.cut(TRIP, at(step * 50)), None);
        }
        assert!(losses.is_holding());
        assert!((losses.fraction() - 0.05).abs() < 1e-9);
    }

    #[test]
    fn a_fifth_cuts_by_a_tenth_and_not_again_at_once() {
        let mut losses = Losses::new();
        losses.add(100, 20, at(0));
        assert_eq!(losses.cut(TRIP, at(0)), Some(0.9));
        losses.add(100, 20, at(100));
        assert_eq!(losses.cut(TRIP, at(100)), None);
        assert_eq!(losses.cut(TRIP, at(350)), Some(0.9));
    }

    #[test]
    fn a_handful_of_packets_says_nothing() {
        let mut losses = Losses::new();
        losses.add(10, 10, at(0));
        assert!(!losses.is_holding());
        assert_eq!(losses.cut(TRIP, at(0)), None);
    }

    #[test]
    fn an_hour_without_loss_does_not_hide_a_new_one() {
        let mut losses = Losses::new();
        for step in 0..10_000 {
            losses.add(10, 0, at(step * 50));
            losses.cut(TRIP, at(step * 50));
        }
        for step in 10_000..10_010 {
            losses.add(10, 5, at(step * 50));
        }
        assert!(losses.cut(TRIP, at(500_500)).is_some());
    }

    #[test]
    fn losses_are_forgotten_after_a_second() {
        let mut losses = Losses::new();
        losses.add(100, 50, at(0));
        losses.move_to(at(1_500));
        assert!(losses.fraction() == 0.0 && !losses.is_holding());
    }
}
