//! The whole engine with a publisher's and the subscribers' ends.

use crate::publisher::{AUDIO_MID, Publisher, RIDS, VIDEO_MID};
use crate::simulation::media::Packet;
use crate::simulation::receiver::VIDEO_SSRC;
use crate::simulation::{START, Stack, View};
use crate::subscriber::{AUDIO_SSRC, RTX_SSRC, Subscriber};
use crate::wire::{AUDIO, End, VIDEO, extensions};
use parley_core::engine::command::{Command, SetSender, SetTrack, TrackCodec};
use parley_core::engine::{Batch, Config, Engine, Event, Outlet, Path};
use parley_core::time::Instant;
use std::collections::VecDeque;

/// What the engine sends, in order.
#[derive(Default)]
struct Sent(VecDeque<(Path, Vec<u8>)>);

impl Outlet for Sent {
    fn flush(&mut self, batch: &mut Batch) {
        for message in batch.messages() {
            self.0.extend(message.segments.map(|segment| (message.to, segment.to_vec())));
        }
        batch.clear();
    }
}

pub struct Whole {
    engine: Engine,
    batch: Batch,
    sent: Sent,
    publisher: Publisher,
    subscribers: Vec<Subscriber>,
    down: VecDeque<(Path, Vec<u8>)>,
    up: VecDeque<(usize, Vec<u8>)>,
    switches: VecDeque<(u8, bool)>,
    now: Instant,
}

impl Whole {
    pub fn new(subscribers: usize) -> Self {
        let ends = (1..=subscribers).map(|index| End::new(index as u8));
        let mut whole = Self {
            engine: Engine::new(Config { seed: 1 }),
            batch: Batch::new(),
            sent: Sent::default(),
            publisher: Publisher::new(End::new(0)),
            subscribers: ends.map(Subscriber::new).collect(),
            down: VecDeque::new(),
            up: VecDeque::new(),
            switches: VecDeque::new(),
            now: START,
        };
        whole.connect();
        whole.publish_tracks();
        whole.subscribe();
        whole
    }

    fn apply(&mut self, command: Command) {
        self.engine.apply(self.now, command, &mut self.batch, &mut self.sent);
        self.sent.flush(&mut self.batch);
    }

    fn receive(&mut self, from: Path, datagram: &mut [u8]) {
        self.engine.receive(self.now, from, datagram, &mut self.batch, &mut self.sent);
    }

    fn connect(&mut self) {
        let ends =
            core::iter::once(&self.publisher.end).chain(self.subscribers.iter().map(|subscriber| &subscriber.end));
        for mut end in ends.cloned().collect::<Vec<_>>() {
            let transport = end.name.clone();
            self.apply(Command::AddTransport { transport: transport.clone(), credentials: end.credentials() });
            self.apply(Command::SetKeys { transport, keys: end.keys() });
            self.receive(end.path, &mut end.check());
        }
        self.sent.flush(&mut self.batch);
        self.sent.0.clear(); // the answers to the checks
    }

    fn publish_tracks(&mut self) {
        for (name, mid, codec, rids) in [("audio", AUDIO_MID, AUDIO, &[][..]), ("video", VIDEO_MID, VIDEO, &RIDS[..])] {
            self.apply(Command::SetTrack(SetTrack {
                transport: self.publisher.end.name.clone(),
                track: name.into(),
                mid: mid.into(),
                codec,
                extensions: extensions(),
                ssrcs: Vec::new(),
                rids: rids.iter().map(|rid| (*rid).into()).collect(),
                is_screen: false,
            }));
        }
    }

    fn subscribe(&mut self) {
        for index in 0..self.subscribers.len() {
            let transport = self.subscribers[index].end.name.clone();
            let sender = |track: &str, mid: &str, codec: TrackCodec, ssrc, rtx_ssrc| {
                Command::SetSender(SetSender {
                    sender: format!("{track} to {transport}").into(),
                    transport: transport.clone(),
                    track: track.into(),
                    mid: mid.into(),
                    codec,
                    extensions: extensions(),
                    ssrc,
                    rtx_ssrc,
                    cname: "publisher".into(),
                })
            };
            let audio = sender("audio", AUDIO_MID, AUDIO, AUDIO_SSRC, None);
            let video = sender("video", VIDEO_MID, VIDEO, VIDEO_SSRC, Some(RTX_SSRC));
            self.apply(audio);
            self.apply(video);
        }
    }

