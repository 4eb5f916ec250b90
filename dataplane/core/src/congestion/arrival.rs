//! Arrival groups (draft-ietf-rmcat-gcc-02 section 5.2): packets that left together are one observation of the queue.

use crate::time::Instant;

/// Packets that were sent within this time of the first belong together. Microseconds.
const GROUP: i64 = 5_000;
/// Packets that a queue or a radio let go together belong together too, for at most this long. Microseconds.
const MAX_BURST: i64 = 100_000;
/// So much more time between arrivals than between sendings is another clock, not a queue. Microseconds.
const CLOCK_WAS_SET: i64 = 10_000_000;
/// So many groups in a row that seem to arrive before their predecessors: the receiver's clock was set back.
const MAX_REORDERED: u8 = 3;

/// Time between the ends of two consecutive groups, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delta {
    /// Between their sendings.
    pub sent: i64,
    /// Between their arrivals.
    pub arrived: i64,
    /// When the later one was complete, on the receiver's clock.
    pub at: i64,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent: i64,
    last_sent: i64,
    first_arrival: i64,
    last_arrival: i64,
}

impl Group {
    const fn new(sent: i64, arrival: i64) -> Self {
        Self { first_sent: sent, last_sent: sent, first_arrival: arrival, last_arrival: arrival }
    }

    fn includes(&self, sent: i64, arrival: i64) -> bool {
        let apart = arrival.saturating_sub(self.last_arrival);
        let sent_apart = sent - self.last_sent;
        let is_burst = apart.saturating_sub(sent_apart) < 0
            && (-MAX_BURST..=GROUP).contains(&apart)
            && arrival.saturating_sub(self.first_arrival) < MAX_BURST;
        sent_apart == 0 || is_burst || sent - self.first_sent <= GROUP
    }
}

/// Sorts arrivals into groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    current: Option<Group>,
    former: Option<Group>,
    reordered: u8,
}

impl Groups {
    /// Takes one arrival (in microseconds on the receiver's clock), in the order of sending; gives the distance between
    /// two groups when the later one is complete.
    pub fn add(&mut self, sent: Instant, arrival: i64) -> Option<Delta> {
        let sent = i64::try_from(sent.as_micros()).unwrap_or(i64::MAX);
        let Some(current) = &mut self.current else {
            self.current = Some(Group::new(sent, arrival));
            return None;
        };
        if sent < current.last_sent {
            return None; // late news
        }
        if current.includes(sent, arrival) {
            current.last_sent = sent;
            current.last_arrival = current.last_arrival.max(arrival);
            return None;
        }
        let complete = *current;
        self.current = Some(Group::new(sent, arrival));
        let former = self.former.replace(complete)?;
        self.delta(former, complete)
    }

    fn delta(&mut self, former: Group, complete: Group) -> Option<Delta> {
        let sent = complete.last_sent - former.last_sent;
        let arrived = complete.last_arrival.saturating_sub(former.last_arrival);
        if arrived < 0 {
            self.reordered += 1;
            if self.reordered >= MAX_REORDERED {
                *self = Self::default();
            }
            return None;
        }
        self.reordered = 0;
        if arrived.saturating_sub(sent) > CLOCK_WAS_SET {
            *self = Self::default();
            return None;
        }
        Some(Delta { sent, arrived, at: complete.last_arrival })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    #[test]
    fn a_frame_of_packets_is_one_group_and_the_next_completes_it() {
        let mut groups = Groups::default();
        assert_eq!(groups.add(at(0), 50_000), None);
        assert_eq!(groups.add(at(1), 52_000), None);
        assert_eq!(groups.add(at(33), 90_000), None); // the first group is complete, but the only one
        assert_eq!(groups.add(at(66), 125_000), Some(Delta { sent: 32_000, arrived: 38_000, at: 90_000 }));
    }

    #[test]
    fn what_a_queue_lets_go_at_once_is_one_group() {
        let mut groups = Groups::default();
        groups.add(at(0), 0);
        groups.add(at(20), 20_000);
        assert!(groups.add(at(40), 100_000).is_some());
        assert_eq!(groups.add(at(60), 101_000), None);
        assert_eq!(groups.add(at(80), 102_000), None);
        assert_eq!(groups.add(at(100), 120_000), Some(Delta { sent: 60_000, arrived: 82_000, at: 102_000 }));
    }

    #[test]
    fn news_of_older_groups_changes_nothing() {
        let mut groups = Groups::default();
        groups.add(at(0), 0);
        groups.add(at(20), 20_000);
        assert_eq!(groups.add(at(10), 90_000), None);
        assert_eq!(groups.add(at(40), 40_000), Some(Delta { sent: 20_000, arrived: 20_000, at: 20_000 }));
    }

    #[test]
    fn a_receiver_whose_clock_was_set_begins_anew() {
        let mut groups = Groups::default();
        for frame in 0..4u64 {
            groups.add(at(20 * frame), 1_000_000_000 + 20_000 * frame as i64);
        }
        for frame in 4..12u64 {
            groups.add(at(20 * frame), 20_000 * frame as i64);
        }
        assert_eq!(groups.add(at(240), 240_000), Some(Delta { sent: 20_000, arrived: 20_000, at: 220_000 }));
    }

    proptest! {
        #[test]
        fn any_arrival_is_survived(samples in prop::collection::vec((0..1_000_000u64, any::<i64>()), 0..50)) {
            let mut groups = Groups::default();
            for (sent, arrival) in samples {
                if let Some(delta) = groups.add(Instant::from_micros(sent), arrival) {
                    prop_assert!(delta.arrived >= 0 && delta.sent >= 0);
                }
            }
        }
    }
}
