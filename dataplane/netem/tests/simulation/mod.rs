//! A conference in virtual time: a publisher, an SFU, and subscribers behind links that are bad in known ways.
//!
//! The SFU is a [`Stack`]: the algorithms alone, or the whole engine with its packets sealed and parsed.
#![allow(dead_code, reason = "each kind of SFU needs a part of it")]

pub mod goals;
pub mod greedy;
pub mod media;
pub mod receiver;
pub mod trace;

use core::time::Duration;
use greedy::Greedy;
use media::{Packet, Publisher};
use parley_core::time::Instant;
use parley_core::units::DataRate;
use parley_netem::{Link, Params};
use trace::{Sample, Trace};

/// When each run begins.
pub const START: Instant = Instant::from_micros(1_000_000_000);
pub const SAMPLE: Duration = Duration::from_millis(50);

/// An SFU with its subscribers' ends, without the links between them.
pub trait Stack {
    /// What goes over the links.
    type Datagram;
    /// A packet leaves the publisher; it may be lost on the way.
    fn captured(&mut self, _packet: &Packet) {}
    /// A packet of the publisher has come to the SFU.
    fn publish(&mut self, now: Instant, packet: Packet);
    /// A layer of which the SFU asks a key frame.
    fn key_frame_request(&mut self) -> Option<u8>;
    /// A layer that the SFU wants to be stopped or begun.
    fn layer_switch(&mut self) -> Option<(u8, bool)> {
        None
    }
    /// Lets time pass, at the SFU and at the subscribers.
    fn run(&mut self, now: Instant);
    fn next_at(&self) -> Instant;
    /// What the SFU sends: to which subscriber, its size, and itself.
    fn down(&mut self) -> Option<(usize, usize, Self::Datagram)>;
    fn arrive_down(&mut self, now: Instant, subscriber: usize, datagram: Self::Datagram);
    /// What a subscriber sends.
    fn up(&mut self) -> Option<(usize, usize, Self::Datagram)>;
    fn arrive_up(&mut self, now: Instant, subscriber: usize, datagram: Self::Datagram);
    fn view(&self, subscriber: usize) -> View;
}

/// What is to be seen of a subscriber.
#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    pub estimate: DataRate,
    /// The spatial layer that flows.
    pub layer: Option<u8>,
    pub is_paused: bool,
    pub audio_received: u64,
}

/// A subscriber's link in both directions.
#[derive(Clone, Debug)]
pub struct Path {
    pub down: Params,
    pub changes: Vec<(Duration, Params)>,
    pub up: Params,
    pub up_changes: Vec<(Duration, Params)>,
}

impl Path {
    /// `kbps` with a one-way delay of 25 ms and a queue of 300 ms; the way up has the delay only.
    pub fn new(kbps: u64) -> Self {
        Self { down: link(kbps), changes: Vec::new(), up: uplink(), up_changes: Vec::new() }
    }

    /// Takes both directions away for a while.
    pub fn outage(mut self, from_s: u64, to_s: u64) -> Self {
        let (down, up) = (self.down.clone(), self.up.clone());
        for (at_s, is_down) in [(from_s, true), (to_s, false)] {
            self.changes.push((Duration::from_secs(at_s), Params { is_down, ..down.clone() }));
            self.up_changes.push((Duration::from_secs(at_s), Params { is_down, ..up.clone() }));
        }
        self
    }

    pub fn then(mut self, at_s: u64, params: Params) -> Self {
        self.changes.push((Duration::from_secs(at_s), params));
        self
    }
}

pub const DELAY: Duration = Duration::from_millis(25);
pub const QUEUE: Duration = Duration::from_millis(300);

fn uplink() -> Params {
    Params { delay: DELAY, ..Params::default() }
}

pub fn link(kbps: u64) -> Params {
    Params::rated(DataRate::from_bps(kbps * 1_000), DELAY, QUEUE)
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub paths: Vec<Path>,
    pub publisher: Params,
    pub seconds: u64,
    /// A flow that takes what it gets, on the first subscriber's link, from and to a second.
    pub greedy: Option<(u64, u64)>,
}

impl Scenario {
    pub fn new(seconds: u64, path: Path) -> Self {
        Self { seed: 1, paths: vec![path], publisher: Params::default(), seconds, greedy: None }
    }
}

enum Load<T> {
    Media(T),
    Greedy(u64),
}

struct Subscriber<T> {
    down: Link<Load<T>>,
    up: Link<T>,
    trace: Trace,
}

/// One run of a scenario.
pub struct World<S: Stack> {
    now: Instant,
    stack: S,
    publisher: Publisher,
    uplink: Link<Packet>,
    subscribers: Vec<Subscriber<S::Datagram>>,
    greedy: Option<Greedy>,
    captured: Vec<Packet>,
    sample_at: Instant,
}

