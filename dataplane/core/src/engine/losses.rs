//! Which numbers of a stream are missing, and when to ask for them (RFC 4585 6.2.1); how often a key frame may be asked for.

use core::time::Duration;

use crate::time::Instant;

/// A greater jump is a new start, not a loss.
const MAX_GAP: u64 = 256;
const NACK_DELAY: Duration = Duration::from_millis(10);
const NACK_RETRY: Duration = Duration::from_millis(80);
const NACK_TRIES: u8 = 10;
/// Of one stream; more are no losses to repair but a broken link.
const MAX_MISSING: usize = 512;
/// In one request.
pub(crate) const MAX_ASKED: usize = 256;
const PLI_INTERVAL: Duration = Duration::from_millis(500);
/// Of the higher layers, whose key frames are large.
const PLI_HIGH_INTERVAL: Duration = Duration::from_secs(1);
const PLI_URGENT: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug)]
struct Missing {
    number: u64,
    due: Instant,
    tries: u8,
}

/// The missing numbers of a stream, ascending.
#[derive(Debug, Default)]
pub(crate) struct LossTracker {
    missing: Vec<Missing>,
    /// A number has been asked for too often, or too many are missing: only a key frame helps.
    pub(crate) gave_up: bool,
}

impl LossTracker {
    /// The numbers from `first` up to, not including, `end` have not come.
    pub(crate) fn gap(&mut self, first: u64, end: u64, now: Instant) {
        let count = usize::try_from(end.saturating_sub(first)).unwrap_or(usize::MAX);
        if end.saturating_sub(first) > MAX_GAP || self.missing.len() + count > MAX_MISSING {
            self.missing.clear();
            self.gave_up = true;
            return;
        }
        if self.missing.capacity() == 0 {
            self.missing.reserve_exact(MAX_MISSING);
        }
        let due = now + NACK_DELAY;
        self.missing.extend((first..end).map(|number| Missing { number, due, tries: 0 }));
    }

    pub(crate) fn arrived(&mut self, number: u64) {
        if let Ok(at) = self.missing.binary_search_by_key(&number, |missing| missing.number) {
            self.missing.remove(at);
        }
    }

    /// Whether anything is missing.
    pub(crate) fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }

    /// Puts the numbers to ask for now into `wanted` (at most [`MAX_ASKED`]).
    #[expect(clippy::cast_possible_truncation, reason = "the wire has the low 16 bits")]
    pub(crate) fn due(&mut self, now: Instant, wanted: &mut Vec<u16>) {
        let mut gave_up = false;
        self.missing.retain_mut(|missing| {
            if wanted.len() >= MAX_ASKED || now < missing.due {
                return true;
            }
            if missing.tries >= NACK_TRIES {
                gave_up = true;
                return false;
            }
            missing.due = now + NACK_RETRY;
            missing.tries += 1;
            wanted.push(missing.number as u16);
            true
        });
        self.gave_up |= gave_up;
    }
}

/// At most one key frame request per interval; a throttled one is deferred to the interval's end, never dropped.
#[derive(Debug)]
pub(crate) struct KeyFrameThrottle {
    interval: Duration,
    last: Option<Instant>,
    due: Option<Instant>,
    /// Requests that were sent.
    pub(crate) sent: u64,
}

impl KeyFrameThrottle {
    pub(crate) fn new(is_high: bool) -> Self {
        Self { interval: if is_high { PLI_HIGH_INTERVAL } else { PLI_INTERVAL }, last: None, due: None, sent: 0 }
    }

    /// `is_urgent` (a new subscriber) may pass after a shorter time.
    pub(crate) fn request(&mut self, now: Instant, is_urgent: bool) {
        let wait = if is_urgent { PLI_URGENT } else { self.interval };
        let due = self.last.map_or(now, |last| now.max(last + wait));
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.due.is_some()
    }

    /// True once for a request that is due.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        self.due = None;
        self.last = Some(now);
        self.sent += 1;
        true
    }

    /// A key frame came: what was asked for before is answered.
    pub(crate) fn fulfilled(&mut self) {
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    fn due(tracker: &mut LossTracker, millis: u64) -> Vec<u16> {
        let mut wanted = Vec::new();
        tracker.due(at(millis), &mut wanted);
        wanted
    }

    #[test]
    fn a_gap_is_asked_for_after_a_moment_and_again_later() {
        let mut tracker = LossTracker::default();
        tracker.gap(10, 13, at(0));
        tracker.arrived(11);
        assert!(due(&mut tracker, 9).is_empty());
        assert_eq!(due(&mut tracker, 10), [10, 12]);
        assert!(due(&mut tracker, 50).is_empty());
        assert_eq!(due(&mut tracker, 90), [10, 12]);
    }

    #[test]
    fn what_is_asked_for_in_vain_is_given_up() {
        let mut tracker = LossTracker::default();
        tracker.gap(1, 2, at(0));
        for round in 0..10 {
            assert_eq!(due(&mut tracker, 10 + 80 * round), [1]);
        }
        assert!(!tracker.gave_up);
        assert!(due(&mut tracker, 10_000).is_empty() && tracker.gave_up && tracker.is_empty());
    }

    #[test]
    fn a_jump_is_no_loss() {
        let mut tracker = LossTracker::default();
        tracker.gap(1, 300, at(0));
        assert!(tracker.gave_up && tracker.is_empty());
    }

    #[test]
    fn a_throttled_key_frame_request_is_deferred() {
        let mut throttle = KeyFrameThrottle::new(false);
        throttle.request(at(0), false);
        assert!(throttle.take(at(0)));
        throttle.request(at(10), false);
        assert!(!throttle.take(at(499)) && throttle.take(at(500)) && !throttle.take(at(2_000)));
        throttle.request(at(510), false);
        throttle.request(at(520), true);
        assert!(throttle.take(at(700)), "an urgent one passes earlier");
        throttle.request(at(710), true);
        throttle.fulfilled();
        assert!(!throttle.take(at(5_000)));
    }
}
