//! An engine with a publisher and a subscriber, and the steps that an input of the `engine` target takes in it.
//!
//! Packets of the two peers are sealed here with their keys, so that an input gets behind authentication. What the engine
//! sends to the subscriber is opened: a packet that does not open, or opens twice, is a failure.

use std::collections::HashMap;
use std::time::Duration;

use parley_core::engine::command::{Credentials, Keys, SetSender, SetTrack, TrackCodec, Want};
use parley_core::engine::{Batch, Command, Config, Engine, Outlet, Path};
use parley_core::payload::Codec;
use parley_core::srtp::{OpenError, Opener, Profile, Sealer};
use parley_core::time::Instant;
use parley_core::wire::rtp::{self, ExtensionIds};
use parley_core::wire::{rtcp, stun};

use crate::KEY;

/// A datagram as it is, from the publisher's address.
pub const RAW: u8 = 0;
/// A datagram as it is, from nobody's address.
pub const STRANGER: u8 = 1;
/// An RTP packet that the publisher seals.
pub const PUBLISH: u8 = 2;
/// RTCP that the publisher seals.
pub const PUBLISHER_RTCP: u8 = 3;
/// RTCP that the subscriber seals.
pub const SUBSCRIBER_RTCP: u8 = 4;
/// The drain ends. Nothing follows.
pub const FORWARD: u8 = 5;
/// So many milliseconds pass, and a tick: two bytes.
pub const TICK: u8 = 6;
/// A command: one byte.
pub const COMMAND: u8 = 7;
const STEPS: u8 = 8;
/// An input that takes longer than this proves no more.
const MAX_STEPS: usize = 400;

const PROFILE: Profile = Profile::AeadAes128Gcm;
const PUBLISHER: u16 = 1_001;
const SUBSCRIBER: u16 = 1_002;
const NOBODY: u16 = 1_003;

/// What each peer seals with and what is sealed for it: the publisher's key and the subscriber's differ.
fn key(at: usize) -> &'static [u8] {
    &KEY[at..at + PROFILE.key_len() + PROFILE.salt_len()]
}

fn path(port: u16) -> Path {
    Path::Udp(([192, 0, 2, 1], port).into())
}

/// The extension ids of every track.
pub const EXTENSIONS: ExtensionIds = ExtensionIds {
    mid: Some(1),
    rid: Some(2),
    repaired_rid: Some(3),
    audio_level: Some(4),
    transport_cc: Some(5),
    dependency_descriptor: Some(6),
    orientation: Some(7),
    abs_send_time: Some(8),
};

/// Name, codec, payload type, primary SSRC, and whether layers are named by rid instead.
pub const TRACKS: [(&str, Codec, u8, u32, bool); 5] = [
    ("a", Codec::Opus, 111, 100, false),
    ("v8", Codec::Vp8, 96, 200, false),
    ("v9", Codec::Vp9, 98, 300, false),
    ("av1", Codec::Av1, 100, 400, false),
    ("sim", Codec::Vp8, 102, 500, true),
];

struct Discard;

impl Outlet for Discard {
    fn flush(&mut self, batch: &mut Batch) {
        batch.clear();
    }
}

/// The engine and its peers.
pub struct World {
    engine: Engine,
    batch: Batch,
    now: Instant,
    publisher: Sealer,
    subscriber: Sealer,
    /// The highest index sealed of each SSRC.
    indexes: HashMap<u32, u64>,
    receiver: Opener,
    /// Packets of media that the subscriber got.
    got: usize,
}

impl World {
    /// Two connected transports, and a sender for each track.
    #[must_use]
    pub fn new() -> Self {
        let sealer = |at| Sealer::new(PROFILE, key(at)).expect("a key of the profile's length");
        let mut world = Self {
            engine: Engine::new(Config { seed: 1 }),
            batch: Batch::new(),
            now: Instant::from_micros(1_000_000),
            publisher: sealer(0),
            subscriber: sealer(1),
            indexes: HashMap::new(),
            receiver: Opener::new(PROFILE, key(3)).expect("a key of the profile's length"),
            got: 0,
        };
        world.connect("p", PUBLISHER, 0, 2);
        world.connect("s", SUBSCRIBER, 1, 3);
        for track in TRACKS {
            world.publish(track);
        }
        world
    }

