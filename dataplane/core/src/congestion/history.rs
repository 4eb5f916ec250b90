//! What was sent, by transport-wide number, until the peer has told what became of it.

use crate::time::Instant;
use core::time::Duration;

const FIRST_CAPACITY: usize = 256;
/// The most packets that are remembered.
pub(super) const MAX_CAPACITY: usize = 4_096;
/// A peer that has not reported a packet for so long will not: its slot may be taken without growing.
const REPORTED_WITHIN: Duration = Duration::from_secs(2);
/// Numbers further behind than this cannot be told from numbers ahead (half of 16 bits).
const MAX_BEHIND: u16 = 0x8000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    #[default]
    Unused,
    Unknown,
    Lost,
    Received,
}

/// 24 bytes: a node keeps thousands of histories.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    at: Instant,
    number: u32, // the low bits tell slots of one ring apart
    probe: u32,  // 0: none
    bytes: u16,
    fate: Fate,
}

/// A packet on which the peer has reported, for the first time or with better news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reported {
    pub number: u64,
    pub sent: Instant,
    pub bytes: u64,
    pub probe: Option<u32>,
    /// The first report on it, not the correction of one.
    pub is_first: bool,
}

/// Packets whose fate is final.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    pub packets: u64,
    pub lost: u64,
}

/// Ring of sent packets. It grows by doubling while a peer reports late, up to 4,096 packets; nothing else allocates.
#[derive(Debug, Default)]
pub(super) struct History {
    slots: Box<[Slot]>,
    highest: Option<u64>,
    highest_reported: u64,
    unsettled: u64,
}

impl History {
    /// Remembers a packet. Numbers grow by one.
    pub fn push(&mut self, number: u64, bytes: usize, now: Instant, probe: Option<u32>) {
        if self.slots.is_empty() {
            self.slots = vec![Slot::default(); FIRST_CAPACITY].into_boxed_slice();
        }
        while self.is_wanted(number, now) && self.slots.len() < MAX_CAPACITY {
            self.grow();
        }
        if self.highest.is_none() {
            self.highest_reported = number.saturating_sub(1);
            self.unsettled = number;
        }
        let at = self.index(number);
        self.slots[at] = Slot {
            at: now,
            number: number as u32,
            probe: probe.unwrap_or(0),
            bytes: u16::try_from(bytes).unwrap_or(u16::MAX),
            fate: Fate::Unknown,
        };
        self.highest = Some(self.highest.map_or(number, |highest| highest.max(number)));
    }

    /// Takes the peer's word on packet `number`; nothing for one that was never sent, is forgotten, or brings no news.
    pub fn report(&mut self, number: u16, is_received: bool) -> Option<Reported> {
        let number = self.unroll(number)?;
        let at = self.index(number);
        let slot = &mut self.slots[at];
        if slot.number != number as u32 {
            return None;
        }
        let former = slot.fate;
        match (former, is_received) {
            (Fate::Unused | Fate::Received, _) | (Fate::Lost, false) => return None,
            (Fate::Unknown | Fate::Lost, true) => slot.fate = Fate::Received,
            (Fate::Unknown, false) => slot.fate = Fate::Lost,
        }
        self.highest_reported = self.highest_reported.max(number);
        Some(Reported {
            number,
            sent: slot.at,
            bytes: u64::from(slot.bytes),
            probe: (slot.probe != 0).then_some(slot.probe),
            is_first: former == Fate::Unknown,
        })
    }

    /// Counts the packets that were sent before a moment and have been reported since the last call. A packet that came
    /// out of order is at first reported as lost, so the moment should leave it the time to come.
    pub fn settle(&mut self, before: Instant) -> Settled {
        let mut settled = Settled::default();
        let kept = self.slots.len() as u64;
        self.unsettled = self.unsettled.max(self.highest.unwrap_or(0).saturating_sub(kept));
        while self.highest.is_some() && self.unsettled <= self.highest_reported {
            let slot = self.slots[self.index(self.unsettled)];
            let is_it = slot.number == self.unsettled as u32;
            if is_it && slot.at > before {
                break;
            }
            let is_told = is_it && matches!(slot.fate, Fate::Lost | Fate::Received);
            settled.packets += u64::from(is_told);
            settled.lost += u64::from(is_told && slot.fate == Fate::Lost);
            self.unsettled += 1;
        }
        settled
    }

