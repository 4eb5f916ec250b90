//! A subscriber's end as Chromium's: transport-wide feedback every 50 ms, repairs asked for, and a key frame where a
//! repair does not come.

use core::time::Duration;
use parley_core::time::Instant;
use parley_core::wire::{rtcp, twcc};
use std::collections::BTreeMap;

const FEEDBACK: Duration = Duration::from_millis(50);
const ASK: Duration = Duration::from_millis(20);
const ASK_AGAIN: Duration = Duration::from_millis(100);
const MAX_ASKS: u32 = 10;
const MAX_GAP: u64 = 300;
/// How far back arrivals are remembered, in numbers.
const REMEMBERED: u64 = 2_000;

pub const VIDEO_SSRC: u32 = 2;

struct Missing {
    next: Instant,
    asks: u32,
}

#[derive(Default)]
pub struct Receiver {
    arrivals: BTreeMap<u64, Instant>, // by transport-wide number
    reported: u64,                    // the number that the next feedback begins with
    has_news: bool,
    feedback_count: u8,
    feedback_at: Instant,
    highest: Option<u64>, // video number
    missing: BTreeMap<u64, Missing>,
    pub audio: u64,
}

impl Receiver {
    pub fn next_at(&self) -> Instant {
        self.feedback_at
    }

    /// A packet with a transport-wide number.
    pub fn arrived(&mut self, number: u64, now: Instant) {
        if self.arrivals.is_empty() {
            self.reported = number;
        }
        self.reported = self.reported.min(number);
        self.arrivals.insert(number, now);
        self.has_news = true;
        while self.arrivals.first_key_value().is_some_and(|(first, _)| first + REMEMBERED < number) {
            self.arrivals.pop_first();
        }
    }

    /// A video packet, or the repair of one, by its number in the stream that the subscriber is sent.
    pub fn video(&mut self, number: u64, now: Instant) {
        self.missing.remove(&number);
        if self.highest.is_some_and(|highest| number > highest + MAX_GAP) {
            self.missing.clear(); // what is lost is lost: a key frame will follow
            self.highest = Some(number);
        }
        let expected = self.highest.map_or(number, |highest| highest + 1);
        for gap in expected..number {
            self.missing.insert(gap, Missing { next: now + ASK, asks: 0 });
        }
        self.highest = Some(self.highest.map_or(number, |highest| highest.max(number)));
    }

    /// The highest video number so far.
    pub fn highest_video(&self) -> u64 {
        self.highest.unwrap_or(0)
    }

    /// The highest transport-wide number so far.
    pub fn highest_number(&self) -> u64 {
        self.arrivals.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// The reports that are due, each as an RTCP datagram.
    pub fn reports(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        if now < self.feedback_at {
            return;
        }
        self.feedback_at = now + FEEDBACK;
        self.feedback(out);
        self.ask(now, out);
    }

    fn feedback(&mut self, out: &mut Vec<Vec<u8>>) {
        if !core::mem::take(&mut self.has_news) {
            return;
        }
        let arrivals: Vec<(u64, Instant)> =
            self.arrivals.range(self.reported..).map(|(number, at)| (*number, *at)).collect();
        let (mut base, mut rest) = (self.reported, &arrivals[..]);
        while !rest.is_empty() {
            let mut buffer = rtcp::Buffer::new();
            let covered = twcc::write_feedback(&mut buffer, 1, VIDEO_SSRC, self.feedback_count, base, rest);
            assert!(covered > 0, "a report fits into an empty buffer");
            out.push(buffer.as_slice().to_vec());
            self.feedback_count = self.feedback_count.wrapping_add(1);
            base = rest[covered - 1].0 + 1;
            rest = &rest[covered..];
        }
        self.reported = base;
    }

    fn ask(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        let mut numbers = Vec::new();
        let mut gave_up = false;
        self.missing.retain(|number, missing| {
            if missing.next <= now {
                missing.next = now + ASK_AGAIN;
                missing.asks += 1;
                numbers.push(*number as u16);
            }
            gave_up |= missing.asks > MAX_ASKS;
            missing.asks <= MAX_ASKS
        });
        numbers.truncate(200);
        let mut buffer = rtcp::Buffer::new();
        if !numbers.is_empty() {
            rtcp::write_nack(&mut buffer, 1, VIDEO_SSRC, &numbers);
        }
        if gave_up {
            self.missing.clear();
            rtcp::write_picture_loss(&mut buffer, 1, VIDEO_SSRC);
        }
        if !buffer.is_empty() {
            out.push(buffer.as_slice().to_vec());
        }
    }
}
