//! The congestion control alone: an SFU that forwards sizes instead of packets.

use crate::simulation::media::{OVERHEAD, Packet, Video};
use crate::simulation::receiver::Receiver;
use crate::simulation::{START, Stack, View};
use core::time::Duration;
use parley_core::congestion::{
    Allocator, Assignment, Budget, Burst, Congestion, Demand, LayerChoice, LayerRate, Pacer, Pause, Rank,
};
use parley_core::time::Instant;
use parley_core::units::DataRate;
use parley_core::wire::rtcp;
use std::collections::VecDeque;

const START_RATE: DataRate = DataRate::from_bps(300_000);
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(500);
const PADDING: usize = 255;
const SECOND: Duration = Duration::from_secs(1);
/// Video that waits longer than this for the pacer is of no use.
const MAX_HELD: Duration = Duration::from_secs(1);
/// How long a packet can be sent again, and the share of the estimate that may be spent on it.
const CACHED: Duration = Duration::from_secs(1);
const REPAIRED: f64 = 0.25;

#[derive(Clone, Copy, Debug)]
pub enum Content {
    Audio,
    /// With its number in the stream that the subscriber is sent; repairs carry the same.
    Video(u64),
    Padding,
}

pub enum Datagram {
    Media { number: u64, content: Content },
    Reports(Vec<u8>),
}

/// Sizes in a window of a second.
#[derive(Default)]
struct Measured {
    sizes: VecDeque<(Instant, usize)>,
    began: Option<Instant>,
}

impl Measured {
    fn add(&mut self, now: Instant, bytes: usize) {
        self.began.get_or_insert(now);
        self.sizes.push_back((now, bytes));
        while self.sizes.pop_front_if(|first| now.since(first.0) > SECOND).is_some() {}
    }

    fn rate(&self, now: Instant) -> DataRate {
        let recent = self.sizes.iter().filter(|entry| now.since(entry.0) <= SECOND);
        let span = now.since(self.began.unwrap_or(now)).clamp(SECOND / 4, SECOND);
        DataRate::from_bytes(recent.map(|entry| entry.1 as u64).sum(), span)
    }
}

struct Subscriber {
    congestion: Congestion,
    allocator: Allocator,
    pacer: Pacer,
    burst: Option<Burst>,
    receiver: Receiver,
    number: u64,
    video_number: u64,
    sent_video: VecDeque<(u64, usize, Instant)>, // number, size, when it was sent last
    held: VecDeque<(Instant, u64, usize)>,       // since when, number, size
    audio: Measured,
    repairs: Measured,
    assignments: Vec<Assignment>,
    choice: Option<LayerChoice>,
    pause: Pause,
    flowing: Option<u8>,
    needs_key_frame: bool,
}

impl Subscriber {
    fn new(now: Instant) -> Self {
        Self {
            congestion: Congestion::new(now, START_RATE),
            allocator: Allocator::new(),
            pacer: Pacer::new(now),
            burst: None,
            receiver: Receiver::default(),
            number: 0,
            video_number: 0,
            sent_video: VecDeque::new(),
            held: VecDeque::new(),
            audio: Measured::default(),
            repairs: Measured::default(),
            assignments: Vec::new(),
            choice: None,
            pause: Pause::None,
            flowing: None,
            needs_key_frame: false,
        }
    }

    fn send(&mut self, now: Instant, content: Content, bytes: usize, out: &mut Vec<(usize, Datagram)>) {
        let probe = self.burst.map(|burst| burst.probe.id);
        self.congestion.on_sent(self.number, bytes, now, probe);
        if let Some(burst) = &mut self.burst {
            burst.on_sent(bytes);
        }
        out.push((bytes, Datagram::Media { number: self.number, content }));
        self.number += 1;
    }

    fn forward_audio(&mut self, now: Instant, bytes: usize, out: &mut Vec<(usize, Datagram)>) {
        self.audio.add(now, bytes);
        self.pacer.charge(bytes, now);
        self.send(now, Content::Audio, bytes, out);
    }

    fn forward_video(&mut self, now: Instant, video: &Video, bytes: usize, out: &mut Vec<(usize, Datagram)>) {
        let Some(choice) = self.choice else { return };
        let is_switch = video.is_key && video.is_first && video.layer == choice.spatial;
        if is_switch {
            self.sent_video.clear(); // nobody needs what came before
            self.flowing = Some(video.layer);
            self.needs_key_frame = false;
        }
        let is_target = video.layer == choice.spatial;
        if self.flowing != Some(video.layer) || self.needs_key_frame || (is_target && video.temporal > choice.temporal)
        {
            return;
        }
        let number = self.video_number;
        self.video_number += 1;
        if self.held.is_empty() && self.pacer.may_send(bytes, now) {
            self.send_video(now, number, bytes, out);
        } else {
            self.held.push_back((now, number, bytes));
        }
    }

