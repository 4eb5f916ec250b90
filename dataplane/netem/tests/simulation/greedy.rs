//! A flow that takes what it gets: TCP Reno (RFC 5681) with segments of 1,200 bytes, without its byte counting.

use core::time::Duration;
use parley_core::time::Instant;
use std::collections::VecDeque;

const SEGMENT: usize = 1_200;
const DUPLICATES: u64 = 3;
const TIME_OUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Greedy {
    from: Instant,
    to: Instant,
    back: Duration,
    window: f64, // segments
    threshold: f64,
    next: u64,  // number to send
    acked: u64, // highest number
    flying: u64,
    recovered_at: u64,              // losses below belong to the last decrease
    acks: VecDeque<(Instant, u64)>, // on their way back
    heard: Instant,
}

impl Greedy {
    pub fn new(from: Instant, to: Instant, back: Duration) -> Self {
        Self {
            from,
            to,
            back,
            window: 10.0,
            threshold: f64::MAX,
            next: 1,
            acked: 0,
            flying: 0,
            recovered_at: 0,
            acks: VecDeque::new(),
            heard: from,
        }
    }

    pub fn next_at(&self) -> Option<Instant> {
        let time_out = (self.flying > 0).then(|| self.heard + TIME_OUT);
        let begin = (self.next == 1).then_some(self.from);
        [self.acks.front().map(|ack| ack.0), time_out, begin].into_iter().flatten().min()
    }

    /// A segment has come to the receiver.
    pub fn arrived(&mut self, number: u64, now: Instant) {
        self.acks.push_back((now + self.back, number));
    }

    /// The next segment that may be sent.
    pub fn send(&mut self, now: Instant) -> Option<(u64, usize)> {
        while let Some((_, number)) = self.acks.pop_front_if(|ack| ack.0 <= now) {
            self.on_ack(number, now);
        }
        if self.flying > 0 && now.as_micros() >= (self.heard + TIME_OUT).as_micros() {
            self.threshold = (self.window / 2.0).max(2.0);
            (self.window, self.flying, self.heard) = (1.0, 0, now);
        }
        let is_open = (self.from..self.to).contains(&now) && (self.flying as f64) < self.window;
        is_open.then(|| {
            if self.flying == 0 {
                self.heard = now;
            }
            self.flying += 1;
            self.next += 1;
            (self.next - 1, SEGMENT)
        })
    }

    fn on_ack(&mut self, number: u64, now: Instant) {
        self.heard = now;
        self.flying = self.flying.saturating_sub(1);
        let missing = number.saturating_sub(self.acked + 1);
        self.acked = self.acked.max(number);
        if missing == 0 {
            self.window += if self.window < self.threshold { 1.0 } else { 1.0 / self.window };
            return;
        }
        self.flying = self.flying.saturating_sub(missing); // the queue keeps the order, so they are lost
        if number > self.recovered_at + DUPLICATES {
            self.threshold = (self.window / 2.0).max(2.0);
            self.window = self.threshold;
            self.recovered_at = self.next;
        }
    }
}
