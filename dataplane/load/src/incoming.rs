//! What a subscriber receives: counts by stream, delays, and the feedback that a receiver sends.

use core::time::Duration;

use parley_core::time::Instant;
use parley_core::wire::rtcp::{self, Buffer, ReportBlock};
use parley_core::wire::rtp::{self, RtpHeader};
use parley_core::wire::twcc;

use crate::command::{ReceiveSpec, Received};
use crate::histogram::Histogram;
use crate::stamp;

const MAX_STREAMS: usize = 256;
/// Arrivals that wait for their feedback; more are not reported.
const MAX_ARRIVALS: usize = 4_096;
/// Numbers that are asked for again, and how often.
const MAX_MISSING: usize = 256;
const MAX_REQUESTS: u8 = 5;
/// Reordering within this is no loss yet.
const NACK_AFTER: Duration = Duration::from_millis(20);
const NACK_AGAIN: Duration = Duration::from_millis(100);

/// A number that did not arrive in turn.
struct Missing {
    number: u64,
    ask_at: Instant,
    asked: u8,
}

/// One received SSRC. Numbers are unrolled; those below `base` belong to an earlier window.
struct InStream {
    ssrc: u32,
    base: u64,
    highest: u64,
    received: u64,
    missing: Vec<Missing>,
    reported_expected: u64,
    reported_received: u64,
    /// The middle of the last sender report's time, and when it came (RFC 3550 6.4.1).
    sender_report: Option<(u32, Instant)>,
}

impl InStream {
    const fn new(ssrc: u32, number: u64) -> Self {
        Self {
            ssrc,
            base: number,
            highest: number,
            received: 1,
            missing: Vec::new(),
            reported_expected: 0,
            reported_received: 0,
            sender_report: None,
        }
    }

    /// Counts a number; true where it came after a later one.
    fn take(&mut self, sequence: u16, now: Instant) -> bool {
        let number = rtp::unroll(sequence, self.highest);
        if number >= self.base {
            self.received += 1;
        }
        if number <= self.highest {
            self.missing.retain(|missing| missing.number != number);
            return true;
        }
        for number in (self.highest + 1..number).take(MAX_MISSING) {
            if self.missing.len() < MAX_MISSING {
                self.missing.push(Missing { number, ask_at: now + NACK_AFTER, asked: 0 });
            }
        }
        self.highest = number;
        false
    }

    const fn expected(&self) -> u64 {
        (self.highest + 1).saturating_sub(self.base)
    }

    const fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }

    const fn restart(&mut self) {
        self.base = self.highest + 1;
        self.received = 0;
        self.reported_expected = 0;
        self.reported_received = 0;
    }

    /// RFC 3550 6.4.1; the jitter is not measured.
    fn report(&mut self, now: Instant) -> ReportBlock {
        let expected = self.expected().saturating_sub(self.reported_expected);
        let received = self.received.saturating_sub(self.reported_received);
        self.reported_expected = self.expected();
        self.reported_received = self.received;
        let fraction = (expected.saturating_sub(received) * 256).checked_div(expected).unwrap_or(0);
        ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            lost: i32::try_from(self.lost()).unwrap_or(i32::MAX),
            #[expect(clippy::cast_possible_truncation, reason = "the cycles beyond 32 bits are not reported")]
            highest_sequence: self.highest as u32,
            jitter: 0,
            last_sr: self.sender_report.map_or(0, |(middle, _)| middle),
            delay: self.sender_report.map_or(0, |(_, at)| in_65536ths(now.since(at))),
        }
    }

    /// Numbers that are due to be asked for.
    fn due(&mut self, now: Instant) -> Vec<u16> {
        self.missing.retain(|missing| missing.asked < MAX_REQUESTS);
        let mut numbers = Vec::new();
        for missing in self.missing.iter_mut().filter(|missing| now >= missing.ask_at) {
            missing.asked += 1;
            missing.ask_at = now + NACK_AGAIN;
            #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are what a packet carries")]
            numbers.push(missing.number as u16);
        }
        numbers
    }
}

/// Everything that one peer receives.
#[derive(Default)]
pub struct Incoming {
    spec: Option<ReceiveSpec>,
    streams: Vec<InStream>,
    arrivals: Vec<(u64, Instant)>,
    next_wide: Option<u64>,
    feedback_count: u8,
    /// What was counted in this window.
    pub counts: Received,
    /// And how long it took.
    pub delays: Histogram,
}