    /// How many packets were sent after the newest one that the peer has reported, and when the first of them was.
    pub fn unreported(&self) -> Option<(u64, Instant)> {
        let count = self.highest?.saturating_sub(self.highest_reported);
        let first = self.highest_reported.saturating_add(1);
        let slot = self.slots.get(self.index(first))?;
        (count > 0 && slot.number == first as u32).then_some((count, slot.at))
    }

    fn unroll(&self, number: u16) -> Option<u64> {
        let highest = self.highest?;
        let behind = (highest as u16).wrapping_sub(number);
        (behind < MAX_BEHIND).then(|| highest.checked_sub(u64::from(behind)))?
    }

    fn index(&self, number: u64) -> usize {
        number as usize & self.slots.len().wrapping_sub(1)
    }

    fn is_wanted(&self, number: u64, now: Instant) -> bool {
        let slot = self.slots[self.index(number)];
        slot.fate == Fate::Unknown && slot.number != number as u32 && now.since(slot.at) < REPORTED_WITHIN
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let mut larger = vec![Slot::default(); mask + 1].into_boxed_slice();
        for slot in &self.slots {
            larger[slot.number as usize & mask] = *slot;
        }
        self.slots = larger;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    #[test]
    fn a_packet_is_reported_once_and_again_only_when_it_came_after_all() {
        let mut history = History::default();
        history.push(70_000, 1_200, at(5), Some(3));
        let first = history.report(70_000u64 as u16, false).expect("sent");
        assert_eq!((first.number, first.sent, first.probe), (70_000, at(5), Some(3)));
        assert_eq!(history.report(70_000u64 as u16, false), None);
        assert!(history.report(70_000u64 as u16, true).is_some());
        assert_eq!(history.report(70_000u64 as u16, true), None);
    }

    #[test]
    fn numbers_that_were_never_sent_are_nobodys() {
        let mut history = History::default();
        assert_eq!(history.report(0, true), None);
        history.push(10, 100, at(0), None);
        assert_eq!(history.report(11, true), None);
        assert_eq!(history.report(9, true), None);
        assert_eq!(history.report(0x8000, true), None);
    }

    #[test]
    fn the_ring_grows_only_while_the_peer_owes_reports() {
        let mut prompt = History::default();
        let mut silent = History::default();
        for number in 0..100_000u64 {
            prompt.push(number, 100, at(number), None);
            prompt.report(number as u16, true);
            silent.push(number, 100, at(number / 100), None);
        }
        assert_eq!(prompt.slots.len(), FIRST_CAPACITY);
        assert_eq!(silent.slots.len(), MAX_CAPACITY);
        let mut slow = History::default();
        for number in 0..10_000u64 {
            slow.push(number, 100, at(number * 10), None); // 200 packets in two seconds
        }
        assert_eq!(slow.slots.len(), FIRST_CAPACITY);
    }

    #[test]
    fn growing_forgets_nothing_that_is_still_owed() {
        let mut history = History::default();
        for number in 0..1_000u64 {
            history.push(number, 100, at(0), None);
        }
        assert!((0..1_000u16).all(|number| history.report(number, true).is_some()));
    }

    #[test]
    fn a_packet_that_comes_out_of_order_is_not_a_loss() {
        let mut history = History::default();
        for number in 0..10u64 {
            history.push(number, 100, at(10 * number), None);
            history.report(number as u16, number != 3 && number != 5);
        }
        assert_eq!(history.settle(at(20)), Settled { packets: 3, lost: 0 });
        history.report(3, true);
        assert_eq!(history.settle(at(200)), Settled { packets: 7, lost: 1 });
        assert_eq!(history.settle(at(200)), Settled::default());
    }

    #[test]
    fn what_the_peer_owes_is_counted_from_its_newest_report() {
        let mut history = History::default();
        assert_eq!(history.unreported(), None);
        for number in 0..10u64 {
            history.push(number, 100, at(number), None);
        }
        assert_eq!(history.unreported().map(|owed| owed.0), Some(9)); // number 0 has no predecessor
        history.report(6, true);
        assert_eq!(history.unreported(), Some((3, at(7))));
        history.report(9, false);
        assert_eq!(history.unreported(), None);
    }
}
