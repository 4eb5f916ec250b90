//! Does the queue grow? (draft-ietf-rmcat-gcc-02 sections 5.3 to 5.5, with a trend line in the place of the Kalman
//! filter, as libwebrtc does it.)

use super::arrival::Delta;

const WINDOW: usize = 20;
const SMOOTHING: f64 = 0.9;
const GAIN: f64 = 4.0;
/// The trend is weighed by how many deltas it rests on, at most so many.
const MAX_WEIGHT: u32 = 60;
const FIRST_THRESHOLD_MS: f64 = 12.5;
const THRESHOLD_MS: (f64, f64) = (6.0, 600.0);
const GAIN_UP: f64 = 0.0087;
const GAIN_DOWN: f64 = 0.039;
/// A trend this far over the threshold is a drop of the link and says nothing about its usual jitter.
const MAX_ADAPTED_OFFSET_MS: f64 = 15.0;
const MAX_ADAPTED_STEP_MS: f64 = 100.0;
/// How long the trend must be over the threshold.
const OVERUSE_MS: f64 = 10.0;

/// What the queue of the link does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Usage {
    /// It drains.
    Under,
    #[default]
    Normal,
    /// It grows.
    Over,
}

/// Slope of the queueing delay over the last 20 group distances.
#[derive(Clone, Debug)]
pub(super) struct Trendline {
    points: [(f64, f64); WINDOW], // arrival, smoothed delay, in milliseconds
    count: u32,
    began: Option<i64>,
    accumulated: f64,
    smoothed: f64,
    threshold: f64,
    adapted_at: Option<f64>,
    over_for: Option<f64>,
    over_count: u32,
    former_trend: f64,
    usage: Usage,
}

impl Default for Trendline {
    fn default() -> Self {
        Self {
            points: [(0.0, 0.0); WINDOW],
            count: 0,
            began: None,
            accumulated: 0.0,
            smoothed: 0.0,
            threshold: FIRST_THRESHOLD_MS,
            adapted_at: None,
            over_for: None,
            over_count: 0,
            former_trend: 0.0,
            usage: Usage::Normal,
        }
    }
}

impl Trendline {
    /// What the deltas so far say.
    pub const fn usage(&self) -> Usage {
        self.usage
    }

    /// Takes the distance of two groups.
    pub fn add(&mut self, delta: Delta) {
        let began = *self.began.get_or_insert(delta.at);
        let at = delta.at.saturating_sub(began) as f64 / 1e3;
        self.accumulated += (delta.arrived - delta.sent) as f64 / 1e3;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.accumulated;
        self.points[self.count as usize % WINDOW] = (at, self.smoothed);
        self.count = self.count.checked_add(1).unwrap_or(WINDOW as u32 * 4);
        if self.count as usize >= WINDOW {
            let trend = self.slope().unwrap_or(self.former_trend);
            self.judge(trend, delta.sent as f64 / 1e3);
            self.former_trend = trend;
            self.adapt(self.weighted(trend).abs(), at);
        }
    }

    /// Least squares.
    fn slope(&self) -> Option<f64> {
        let (x, y) = self.points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        let (x, y) = (x / WINDOW as f64, y / WINDOW as f64);
        let (above, below) = self.points.iter().fold((0.0, 0.0), |sum, point| {
            (sum.0 + (point.0 - x) * (point.1 - y), sum.1 + (point.0 - x) * (point.0 - x))
        });
        (below > 0.0).then(|| above / below)
    }

    fn weighted(&self, trend: f64) -> f64 {
        f64::from(self.count.min(MAX_WEIGHT)) * trend * GAIN
    }

    fn judge(&mut self, trend: f64, sent_ms: f64) {
        let weighted = self.weighted(trend);
        if weighted <= self.threshold {
            self.over_for = None;
            self.over_count = 0;
            self.usage = if weighted < -self.threshold { Usage::Under } else { Usage::Normal };
            return;
        }
        // It is taken to have been over for half of the time since the last delta that was not.
        let over_for = self.over_for.map_or(sent_ms / 2.0, |over_for| over_for + sent_ms);
        self.over_for = Some(over_for);
        self.over_count = self.over_count.saturating_add(1);
        if over_for > OVERUSE_MS && self.over_count > 1 && trend >= self.former_trend {
            self.over_for = Some(0.0);
            self.over_count = 0;
            self.usage = Usage::Over;
        }
    }

    /// The threshold follows the usual jitter of the path.
    fn adapt(&mut self, weighted: f64, at: f64) {
        let passed = (at - self.adapted_at.unwrap_or(at)).clamp(0.0, MAX_ADAPTED_STEP_MS);
        self.adapted_at = Some(at);
        if weighted > self.threshold + MAX_ADAPTED_OFFSET_MS {
            return;
        }
        let gain = if weighted < self.threshold { GAIN_DOWN } else { GAIN_UP };
        self.threshold += gain * (weighted - self.threshold) * passed;
        self.threshold = self.threshold.clamp(THRESHOLD_MS.0, THRESHOLD_MS.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups every 20 ms of which each takes `extra` milliseconds longer than the one before.
    fn feed(line: &mut Trendline, from: i64, count: i64, extra: impl Fn(i64) -> i64) -> i64 {
        let mut at = from;
        for number in 0..count {
            let arrived = 20_000 + extra(number);
            at += arrived;
            line.add(Delta { sent: 20_000, arrived, at });
        }
        at
    }

    #[test]
    fn a_steady_link_is_normal() {
        let mut line = Trendline::default();
        feed(&mut line, 0, 500, |_| 0);
        assert_eq!(line.usage(), Usage::Normal);
    }

    #[test]
    fn a_growing_queue_is_overuse_within_half_a_second_and_a_draining_one_underuse() {
        let mut line = Trendline::default();
        let at = feed(&mut line, 0, 100, |_| 0);
        let at = feed(&mut line, at, 15, |_| 5_000);
        assert_eq!(line.usage(), Usage::Over);
        feed(&mut line, at, 40, |_| -5_000);
        assert_eq!(line.usage(), Usage::Under);
    }

    #[test]
    fn the_threshold_follows_what_is_usual() {
        let mut line = Trendline::default();
        let at = feed(&mut line, 0, 200, |_| 1_300);
        let threshold = line.threshold;
        assert!(threshold > FIRST_THRESHOLD_MS, "{threshold}");
        feed(&mut line, at, 200, |_| 0);
        assert!(line.threshold < threshold / 2.0, "{}", line.threshold);
    }

    #[test]
    fn a_single_late_group_is_not_overuse() {
        let mut line = Trendline::default();
        let at = feed(&mut line, 0, 100, |_| 0);
        feed(&mut line, at, 2, |number| if number == 0 { 10_000 } else { -10_000 });
        assert_eq!(line.usage(), Usage::Normal);
    }
}