impl Incoming {
    /// From now on the peer answers like this.
    pub fn set_spec(&mut self, spec: Option<ReceiveSpec>) {
        self.spec = spec;
    }

    /// How the peer answers.
    #[must_use]
    pub const fn spec(&self) -> Option<&ReceiveSpec> {
        self.spec.as_ref()
    }

    /// Begins another window of counts.
    pub fn restart(&mut self) {
        self.counts = Received::default();
        self.delays = Histogram::default();
        for stream in &mut self.streams {
            stream.restart();
        }
    }

    /// The counts with losses, without delays.
    #[must_use]
    pub fn counted(&self) -> Received {
        let mut counts = self.counts.clone();
        counts.lost = self.streams.iter().map(InStream::lost).sum();
        counts.streams = self.streams.iter().filter(|stream| stream.received > 0).count() as u64;
        counts
    }

    /// The counts with losses and delays.
    #[must_use]
    pub fn report(&self) -> Received {
        let mut report = self.counted();
        set_delays(&mut report, &self.delays);
        report
    }

    /// Takes an opened RTP packet.
    pub fn take(&mut self, data: &[u8], now: Instant) {
        let Ok(header) = rtp::parse(data) else {
            self.counts.bad += 1;
            return;
        };
        self.note_arrival(&header, data, now);
        let payload = header.payload(data);
        if self.spec.as_ref().is_some_and(|spec| spec.rtx_payload_types.contains(&header.payload_type)) {
            // RFC 4588 4: the original number comes first; nothing at all is padding that probes the link.
            let is_padding = payload.len() <= 2;
            *if is_padding { &mut self.counts.padding } else { &mut self.counts.retransmissions } += 1;
            if let [high, low, _, ..] = *payload {
                self.repair(u16::from_be_bytes([high, low]));
            }
            return;
        }
        if payload.is_empty() {
            self.counts.padding += 1;
        } else {
            self.counts.packets += 1;
            self.counts.bytes += data.len() as u64;
            match stamp::read(payload) {
                Some(sent) => self.delays.record(now.since(sent)),
                None => self.counts.foreign += 1,
            }
        }
        self.count(header.ssrc, header.sequence, now);
    }

    fn count(&mut self, ssrc: u32, sequence: u16, now: Instant) {
        let known = self.streams.len();
        match self.streams.iter_mut().find(|stream| stream.ssrc == ssrc) {
            Some(stream) => self.counts.reordered += u64::from(stream.take(sequence, now)),
            None if known < MAX_STREAMS => {
                // Room below, so that a packet that came too late for the first place has a number.
                self.streams.push(InStream::new(ssrc, u64::from(sequence) + (1 << 16)));
            }
            None => self.counts.foreign += 1,
        }
    }

    /// A retransmission came: its number, of whichever stream, is asked for no more.
    fn repair(&mut self, sequence: u16) {
        for stream in &mut self.streams {
            let number = rtp::unroll(sequence, stream.highest);
            stream.missing.retain(|missing| missing.number != number);
        }
    }

    fn note_arrival(&mut self, header: &RtpHeader, data: &[u8], now: Instant) {
        let Some(id) = self.spec.as_ref().and_then(|spec| spec.transport_cc) else { return };
        let Some((_, &[high, low, ..])) = header.extensions(data).find(|(found, _)| *found == id) else { return };
        let near = self.arrivals.last().map_or(self.next_wide.unwrap_or(1 << 16), |last| last.0);
        let number = rtp::unroll(u16::from_be_bytes([high, low]), near);
        if self.arrivals.len() < MAX_ARRIVALS {
            self.arrivals.push((number, now));
        }
    }

    /// Appends transport-wide feedback on what has arrived, as much as fits. False where nothing waits.
    pub fn write_feedback(&mut self, buffer: &mut Buffer, sender_ssrc: u32) -> bool {
        self.arrivals.sort_unstable_by_key(|arrival| arrival.0);
        self.arrivals.dedup_by_key(|arrival| arrival.0);
        let Some(&(first, _)) = self.arrivals.first() else { return false };
        let media_ssrc = self.streams.first().map_or(0, |stream| stream.ssrc);
        // What was reported once is not reported again; what never came is, as missing.
        let base = self.next_wide.filter(|next| *next <= first).unwrap_or(first);
        let covered = twcc::write_feedback(buffer, sender_ssrc, media_ssrc, self.feedback_count, base, &self.arrivals);
        if let Some(&(last, _)) = covered.checked_sub(1).and_then(|place| self.arrivals.get(place)) {
            self.next_wide = Some(last + 1);
        }
        self.feedback_count = self.feedback_count.wrapping_add(1);
        self.arrivals.drain(..covered.min(self.arrivals.len()));
        covered > 0
    }

