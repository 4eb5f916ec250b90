//! One primary SSRC of a track: a simulcast layer, or the whole track. Numbers are unrolled to full length.

use core::time::Duration;

use crate::engine::losses::{KeyFrameThrottle, LossTracker};
use crate::engine::rates::RateMeter;
use crate::engine::store::PacketStore;
use crate::engine::track::LAYER_ALIVE;
use crate::payload::descriptor::DependencyDescriptorReader;
use crate::time::Instant;
use crate::wire::rtcp::ReportBlock;
use crate::wire::rtp;

/// Packets in which duplicates are recognised; older ones are dropped.
const HISTORY: u64 = 1_024;
/// Where numbers begin, so that what came before the first is not negative.
pub(crate) const ORIGIN: u64 = 0x1_0000;

/// A publisher's sender report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) ntp: u64,
    pub(crate) rtp_timestamp: u32,
    pub(crate) arrival: Instant,
}

/// State of one received stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) ssrc: u32,
    pub(crate) track: usize,
    pub(crate) place: u8,
    pub(crate) clock_rate: u32,
    pub(crate) is_video: bool,
    highest: Option<u64>,
    base: u64,
    pub(crate) received: u64,
    pub(crate) last_arrival: Instant,
    /// The newest packet is the first, or the first after a silence; whoever acts on that clears it.
    pub(crate) has_begun: bool,
    pub(crate) sr: Option<Report>,
    pub(crate) losses: LossTracker,
    pub(crate) key_frames: KeyFrameThrottle,
    pub(crate) store: PacketStore,
    pub(crate) rates: RateMeter,
    pub(crate) size: (u16, u16),
    pub(crate) descriptors: Option<Box<DependencyDescriptorReader>>,
    pub(crate) fraction_lost: f64,
    seen: Vec<u64>, // a bit for each of the last HISTORY numbers
    transit: Option<i64>,
    jitter: i64, // in sixteenths, RFC 3550 A.8
    expected_before: u64,
    received_before: u64,
}

impl Stream {
    pub(crate) fn new(ssrc: u32, track: usize, place: u8, clock_rate: u32, is_video: bool) -> Self {
        Self {
            ssrc,
            track,
            place,
            clock_rate,
            is_video,
            highest: None,
            base: 0,
            received: 0,
            last_arrival: Instant::default(),
            has_begun: false,
            sr: None,
            losses: LossTracker::default(),
            key_frames: KeyFrameThrottle::new(place > 0),
            store: PacketStore::new(is_video),
            rates: RateMeter::default(),
            size: (0, 0),
            descriptors: None,
            fraction_lost: 0.0,
            seen: vec![0; (HISTORY / 64) as usize],
            transit: None,
            jitter: 0,
            expected_before: 0,
            received_before: 0,
        }
    }

    /// The unrolled number of a packet; `None` for a duplicate or one that is too late.
    pub(crate) fn receive(&mut self, sequence: u16, timestamp: u32, now: Instant, has_nack: bool) -> Option<u64> {
        let number = self.highest.map_or(ORIGIN + u64::from(sequence), |highest| rtp::unroll(sequence, highest));
        self.receive_number(number, timestamp, now, has_nack)
    }

    /// The same for a number that is unrolled already (a piped packet).
    pub(crate) fn receive_number(&mut self, number: u64, timestamp: u32, now: Instant, has_nack: bool) -> Option<u64> {
        let Some(highest) = self.highest else {
            self.highest = Some(number);
            self.base = number;
            self.mark(number);
            self.measure(timestamp, now);
            return self.take(number, now);
        };
        if number + HISTORY <= highest || (number <= highest && self.is_marked(number)) {
            return None;
        }
        if number > highest {
            if has_nack && number > highest + 1 {
                self.losses.gap(highest + 1, number, now);
            }
            self.unmark(highest + 1, number);
            self.highest = Some(number);
            self.measure(timestamp, now);
        } else if !self.losses.is_empty() {
            self.losses.arrived(number);
        }
        self.mark(number);
        self.take(number, now)
    }

    fn take(&mut self, number: u64, now: Instant) -> Option<u64> {
        self.has_begun = self.received == 0 || now.since(self.last_arrival) >= LAYER_ALIVE;
        self.received += 1;
        self.last_arrival = now;
        Some(number)
    }

    fn bit(number: u64) -> (usize, u64) {
        let at = number % HISTORY;
        ((at / 64) as usize, 1 << (at % 64))
    }

    fn mark(&mut self, number: u64) {
        let (word, bit) = Self::bit(number);
        if let Some(word) = self.seen.get_mut(word) {
            *word |= bit;
        }
    }

    fn is_marked(&self, number: u64) -> bool {
        let (word, bit) = Self::bit(number);
        self.seen.get(word).is_some_and(|word| word & bit != 0)
    }