/// Runs a scenario and gives what was seen at each subscriber.
pub fn run<S: Stack>(scenario: &Scenario, stack: S) -> Vec<Trace> {
    let mut world = World::new(scenario, stack, START);
    while world.now < START + Duration::from_secs(scenario.seconds) {
        world.step();
    }
    world.subscribers.into_iter().map(|subscriber| subscriber.trace).collect()
}

impl<S: Stack> World<S> {
    fn new(scenario: &Scenario, stack: S, start: Instant) -> Self {
        let subscriber = |(index, path): (usize, &Path)| {
            let seed = scenario.seed * 1_000 + index as u64 * 10;
            let mut down = Link::new(seed, path.down.clone());
            for (at, params) in &path.changes {
                down.schedule(start + *at, params.clone());
            }
            let mut up = Link::new(seed + 1, path.up.clone());
            for (at, params) in &path.up_changes {
                up.schedule(start + *at, params.clone());
            }
            Subscriber { down, up, trace: Trace::new(start) }
        };
        let greedy = scenario
            .greedy
            .map(|(from, to)| Greedy::new(start + Duration::from_secs(from), start + Duration::from_secs(to), DELAY));
        Self {
            now: start,
            stack,
            publisher: Publisher::new(scenario.seed, start),
            uplink: Link::new(scenario.seed + 1, scenario.publisher.clone()),
            subscribers: scenario.paths.iter().enumerate().map(subscriber).collect(),
            greedy,
            captured: Vec::new(),
            sample_at: start,
        }
    }

    fn step(&mut self) {
        let links = self.subscribers.iter().flat_map(|subscriber| [subscriber.down.next_at(), subscriber.up.next_at()]);
        let others = [
            Some(self.publisher.next_at()),
            Some(self.stack.next_at()),
            Some(self.sample_at),
            self.uplink.next_at(),
            self.greedy.as_ref().and_then(Greedy::next_at),
        ];
        let next = links.chain(others).flatten().min().unwrap_or(self.now);
        self.now = self.now.max(next);
        self.publish();
        self.deliver();
        self.stack.run(self.now);
        self.send();
        if self.now >= self.sample_at {
            self.sample_at = self.now + SAMPLE;
            self.sample();
        }
    }

    fn publish(&mut self) {
        self.publisher.packets(self.now, &mut self.captured);
        for packet in self.captured.drain(..) {
            self.stack.captured(&packet);
            self.uplink.push(self.now, packet.bytes(), packet);
        }
        while let Some((_, packet)) = self.uplink.pop(self.now) {
            self.stack.publish(self.now, packet);
        }
    }

    fn deliver(&mut self) {
        for (index, subscriber) in self.subscribers.iter_mut().enumerate() {
            while let Some((_, load)) = subscriber.down.pop(self.now) {
                match (load, &mut self.greedy) {
                    (Load::Media(datagram), _) => self.stack.arrive_down(self.now, index, datagram),
                    (Load::Greedy(number), Some(greedy)) => greedy.arrived(number, self.now),
                    (Load::Greedy(_), None) => {}
                }
            }
            while let Some((_, datagram)) = subscriber.up.pop(self.now) {
                self.stack.arrive_up(self.now, index, datagram);
            }
        }
    }

    fn send(&mut self) {
        while let Some((index, bytes, datagram)) = self.stack.down() {
            let subscriber = &mut self.subscribers[index];
            subscriber.trace.sent_bytes += bytes as u64;
            subscriber.down.push(self.now, bytes, Load::Media(datagram));
        }
        while let Some((index, bytes, datagram)) = self.stack.up() {
            self.subscribers[index].up.push(self.now, bytes, datagram);
        }
        while let Some(layer) = self.stack.key_frame_request() {
            self.publisher.ask_key_frame(layer, self.now);
        }
        while let Some((layer, is_on)) = self.stack.layer_switch() {
            self.publisher.switch(layer, is_on, self.now);
        }
        if let (Some(greedy), Some(first)) = (&mut self.greedy, self.subscribers.first_mut()) {
            while let Some((number, bytes)) = greedy.send(self.now) {
                first.down.push(self.now, bytes, Load::Greedy(number));
            }
        }
    }

    fn sample(&mut self) {
        for (index, subscriber) in self.subscribers.iter_mut().enumerate() {
            let params = subscriber.down.params();
            let rate = params.rate.unwrap_or(DataRate::from_bps(u64::MAX / 2));
            let capacity = if params.is_down { DataRate::ZERO } else { rate };
            let queue = subscriber.down.queue_delay();
            subscriber.trace.push(Sample {
                at: self.now,
                view: self.stack.view(index),
                sent: subscriber.trace.sent_bytes,
                capacity,
                queue,
            });
        }
    }
}
