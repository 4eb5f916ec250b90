//! One direction of a link.

use crate::loss::Dice;
use crate::params::{Params, Queue};
use crate::random::Random;
use core::cmp::Reverse;
use core::time::Duration;
use parley_core::time::Instant;
use parley_core::units::DataRate;
use std::collections::{BinaryHeap, VecDeque};

const BITS_IN_MICRO: u128 = 1_000_000; // a rate of 1 b/s carries 1 / BITS_IN_MICRO bit in a microsecond

/// What became of what was pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets and bytes that were pushed.
    pub pushed: (u64, u64),
    /// Packets and bytes that came out, or will.
    pub carried: (u64, u64),
    /// Packets and bytes for which the queue had no room.
    pub dropped: (u64, u64),
    /// Packets and bytes that the loss model took, or that met a link that was down.
    pub lost: (u64, u64),
}

fn count(counter: &mut (u64, u64), bytes: u64) {
    counter.0 += 1;
    counter.1 += bytes;
}

#[derive(Debug)]
struct Waiting<T> {
    bytes: u64,
    payload: T,
}

/// On its way behind the wire; ordered by arrival, then by departure.
#[derive(Debug)]
struct Flying<T> {
    arrival: Instant,
    number: u64,
    payload: T,
}

impl<T> PartialEq for Flying<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.arrival, self.number) == (other.arrival, other.number)
    }
}

impl<T> Eq for Flying<T> {}

impl<T> PartialOrd for Flying<T> {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Flying<T> {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.arrival, self.number).cmp(&(other.arrival, other.number))
    }
}

/// One direction of a link that carries payloads of any type. Time must not go back between calls.
#[derive(Debug)]
pub struct Link<T> {
    params: Params,
    schedule: VecDeque<(Instant, Params)>,
    random: Random,
    dice: Dice,
    queue: VecDeque<Waiting<T>>,
    queued: u64,  // bytes
    left: u128,   // of the packet on the wire, in bits times BITS_IN_MICRO
    now: Instant, // up to which the wire has been followed
    flying: BinaryHeap<Reverse<Flying<T>>>,
    departed: u64,
    last_arrival: Instant,
    counters: Counters,
}

impl<T> Link<T> {
    /// A link in a state. The same seed and the same pushes give the same arrivals.
    #[must_use]
    pub fn new(seed: u64, params: Params) -> Self {
        Self {
            params,
            schedule: VecDeque::new(),
            random: Random::new(seed),
            dice: Dice::default(),
            queue: VecDeque::new(),
            queued: 0,
            left: 0,
            now: Instant::default(),
            flying: BinaryHeap::new(),
            departed: 0,
            last_arrival: Instant::default(),
            counters: Counters::default(),
        }
    }

    /// Changes the link's state at a moment. Changes are given in the order of time.
    pub fn schedule(&mut self, at: Instant, params: Params) {
        self.schedule.push_back((at, params));
    }

    /// The link's state now.
    #[must_use]
    pub const fn params(&self) -> &Params {
        &self.params
    }

    /// Sends `bytes` over the link.
    pub fn push(&mut self, now: Instant, bytes: usize, payload: T) {
        self.advance(now);
        let bytes = bytes as u64;
        count(&mut self.counters.pushed, bytes);
        if self.params.is_down {
            count(&mut self.counters.lost, bytes);
            return;
        }
        if self.params.rate.is_none() {
            self.depart(now, bytes, payload);
            return;
        }
        if !self.queue.is_empty() && self.queued + bytes > self.room() {
            count(&mut self.counters.dropped, bytes);
            return;
        }
        if self.queue.is_empty() {
            self.left = u128::from(bytes) * 8 * BITS_IN_MICRO;
        }
        self.queued += bytes;
        self.queue.push_back(Waiting { bytes, payload });
    }