    /// Hands the publisher what is for it; the rest waits for the subscribers' links.
    fn sort(&mut self) {
        self.sent.flush(&mut self.batch);
        let to = self.publisher.end.path;
        for (path, mut datagram) in core::mem::take(&mut self.sent.0) {
            if path == to {
                self.publisher.receive(self.now, &mut datagram);
            } else {
                self.down.push_back((path, datagram));
            }
        }
        while let Some(event) = self.engine.poll_event() {
            if let Event::LayersWanted { layers, .. } = event {
                self.switches.extend((0u8..).zip(layers).map(|(layer, (_, is_on))| (layer, is_on)));
            }
        }
    }
}

impl Stack for Whole {
    type Datagram = Vec<u8>;

    fn captured(&mut self, packet: &Packet) {
        self.publisher.captured(packet);
    }

    fn publish(&mut self, now: Instant, packet: Packet) {
        self.now = now;
        let mut datagram = self.publisher.seal(&packet);
        self.receive(self.publisher.end.path, &mut datagram);
    }

    fn key_frame_request(&mut self) -> Option<u8> {
        self.publisher.key_frames.pop_front()
    }

    fn layer_switch(&mut self) -> Option<(u8, bool)> {
        self.switches.pop_front()
    }

    fn run(&mut self, now: Instant) {
        self.now = now;
        let mut due = Vec::new();
        self.publisher.due(now, &mut due);
        for mut datagram in due {
            self.receive(self.publisher.end.path, &mut datagram);
        }
        self.engine.forward(now, &mut self.batch, &mut self.sent);
        if now >= self.engine.next_wakeup() {
            self.engine.tick(now, &mut self.batch, &mut self.sent);
        }
        self.sort();
        let mut due = Vec::new();
        for (index, subscriber) in self.subscribers.iter_mut().enumerate() {
            subscriber.due(now, &mut due);
            self.up.extend(due.drain(..).map(|datagram| (index, datagram)));
        }
    }

    fn next_at(&self) -> Instant {
        let subscribers = self.subscribers.iter().map(Subscriber::next_at);
        subscribers.chain([self.engine.next_wakeup(), self.publisher.next_at()]).min().unwrap_or(self.now)
    }

    fn down(&mut self) -> Option<(usize, usize, Vec<u8>)> {
        let (to, datagram) = self.down.pop_front()?;
        let index = self.subscribers.iter().position(|subscriber| subscriber.end.path == to).expect("a known address");
        Some((index, datagram.len(), datagram))
    }

    fn arrive_down(&mut self, now: Instant, subscriber: usize, mut datagram: Vec<u8>) {
        self.subscribers[subscriber].receive(now, &mut datagram);
    }

    fn up(&mut self) -> Option<(usize, usize, Vec<u8>)> {
        self.up.pop_front().map(|(subscriber, datagram)| (subscriber, datagram.len(), datagram))
    }

    fn arrive_up(&mut self, now: Instant, subscriber: usize, mut datagram: Vec<u8>) {
        self.now = now;
        self.receive(self.subscribers[subscriber].end.path, &mut datagram);
    }

    fn view(&self, subscriber: usize) -> View {
        let end = &self.subscribers[subscriber];
        let stats = self.engine.snapshot().subscribers.into_iter().find(|stats| stats.transport == end.end.name);
        let stats = stats.expect("a transport that lives");
        View {
            estimate: stats.estimate.unwrap_or_default(),
            layer: end.layer(self.now),
            is_paused: stats.paused[2] > 0,
            audio_received: end.receiver.audio,
        }
    }
}