    fn send_video(&mut self, now: Instant, number: u64, bytes: usize, out: &mut Vec<(usize, Datagram)>) {
        self.sent_video.push_back((number, bytes, now));
        while self.sent_video.pop_front_if(|sent| now.since(sent.2) > CACHED).is_some() {}
        self.send(now, Content::Video(number), bytes, out);
    }

    fn release(&mut self, now: Instant, out: &mut Vec<(usize, Datagram)>) {
        while let Some(&(since, number, bytes)) = self.held.front() {
            if now.since(since) > MAX_HELD {
                self.held.clear();
                self.needs_key_frame = true;
                return;
            }
            if !self.pacer.may_send(bytes, now) {
                return;
            }
            self.held.pop_front();
            self.send_video(now, number, bytes, out);
        }
    }

    /// What a cluster has no media for.
    fn pad(&mut self, now: Instant, out: &mut Vec<(usize, Datagram)>) {
        while let Some(burst) = self.burst {
            match burst.next_at().filter(|_| self.congestion.is_probing(burst.probe.id)) {
                None => self.burst = None,
                Some(due) if due > now => return,
                Some(_) => {
                    self.pacer.charge(PADDING + OVERHEAD, now);
                    self.send(now, Content::Padding, PADDING + OVERHEAD, out);
                }
            }
        }
    }

    fn decide(&mut self, now: Instant, layers: &[LayerRate]) {
        self.congestion.tick(now);
        self.pacer.set_rate(self.congestion.estimate());
        if let Some(result) = self.congestion.take_probe_result() {
            self.allocator.probe_result(result.rate, now);
        }
        let budget = Budget {
            estimate: self.congestion.estimate(),
            audio: self.audio.rate(now),
            retransmissions: self.repairs.rate(now),
            has_feedback: true, // transport-wide feedback was negotiated
        };
        let temporal = self.choice.map_or(0, |choice| choice.temporal);
        let current = self.flowing.map(|spatial| LayerChoice { spatial, temporal });
        let mut demands = [Demand { id: 1, rank: Rank::Speaker, visible: true, max_spatial: 2, layers, current }];
        self.allocator.allocate(now, budget, None, &mut demands, &mut self.assignments);
        if let Some(assignment) = self.assignments.first().copied() {
            self.apply(assignment);
        }
        if let Some(rate) = self.allocator.resume_probe(now) {
            self.congestion.request_probe(rate, now);
        }
        self.congestion.set_demand(self.allocator.wanted() + budget.audio);
        if let Some(probe) = self.congestion.poll_probe(now) {
            self.burst = Some(Burst::new(probe, now));
        }
    }

    fn apply(&mut self, assignment: Assignment) {
        self.choice = assignment.choice;
        self.pause = assignment.pause;
        if assignment.choice.is_none() {
            self.flowing = None;
            self.held.clear();
        }
    }

    fn wanted_key_frame(&self) -> Option<u8> {
        let choice = self.choice?;
        (self.needs_key_frame || self.flowing != Some(choice.spatial)).then_some(choice.spatial)
    }

    fn resend(&mut self, now: Instant, number: u16, out: &mut Vec<(usize, Datagram)>) {
        let found = self.sent_video.iter_mut().rev().find(|sent| sent.0 as u16 == number);
        if self.repairs.rate(now) > self.congestion.estimate().scaled(REPAIRED) {
            return;
        }
        let Some((number, bytes, at)) = found.filter(|sent| now.since(sent.2) > Duration::from_millis(60)) else {
            return;
        };
        *at = now;
        let (number, bytes) = (*number, *bytes);
        self.repairs.add(now, bytes);
        self.pacer.charge(bytes, now);
        self.send(now, Content::Video(number), bytes, out);
    }

    fn next_at(&self, now: Instant) -> Option<Instant> {
        let burst = self.burst.and_then(|burst| burst.next_at());
        let held = self.held.front().map(|held| self.pacer.next_at(now, held.2));
        [burst, held, Some(self.receiver.next_at())].into_iter().flatten().min()
    }
}

/// The SFU and the subscribers' ends.
pub struct Algorithms {
    now: Instant,
    tick: Duration,
    tick_at: Instant,
    subscribers: Vec<Subscriber>,
    rates: [[Measured; 2]; 3],
    asked_at: [Option<Instant>; 3],
    asked: VecDeque<u8>,
    down: VecDeque<(usize, usize, Datagram)>,
    up: VecDeque<(usize, usize, Datagram)>,
}

impl Algorithms {
    /// For so many subscribers, deciding every `tick`.
    pub fn new(subscribers: usize, tick: Duration) -> Self {
        let now = START;
        Self {
            now,
            tick,
            tick_at: now,
            subscribers: (0..subscribers).map(|_| Subscriber::new(now)).collect(),
            rates: Default::default(),
            asked_at: [None; 3],
            asked: VecDeque::new(),
            down: VecDeque::new(),
            up: VecDeque::new(),
        }
    }