    fn connect(&mut self, name: &str, port: u16, receive: usize, send: usize) {
        let transport = || name.into();
        let credentials = Credentials { ufrag: name.into(), pwd: "password".into() };
        self.apply(Command::AddTransport { transport: transport(), credentials });
        let keys = Keys { profile: PROFILE, receive: key(receive).to_vec(), send: key(send).to_vec() };
        self.apply(Command::SetKeys { transport: transport(), keys });
        let check = stun::binding_request([7; 12], &format!("{name}:peer"), "password", 1, true, 1);
        self.receive(port, check.as_slice());
    }

    fn publish(&mut self, (name, codec, payload_type, ssrc, is_layered): (&str, Codec, u8, u32, bool)) {
        let clock_rate = if codec.is_video() { 90_000 } else { 48_000 };
        let rtx = codec.is_video().then_some(payload_type + 1);
        let codec = TrackCodec { codec, payload_type, clock_rate, rtx_payload_type: rtx, has_nack: codec.is_video() };
        self.apply(Command::SetTrack(SetTrack {
            transport: "p".into(),
            track: name.into(),
            mid: name.into(),
            codec,
            extensions: EXTENSIONS,
            ssrcs: if is_layered { Vec::new() } else { vec![(ssrc, rtx.map(|_| ssrc + 1))] },
            rids: if is_layered { vec!["l".into(), "h".into()] } else { Vec::new() },
            is_screen: false,
        }));
        self.apply(Command::SetSender(SetSender {
            sender: name.into(),
            transport: "s".into(),
            track: name.into(),
            mid: name.into(),
            codec,
            extensions: EXTENSIONS,
            ssrc: ssrc + 10,
            rtx_ssrc: rtx.map(|_| ssrc + 11),
            cname: "node".into(),
        }));
    }

    /// Takes the steps of an input: an operation each, and what the operation says.
    pub fn run(&mut self, mut input: &[u8]) {
        for _ in 0..MAX_STEPS {
            let Some((&operation, rest)) = input.split_first() else { break };
            input = self.step(operation % STEPS, rest);
        }
        self.forward();
        for seconds in [0, 1, 40] {
            self.pass(Duration::from_secs(seconds));
        }
    }

