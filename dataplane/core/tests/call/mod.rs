//! A call in an engine: a publisher of simulcast video and its subscriber, with real SRTP, in simulated time.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parley_core::engine::command::{Credentials, Keys, SetSender, SetTrack, TrackCodec};
use parley_core::engine::{Batch, Command, Config, Engine, Event, Outlet, Path};
use parley_core::payload::Codec;
use parley_core::srtp::{MAX_OVERHEAD, Opener, Profile, Sealer};
use parley_core::time::Instant;
use parley_core::wire::rtcp::{self, Buffer};
use parley_core::wire::rtp::{self, ExtensionIds, ExtensionWriter};
use parley_core::wire::{stun, twcc};

pub const RIDS: [&str; 3] = ["q", "h", "f"];
pub const PUBLISHER: &str = "ann";
pub const SUBSCRIBER: &str = "bob";
pub const VIDEO_SSRC: u32 = 1_000;
pub const RTX_SSRC: u32 = 1_001;
const PUBLISHER_PORT: u16 = 1;
const SUBSCRIBER_PORT: u16 = 2;
const PWD: &str = "a password of at least 22";
const PROFILE: Profile = Profile::AeadAes128Gcm;
const IDS: ExtensionIds = ExtensionIds {
    mid: Some(4),
    rid: Some(10),
    repaired_rid: Some(11),
    audio_level: None,
    transport_cc: Some(3),
    dependency_descriptor: None,
    orientation: None,
    abs_send_time: None,
};
const VIDEO: TrackCodec =
    TrackCodec { codec: Codec::Vp8, payload_type: 96, clock_rate: 90_000, rtx_payload_type: Some(97), has_nack: true };

pub fn path(port: u16) -> Path {
    Path::Udp(SocketAddr::from(([192, 0, 2, 1], port)))
}

fn key(byte: u8) -> Vec<u8> {
    vec![byte; PROFILE.key_len() + PROFILE.salt_len()]
}

/// A packet that the engine sealed for the subscriber.
pub struct Sealed {
    pub ssrc: u32,
    pub index: u64,
    pub bytes: Vec<u8>,
    sequence: u16,
    wide: u16,
    sent: Instant,
}

/// Keeps what goes out.
#[derive(Default)]
struct Wire(Vec<(Path, Vec<u8>)>);

impl Outlet for Wire {
    fn flush(&mut self, batch: &mut Batch) {
        for message in batch.messages() {
            self.0.extend(message.segments.map(|segment| (message.to, segment.to_vec())));
        }
        batch.clear();
    }
}

/// One layer of the publisher.
struct Layer {
    ssrc: u32,
    /// The next packet's index; its low 16 bits are the sequence number.
    next: u64,
    picture: u16,
}

/// The engine with both peers.
pub struct Call {
    pub engine: Engine,
    pub now: Instant,
    pub sealed: Vec<Sealed>,
    /// SRTCP indexes of what the publisher is told.
    pub reports: Vec<u32>,
    pub events: Vec<Event>,
    batch: Batch,
    wire: Wire,
    publisher: Sealer,
    subscriber: Sealer,
    opener: Opener,
    layers: [Layer; 3],
    wide: u16,
    rtx: u64,
    reported: usize,
    feedbacks: u8,
}

impl Call {
    /// A call that is connected.
    pub fn new() -> Self {
        let layer = |at: u32| Layer { ssrc: 50 + at, next: 65_500, picture: 100 };
        let mut made = Self {
            engine: Engine::new(Config { seed: 5 }),
            now: Instant::from_micros(1_000_000),
            sealed: Vec::new(),
            reports: Vec::new(),
            events: Vec::new(),
            batch: Batch::new(),
            wire: Wire::default(),
            publisher: Sealer::new(PROFILE, &key(1)).unwrap(),
            subscriber: Sealer::new(PROFILE, &key(3)).unwrap(),
            opener: Opener::new(PROFILE, &key(4)).unwrap(),
            layers: [layer(0), layer(1), layer(2)],
            wide: 0,
            rtx: 0,
            reported: 0,
            feedbacks: 0,
        };
        made.connect(PUBLISHER, PUBLISHER_PORT, 1);
        made.connect(SUBSCRIBER, SUBSCRIBER_PORT, 3);
        made.set_track();
        made.subscribe();
        made
    }

    /// The subscriber receives the camera; once more under the same SSRCs where it did before.
    pub fn subscribe(&mut self) {
        self.apply(Command::RemoveSender { sender: "video".into() });
        self.apply(Command::SetSender(SetSender {
            sender: "video".into(),
            transport: SUBSCRIBER.into(),
            track: "cam".into(),
            mid: "s0".into(),
            codec: VIDEO,
            extensions: IDS,
            ssrc: VIDEO_SSRC,
            rtx_ssrc: Some(RTX_SSRC),
            cname: "someone".into(),
        }));
    }