    fn unmark(&mut self, first: u64, end: u64) {
        if end - first >= HISTORY {
            self.seen.fill(0);
            return;
        }
        for number in first..end {
            let (word, bit) = Self::bit(number);
            if let Some(word) = self.seen.get_mut(word) {
                *word &= !bit;
            }
        }
    }

    /// Interarrival jitter, RFC 3550 6.4.1.
    fn measure(&mut self, timestamp: u32, now: Instant) {
        let rate = i64::from(self.clock_rate);
        let arrival = i64::try_from(now.as_micros()).unwrap_or(0) / 100 * rate / 10_000;
        let transit = arrival - i64::from(timestamp);
        if let Some(former) = self.transit.replace(transit) {
            let change = (transit - former).abs();
            if change < rate * 10 {
                self.jitter += change - ((self.jitter + 8) >> 4); // a wrap of the time stamp is no jitter
            }
        }
    }

    pub(crate) fn jitter(&self) -> Duration {
        let units = u64::try_from(self.jitter >> 4).unwrap_or(0);
        Duration::from_micros(units * 1_000_000 / u64::from(self.clock_rate.max(1)))
    }

    /// Numbers that did not come, since the start.
    pub(crate) fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }

    fn expected(&self) -> u64 {
        self.highest.map_or(0, |highest| highest - self.base.min(highest) + 1)
    }

    /// The report block since the last one. Sets `fraction_lost`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "fields of the wire"
    )]
    pub(crate) fn report(&mut self, now: Instant) -> ReportBlock {
        let expected = self.expected();
        let interval = expected.saturating_sub(self.expected_before);
        let came = self.received.saturating_sub(self.received_before);
        self.expected_before = expected;
        self.received_before = self.received;
        let lost = interval.saturating_sub(came);
        self.fraction_lost = if interval > 0 { lost as f64 / interval as f64 } else { 0.0 };
        let (last_sr, delay) = self.sr.map_or((0, 0), |sr| {
            ((sr.ntp >> 16) as u32, (now.since(sr.arrival).as_micros() * 65_536 / 1_000_000) as u32)
        });
        ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: (self.fraction_lost * 256.0).min(255.0) as u8,
            lost: i32::try_from(expected as i64 - self.received as i64).unwrap_or(i32::MAX),
            highest_sequence: self.highest.unwrap_or(ORIGIN).saturating_sub(ORIGIN) as u32,
            jitter: (self.jitter >> 4) as u32,
            last_sr,
            delay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Stream {
        Stream::new(1, 0, 0, 90_000, true)
    }

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    #[test]
    fn duplicates_and_packets_that_are_too_late_are_refused() {
        let mut stream = stream();
        assert_eq!(stream.receive(65_535, 0, at(0), true), Some(ORIGIN + 65_535));
        assert_eq!(stream.receive(0, 0, at(0), true), Some(ORIGIN + 65_536));
        assert_eq!(stream.receive(65_535, 0, at(0), true), None);
        assert_eq!(stream.receive(65_530, 0, at(0), true), Some(ORIGIN + 65_530), "earlier than the first");
        assert_eq!(stream.receive(2_000, 0, at(0), true), Some(ORIGIN + 65_536 + 2_000));
        assert_eq!(stream.receive(10, 0, at(0), true), None, "beyond the history");
        assert_eq!(stream.receive(1_999, 0, at(0), true), Some(ORIGIN + 65_536 + 1_999));
        assert_eq!(stream.receive(1_999, 0, at(0), true), None);
    }

    #[test]
    fn a_report_tells_the_fraction_of_its_interval() {
        let mut stream = stream();
        for sequence in [0, 1, 3, 4] {
            stream.receive(sequence, 0, at(0), false);
        }
        let block = stream.report(at(0));
        assert_eq!((block.fraction_lost, block.lost, block.highest_sequence), (51, 1, 4));
        for sequence in 5..9 {
            stream.receive(sequence, 0, at(0), false);
        }
        let block = stream.report(at(0));
        assert_eq!((block.fraction_lost, block.lost), (0, 1));
    }

    #[test]
    fn jitter_is_zero_for_an_even_stream_and_grows_with_its_unevenness() {
        let mut even = stream();
        let mut uneven = stream();
        for number in 0..100_u16 {
            let timestamp = u32::from(number) * 3_000;
            let millis = u64::from(number) * 100 / 3;
            even.receive(number, timestamp, Instant::from_micros(u64::from(number) * 100_000 / 3), false);
            uneven.receive(number, timestamp, at(millis + if number % 2 == 0 { 20 } else { 0 }), false);
        }
        assert!(even.jitter() < Duration::from_millis(1), "{:?}", even.jitter());
        assert!(uneven.jitter() > Duration::from_millis(15), "{:?}", uneven.jitter());
    }
}