    /// Takes one step, and gives what is left of the input.
    fn step<'a>(&mut self, operation: u8, rest: &'a [u8]) -> &'a [u8] {
        match operation {
            FORWARD => {
                self.forward();
                rest
            }
            TICK => {
                let (head, rest) = rest.split_at(rest.len().min(2));
                let millis = head.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
                self.pass(Duration::from_millis(millis));
                rest
            }
            COMMAND => {
                let (head, rest) = rest.split_at(rest.len().min(1));
                self.command(head.first().copied().unwrap_or_default());
                rest
            }
            _ => {
                let len = rest.first_chunk::<2>().map_or(0, |len| usize::from(u16::from_be_bytes(*len) % 1_600));
                let rest = rest.get(2..).unwrap_or_default();
                let (datagram, rest) = rest.split_at(len.min(rest.len()));
                self.datagram(operation, datagram);
                rest
            }
        }
    }

    fn datagram(&mut self, operation: u8, datagram: &[u8]) {
        let mut sealed = datagram.to_vec();
        sealed.resize(datagram.len() + 32, 0);
        let (port, len) = match operation {
            PUBLISH => (PUBLISHER, self.seal_rtp(&mut sealed, datagram.len())),
            PUBLISHER_RTCP => (PUBLISHER, self.publisher.seal_rtcp(&mut sealed, datagram.len())),
            SUBSCRIBER_RTCP => (SUBSCRIBER, self.subscriber.seal_rtcp(&mut sealed, datagram.len())),
            RAW => (PUBLISHER, Some(datagram.len())),
            _ => (NOBODY, Some(datagram.len())),
        };
        if let Some(datagram) = len.and_then(|len| sealed.get(..len)) {
            self.receive(port, datagram);
        }
    }

    fn seal_rtp(&mut self, buffer: &mut [u8], len: usize) -> Option<usize> {
        let header_len = rtp::header_len(buffer.get(..len)?).ok()?;
        let sequence = u16::from_be_bytes([*buffer.get(2)?, *buffer.get(3)?]);
        let ssrc = u32::from_be_bytes(*buffer.get(8..)?.first_chunk()?);
        let near = self.indexes.get(&ssrc).copied().unwrap_or_else(|| sequence.into());
        let index = rtp::unroll(sequence, near);
        self.indexes.insert(ssrc, index.max(near));
        // A number below zero saturates to an index of another number; the engine refuses that.
        self.publisher.seal_rtp(buffer, header_len, len, index)
    }

    fn receive(&mut self, port: u16, datagram: &[u8]) {
        self.engine.receive(self.now, path(port), &mut datagram.to_vec(), &mut self.batch, &mut Discard);
        self.drain();
    }

    fn apply(&mut self, command: Command) {
        self.engine.apply(self.now, command, &mut self.batch, &mut Discard);
        self.drain();
    }

    fn forward(&mut self) {
        self.engine.forward(self.now, &mut self.batch, &mut Discard);
        self.drain();
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        self.engine.tick(self.now, &mut self.batch, &mut Discard);
        self.drain();
        while self.engine.poll_event().is_some() {}
        let _ = self.engine.snapshot();
    }

    fn command(&mut self, choice: u8) {
        let (name, ..) = TRACKS[usize::from(choice >> 4) % TRACKS.len()];
        let (id, odd) = (|| name.into(), choice & 1 == 1);
        let side = if odd { 64 } else { 1_280 };
        self.apply(match choice >> 1 & 7 {
            0 => Command::MuteTrack { track: id(), muted: odd },
            1 => Command::PauseSender { sender: id(), paused: odd },
            2 => Command::SelectLayer {
                sender: id(),
                rid: odd.then(|| "h".into()),
                temporal: Some(choice >> 4 & 3),
                strict: odd,
            },
            3 => Command::WantTrack {
                sender: id(),
                want: Want { width: side, height: side, visible: side > 64, pinned: odd },
            },
            4 => Command::RankTrack { track: id(), rank: u32::from(choice >> 4) },
            5 => Command::SetLastN { transport: "s".into(), count: odd.then_some(1) },
            6 => Command::RemoveSender { sender: id() },
            _ => Command::RemoveTrack { track: id() },
        });
    }

    /// Looks at what would be sent, and forgets it.
    fn drain(&mut self) {
        for message in self.batch.messages() {
            let is_subscriber = message.to == path(SUBSCRIBER);
            for segment in message.segments {
                assert!(!segment.is_empty() && segment.len() <= message.segment_size);
                if is_subscriber && segment[0] & 0xC0 == 0x80 {
                    self.got += usize::from(open(&mut self.receiver, segment));
                }
            }
        }
        self.batch.clear();
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// Opens what the subscriber gets: authentic, never sealed twice under one number, and well formed. True for media.
fn open(receiver: &mut Opener, segment: &[u8]) -> bool {
    let mut buffer = segment.to_vec();
    if (192..=223).contains(&buffer[1]) {
        let len = receiver.open_rtcp(&mut buffer).expect("RTCP of the engine's opens");
        rtcp::parse(&buffer[..len]).expect("RTCP of the engine's is well formed");
        return false;
    }
    match receiver.open_rtp(&mut buffer) {
        Ok(opened) => {
            rtp::parse(&buffer[..opened.len]).expect("RTP of the engine's is well formed");
        }
        // A repair may be older than a receiver's window.
        Err(error) => assert_eq!(error, OpenError::TooOld),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_of_each_track_reaches_the_subscriber() {
        let seeds: [&[u8]; 5] = [
            include_bytes!("../seeds/engine/audio"),
            include_bytes!("../seeds/engine/vp8"),
            include_bytes!("../seeds/engine/vp9"),
            include_bytes!("../seeds/engine/av1"),
            include_bytes!("../seeds/engine/simulcast"),
        ];
        for (seed, (name, ..)) in seeds.into_iter().zip(TRACKS) {
            let mut world = World::new();
            world.run(seed);
            assert!(world.got >= 10, "{name}: {} packets", world.got);
        }
    }
}