    fn connect(&mut self, name: &str, port: u16, byte: u8) {
        let credentials = Credentials { ufrag: name.into(), pwd: PWD.into() };
        self.apply(Command::AddTransport { transport: name.into(), credentials });
        let user = format!("{name}:far");
        let check = stun::binding_request([7; 12], &user, PWD, 1, true, 1);
        self.datagram(port, check.as_slice());
        self.set_keys(name, byte);
    }

    fn set_keys(&mut self, name: &str, byte: u8) {
        let keys = Keys { profile: PROFILE, receive: key(byte), send: key(byte + 1) };
        self.apply(Command::SetKeys { transport: name.into(), keys });
    }

    /// The keys are given once more.
    pub fn repeat_keys(&mut self) {
        self.set_keys(PUBLISHER, 1);
        self.set_keys(SUBSCRIBER, 3);
    }

    pub fn set_track(&mut self) {
        self.apply(Command::SetTrack(SetTrack {
            transport: PUBLISHER.into(),
            track: "cam".into(),
            mid: "0".into(),
            codec: VIDEO,
            extensions: IDS,
            ssrcs: Vec::new(),
            rids: RIDS.into_iter().map(Arc::from).collect(),
            is_screen: false,
        }));
    }

    // --- the engine -------------------------------------------------------------------------------------------------
    pub fn apply(&mut self, command: Command) {
        self.engine.apply(self.now, command, &mut self.batch, &mut self.wire);
        self.collect();
    }

    /// A datagram from a port, and the end of its drain.
    pub fn datagram(&mut self, port: u16, data: &[u8]) {
        self.engine.receive(self.now, path(port), &mut data.to_vec(), &mut self.batch, &mut self.wire);
        self.engine.forward(self.now, &mut self.batch, &mut self.wire);
        self.collect();
    }