    /// Appends requests for what is missing. False for none.
    pub fn write_nacks(&mut self, buffer: &mut Buffer, sender_ssrc: u32, now: Instant) -> bool {
        let mut is_written = false;
        for stream in self.streams.iter_mut().filter(|stream| !stream.missing.is_empty()) {
            let numbers = stream.due(now);
            if !numbers.is_empty() {
                is_written |= rtcp::write_nack(buffer, sender_ssrc, stream.ssrc, &numbers);
            }
        }
        is_written
    }

    /// Takes a sender report: its SSRC and its NTP time.
    pub fn note_sender_report(&mut self, ssrc: u32, ntp: u64, now: Instant) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == ssrc) {
            #[expect(clippy::cast_possible_truncation, reason = "the middle 32 bits are what is wanted")]
            let middle = (ntp >> 16) as u32;
            stream.sender_report = Some((middle, now));
        }
    }

    /// Appends receiver reports on streams that received something, at most 31 of them.
    pub fn write_report(&mut self, buffer: &mut Buffer, sender_ssrc: u32, now: Instant) {
        let blocks: Vec<ReportBlock> = self
            .streams
            .iter_mut()
            .filter(|stream| stream.received > stream.reported_received)
            .take(31)
            .map(|stream| stream.report(now))
            .collect();
        rtcp::write_receiver_report(buffer, sender_ssrc, &blocks);
    }
}

fn in_65536ths(time: Duration) -> u32 {
    u32::try_from(time.as_micros() * 65_536 / 1_000_000).unwrap_or(u32::MAX)
}

/// Writes percentiles in milliseconds.
pub fn set_delays(report: &mut Received, delays: &Histogram) {
    let in_ms = |percent| delays.percentile(percent).map(|delay| delay.as_secs_f64() * 1e3);
    report.delay_p50_ms = in_ms(50.0);
    report.delay_p99_ms = in_ms(99.0);
    report.delay_max_ms = delays.highest().as_secs_f64() * 1e3;
}

#[cfg(test)]
mod tests {
    use parley_core::wire::rtcp::Packet;

    use super::*;

    const SSRC: u32 = 9;

    fn packet(sequence: u16, payload_type: u8, payload: &[u8], wide: u16) -> Vec<u8> {
        let mut data = vec![0x90, payload_type, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0xbe, 0xde, 0, 1, 0x31, 0, 0, 0];
        data[2..4].copy_from_slice(&sequence.to_be_bytes());
        data[17..19].copy_from_slice(&wide.to_be_bytes());
        data.extend_from_slice(payload);
        data
    }

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    fn incoming() -> Incoming {
        let mut made = Incoming::default();
        made.set_spec(Some(ReceiveSpec {
            id: "s".to_owned(),
            transport_cc: Some(3),
            rtx_payload_types: vec![97],
            feedback_ms: 100,
            rtcp: true,
        }));
        made
    }

    fn stamped(sent: Instant) -> Vec<u8> {
        let mut payload = vec![0; 40];
        stamp::write(&mut payload, sent);
        payload
    }

    fn nacked(incoming: &mut Incoming, now: Instant) -> Vec<u16> {
        let mut buffer = Buffer::new();
        incoming.write_nacks(&mut buffer, 1, now);
        let parsed = rtcp::parse(buffer.as_slice()).into_iter().flatten();
        parsed
            .flat_map(|packet| if let Packet::Nack { numbers, .. } = packet { numbers.collect() } else { vec![] })
            .collect()
    }

    #[test]
    fn what_is_missing_between_others_is_lost_and_what_comes_late_is_not() {
        let mut incoming = incoming();
        for (place, sequence) in [65_534, 65_535, 1, 2, 5, 4].into_iter().enumerate() {
            incoming.take(&packet(sequence, 96, &stamped(at(10)), 7 + place as u16), at(12));
        }
        let report = incoming.report();
        assert_eq!((report.packets, report.lost, report.reordered, report.streams), (6, 2, 1, 1), "0 and 3 are lost");
        assert_eq!(report.delay_p99_ms, Some(2.0));
    }