    /// Runs something for each subscriber and queues what it sends.
    fn for_each(&mut self, mut work: impl FnMut(&mut Subscriber, &mut Vec<(usize, Datagram)>)) {
        let mut out = Vec::new();
        for (index, subscriber) in self.subscribers.iter_mut().enumerate() {
            work(subscriber, &mut out);
            self.down.extend(out.drain(..).map(|(bytes, datagram)| (index, bytes, datagram)));
        }
    }

    fn layers(&self, now: Instant) -> Vec<LayerRate> {
        let mut layers = Vec::new();
        for (spatial, rates) in (0u8..).zip(&self.rates) {
            let mut rate = DataRate::ZERO;
            for (temporal, measured) in (0u8..).zip(rates) {
                rate = rate + measured.rate(now);
                layers.push(LayerRate { spatial, temporal, rate, alive: rate > DataRate::ZERO });
            }
        }
        layers
    }

    fn tick(&mut self, now: Instant) {
        let layers = self.layers(now);
        for subscriber in &mut self.subscribers {
            subscriber.decide(now, &layers);
        }
        for subscriber in &self.subscribers {
            let Some(layer) = subscriber.wanted_key_frame() else { continue };
            let asked_at = &mut self.asked_at[usize::from(layer)];
            if asked_at.is_none_or(|at| now.since(at) >= KEY_FRAME_INTERVAL) {
                *asked_at = Some(now);
                self.asked.push_back(layer);
            }
        }
    }
}

impl Stack for Algorithms {
    type Datagram = Datagram;

    fn publish(&mut self, now: Instant, packet: Packet) {
        let bytes = packet.bytes();
        match packet {
            Packet::Audio { .. } => self.for_each(|subscriber, out| subscriber.forward_audio(now, bytes, out)),
            Packet::Video(video) => {
                self.rates[usize::from(video.layer)][usize::from(video.temporal)].add(now, bytes);
                self.for_each(|subscriber, out| subscriber.forward_video(now, &video, bytes, out));
            }
        }
    }

    fn key_frame_request(&mut self) -> Option<u8> {
        self.asked.pop_front()
    }

    fn run(&mut self, now: Instant) {
        self.now = now;
        if now >= self.tick_at {
            self.tick_at = now + self.tick;
            self.tick(now);
        }
        self.for_each(|subscriber, out| {
            subscriber.release(now, out);
            subscriber.pad(now, out);
        });
        let mut reports = Vec::new();
        for (index, subscriber) in self.subscribers.iter_mut().enumerate() {
            subscriber.receiver.reports(now, &mut reports);
            self.up.extend(reports.drain(..).map(|report| (index, report.len() + OVERHEAD, Datagram::Reports(report))));
        }
    }

    fn next_at(&self) -> Instant {
        let next = self.subscribers.iter().filter_map(|subscriber| subscriber.next_at(self.now));
        next.chain([self.tick_at]).min().unwrap_or(self.tick_at)
    }

    fn down(&mut self) -> Option<(usize, usize, Datagram)> {
        self.down.pop_front()
    }

    fn arrive_down(&mut self, now: Instant, subscriber: usize, datagram: Datagram) {
        let Datagram::Media { number, content } = datagram else { return };
        let receiver = &mut self.subscribers[subscriber].receiver;
        receiver.arrived(number, now);
        match content {
            Content::Audio => receiver.audio += 1,
            Content::Video(number) => receiver.video(number, now),
            Content::Padding => {}
        }
    }

    fn up(&mut self) -> Option<(usize, usize, Datagram)> {
        self.up.pop_front()
    }

    fn arrive_up(&mut self, now: Instant, subscriber: usize, datagram: Datagram) {
        let Datagram::Reports(report) = datagram else { return };
        let mut out = Vec::new();
        let end = &mut self.subscribers[subscriber];
        for packet in rtcp::parse(&report).expect("a report that was written").into_iter() {
            match packet {
                rtcp::Packet::TransportFeedback(feedback) => end.congestion.on_feedback(&feedback, now),
                rtcp::Packet::Nack { numbers, .. } => numbers.for_each(|number| end.resend(now, number, &mut out)),
                rtcp::Packet::PictureLoss { .. } => end.needs_key_frame = true,
                _ => {}
            }
        }
        self.down.extend(out.into_iter().map(|(bytes, datagram)| (subscriber, bytes, datagram)));
    }

    fn view(&self, subscriber: usize) -> View {
        let subscriber = &self.subscribers[subscriber];
        View {
            estimate: subscriber.congestion.estimate(),
            layer: subscriber.flowing,
            is_paused: subscriber.pause == Pause::Bandwidth,
            audio_received: subscriber.receiver.audio,
        }
    }
}