    /// Lets time pass in ticks; both peers keep their consent.
    pub fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now = end.min(self.now + Duration::from_millis(5));
            self.engine.tick(self.now, &mut self.batch, &mut self.wire);
            self.collect();
        }
    }

    fn collect(&mut self) {
        self.wire.flush(&mut self.batch);
        for (to, data) in core::mem::take(&mut self.wire.0) {
            if !(128..192).contains(&data[0]) {
                continue;
            }
            let is_rtcp = (192..=223).contains(&data[1]);
            if to == path(PUBLISHER_PORT) && is_rtcp {
                let index = data.last_chunk().copied().map(u32::from_be_bytes).unwrap();
                self.reports.push(index & 0x7fff_ffff); // RFC 7714 9.3: the first bit says that it is encrypted
            } else if to == path(SUBSCRIBER_PORT) && !is_rtcp {
                self.take(data);
            }
        }
        self.events.extend(std::iter::from_fn(|| self.engine.poll_event()));
    }

    fn take(&mut self, bytes: Vec<u8>) {
        let mut plain = bytes.clone();
        let opened = self.opener.open_rtp(&mut plain).expect("what the engine seals opens, once");
        let header = rtp::parse(&plain[..opened.len]).expect("what the engine sends is RTP");
        let wide =
            header.extensions(&plain).find(|(id, _)| *id == 3).map_or(0, |(_, v)| u16::from_be_bytes([v[0], v[1]]));
        let (ssrc, sequence) = (header.ssrc, header.sequence);
        self.sealed.push(Sealed { ssrc, index: opened.index, bytes, sequence, wide, sent: self.now });
    }

    // --- the publisher ----------------------------------------------------------------------------------------------
    /// A packet of a layer; `ahead` numbers are left out before it, or it is `back` numbers late.
    pub fn publish(&mut self, layer: u8, ahead: u8, back: u8, temporal: u8, is_key: bool, len: usize) {
        let at = &mut self.layers[usize::from(layer)];
        at.next += u64::from(ahead);
        let index = at.next.saturating_sub(u64::from(back));
        if back == 0 {
            at.next += 1;
            at.picture = at.picture.wrapping_add(1);
        }
        let payload = vp8(at.picture.wrapping_sub(u16::from(back)), temporal, is_key && back == 0, len);
        let sealed = self.seal(layer, 96, index, &payload, false);
        self.datagram(PUBLISHER_PORT, &sealed);
    }

    /// A late packet by RTX.
    pub fn repair(&mut self, layer: u8, back: u8) {
        let at = &self.layers[usize::from(layer)];
        let original = sequence_of(at.next.saturating_sub(u64::from(back)));
        let mut payload = original.to_be_bytes().to_vec();
        payload.extend(vp8(at.picture.wrapping_sub(u16::from(back)), 0, false, 50));
        self.rtx += 1;
        let sealed = self.seal(layer, 97, self.rtx, &payload, true);
        self.datagram(PUBLISHER_PORT, &sealed);
    }

    /// Another SSRC takes the layer over.
    pub fn restart(&mut self, layer: u8) {
        let at = &mut self.layers[usize::from(layer)];
        at.ssrc += 100;
        at.next = (at.next * 7) % 0x1_0000;
    }

    /// An SRTP packet as the publisher seals it.
    pub fn seal(&mut self, layer: u8, payload_type: u8, index: u64, payload: &[u8], is_repair: bool) -> Vec<u8> {
        let at = &self.layers[usize::from(layer)];
        let ssrc = if is_repair { at.ssrc + 10 } else { at.ssrc };
        let mut packet = vec![0; 12 + 40 + payload.len() + MAX_OVERHEAD];
        packet[0] = 0x90;
        packet[1] = payload_type | 0x80;
        packet[2..4].copy_from_slice(&sequence_of(index).to_be_bytes());
        let timestamp = u32::try_from(index).unwrap().wrapping_mul(3_000);
        packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
        packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
        self.wide = self.wide.wrapping_add(1);
        let mut writer = ExtensionWriter::new(&mut packet[12..], false);
        writer.push(3, &self.wide.to_be_bytes()).unwrap();
        writer.push(4, b"0").unwrap();
        writer.push(if is_repair { 11 } else { 10 }, RIDS[usize::from(layer)].as_bytes()).unwrap();
        let header = 12 + writer.finish();
        packet[header..header + payload.len()].copy_from_slice(payload);
        let len = self.publisher.seal_rtp(&mut packet, header, header + payload.len(), index).unwrap();
        packet.truncate(len);
        packet
    }

    // --- the subscriber ---------------------------------------------------------------------------------------------
    pub fn nack(&mut self, back: u8) {
        let media = self.sealed.iter().rev().filter(|packet| packet.ssrc == VIDEO_SSRC);
        let Some(lost) = media.map(|packet| packet.sequence).nth(usize::from(back)) else { return };
        let mut buffer = Buffer::new();
        assert!(rtcp::write_nack(&mut buffer, 1, VIDEO_SSRC, &[lost]));
        self.rtcp(&buffer);
    }

    pub fn picture_loss(&mut self) {
        let mut buffer = Buffer::new();
        assert!(rtcp::write_picture_loss(&mut buffer, 1, VIDEO_SSRC));
        self.rtcp(&buffer);
    }

    pub fn remb(&mut self, bps: u64) {
        let mut buffer = Buffer::new();
        assert!(rtcp::write_remb(&mut buffer, 1, bps, &[VIDEO_SSRC]));
        self.rtcp(&buffer);
    }

    /// Reports on what came since the last report, but for every n-th packet.
    pub fn feedback(&mut self, but: u8) {
        let new = self.sealed.get(self.reported..).unwrap_or_default();
        let arrivals: Vec<(u64, Instant)> = new
            .iter()
            .enumerate()
            .filter(|(at, _)| at % usize::from(but.max(1) + 1) != usize::from(but.max(1)))
            .map(|(_, packet)| (0x1_0000 + u64::from(packet.wide), packet.sent + Duration::from_millis(20)))
            .collect();
        self.reported = self.sealed.len();
        let mut rest = arrivals.as_slice();
        while let Some(&(base, _)) = rest.first() {
            let mut buffer = Buffer::new();
            self.feedbacks = self.feedbacks.wrapping_add(1);
            let used = twcc::write_feedback(&mut buffer, 1, VIDEO_SSRC, self.feedbacks, base, rest);
            rest = rest.get(used.max(1)..).unwrap_or_default();
            self.rtcp(&buffer);
        }
    }

    /// RTCP as the subscriber seals it.
    pub fn rtcp(&mut self, buffer: &Buffer) {
        let data = buffer.as_slice();
        let mut packet = vec![0; data.len() + MAX_OVERHEAD];
        packet[..data.len()].copy_from_slice(data);
        let len = self.subscriber.seal_rtcp(&mut packet, data.len()).unwrap();
        packet.truncate(len);
        self.datagram(SUBSCRIBER_PORT, &packet);
    }

    pub fn garbage(&mut self, port: u16, data: &mut [u8]) {
        self.engine.receive(self.now, path(port), data, &mut self.batch, &mut self.wire);
    }

    pub const fn ports() -> [u16; 3] {
        [PUBLISHER_PORT, SUBSCRIBER_PORT, 999]
    }
}

/// The sequence number of an index.
#[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are wanted")]
fn sequence_of(index: u64) -> u16 {
    index as u16
}

/// A VP8 picture in one packet: a 15-bit picture id, TL0PICIDX and the temporal layer (RFC 7741 4.2).
fn vp8(picture: u16, temporal: u8, is_key: bool, len: usize) -> Vec<u8> {
    let [high, low] = (0x8000 | (picture & 0x7FFF)).to_be_bytes();
    let mut payload = vec![0x90, 0xE0, high, low, low, temporal << 6 | 0x20, u8::from(!is_key)];
    payload.resize(7 + len, 0xAB);
    payload
}
