//! Arrival times by transport-wide number, and the feedback about them.

use crate::time::Instant;
use crate::wire::rtcp::Buffer;
use crate::wire::{rtp, twcc};

/// Arrivals that wait for one feedback, and how far back a number may lie.
const HISTORY: u64 = 1_024;

/// What came since the last feedback.
#[derive(Debug, Default)]
pub(crate) struct ArrivalLog {
    arrivals: Vec<(u64, Instant)>,
    highest: Option<u64>,
    next: u64, // the first number not yet reported
    count: u8,
    pub(crate) media_ssrc: u32,
}

impl ArrivalLog {
    pub(crate) fn add(&mut self, number: u16, now: Instant) {
        let full = match self.highest {
            Some(highest) => rtp::unroll(number, highest),
            None => {
                self.arrivals.reserve_exact(HISTORY as usize);
                self.next = 0x1_0000 + u64::from(number); // so that what came before it is not negative
                self.next
            }
        };
        let highest = self.highest.map_or(full, |highest| highest.max(full));
        self.highest = Some(highest);
        if self.arrivals.len() < HISTORY as usize && full + HISTORY > highest {
            self.arrivals.push((full, now));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    /// Writes the next feedback packet about what has arrived; false where nothing is left.
    ///
    /// A number that came after its gap was reported gets a packet of its own: one that spanned the numbers between it
    /// and the newest would tell again, as lost, what was told as received.
    pub(crate) fn feedback(&mut self, sender_ssrc: u32, buffer: &mut Buffer) -> bool {
        self.arrivals.sort_unstable();
        self.arrivals.dedup_by_key(|arrival| arrival.0);
        let Some(&(first, _)) = self.arrivals.first() else { return false };
        let (base, part) = if first >= self.next {
            (if first - self.next < HISTORY { self.next } else { first }, self.arrivals.as_slice())
        } else {
            let run = self.arrivals.iter().zip(first..self.next).take_while(|(a, expected)| a.0 == *expected).count();
            (first, self.arrivals.get(..run).unwrap_or_default())
        };
        let used = twcc::write_feedback(buffer, sender_ssrc, self.media_ssrc, self.count, base, part);
        let Some(&(last, _)) = used.checked_sub(1).and_then(|at| self.arrivals.get(at)) else {
            self.arrivals.clear();
            return false;
        };
        self.next = self.next.max(last + 1);
        self.count = self.count.wrapping_add(1);
        self.arrivals.drain(..used);
        true
    }
}