    /// The next payload that has arrived by `now`, and when it did.
    pub fn pop(&mut self, now: Instant) -> Option<(Instant, T)> {
        self.advance(now);
        if self.flying.peek().is_none_or(|Reverse(next)| next.arrival > now) {
            return None;
        }
        self.flying.pop().map(|Reverse(next)| (next.arrival, next.payload))
    }

    /// When to call [`Self::pop`] next, though it may then still have nothing; nothing while the link is empty.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        let arrival = self.flying.peek().map(|Reverse(next)| next.arrival);
        let change = self.schedule.front().map(|(at, _)| *at).filter(|_| !self.queue.is_empty());
        [arrival, change, self.departure()].into_iter().flatten().min()
    }

    /// How long a byte that is pushed now would wait for the wire; nothing where the wire is stopped.
    #[must_use]
    pub fn queue_delay(&self) -> Option<Duration> {
        let Some(rate) = self.params.rate else { return Some(Duration::ZERO) };
        let bits = u128::from(self.queued) * 8 * BITS_IN_MICRO;
        let micros = bits.checked_div(u128::from(rate.bps()))?;
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }

    /// What became of what was pushed so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    fn room(&self) -> u64 {
        match (self.params.queue, self.params.rate) {
            (Queue::Bytes(bytes), _) => bytes,
            (Queue::Time(time), Some(rate)) => rate.bytes_in(time),
            (Queue::Unlimited, _) | (_, None) => u64::MAX,
        }
    }

    /// When the packet on the wire leaves it.
    fn departure(&self) -> Option<Instant> {
        self.queue.front()?;
        let micros = match self.params.rate {
            None => 0,
            Some(rate) => {
                self.left.checked_add(u128::from(rate.bps()).saturating_sub(1))?.checked_div(u128::from(rate.bps()))?
            }
        };
        Some(self.now + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }

    /// Follows the wire and the changes up to `now`.
    fn advance(&mut self, now: Instant) {
        loop {
            let change = self.schedule.front().map(|(at, _)| *at).filter(|at| *at <= now);
            let departure = self.departure().filter(|at| *at <= now);
            match (change, departure) {
                (Some(change), departure) if departure.is_none_or(|departure| change < departure) => {
                    self.transmit(change);
                    if let Some((_, params)) = self.schedule.pop_front() {
                        self.change(params);
                    }
                }
                (_, Some(departure)) => {
                    self.transmit(departure);
                    self.leave();
                }
                (_, None) => break,
            }
        }
        self.transmit(now);
    }

    fn transmit(&mut self, until: Instant) {
        let rate = self.params.rate.map_or(0, DataRate::bps);
        let micros = until.since(self.now).as_micros();
        self.left = self.left.saturating_sub(micros * u128::from(rate));
        self.now = self.now.max(until);
    }

    fn change(&mut self, params: Params) {
        self.params = params;
        if self.params.is_down {
            for waiting in self.queue.drain(..) {
                count(&mut self.counters.lost, waiting.bytes);
            }
            self.queued = 0;
            self.left = 0;
        }
    }

    fn leave(&mut self) {
        if let Some(waiting) = self.queue.pop_front() {
            self.queued -= waiting.bytes;
            self.left = self.queue.front().map_or(0, |next| u128::from(next.bytes) * 8 * BITS_IN_MICRO);
            self.depart(self.now, waiting.bytes, waiting.payload);
        }
    }

    fn depart(&mut self, at: Instant, bytes: u64, payload: T) {
        if self.dice.is_lost(self.params.loss, &mut self.random) {
            count(&mut self.counters.lost, bytes);
            return;
        }
        count(&mut self.counters.carried, bytes);
        let mut arrival = at + self.params.delay + self.params.jitter.mul_f64(self.random.fraction());
        if self.random.chance(self.params.reorder) {
            arrival = arrival + self.params.reorder_delay;
        } else {
            if !self.params.jitter_reorders {
                arrival = arrival.max(self.last_arrival);
            }
            self.last_arrival = arrival;
        }
        self.departed += 1;
        self.flying.push(Reverse(Flying { arrival, number: self.departed, payload }));
    }
}