    #[test]
    fn a_window_counts_from_the_numbers_that_follow_it() {
        let mut incoming = incoming();
        for sequence in [10, 11, 13] {
            incoming.take(&packet(sequence, 96, &stamped(at(1)), sequence), at(1));
        }
        incoming.restart();
        for sequence in [12, 14, 16] {
            incoming.take(&packet(sequence, 96, &stamped(at(2)), sequence), at(2));
        }
        let report = incoming.report();
        assert_eq!((report.packets, report.lost, report.reordered), (3, 1, 1), "12 belonged to the former window");
    }

    #[test]
    fn a_missing_number_is_asked_for_after_a_while_and_not_for_ever() {
        let mut incoming = incoming();
        for sequence in [20, 22, 24] {
            incoming.take(&packet(sequence, 96, &stamped(at(0)), sequence), at(0));
        }
        assert!(nacked(&mut incoming, at(1)).is_empty(), "it may come yet");
        assert_eq!(nacked(&mut incoming, at(25)), [21, 23]);
        assert!(nacked(&mut incoming, at(30)).is_empty(), "the answer takes a round trip");
        incoming.take(&packet(500, 97, &[0, 21, 1, 2, 3], 26), at(40));
        assert_eq!(nacked(&mut incoming, at(130)), [23], "21 was sent again");
        let rest: Vec<u16> = (1..20).flat_map(|turn| nacked(&mut incoming, at(130 + turn * 200))).collect();
        assert_eq!(rest, [23, 23, 23]);
        assert_eq!(incoming.report().retransmissions, 1);
    }

    #[test]
    fn a_report_tells_what_was_lost_since_the_last_and_when_the_sender_reported() {
        let mut incoming = incoming();
        let report = |incoming: &mut Incoming, now| {
            let mut buffer = Buffer::new();
            incoming.write_report(&mut buffer, 1, now);
            let packets = rtcp::parse(buffer.as_slice()).into_iter().flatten();
            let blocks = packets
                .flat_map(|p| if let Packet::ReceiverReport { blocks, .. } = p { blocks.collect() } else { vec![] });
            blocks.collect::<Vec<ReportBlock>>()
        };
        for sequence in [1, 2, 4] {
            incoming.take(&packet(sequence, 96, &stamped(at(0)), sequence), at(0));
        }
        let first = report(&mut incoming, at(1));
        assert_eq!((first[0].lost, first[0].fraction_lost, first[0].last_sr), (1, 64, 0));
        incoming.take(&packet(5, 96, &stamped(at(0)), 5), at(2));
        incoming.note_sender_report(SSRC, 0x1111_2222_3333_4444, at(500));
        let second = report(&mut incoming, at(1_000));
        assert_eq!((second[0].lost, second[0].fraction_lost), (1, 0));
        assert_eq!((second[0].last_sr, second[0].delay), (0x2222_3333, 32_768), "half a second");
        assert!(report(&mut incoming, at(1_100)).is_empty(), "nothing came since");
    }

    #[test]
    fn padding_and_the_payload_of_others_are_told_apart() {
        let mut incoming = incoming();
        incoming.take(&packet(1, 97, &[], 1), at(0));
        incoming.take(&packet(2, 96, b"from somewhere else entirely", 2), at(0));
        incoming.take(&[0x80; 5], at(0));
        let report = incoming.report();
        assert_eq!((report.padding, report.foreign, report.packets, report.bad), (1, 1, 1, 1));
    }

    #[test]
    fn feedback_reports_each_arrival_once_and_gaps_as_missing() {
        let mut incoming = incoming();
        let mut statuses = Vec::new();
        for (wide, millis) in [(65_534_u16, 100), (65_535, 101), (2, 102), (4, 300), (5, 301)] {
            incoming.take(&packet(wide, 96, &stamped(at(0)), wide), at(millis));
            if wide == 2 || wide == 5 {
                let mut buffer = Buffer::new();
                assert!(incoming.write_feedback(&mut buffer, 1));
                for packet in rtcp::parse(buffer.as_slice()).into_iter().flatten() {
                    let Packet::TransportFeedback(feedback) = packet else { continue };
                    assert_eq!(feedback.media_ssrc, SSRC);
                    statuses.extend(feedback.statuses().map(|(number, arrival)| (number, arrival.is_some())));
                }
            }
        }
        let expected =
            [(65_534, true), (65_535, true), (0, false), (1, false), (2, true), (3, false), (4, true), (5, true)];
        assert_eq!(statuses, expected);
        assert!(!incoming.write_feedback(&mut Buffer::new(), 1), "nothing waits");
    }
}
